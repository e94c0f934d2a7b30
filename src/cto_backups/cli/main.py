"""The entry point: the commands, and the boundary at which every error becomes a message and an exit status."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from cto_backups.cli import (
    audit,
    backup,
    errors,
    expire,
    init,
    points,
    quickstart,
    restore,
    restore_test,
    schedule,
    status,
    verify,
    version,
    worker,
)
from cto_backups.cli.attempts import trace
from cto_backups.cli.command import Command, Group, InterruptedByUserError, OutputClosedError, command
from cto_backups.cli.options import presumed
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import did_you_mean
from cto_backups.errors import BackupsError, ExitStatus, UsageError

NAME = "cto.backups"


@dataclass(frozen=True)
class _Entry:
    """A command: its name, its function, its line in the list of commands, and examples of its use."""

    name: str
    function: Callable[..., Any]
    short: str
    examples: tuple[str, ...]


_POINT = "contracts-20261123T100000Z-1a2b"

COMMANDS = (
    _Entry(
        "quickstart",
        quickstart.quickstart,
        "From nothing to proven backups, in one go",
        ("quickstart", "quickstart ~/projects --home ~/backups"),
    ),
    _Entry(
        "init",
        init.init,
        "Make a new installation",
        ("init", "init /srv/backups --business acme --protect /srv/data"),
    ),
    _Entry(
        "backup",
        backup.backup,
        "Back up now, and copy to every vault",
        ("backup", "backup contracts --before 'schema migration 42'"),
    ),
    _Entry(
        "status",
        status.status,
        "How well each source is protected right now",
        ("status", "status contracts", "status --json"),
    ),
    _Entry(
        "audit",
        audit.audit,
        "Where protection falls short, and what to do",
        ("audit", "audit --fail-on high", "audit --look /srv --look /home"),
    ),
    _Entry("verify", verify.verify, "Re-read what vaults store", ("verify", "verify one --structure-only")),
    _Entry(
        "test",
        restore_test.test,
        "Prove by restoring that data comes back",
        ("test", "test contracts --vault two", f"test --point {_POINT}"),
    ),
    _Entry(
        "schedule",
        schedule.schedule,
        "When everything runs; change it",
        ("schedule", "schedule set contracts 'hourly, daily at 02:00'"),
    ),
    _Entry(
        "restore",
        restore.restore,
        "Bring data back: newest, a point, a point in time",
        (
            "restore contracts --to /tmp/contracts",
            "restore contracts --at 'yesterday 18:00' --to /tmp/contracts --only '*.pdf'",
            f"restore {_POINT} --in-place --overwrite",
        ),
    ),
    _Entry(
        "points",
        points.points,
        "List recovery points, or show one",
        ("points", "points contracts --limit 5", f"points {_POINT}"),
    ),
    _Entry(
        "expire",
        expire.expire,
        "Drop points that retention no longer keeps",
        ("expire --dry-run", "expire contracts"),
    ),
    _Entry("worker", worker.worker, "Do what is due, until stopped", ("worker", "worker --once")),
    _Entry("version", version.version, "Show the version", ("version", "version --json")),
)


class _Main(Group):
    listed = tuple(entry.name for entry in COMMANDS)


def build() -> typer.Typer:
    """The whole command line."""
    settings: dict[str, Any] = {
        "rich_markup_mode": None,
        "add_completion": False,
        "pretty_exceptions_enable": False,
        "context_settings": {"help_option_names": ["--help", "-h"], "max_content_width": 100},
    }
    app = typer.Typer(cls=_Main, no_args_is_help=True, **settings)
    app.callback()(command(_root))
    for entry in COMMANDS:
        about: dict[str, Any] = {"short_help": entry.short, "epilog": _lines(entry.examples)}
        if entry.name == "schedule":
            group = typer.Typer(cls=Group, invoke_without_command=True, **settings)
            group.callback(**about)(entry.function)
            change = _lines(entry.examples[1:])
            group.command("set", cls=Command, short_help="Change when a source runs", epilog=change)(
                schedule.set_triggers
            )
            app.add_typer(group, name="schedule", **about)
        else:
            app.command(entry.name, cls=Command, **about)(entry.function)
    return app


def _lines(examples: Sequence[str]) -> str:
    return "\n".join(f"{NAME} {example}" for example in examples)


def _root(screen: Screen) -> None:
    """Protect data, copy it to independent places, and prove by restoring that it comes back."""


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _closed()
    sys.exit(int(status))


def run(arguments: Sequence[str]) -> ExitStatus:
    """Run one command line; its exit status. Every error has been shown when this returns."""
    options = presumed(arguments)
    screen = Screen(options)
    try:
        typed = ["version" if word == "--version" and not number else word for number, word in enumerate(arguments)]
        answer = get_command(build()).main(typed, prog_name=NAME, standalone_mode=False)
        return ExitStatus(answer) if isinstance(answer, int) else ExitStatus.SUCCESS
    except BackupsError as error:
        return _fail(screen, error)
    except InterruptedByUserError:
        return _interrupted(screen)
    except (OutputClosedError, BrokenPipeError):
        return _closed()
    except typer.Abort:
        return _interrupted(screen)
    except TyperException as error:
        return _misused(screen, error)
    except Exception as error:  # noqa: BLE001 - the boundary: nobody above could show it
        trace(screen, error)
        return _fail(screen, errors.defect(error, debugging=options.debugging))


def _fail(screen: Screen, error: BackupsError) -> ExitStatus:
    screen.document({"error": errors.as_document(error), "status": int(error.exit_status)})
    screen.problem(error)
    return error.exit_status


def _misused(screen: Screen, error: TyperException) -> ExitStatus:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else NAME
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.message, file=sys.stderr)  # noqa: T201
        return ExitStatus.USAGE
    what = error.format_message().rstrip(".")
    option = getattr(error, "option_name", None)
    if option and type(error).__name__ == "NoSuchOption":
        what = f"There is no option {option} of '{path}'{_near_option(option, context)}"
    return _fail(screen, UsageError(what, todo=f"See '{path} --help' for what there is."))


def _near_option(option: str, context: Any) -> str:
    parameters = context.command.params if context is not None else ()
    names = [name.lstrip("-") for parameter in parameters for name in parameter.opts if name.startswith("--")]
    # Compared without dashes, which would make all options look alike.
    return did_you_mean(option.lstrip("-"), names).replace("'", "'--", 1)


def _interrupted(screen: Screen) -> ExitStatus:
    why = "nothing is lost: recovery points are whole or not there at all, and what is missing is due again"
    error = _InterruptedError("Interrupted", why=why, todo="Run the command again to go on.")
    return _fail(screen, error)


def _closed() -> ExitStatus:
    """Whoever read our output has gone: say nothing, and do not fail again when Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitStatus.INTERRUPTED


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does: what is open is closed, the run is recorded as interrupted."""
    raise KeyboardInterrupt


class _InterruptedError(BackupsError):
    """A signal asked the command to stop."""

    code = "interrupted"
    exit_status = ExitStatus.INTERRUPTED
