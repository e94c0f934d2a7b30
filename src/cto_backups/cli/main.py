"""The entry point: the commands, and the boundary at which every error becomes a message and an exit status."""

import gc
import os
import re
import resource
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from cto_backups.cli import errors
from cto_backups.cli.attempts import trace
from cto_backups.cli.command import InterruptedByUserError, OutputClosedError
from cto_backups.cli.commands import NAME, build
from cto_backups.cli.options import presumed
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import did_you_mean
from cto_backups.errors import BackupsError, ExitStatus, UsageError

_STDOUT, _STDERR = 1, 2


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    # What loads at the start stays to the end: no looking for garbage in it. `opening` begins to look.
    gc.disable()
    _leave_no_core()
    signal.signal(signal.SIGTERM, _terminate)
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _closed()
    except OSError as error:
        status = _unwritten(error)
    sys.exit(int(status))


def _open_streams() -> None:
    """Where the caller closed stdin, stdout or stderr, nothing else may be opened in their place: /dev/null is."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(_STDOUT, "w", closefd=False)  # noqa: SIM115 - to the end
    sys.stderr = sys.stderr or open(_STDERR, "w", closefd=False)  # noqa: SIM115 - to the end


def _leave_no_core() -> None:
    """Keep keys and other people's data out of core files, in this process and in those that it starts.

    A limit of one byte, not of none: with that, Linux also gives nothing to a program that collects core files.
    """
    least = min((limit for limit in resource.getrlimit(resource.RLIMIT_CORE) if limit >= 0), default=1)
    resource.setrlimit(resource.RLIMIT_CORE, (min(1, least), min(1, least)))


def run(arguments: Sequence[str]) -> ExitStatus:
    """Run one command line; its exit status. Every error has been shown when this returns."""
    options = presumed(arguments)
    screen = Screen(options)
    try:
        _refuse_empty(arguments)
        typed = ["version" if word == "--version" and not number else word for number, word in enumerate(arguments)]
        answer = build().main(typed, prog_name=NAME, standalone_mode=False)
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
        if isinstance(error, OSError) and not _takes_output():
            return _unwritten(error)
        trace(screen, error)
        return _fail(screen, errors.defect(error, debugging=options.debugging))


def _refuse_empty(arguments: Sequence[str]) -> None:
    """An empty word is a variable that was never set; as a path it would mean the current folder. Raises UsageError."""
    for before, word in zip(("", *arguments), arguments, strict=False):
        option = word[:-1] if word.startswith("--") and word.endswith("=") else before if not word else None
        if option is not None:
            raise UsageError(
                f"Nothing is given behind {option}" if option.startswith("-") else "An argument is empty",
                why="it is an empty word, as a variable is that was never set",
                todo="Give it a value, or leave it out.",
            )


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
    return re.sub(r"'(?=\w)", "'--", did_you_mean(option.lstrip("-"), names))


def _interrupted(screen: Screen) -> ExitStatus:
    why = "nothing is lost: recovery points are whole or not there at all, and what is missing is due again"
    error = _InterruptedError("Interrupted", why=why, todo="Run the command again to go on.")
    return _fail(screen, error)


def _closed() -> ExitStatus:
    """Whoever read our output has gone: say nothing, and do not fail again when Python flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitStatus.INTERRUPTED


def _takes_output() -> bool:
    """Whether stdout can be written to. Asked after an error that may come from there; Python does not remember."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _unwritten(failed: OSError) -> ExitStatus:
    """The answer cannot be written; in JSON neither, so stderr tells it."""
    error = _InterruptedError(
        "The answer cannot be written to where the output goes",
        why=failed.strerror or type(failed).__name__,
        todo="Make room there, or send it elsewhere, and run the command again.",
    )
    errors.show(error, colored=False)
    return _closed()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does: what is open is closed, the run is recorded as interrupted."""
    raise KeyboardInterrupt


class _InterruptedError(BackupsError):
    """A signal asked the command to stop, or its answer cannot be written."""

    code = "interrupted"
    exit_status = ExitStatus.INTERRUPTED
