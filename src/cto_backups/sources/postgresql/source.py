"""A PostgreSQL server as a source: its databases as dumps, or the files of the whole server with its log."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg

from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseWish, Fetch, Stage
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.retained_log import RetainedLog
from cto_backups.core.streams import Following, Follows, PieceRead
from cto_backups.errors import PolicyError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.options import seconds, text, texts
from cto_backups.sources.postgresql.between import let_go
from cto_backups.sources.postgresql.connection import Address
from cto_backups.sources.postgresql.database import DatabaseForm
from cto_backups.sources.postgresql.incremental import FULL_EVERY
from cto_backups.sources.postgresql.inventory import closed, databases, holds_anything
from cto_backups.sources.postgresql.logical import LogicalForm
from cto_backups.sources.postgresql.physical import PhysicalForm
from cto_backups.sources.postgresql.retained import retained_logs
from cto_backups.sources.postgresql.server import Server, said
from cto_backups.sources.postgresql.sums import LOGICAL_HASHES, PHYSICAL_HASHES


class PostgresqlSource:
    """Implements `core.ports.Source` for the databases of one server.

    Options: `method`, `logical` or `physical`; `host`, `port`, `user`, `password` (what reveals it), `databases` (all
    when empty), `sslmode`, `sslrootcert`; `tools`, the folder of PostgreSQL's programs; `lock_seconds`, how long a lock
    may be waited for; `timeout_seconds`, how long a program may be silent; `role_passwords`; `scratch`, where throwaway
    servers live; `max_rate_kib`, how much a second the files of a server may be read at; `base_every_seconds`, how
    often they are, when in between only the log is; `full_every_seconds`, how often all of them are, where what
    changed in them would do; `sums`, `all` or `sampled`, of which rows they are taken.
    """

    kind = "postgresql"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        address = Address(
            host=text(options, "host"),
            port=int(seconds(options, "port", 5432)),
            user=str(options.get("user") or ""),
            password=_revealed(options),
            sslmode=str(options.get("sslmode") or ""),
            sslrootcert=str(options.get("sslrootcert") or ""),
            lock_seconds=seconds(options, "lock_seconds", 30.0),
        )
        self._server = Server(
            name=name,
            address=address,
            tools=str(options.get("tools") or ""),
            timeout_seconds=seconds(options, "timeout_seconds", 3600.0),
            scratch=str(options.get("scratch") or ""),
        )
        self._chosen = texts(options, "databases")
        self._own = own = state / "sources" / name
        passwords = options.get("role_passwords", True) is True
        self._logical_form = partial(LogicalForm, state=own, chosen=self._chosen, role_passwords=passwords)
        rate = int(seconds(options, "max_rate_kib", 1.0)) if options.get("max_rate_kib") else None
        every = options.get("base_every_seconds")
        base_every = timedelta(seconds=seconds(options, "base_every_seconds", 1.0)) if every else None
        full = options.get("full_every_seconds")
        full_every = timedelta(seconds=seconds(options, "full_every_seconds", 1.0)) if full else FULL_EVERY
        self._physical_form = partial(
            PhysicalForm,
            state=own,
            max_rate_kib=rate,
            base_every=base_every,
            full_every=full_every,
            sampled=options.get("sums") == "sampled",
        )
        self._logical, self._physical = self._logical_form(self._server), self._physical_form(self._server)
        self._database = DatabaseForm(self._server)
        self._is_physical = options.get("method") == "physical"

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The server, and every database of it; those that nobody named are found, and not covered."""
        with self._server.within(limit).session("postgres") as session:
            found, shut = databases(session), closed(session)
            # Everybody connects to it, and hardly anybody keeps anything there.
            if not self._is_covered("postgres") and not holds_anything(session):
                found.pop("postgres", None)
        place = self._server.place
        server = f"{place}/.s.PGSQL.{self._server.address.port}" if place.startswith("/") else place
        return [
            Resource(f"postgresql:{server}", "postgresql", server),
            *(
                Resource(
                    f"postgresql:{place}/{name}",
                    "postgresql",
                    f"{place}/{name}",
                    size,
                    covered=self._is_covered(name),
                )
                for name, size in found.items()
            ),
            *(Resource(f"postgresql:{place}/{name}", "postgresql", f"{place}/{name}", covered=False) for name in shut),
        ]

    def retained_logs(self) -> Sequence[RetainedLog]:
        """What the server keeps of its log in slots of this source, also where that is no longer asked for."""
        return retained_logs(self._server, self._own)

    def capture(self, limit: Limit = UNLIMITED) -> AbstractContextManager[Capture]:
        """The server's databases, each at one moment. Raises SourceError."""
        server = self._server.within(limit)
        if self._is_physical:
            return self._physical_form(server).capture()
        let_go(server, self._own)
        return self._logical_form(server).capture()

    @property
    def streams(self) -> bool:
        """Whether the server's log can be followed between points: with `method: physical` and `base_every`."""
        return self._is_physical and self._physical.streams

    def follow(self, follows: Follows, last: PieceRead | None) -> AbstractContextManager[Following]:
        """Follow the server's log on from where the last piece begins. Raises SourceError."""
        return self._physical.follow(follows, last.piece.begins if last is not None else follows.ends)

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do; in place, which databases it would make, and what becomes of those there."""
        return self._form_of(reader).plan_restore(reader, destination, only=only, existing=existing, options=options)

    def restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the dumps or the files; in place, make the databases from dumps. Raises RefusedError, RestoreError."""
        return self._form_of(reader).restore(
            reader, destination, only=only, existing=existing, options=options, progress=progress
        )

    def plan_database(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """What `restore_database` would do: of the one form of point as of the other."""
        return self._database.plan(reader, told, wish)

    def restore_database(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring one database, or tables of it, to the server, or as a dump to a folder."""
        return self._database.restore(fetch, told, wish, stage)

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Bring the databases up on a throwaway server of the same version, check their indexes, sum them up."""
        server = next((sample.fields for sample in expected.samples if sample.key == "server"), None)
        forms: dict[str, LogicalForm | PhysicalForm] = {
            **dict.fromkeys(LOGICAL_HASHES, self._logical),
            **dict.fromkeys(PHYSICAL_HASHES, self._physical),
        }
        form = forms.get(expected.algorithm)
        if server is None or form is None:
            raise VerificationError(
                f"source {self.name}: the fingerprint is not one of a PostgreSQL server",
                why=f"it is {expected.algorithm}",
                todo="make a new recovery point",
            )
        try:
            return form.probe(restored, server, expected)
        except ToolError as error:
            raise VerificationError(
                f"source {self.name}: the restored databases do not work",
                why=str(error),
                todo="verify the vault, and test an older recovery point",
            ) from error
        except psycopg.Error as error:
            raise VerificationError(
                f"source {self.name}: the restored databases cannot be read",
                why=said(error),
                todo="verify the vault, and test an older recovery point",
            ) from error

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _form_of(self, reader: PointReader) -> LogicalForm | PhysicalForm:
        """What a point holds says how it is restored: a source may have been of the other form then."""
        return self._physical if self._physical.made(reader) else self._logical

    def _is_covered(self, database: str) -> bool:
        return not self._chosen or database in self._chosen


def _revealed(options: Mapping[str, object]) -> Callable[[], str] | None:
    value = options.get("password")
    if value is None or callable(value):
        return value
    raise PolicyError(
        "option `password` of a source is wrong", why="it must say where it is", todo="correct the policy"
    )
