"""`restore --database`: one database, or tables of it, out of a recovery point."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.options import attended
from cto_backups.cli.screen import Screen
from cto_backups.errors import ExitStatus, RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cto_backups.cli.restore import Wish
    from cto_backups.core.database_restore import DatabaseWish
    from cto_backups.core.model import RecoveryPoint
    from cto_backups.flows.installation import Installation
    from cto_backups.flows.restore_database import DatabasePreview, DatabaseResult


@dataclass(frozen=True)
class DatabaseAsked:
    """What the command line says of databases."""

    database: str
    tables: tuple[str, ...]
    name: str

    def __bool__(self) -> bool:
        return bool(self.database or self.tables or self.name)

    def check(self, *, to: Path | None, in_place: bool, verify: bool, others: dict[str, bool]) -> None:
        """Raise UsageError for options that exclude each other; `others` are for files, with whether they are given."""
        if not self.database:
            raise UsageError(
                f"{'--table' if self.tables else '--as'} needs --database",
                why="a recovery point may hold many",
                todo="Name it: --database NAME.",
            )
        excluded = [option for option, given in others.items() if given]
        if excluded:
            raise UsageError(
                f"--database and {excluded[0]} exclude each other",
                why=f"{excluded[0]} is for files, and a database comes back as a whole",
                todo=f"Leave out {excluded[0]}.",
            )
        if in_place and (self.tables or to is not None or self.name):
            other = "--to" if to is not None else "--as" if self.name else "--table"
            raise UsageError(
                f"--in-place and {other} exclude each other",
                why="tables come back into a database of their own, so that nothing is lost that stands there"
                if other == "--table"
                else "a database goes to one place",
                todo="Leave out --in-place, and take from the restored database what is needed.",
            )
        if to is not None and (self.name or verify):
            other = "--as" if self.name else "--verify"
            raise UsageError(
                f"{other} and --to exclude each other",
                why="a dump in a folder is called after its database"
                if self.name
                else "it compares the rows on the server with those of the point",
                todo=f"Leave out --to to restore into the server, or {other}.",
            )


def restore_database(
    screen: Screen,
    installation: "Installation",
    point: "RecoveryPoint",
    asked: DatabaseAsked,
    wanted: "Wish",
    *,
    dry_run: bool,
) -> ExitStatus:
    """What `restore` does with --database."""
    from cto_backups.cli.restore import watched
    from cto_backups.core.database_restore import DatabaseWish
    from cto_backups.flows import restore_database as flow

    wish = DatabaseWish(
        database=asked.database,
        moment=wanted.at or (wanted.tail.mark.moment if wanted.tail and wanted.tail.mark else point.captured_at),
        tables=asked.tables,
        folder=wanted.destination,
        in_place=wanted.destination is None and not wanted.is_beside,
        name=asked.name,
        existing=wanted.existing,
        at=wanted.at,
        verify=wanted.verify,
        meant=wanted.meant if wanted.at is None else None,
        from_vault=wanted.vault is not None,
    )
    if dry_run:
        seen = flow.preview(installation, point, wish, wanted.vault)
        _tell_distance(screen, installation, point, wanted, seen.plan.at)
        return _preview(screen, seen, wish)
    if wish.in_place and not wanted.yes:
        _ask(screen, flow.preview(installation, point, wish, wanted.vault), wish)
    with watched(installation, point.source):
        result = flow.restore_database(installation, point, wish, wanted.vault, wanted.tail)
    _tell_distance(screen, installation, point, wanted, result.restored.at)
    _tell(screen, result, wish)
    return ExitStatus.SUCCESS


def has_history(installation: "Installation", point: "RecoveryPoint") -> bool:
    """Whether the source of a point has a history of its own, which may lead to any moment."""
    from cto_backups.core.time_travel import TimeTravelling

    return isinstance(installation.source(point.source), TimeTravelling)


def _written(moment: "datetime | None") -> str | None:
    return moment.isoformat() if moment is not None else None


def _tell_distance(
    screen: Screen, installation: "Installation", point: "RecoveryPoint", wanted: "Wish", at: "datetime | None"
) -> None:
    """How far it is from the moment that was asked for, where it is of the point's."""
    if wanted.meant is not None and wanted.at is None and at is None and has_history(installation, point):
        from cto_backups.cli.distance import distance

        screen.note(distance(installation, point, wanted.meant, screen.zone))


