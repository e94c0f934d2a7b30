"""One database, or single tables of it, out of a recovery point of a whole server: what is asked, planned, and done."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, PointReader, Progress
from cto_backups.core.trees import Entry

Stage = Callable[[str], AbstractContextManager[Progress]]
"""Shows that a part of the work with this title goes on, and how far it is."""


class Fetch(Protocol):
    """Gets files of the point, from whichever vaults have them whole. Raises DamageError, VaultError."""

    def listing(self) -> Iterable[tuple[bytes, Entry]]:
        """Every entry with its path, as `PointReader.listing` has it."""

    def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
        """Restore below a folder that is empty: all, or `only` these paths; but not what is at a path of `spare`."""


@dataclass(frozen=True, slots=True)
class DatabaseWish:
    """What is wanted of a point, and where.

    Without `tables` the whole database. With `folder` it becomes a dump there; with `in_place` it takes the place of
    the one of its name, which is kept where `existing` lets it be replaced; else it comes into the same server as
    `name`, or under a name made from `moment`, that of what is in it. `at` is the moment to recover to within a log.
    With `verify` all rows on the server are compared with those of the point before the database gets its name. `meant`
    is a moment since the point that was asked for, which the server's own history may still have; `from_vault`: what a
    vault holds is wanted, and nothing that the server has.
    """

    database: str
    moment: datetime
    tables: tuple[str, ...] = ()
    folder: Path | None = None
    in_place: bool = False
    name: str = ""
    existing: Existing = Existing.REFUSE
    at: datetime | None = None
    verify: bool = False
    meant: datetime | None = None
    from_vault: bool = False

    @property
    def replaces(self) -> bool:
        """Whether it may take the place of what is there: that is governed."""
        return self.in_place or (self.folder is not None and self.existing is Existing.OVERWRITE)


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """What would be done: exactly what the dry run prints.

    `size_bytes` are read from the vault. `name` is that of the database on `place`, or of the file in it. `conflict`
    is what stands there and would be kept under another name, or in a folder be replaced; None: nothing. `way` says how
    it comes back, where there are several, `at` to which moment, where that is not the point's.
    """

    name: str
    place: str
    size_bytes: int
    conflict: str | None = None
    notes: tuple[str, ...] = ()
    way: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DatabaseRestored:
    """What is there now: `name` on `place`, or the file in it, of `size_bytes`. `kept_as`: what stood in its place.

    `way` and `at` are as in `DatabasePlan`.
    """

    name: str
    place: str
    size_bytes: int
    kept_as: str | None = None
    notes: tuple[str, ...] = ()
    way: str = ""
    at: datetime | None = None


@runtime_checkable
class DatabaseSource(Protocol):
    """A source whose points hold databases that come back one by one."""

    def plan_database(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """What `restore_database` would do; nothing is written, and what stands against it is told.

        `told` is the point's fingerprint. Raises NotFoundError (no such database), RefusedError (its name is taken),
        RestoreError (versions, rights, room), SourceError (the server is not reached).
        """

    def restore_database(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring it back. Whatever fails, no half of it bears its name. Raises as `plan_database` does."""
