"""`key drill`: open vaults with the shares of custodians alone, restore something, and record that."""

import os
import socket
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, ExitStatus, NotFoundError, RefusedError, UsageError

if TYPE_CHECKING:
    from cto_backups.config import Configuration
    from cto_backups.flows.key_drill import Report


@command
def drill(
    screen: Screen,
    vaults: Annotated[
        list[str] | None,
        typer.Argument(metavar="VAULT", help="Folders of vaults, or their names; all of the policy when left out."),
    ] = None,
    share: Annotated[
        list[Path] | None,
        typer.Option("--share", metavar="FILE", help="A page with a share; may be repeated. Asked for when left out."),
    ] = None,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Keep what is restored, in this new folder.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option("--repository", metavar="PLACE", help="Where it lies in each vault, if elsewhere.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write what came of it, to take it home.")
    ] = None,
    accept: Annotated[
        Path | None, typer.Option("--accept", metavar="FILE", help="Take over the report of a drill held elsewhere.")
    ] = None,
) -> ExitStatus:
    """Open each vault with the custodians' shares and nothing else, and restore some files from it.

    No key file, catalog or network is needed, nor a policy: in its place, name the folders of the vaults. With a policy
    and its evidence key, the drill is signed and counts for the audit. Elsewhere --report writes a file that is taken
    over at home with --accept.
    """
    if accept is not None:
        if vaults or share or into or report or repository:
            raise UsageError("--accept goes with nothing else", why="the drill was held already")
        return _accept(screen, accept)
    configuration = _policy(screen)
    if configuration is None and report is None:
        raise UsageError(
            "Say where the report goes",
            why="there is no policy here, so the drill cannot be signed here",
            todo="Add --report FILE, and take that file home: cto.backups key drill --accept FILE",
        )
    done = _held(screen, configuration, vaults or [], share or [], into, repository)
    if report is not None:
        _write(report, done)
    _tell(screen, done)
    signed = configuration is not None and _signed(screen, done)
    if report is not None:
        screen.show(f"Take {report} home: cto.backups key drill --accept {report.name}")
    failed = any(each.problem for each in done.tried)
    status = ExitStatus.VERIFICATION if failed else ExitStatus.SUCCESS
    screen.document({"status": int(status), "signed": signed, "vaults": [asdict(each) for each in done.tried]})
    return status


def _policy(screen: Screen) -> "Configuration | None":
    """The policy, where there is one: a clean place has none."""
    from cto_backups import app
    from cto_backups.cli.logs import configure
    from cto_backups.config import load

    configure(screen.options)
    try:
        return load(app.find_policy(screen.options.policy))
    except NotFoundError:
        if screen.options.policy is not None:
            raise
        return None


def _held(
    screen: Screen,
    configuration: "Configuration | None",
    vaults: list[str],
    share: list[Path],
    into: Path | None,
    repository: str | None,
) -> "Report":
    from cto_backups.app import user
    from cto_backups.app.escrow import vaults_of_drill
    from cto_backups.cli.share_input import gathered
    from cto_backups.flows.key_drill import drill as hold

    found = vaults_of_drill(configuration, vaults, repository)
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise RefusedError(f"{into} is not empty", why="what is restored goes to a clean place", todo="Name a new one.")
    shares = gathered(screen, share)
    with tempfile.TemporaryDirectory(prefix="cto-backups-drill-") as temporary:
        place = into or Path(temporary)
        with screen.progress("Opening vaults with the shares"):
            return hold(found, shares, place, host=socket.gethostname(), user=user())


def _signed(screen: Screen, done: "Report") -> bool:
    """Sign the drill here, where that is possible."""
    from cto_backups.flows.key_drill import accept

    try:
        with opened(screen) as opening:
            accept(opening.installation, done)
    except BackupsError as error:
        screen.problem(error, prefix="Not signed")
        screen.note("The drill counts once it is signed: hold it again then, or take over its --report.")
        return False
    screen.show("The drill is signed, and counts for the audit.")
    return True


def _accept(screen: Screen, path: Path) -> ExitStatus:
    from cto_backups.flows.key_drill import Report, accept

    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"The report {path} cannot be read", why=f"{error.strerror}") from None
    with opened(screen) as opening:
        outcome = accept(opening.installation, Report.from_bytes(content))
    for name, problem in outcome.items():
        screen.show(f"{name}: {problem or 'the shares opened it'}")
    screen.show("The drill is signed, and counts for the audit.")
    status = ExitStatus.VERIFICATION if any(outcome.values()) else ExitStatus.SUCCESS
    vaults = [{"vault": name, "problem": problem} for name, problem in outcome.items()]
    screen.document({"status": int(status), "signed": True, "vaults": vaults})
    return status


def _write(path: Path, done: "Report") -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(done.to_bytes())
    except OSError as error:
        raise RefusedError(f"The report {path} cannot be written", why=f"{error.strerror}") from None


def _tell(screen: Screen, done: "Report") -> None:
    for each in done.tried:
        if each.problem:
            screen.show(f"{each.name}: failed. {each.problem}")
        else:
            files = counted(each.restored, "file")
            screen.show(f"{each.name}: opened, and {files} restored from snapshot {each.snapshot[:12]}")
