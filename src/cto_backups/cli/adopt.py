"""`adopt`: take over a repository that restic made, as it is."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import UsageError

if TYPE_CHECKING:
    from cto_backups.app.adoption import Adoption


@command
def adopt(
    screen: Screen,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The repository, as 'restic -r' gets it.")],
    password: Annotated[
        str | None,
        typer.Option("--password", metavar="REF", help="Its password: file:PATH, env:NAME or command:CMD."),
    ] = None,
    vault: Annotated[
        str | None, typer.Option("--vault", metavar="NAME", help="What it is called as a vault; like its folder.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="NAME=PATH",
            help="The source of the snapshots of this path; once for each of its paths.",
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="Take over this host's snapshots too; may be repeated."),
    ] = None,
    data_class: Annotated[
        str, typer.Option("--class", metavar="CLASS", help="The class of sources that are new.")
    ] = "configuration",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done; change nothing.")] = False,
) -> None:
    """Take over a repository that restic made: it becomes a vault, and its snapshots recovery points of sources.

    Nothing that is in it is rewritten or moved, and restic goes on working with it. Snapshots of the same host and
    paths are one source: one of the policy that protects these paths, or a new one.
    """
    from cto_backups import app
    from cto_backups.app import adoption
    from cto_backups.cli.logs import configure
    from cto_backups.config.secrets import SecretReference

    configure(screen.options)
    wish = adoption.Wish(folder, vault, frozenset(host or ()), _sources(source or []), data_class)
    secret = SecretReference.parse(password).resolve(Path.cwd()) if password else None
    policy = app.find_policy(screen.options.policy)
    done = adoption.adopt(policy, wish, secret, host=socket.gethostname(), dry_run=dry_run)
    screen.document(_document(done, dry_run=dry_run))
    _tell(screen, done, dry_run=dry_run)


def _sources(given: list[str]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path.startswith("/")):
            raise UsageError(f"--source {text} is no name and path", todo="Write NAME=/PATH.")
        found[name] = found.get(name, frozenset()) | {path}
    return found


def _tell(screen: Screen, done: "Adoption", *, dry_run: bool) -> None:
    state = "becomes a vault" if done.new_vault else "is a vault already"
    screen.show(f"{done.location} {state}: {done.vault}")
    for name, snapshots in done.taken.items():
        how = f"new, {', '.join(done.new[name])}" if name in done.new else "a source of the policy"
        newest = screen.moment(snapshots[-1].time)
        screen.show(f"  source {name} ({how}): {counted(len(snapshots), 'snapshot')}, the newest of {newest}")
    for group, why in done.left:
        screen.show(f"  left alone: {counted(len(group.snapshots), 'snapshot')} of {', '.join(group.paths)}: {why}")
    if dry_run:
        screen.show("Nothing was changed.")
        return
    screen.show(f"{counted(len(done.points), 'recovery point')} taken over. They have no fingerprint of their source:")
    screen.show("they can be restored, not proven. Next: cto.backups backup, then cto.backups test")


def _document(done: "Adoption", *, dry_run: bool) -> documents.Document:
    return {
        "dry_run": dry_run,
        "vault": done.vault,
        "location": done.location,
        "new_vault": done.new_vault,
        "sources": [
            {
                "source": name,
                "new": name in done.new,
                "paths": list(snapshots[0].paths),
                "snapshots": [{"snapshot": each.reference, "captured_at": utc(each.time)} for each in snapshots],
            }
            for name, snapshots in done.taken.items()
        ],
        "left": [
            {"host": group.host, "paths": list(group.paths), "snapshots": len(group.snapshots), "why": why}
            for group, why in done.left
        ],
        "points": [point.id for point in done.points],
    }
