"""`cloudsql`: the backups that Cloud SQL itself keeps of an instance, and bringing one of them back."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.attempts import attempt
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.options import attended
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, ExitStatus, RefusedError, UsageError

if TYPE_CHECKING:
    from cto_backups.core.cloud_sql import BackupRun

_Source = Annotated[str, typer.Argument(metavar="SOURCE", help="A source of kind cloudsql.")]


@command
def cloudsql(screen: Screen) -> ExitStatus:
    """Show for each instance of Cloud SQL in the policy which backups Cloud SQL itself has of it."""
    with opened(screen, write=False) as opening:
        from cto_backups.flows.service_backups import listed

        answers: list[documents.Document] = []
        statuses: list[ExitStatus] = []
        for name, policy in opening.configuration.policy.sources.items():
            if policy.kind != "cloudsql":
                continue
            found = attempt(screen, partial(listed, opening.installation, name))
            if isinstance(found, BackupsError):
                statuses.append(found.exit_status)
                answers.append({"source": name, "error": as_document(found)})
                continue
            newest = next((each for each in found if each.is_good), None)
            said = f"the newest good one is {_line(screen, newest)}" if newest else "none is good"
            screen.show(f"{name}: {counted(len(found), 'backup')}; {said}")
            answers.append({"source": name, "backups": len(found), "newest": as_json(newest) if newest else None})
        screen.document({"instances": answers})
        return worst(statuses)


@command
def backups(screen: Screen, source: _Source) -> None:
    """List the backups that Cloud SQL has of a source's instance, the newest first."""
    with opened(screen, write=False) as opening:
        from cto_backups.flows.service_backups import listed

        found = listed(opening.installation, source)
        for each in found:
            screen.show(_line(screen, each))
        if not found:
            screen.show(f"{source}: Cloud SQL has no backup of it")
        screen.document({"source": source, "backups": [as_json(each) for each in found]})


@command
def restore(
    screen: Screen,
    source: _Source,
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="Its number, or 'latest'.")],
    into: Annotated[str | None, typer.Option("--into", metavar="NAME", help="Make a new instance of it.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Over all that the instance holds now.")] = False,
    without_backup: Annotated[
        bool, typer.Option("--without-backup", help="In place, make no backup of what it holds now.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Have Cloud SQL restore one of its own backups, to a new instance or over the instance itself.

    Before it replaces what the instance holds, it makes a backup of that. Where policy asks for an approval of
    restores in place, it is asked for first.
    """
    if (into is None) == (not in_place):
        raise UsageError("Where to?", why="just one of --into and --in-place says it", todo="Give --into NAME.")
    if without_backup and not in_place:
        raise UsageError("--without-backup is for --in-place", why="a new instance holds nothing that could be lost")
    with opened(screen) as opening:
        from cto_backups.flows.service_backups import chosen
        from cto_backups.flows.service_backups import restore as bring_back

        installation = opening.installation
        found = chosen(installation, source, backup)
        if in_place and not yes:
            _ask(screen, source, found, without_backup=without_backup)
        done = bring_back(installation, source, found, into, save_first=not without_backup)
        screen.show(f"Restored backup {found.number} of {source} to {done.place} at {done.host}.")
        if done.before is not None:
            screen.show(f"  What it held before is in backup {done.before.number}.")
        if into is not None:
            screen.note("The new instance costs money until it is deleted; nothing was done to the one in use.")
        screen.document(
            {
                "source": source,
                "backup": as_json(found),
                "place": done.place,
                "host": done.host,
                "before": as_json(done.before) if done.before else None,
            }
        )


def _ask(screen: Screen, source: str, backup: "BackupRun", *, without_backup: bool) -> None:
    if screen.options.json or not attended():
        raise RefusedError(
            f"Restoring backup {backup.number} of {source} in place needs a yes",
            why="it replaces all that the instance holds, and nobody is at the terminal to be asked",
            todo="Add --yes if it is meant, or --into NAME to restore to a new instance.",
        )
    screen.note(f"This puts backup {_line(screen, backup)} in the place of all that the instance of {source} holds.")
    screen.note(
        "  What it holds now is lost: --without-backup was given."
        if without_backup
        else "  What it holds now is backed up first."
    )
    if not typer.confirm("Restore in place?", err=True):
        raise RefusedError(f"{source} was not restored", why="you said no", todo="Nothing was changed.")


def _line(screen: Screen, backup: "BackupRun") -> str:
    ended = screen.moment(backup.ended_at) if backup.ended_at else "not ended"
    more = " ".join(filter(None, (backup.location, backup.description, backup.error)))
    return f"{backup.number}  {ended}  {backup.kind.lower()}  {backup.status.lower()}  {more}".rstrip()


def as_json(backup: "BackupRun") -> documents.Document:
    """A backup of the service in JSON."""
    return {
        "number": backup.number,
        "status": backup.status,
        "kind": backup.kind,
        "ended_at": utc(backup.ended_at),
        "location": backup.location,
        "description": backup.description,
        "error": backup.error,
    }
