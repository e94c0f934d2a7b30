"""Restore one database, or tables of it, out of a point: as a dump, beside what runs, or in the place of one."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cto_backups import clock
from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseSource, DatabaseWish
from cto_backups.core.governance import Governed
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.ports import Existing, PointReader, RestoreOptions
from cto_backups.core.streams import Tail
from cto_backups.core.trees import Entry
from cto_backups.errors import DamageError, UsageError
from cto_backups.flows import perils
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation
from cto_backups.flows.restore import fetched, from_any


@dataclass(frozen=True)
class DatabaseResult:
    """What was restored of which point, from which vault; `seconds` for all of it."""

    point: RecoveryPoint
    vault: str
    restored: DatabaseRestored
    seconds: float
    vault_problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatabasePreview:
    """What a restore would do: the dry run."""

    point: RecoveryPoint
    vault: str
    plan: DatabasePlan


def preview(
    installation: Installation, point: RecoveryPoint, wish: DatabaseWish, vault: str | None = None
) -> DatabasePreview:
    """What `restore_database` would do; nothing is written. Raises what would keep it from being done."""
    perils.checked(installation, point, wish.folder, None)
    source = _source(installation, point)

    def plan(reader: PointReader) -> DatabasePlan:
        return source.plan_database(reader, point.fingerprint, wish)

    name, planned, _ = from_any(installation, point, vault, plan)
    return DatabasePreview(point, name, planned)


def restore_database(
    installation: Installation,
    point: RecoveryPoint,
    wish: DatabaseWish,
    vault: str | None = None,
    tail: Tail | None = None,
) -> DatabaseResult:
    """Bring a database back; in the place of one that stands there, or over a file, where governance lets it.

    With `tail`, what was streamed after the point. Raises what `DatabaseSource` does; DamageError for a point that no
    vault has whole; VaultError, GovernanceError.
    """
    seen = preview(installation, point, wish, vault)
    if wish.replaces:
        _admit(installation, point, wish, vault)
    started = clock.monotonic()
    fetch = _Fetch(installation, point, vault, tail)
    source = _source(installation, point)
    restored = source.restore_database(fetch, point.fingerprint, wish, installation.progress)
    restored = replace(restored, notes=(*restored.notes, *fetch.notes))
    seconds = clock.monotonic() - started
    return DatabaseResult(point, fetch.used or seen.vault, restored, seconds, tuple(fetch.problems))


class _Fetch:
    """Implements `core.database_restore.Fetch`; remembers from which vault, and what was wrong with others."""

    def __init__(self, installation: Installation, point: RecoveryPoint, vault: str | None, tail: Tail | None) -> None:
        self.used = ""
        self.notes: tuple[str, ...] = ()
        self.problems: dict[str, None] = {}
        self._installation = installation
        self._point = point
        self._vault = vault
        self._tail = tail

    def listing(self) -> Iterable[tuple[bytes, Entry]]:
        _, entries, _ = from_any(self._installation, self._point, self._vault, lambda reader: list(reader.listing()))
        return entries

    def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
        options = RestoreOptions(spare=frozenset(spare), tail=self._tail)
        result = fetched(
            self._installation,
            self._point,
            place,
            only=only,
            existing=Existing.REFUSE,
            options=options,
            vault=self._vault,
        )
        self.used = result.vault
        if self._tail is not None:
            self.notes = result.restored.notes[-1:]  # how far it goes, which is said last
        self.problems |= dict.fromkeys(result.vault_problems)
        if lost := result.restored.problems:
            raise DamageError(
                f"{len(lost)} of {self._point.id} did not come back whole, and nothing was made of the rest",
                why=f"first: {lost[0].path} ({lost[0].kind}: {lost[0].detail})",
                todo="See 'cto.backups points' for another point that may hold these whole.",
            )


def _source(installation: Installation, point: RecoveryPoint) -> DatabaseSource:
    source = installation.source(point.source)
    if isinstance(source, DatabaseSource):
        return source
    raise UsageError(
        f"Source '{point.source}' has no databases to choose from",
        why=f"it is of the kind {installation.source_policy(point.source).kind};"
        " --database is for postgresql, mysql, cloudsql and bigquery",
        todo="Leave out --database; --only names paths in a point, which 'cto.backups ls' lists.",
    )


def _admit(installation: Installation, point: RecoveryPoint, wish: DatabaseWish, vault: str | None) -> None:
    parameters = {
        "point": point.id,
        "database": wish.database,
        "tables": list(wish.tables),
        "at": wish.at.isoformat() if wish.at else None,
        "destination": None if wish.folder is None else os.fsencode(wish.folder).decode("utf-8", "backslashreplace"),
        "overwrite": wish.existing is Existing.OVERWRITE,
        "vault": vault,
    }
    where = "in place" if wish.folder is None else f"over what is in {wish.folder}"
    admit(installation, Governed.RESTORE, parameters, summary=f"Restoring {wish.database} of {point.id} {where}")