def _preview(screen: Screen, seen: "DatabasePreview", wish: "DatabaseWish") -> ExitStatus:
    plan = seen.plan
    screen.document(
        {
            "dry_run": True,
            "point": documents.point(seen.point),
            "vault": seen.vault,
            "database": wish.database,
            "tables": list(wish.tables),
            "name": plan.name,
            "place": plan.place,
            "size_bytes": plan.size_bytes,
            "conflict": plan.conflict,
            "way": plan.way or None,
            "at": _written(plan.at),
            "notes": list(plan.notes),
        }
    )
    screen.show(f"Would restore {_what(screen, seen.point, wish, seen.plan.at)} from {seen.vault}:")
    _plan(screen.show, seen, wish)
    screen.show("Nothing was written.")
    return ExitStatus.SUCCESS


def _plan(say: "Callable[[str], None]", seen: "DatabasePreview", wish: "DatabaseWish") -> None:
    plan = seen.plan
    say(f"  {_where(wish, plan.name, plan.place)}; {figures.size(plan.size_bytes)} are read from {seen.vault}")
    if plan.conflict:
        say(f"  {plan.conflict} is there, and {'would be replaced' if wish.folder else 'is kept under another name'}")
    for note in plan.notes:
        say(f"  {note}")


def _ask(screen: Screen, seen: "DatabasePreview", wish: "DatabaseWish") -> None:
    if screen.options.json or not attended():
        raise RefusedError(
            f"Restoring {wish.database} of {seen.point.id} in place needs a yes",
            why="nobody is at the terminal to be asked",
            todo="Add --yes if it is meant, or leave out --in-place: it then comes under another name.",
        )
    screen.note(f"This restores {_what(screen, seen.point, wish, seen.plan.at)} in place:")
    _plan(screen.note, seen, wish)
    if not typer.confirm("Restore in place?", err=True):
        raise RefusedError(f"{wish.database} was not restored", why="you said no", todo="Nothing was changed.")


def _tell(screen: Screen, result: "DatabaseResult", wish: "DatabaseWish") -> None:
    restored = result.restored
    screen.document(
        {
            "status": int(ExitStatus.SUCCESS),
            "dry_run": False,
            "point": documents.point(result.point),
            "vault": result.vault,
            "database": wish.database,
            "tables": list(wish.tables),
            "name": restored.name,
            "place": restored.place,
            "size_bytes": restored.size_bytes,
            "kept_as": restored.kept_as,
            "way": restored.way or None,
            "at": _written(restored.at),
            "seconds": round(result.seconds, 3),
            "notes": list(restored.notes),
            "vault_problems": list(result.vault_problems),
        }
    )
    screen.show(f"Restored {_what(screen, result.point, wish, restored.at)} from {result.vault}.")
    screen.show(f"  {_where(wish, restored.name, restored.place)}")
    screen.show(f"  {figures.size(restored.size_bytes)} in {figures.duration(result.seconds)}")
    if restored.kept_as:
        screen.show(f"  what stood there is kept as {restored.kept_as}, until you drop it")
    elif wish.folder is None and not wish.in_place:
        screen.show("  nothing else on that server was touched; drop it when you need it no longer")
    for note in restored.notes:
        screen.note(note)
    for trouble in result.vault_problems:
        screen.note(f"Not used: {trouble}")


def _where(wish: "DatabaseWish", name: str, place: str) -> str:
    return f"as {Path(place) / name}" if wish.folder is not None else f"as database {name} on {place}"


def _what(screen: Screen, point: "RecoveryPoint", wish: "DatabaseWish", at: "datetime | None" = None) -> str:
    tables = f"{', '.join(wish.tables)} of " if wish.tables else ""
    at = wish.at or at
    moment = f"{at:%Y-%m-%d %H:%M:%S %Z}" if at else screen.moment(point.captured_at)
    return f"{tables}database {wish.database} of {point.id} (of {moment})"
