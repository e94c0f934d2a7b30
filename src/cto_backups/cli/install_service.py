"""`install-service`: how the system runs the worker by itself, printed or put where it belongs."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cto_backups.cli.command import command
from cto_backups.cli.screen import Screen
from cto_backups.errors import RefusedError, UsageError
from cto_backups.process import HOST_VARIABLE

if TYPE_CHECKING:
    from datetime import timedelta

    from cto_backups.cli.services import Service
    from cto_backups.config import Configuration

Manager = Literal["systemd", "launchd", "cron"]


@command
def install_service(
    screen: Screen,
    manager: Annotated[str, typer.Argument(metavar="MANAGER", help="Who is to run it: systemd, launchd or cron.")],
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="Run what is due so often, and do not stay meanwhile."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the files where they belong; print them else.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="With --write: put them there instead.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Of the service; one for each installation of a machine.")
    ] = "cto-backups",
) -> None:
    """Let the system run the worker by itself: print what systemd, launchd or cron needs for that, or put it there.

    For root the whole machine's service manager runs it, for others their own. Nothing is started: the commands for
    that are told. A file that is there and says something else is left alone.
    """
    from cto_backups import app
    from cto_backups.cli import services
    from cto_backups.config import load

    interval = _interval(manager, every)
    configuration = load(app.find_policy(screen.options.policy))
    service = _service(configuration, name, interval)
    match manager:
        case "systemd":
            files = {f"{name}.service": services.systemd_unit(service)}
            if interval is not None:
                files[f"{name}.timer"] = services.systemd_timer(service)
        case "launchd":
            files = {f"{name}.plist": services.launchd_plist(service)}
        case _:
            files = {"crontab": _cron(service)}
    if write and manager == "cron":
        raise UsageError("cron has no file of its own for this", todo="Add the line with 'crontab -e'.")
    place = folder or _place(manager, system=service.system)
    if write:
        _put(place, files)
    commands = _commands(manager, name, place, timer=interval is not None, system=service.system)
    missing = _variables(configuration)
    screen.document(
        {
            "manager": manager,
            "files": {file: text if manager == "cron" else str(place / file) for file, text in files.items()},
            "texts": files,
            "written": write,
            "commands": commands,
            "variables": missing,
        }
    )
    for file, text in files.items():
        if write:
            screen.show(f"Written: {place / file}")
        elif screen.talks:
            screen.note(f"# {file}" if manager == "cron" else f"# {place / file}")
            screen.as_it_is(text)
    screen.note("Then: " + "; ".join(commands))
    if missing:
        screen.note(
            f"The policy takes {', '.join(missing)} from the environment, which a service does not have: refer to a "
            "file instead (file:keys/…), or set it there."
        )


def _interval(manager: str, every: str | None) -> "timedelta | None":
    from cto_backups.core.duration import parse_duration

    if manager not in ("systemd", "launchd", "cron"):
        raise UsageError(f"'{manager}' runs no services here", todo="Write systemd, launchd or cron.")
    if every is None:
        return parse_duration("15 min") if manager == "cron" else None
    try:
        return parse_duration(every)
    except ValueError as error:
        raise UsageError(f"--every: {error}", todo="Write how often it is run, such as '15 min' or '1 h'.") from None


def _service(configuration: "Configuration", name: str, every: "timedelta | None") -> "Service":
    from cto_backups.app.adapters import local_roots
    from cto_backups.cli.services import Service
    from cto_backups.core.duration import format_duration

    settings = configuration.settings
    words = [*_program(), "--policy", str(configuration.path), "worker"]
    if every is not None:
        words += ["--once", "--every", format_duration(every)]
    own = [settings.home, settings.state, *local_roots(configuration).values()]
    outside = [folder for folder in own if folder == settings.home or not folder.is_relative_to(settings.home)]
    named = os.environ.get(HOST_VARIABLE)
    return Service(
        words,
        name,
        settings.home,
        tuple(dict.fromkeys(outside)),
        every,
        system=os.geteuid() == 0,
        variables={HOST_VARIABLE: named} if named else {},
    )


def _variables(configuration: "Configuration") -> list[str]:
    """The variables of the environment that the policy refers to."""
    from cto_backups.config.document import parse

    root = parse(configuration.text.decode()).root
    texts = (node.scalar for _, node in root.walk() if isinstance(node.scalar, str)) if root is not None else ()
    return sorted({text.removeprefix("env:").strip() for text in texts if text.startswith("env:")})


def _program() -> list[str]:
    """How this program is started from anywhere, whatever PATH a service manager has."""
    beside = Path(sys.executable).with_name("cto.backups")
    if beside.exists():
        return [str(beside)]
    found = shutil.which("cto.backups")
    return [found] if found else [sys.executable, "-m", "cto_backups"]


def _cron(service: "Service") -> str:
    from cto_backups.cli import services

    try:
        return services.cron_line(service)
    except ValueError as error:
        raise UsageError(f"--every: {error}") from None


def _place(manager: str, *, system: bool) -> Path:
    if manager == "systemd":
        return Path("/etc/systemd/system") if system else Path.home() / ".config" / "systemd" / "user"
    return Path("/Library/LaunchDaemons") if system else Path.home() / "Library" / "LaunchAgents"


def _put(place: Path, files: dict[str, str]) -> None:
    for file, text in files.items():
        target = place / file
        if target.exists() and target.read_text() != text:
            raise RefusedError(
                f"{target} is there already, and says something else",
                why="somebody may have changed it by hand, or it is of another installation",
                todo="Compare, and remove it; or choose another --name.",
            )
    try:
        place.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (place / file).write_text(text)
    except OSError as error:
        raise RefusedError(
            f"{place} cannot be written to",
            why=error.strerror or type(error).__name__,
            todo="Run this as somebody who may, or choose another --folder.",
        ) from None


def _commands(manager: str, name: str, place: Path, *, timer: bool, system: bool) -> list[str]:
    if manager == "cron":
        return ["crontab -e, and add the line"]
    if manager == "launchd":
        return [f"launchctl bootstrap {'system' if system else f'gui/{os.getuid()}'} {place / name}.plist"]
    control = "systemctl" if system else "systemctl --user"
    enabled = f"{name}.{'timer' if timer else 'service'}"
    commands = [f"{control} daemon-reload", f"{control} enable --now {enabled}"]
    return commands if system else [*commands, "loginctl enable-linger"]
