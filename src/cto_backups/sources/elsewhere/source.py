"""Repositories of another program as a source: tested as they are, without a copy of the data, never written to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg

from cto_backups import clock
from cto_backups.core.comparison import compare
from cto_backups.core.elsewhere import is_of_elsewhere
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.errors import RefusedError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.elsewhere import restore as elsewhere_restore
from cto_backups.sources.elsewhere.capture import UNASKED, capturing
from cto_backups.sources.elsewhere.keeping import Wanted, usable
from cto_backups.sources.elsewhere.program import Program, Words, refused
from cto_backups.sources.options import seconds
from cto_backups.sources.postgresql import recovery
from cto_backups.sources.postgresql.connection import Address
from cto_backups.sources.postgresql.inventory import databases
from cto_backups.sources.postgresql.point import AUTO_CONF, DATA
from cto_backups.sources.postgresql.server import Server, said
from cto_backups.sources.postgresql.sums import PHYSICAL_HASHES

_SUPERUSER: Final = "postgres"
_RUNNING: Final = "postmaster.pid"


class ElsewhereSource:
    """Implements `core.ports.Source` for one server's backups in the repositories that a program keeps.

    `opened` gives the program with its settings, for calls under a `limit`; raises SourceError when these cannot be
    read. Options, beside the program's own: `backup_every`, `sums_every` and `archive_within`, in seconds;
    `timeout_seconds`, how long the program may take. With `host`, the server's connection as a PostgreSQL source has
    it, without which nothing can be proven. `tools` and `scratch` are for throwaway servers.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        options: Mapping[str, object],
        words: Words,
        opened: Callable[..., AbstractContextManager[Program]],
        *,
        state: Path,
    ) -> None:
        self.kind = kind
        self.name = name
        self._words = words
        self._opened = opened
        self._timeout_seconds = seconds(options, "timeout_seconds", 86_400.0)
        every = options.get("backup_every")
        self._wanted = Wanted(
            name,
            timedelta(seconds=seconds(options, "backup_every", 1.0)) if every else None,
            seconds(options, "archive_within", 300.0),
            timedelta(seconds=seconds(options, "sums_every", 1.0)) if options.get("sums_every") else None,
        )
        archive = f"nothing of it goes into {words.title}'s archive"
        self._quiet = f"archive_mode is off in its {AUTO_CONF}: {archive}"
        self._state = state / "sources" / name
        password = options.get("password")
        # Throwaway servers know no other address, and are those of a server that nobody can ask, too.
        self._server = Server(
            name=name,
            address=Address(
                host=str(options.get("host") or ""),
                port=int(seconds(options, "port", 5432)),
                user=str(options.get("user") or ""),
                password=password if callable(password) else None,
                sslmode=str(options.get("sslmode") or ""),
                sslrootcert=str(options.get("sslrootcert") or ""),
                lock_seconds=seconds(options, "lock_seconds", 30.0),
            ),
            tools=str(options.get("tools") or ""),
            timeout_seconds=self._timeout_seconds,
            scratch=str(options.get("scratch") or ""),
        )

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """What the program has backups of in each repository, and the server with its databases, if it can be asked."""
        with self._opened(limit=limit) as program:
            try:
                found = program.look().repositories
            except ToolError as error:
                what = f"{self._words.title} does not tell what its repositories hold"
                raise refused(self._words, self.name, what, error) from error
        resources = [
            Resource(f"{self.kind}:{each.location}", self.kind, each.location, each.backups[-1].size_bytes)
            for each in usable(self._words, self.name, found)
        ]
        if (server := self._asked()) is None:
            return resources
        place = server.place
        listening = f"{place}/.s.PGSQL.{server.address.port}" if place.startswith("/") else place
        with server.within(limit).session("postgres") as session:
            sizes = databases(session)
        return [
            *resources,
            Resource(f"postgresql:{listening}", "postgresql", listening),
            *(
                Resource(f"postgresql:{place}/{name}", "postgresql", f"{place}/{name}", size)
                for name, size in sizes.items()
            ),
        ]

    @contextmanager
    def capture(self, limit: Limit = UNLIMITED) -> Iterator[Capture]:
        """What the repositories lead to now, and what that held. Raises SourceError."""
        asked = self._asked()
        server = asked.within(limit) if asked is not None else None
        with self._opened(limit=limit) as program, capturing(program, server, self._wanted, self._state) as capture:
            yield capture

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do, as far as the record of the point tells."""
        place = self._somewhere(destination, only)
        plan = reader.plan(place, existing=existing, options=options)
        conflicts = (*plan.conflicts, DATA) if _stands(place) and existing is Existing.REFUSE else plan.conflicts
        note = f"{self._words.title} restores the server's files into it, and its log from the archive"
        return replace(plan, conflicts=conflicts, notes=(*plan.notes, note))

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
        """Have the program write a data directory from which a server recovers by itself, to the point's moment.

        Raises RefusedError, RestoreError.
        """
        place = self._somewhere(destination, only)
        if _stands(place) and existing is Existing.REFUSE:
            raise RefusedError(
                f"source {self.name}: a server's files are in {place / DATA} already",
                why="they would be replaced",
                todo="restore into an empty folder, or say --overwrite",
            )
        if (place / DATA / _RUNNING).exists():
            raise RefusedError(
                f"source {self.name}: a server runs on {place / DATA}",
                why=f"there is {_RUNNING} in it",
                todo="stop it first; where none runs any more, remove that file",
            )
        began = clock.monotonic()
        restored = reader.restore(place, existing=existing, options=options, progress=progress)
        if restored.problems:
            return restored  # another vault may have the record whole
        moments = elsewhere_restore.told(self._words, self.name, place)
        with self._opened() as program:
            how = options or RestoreOptions()
            note = elsewhere_restore.write(
                program,
                self.name,
                place,
                moments,
                self._state,
                at=how.at,
                one_copy=how.one_copy,
                tools=self._server.tools,
            )
        size = elsewhere_restore.size(place)
        if progress is not None:
            progress.advance(size_bytes=size)
        took = clock.monotonic() - began
        return replace(
            restored, size_bytes=restored.size_bytes + size, seconds=took, notes=(*restored.notes, note, self._quiet)
        )

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Recover on a throwaway server to each database's moment, sum it up, go on to the end, check the indexes."""
        if expected.algorithm not in (*PHYSICAL_HASHES, UNASKED):
            raise VerificationError(
                f"source {self.name}: the fingerprint is not one of a PostgreSQL server",
                why=f"it is {expected.algorithm}",
                todo="make a new recovery point",
            )
        try:
            about = next((sample.fields for sample in expected.samples if sample.key == "server"), None)
            if about is None:
                about = {"version": self._version(restored), "bootstrap": self._server.address.user or _SUPERUSER}
            found = recovery.recovered(self._server, restored, about, expected)
        except ToolError as error:
            raise self._unworkable("do not work", str(error)) from error
        except psycopg.Error as error:
            raise self._unworkable("cannot be read", said(error)) from error
        # Where the data lie is not asked again: the restore took them from there.
        told = (sample for sample in expected.samples if is_of_elsewhere(sample))
        found = replace(found, samples=(*found.samples, *told))
        if expected.algorithm == UNASKED or compare(expected, found).passed:
            elsewhere_restore.passed(self._state)
        return found

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _asked(self) -> Server | None:
        """The server, where the policy says how to reach it."""
        return self._server if self._server.address.host else None

    def _somewhere(self, destination: Path | None, only: Sequence[str]) -> Path:
        if only:
            raise RefusedError(
                f"source {self.name}: a part of a server does not come back by itself",
                why="its files recover together, or not at all",
                todo="restore all of it, without --only, and take from the server what you need",
            )
        if destination is None:
            raise RefusedError(
                f"source {self.name}: the files of a server are not restored into one that is running",
                why="it would have to stop, and its files to go, before they can be replaced",
                todo=f"restore with --to FOLDER, or in place with {self._words.command} itself",
            )
        return destination

    def _unworkable(self, how: str, why: str) -> VerificationError:
        return VerificationError(
            f"source {self.name}: the restored databases {how}",
            why=why,
            todo=f"see '{self._words.verify}', make another backup with {self._words.title}, and test again",
        )

    def _version(self, restored: Path) -> str:
        """The major version of the server whose files these are."""
        try:
            return (restored / DATA / "PG_VERSION").read_text("ascii").strip()
        except OSError as error:
            raise VerificationError(
                "what was restored are not the files of a server",
                why=f"{error.filename}: {error.strerror}",
                todo=f"see what '{self._words.listing}' says of {self._words.subject}",
            ) from error


def _stands(place: Path) -> bool:
    """Whether files of a server are there already."""
    data = place / DATA
    return data.is_dir() and any(data.iterdir())
