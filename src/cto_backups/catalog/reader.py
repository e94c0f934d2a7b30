"""What the catalog is asked most: points, copies, evidence, and all facts at once."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime

from cto_backups.catalog import facts, inventory, queries
from cto_backups.catalog.database import Connection, Database
from cto_backups.core.facts import CopyFacts, Facts
from cto_backups.core.model import ActionKind, Evidence, RecoveryPoint, Run


class Reader:
    """Reads one catalog; see `catalog.catalog.Catalog`."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def reading(self) -> AbstractContextManager[Connection]:
        """A consistent view of everything."""
        return self._database.reading()

    def point(self, name: str) -> RecoveryPoint:
        """A point by its id, or a unique beginning of one. Raises NotFoundError naming the closest."""
        with self.reading() as connection:
            return queries.point(connection, name)

    def points(
        self, source: str | None = None, *, limit: int | None = None, include_expired: bool = False
    ) -> tuple[RecoveryPoint, ...]:
        """Points, newest first."""
        with self.reading() as connection:
            return queries.points(connection, source, limit=limit, include_expired=include_expired)

    def latest(self, source: str, *, complete: bool = True) -> RecoveryPoint | None:
        """The newest point of a source; with `complete`, the newest that lacks nothing."""
        with self.reading() as connection:
            return queries.newest(connection, source, complete=complete)

    def at(self, source: str, moment: datetime) -> RecoveryPoint | None:
        """The newest point of a source that was captured at or before a moment."""
        with self.reading() as connection:
            return queries.newest(connection, source, complete=False, at=moment)

    def after(self, source: str, moment: datetime) -> RecoveryPoint | None:
        """The oldest kept point of a source that was captured after a moment."""
        with self.reading() as connection:
            return queries.following(connection, source, moment)

    def leading_to(self, source: str, moment: datetime) -> RecoveryPoint | None:
        """Of the kept points of a source whose log holds a moment, the one whose log ends first."""
        with self.reading() as connection:
            return queries.leading_to(connection, source, moment)

    def runs(self, source: str | None = None, *, limit: int = 50) -> tuple[Run, ...]:
        """The last runs, newest first."""
        with self.reading() as connection:
            return queries.runs(connection, source, limit)

    def last_figure(self, action: ActionKind, vault: str, name: str) -> int:
        """A figure of the last run of an action in a vault that has it; 0 without one."""
        with self.reading() as connection:
            return queries.last_figure(connection, action, vault, name)

    def copies(self, point_id: str) -> tuple[CopyFacts, ...]:
        """The copies of a point, with what is proven of each."""
        with self.reading() as connection:
            return facts.copies_of(connection, [point_id]).get(point_id, ())

    def evidence(
        self, *, point: str | None = None, source: str | None = None, kind: str | None = None, limit: int = 50
    ) -> tuple[Evidence, ...]:
        """Evidence, newest first."""
        with self.reading() as connection:
            return queries.evidence(connection, point=point, source=source, kind=kind, limit=limit)

    def evidence_for(self, source: str | None, *, failed: bool, limit: int | None) -> tuple[Evidence, ...]:
        """Evidence that concerns a source (verifications of vaults concern each) or any, newest first."""
        with self.reading() as connection:
            return queries.evidence_for(connection, source, failed=failed, limit=limit)

    def one_evidence(self, name: str) -> Evidence:
        """Evidence by its id, or a unique beginning of one. Raises NotFoundError."""
        with self.reading() as connection:
            return queries.one_evidence(connection, name)

    def noted_away(self) -> frozenset[str]:
        """The vaults that could not be read when a worker last looked."""
        with self.reading() as connection:
            return inventory.away(connection)

    def known_sources(self) -> tuple[str, ...]:
        """The names of all sources that it knows, those that have left the policy among them."""
        with self.reading() as connection:
            return tuple(connection.scalars("SELECT name FROM sources ORDER BY name"))

    def facts(
        self,
        now: datetime,
        sources: Iterable[str] | None = None,
        *,
        kept_points: bool = False,
        inventory: bool = True,
    ) -> Facts:
        """What the pure functions judge by, of these sources or of all that are active, as of `now`."""
        with self.reading() as connection:
            if sources is not None:
                return facts.read(connection, list(sources), now, kept_points=kept_points, listed=inventory)
            names = connection.scalars("SELECT name FROM sources WHERE active = 1")
            former = connection.scalars("SELECT name FROM sources WHERE active = 0")
            return facts.read(connection, names, now, kept_points=kept_points, former=former, listed=inventory)
