"""An instance of Cloud SQL as a source: its databases exported, its log and its backups put to the test by clones."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cto_backups import clock
from cto_backups.core.cloud_sql import BackupRun, BroughtBack, Instance
from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseWish, Fetch, Stage
from cto_backups.core.elsewhere import told as told_elsewhere
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.errors import RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.sources.cloudsql import capture as cloudsql_capture
from cto_backups.sources.cloudsql import mysql
from cto_backups.sources.cloudsql.capture import OWN_DATABASES, RECORD, Standing
from cto_backups.sources.cloudsql.clones import is_clone, leftovers
from cto_backups.sources.cloudsql.proof import (
    Found,
    about,
    compare_with_dump,
    fingerprint_of_clone,
    found_on,
    leads_to,
    of_elsewhere,
)
from cto_backups.sources.cloudsql.reaching import Reaching
from cto_backups.sources.cloudsql.service import MYSQL, POSTGRESQL, RUNNING, LogPlace, engine, rfc3339
from cto_backups.sources.cloudsql.service import settings as settings_of
from cto_backups.sources.mysql.hashes import HASHES as MYSQL_HASHES
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.options import seconds, text, texts
from cto_backups.sources.postgresql.source import PostgresqlSource
from cto_backups.sources.postgresql.sums import LOGICAL_HASHES
from cto_backups.sources.staging import make_private

CLONE: Final = "clone.json"
"""The file that says which instance a restore made."""
_PENDING: Final = "backup.pending"
_LOGGING: Final = {POSTGRESQL: "--enable-point-in-time-recovery", MYSQL: "--enable-bin-log"}


class CloudSqlSource:
    """Implements `core.ports.Source` for the databases of one instance.

    Options: `project`, `instance`; `user`, `password` (what reveals it); `databases` (all when empty); `address`,
    `private`, `public` or whichever there is; `host` and `port`, where another way leads there; `credentials` (what
    reveals a key file), `endpoint`, `tls`; `export`, `clone_tests`, `on_demand`; `moment_seconds`, `log_seconds` and
    `operation_seconds`, how long a quiet moment is looked for, the log is waited for, and an operation may take;
    `lock_seconds`, `timeout_seconds`, `tools`, `scratch` as with a server of one's own.
    """

    kind = "cloudsql"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._options = options
        self._project = text(options, "project")
        self._instance = text(options, "instance")
        self._chosen = texts(options, "databases")
        self._export = options.get("export", True) is True
        self._clone_tests = options.get("clone_tests", True) is True
        self._on_demand = options.get("on_demand", False) is True
        self._moment_seconds = seconds(options, "moment_seconds", 30.0)
        self._log_seconds = seconds(options, "log_seconds", 900.0)
        self._operation_seconds = seconds(options, "operation_seconds", 10_800.0)
        self._reaching = Reaching(name, options, state)
        self._own = state / "sources" / name

    # -- looking ------------------------------------------------------------------------------------------------------

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The instance and its databases; and every other instance of the project, which this source does not cover."""
        with self._reaching.service(limit) as service:
            told = service.get(self._instance)
            others = service.listed()
            place = self._reaching.place(self._instance)
            found = [Resource(f"cloudsql:{place}", "cloudsql", place)]
            if told.get("state") == RUNNING:
                found += self._databases(told, limit)
        now = clock.now()
        left = {name for each in others for name in leftovers([each], _cloned_from(str(each.get("name"))), now)}
        for each in others:
            name = str(each.get("name"))
            is_covered = each.get("instanceType") == "READ_REPLICA_INSTANCE" or (is_clone(name) and name not in left)
            if name != self._instance and not is_covered:
                place = self._reaching.place(name)
                found.append(Resource(f"cloudsql:{place}", "cloudsql", place, covered=False))
        return found

    def instance(self) -> Instance:
        """What the instance is set to now. Raises SourceError."""
        with self._reaching.service() as service:
            told = service.get(self._instance)
            left = leftovers(service.listed(), self._instance, clock.now())
            return settings_of(told, service.backups(self._instance), left)

    def _databases(self, told: Mapping[str, Any], limit: Limit) -> list[Resource]:
        """As the server itself tells them, by the names that they have at the service."""
        inner = self._reaching.inner(told)
        server, *found = inner.discover(limit)
        named = []
        for each in found:
            database = each.location.removeprefix(f"{server.location.partition('/.s.')[0]}/")
            if database not in OWN_DATABASES:
                place = f"{self._reaching.place(self._instance)}/{database}"
                named.append(replace(each, name=f"cloudsql:{place}", kind="cloudsql", location=place))
        return named

    # -- capturing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def capture(self, limit: Limit = UNLIMITED) -> Iterator[Capture]:
        """An export of the databases, or a record of a moment; with what the service keeps. Raises SourceError."""
        with self._reaching.service(limit) as service:
            told = service.get(self._instance)
            self._refuse_unfit(told)
            with suppress(SourceError):  # that clones are left over is a finding, and no reason to have no backup
                self._reaching.clones(service).sweep(patient=False)
            if self._on_demand:
                service.back_up(self._instance, self._description())
            standing = Standing(service, told, service.backups(self._instance))
            with self._capturing(standing, limit) as capture:
                yield capture
            (self._own / _PENDING).unlink(missing_ok=True)

    def _capturing(self, standing: Standing, limit: Limit) -> AbstractContextManager[Capture]:
        logged = settings_of(standing.told, ()).point_in_time
        if not self._export and not logged:
            raise SourceError(
                f"source {self.name}: instance {self._instance} keeps no log, and policy wants no export",
                why="point-in-time recovery is off: there would be nothing to come back to",
                todo=f"gcloud sql instances patch NAME {_LOGGING[engine(standing.told)]}; or `export: true`.",
            )
        to_clone = logged and self._clone_tests
        if engine(standing.told) == MYSQL:
            of_mysql = self._reaching.mysql(standing.told, limit)
            if not self._export:
                return mysql.recording(of_mysql, standing, self._log_seconds)
            return mysql.exporting(of_mysql, standing, self._own, self._log_seconds, to_clone=to_clone)
        server = self._reaching.server(standing.told, limit)
        names = cloudsql_capture.names_on(server, self._chosen)
        if not self._export:
            return cloudsql_capture.recording(server, standing, names, self._moment_seconds, self._log_seconds)
        held_for = self._moment_seconds if to_clone else 0.0
        return cloudsql_capture.exporting(server, standing, names, self._own, held_for, self._log_seconds)

    def _description(self) -> str:
        """Of the backup of this point: the same again after a crash, so that there is one and not two."""
        pending = self._own / _PENDING
        make_private(self._own)
        if not pending.is_file():
            new = pending.with_suffix(".new")
            new.write_text(f"cto.backups {self.name} {secrets.token_hex(8)}", encoding="utf-8")
            new.replace(pending)
        return pending.read_text(encoding="utf-8")

    def _refuse_unfit(self, told: Mapping[str, Any]) -> None:
        if engine(told) not in (POSTGRESQL, MYSQL):
            raise SourceError(
                f"source {self.name}: instance {self._instance} is {told.get('databaseVersion')}",
                why="this version protects PostgreSQL and MySQL",
                todo="Leave it out on purpose, with an exclusion; and see to it by other means.",
            )
        if told.get("state") != RUNNING:
            raise SourceError(
                f"source {self.name}: instance {self._instance} does not run",
                why=f"its state is {told.get('state')}",
                todo="Start it: gcloud sql instances patch NAME --activation-policy=ALWAYS; or see why it stopped.",
            )

    # -- restoring ----------------------------------------------------------------------------------------------------

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do: write dumps, make databases from them, or make a new instance."""
        wanted = options or RestoreOptions()
        if wanted.at is None and not self._is_record(reader):
            inner = self._reaching.inner_of(reader, destination)
            return inner.plan_restore(reader, destination, only=only, existing=existing, options=options)
        place = self._somewhere(destination, only)
        plan = reader.plan(place, only=[f"/{RECORD}"], existing=existing, options=replace(wanted, at=None))
        moment = rfc3339(wanted.at) if wanted.at is not None else "the point's moment"
        note = f"Cloud SQL makes a new instance in project {self._project}, as {self._instance} was at {moment}"
        return replace(plan, notes=(*plan.notes, note, "it costs what such an instance costs, until you delete it"))

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
        """Write the dumps, or in place make the databases from them; with `at`, or of a record, make a new instance.

        Raises RefusedError, RestoreError, SourceError.
        """
        wanted = options or RestoreOptions()
        if wanted.at is None and not self._is_record(reader):
            inner = self._reaching.inner_of(reader, destination)
            return inner.restore(reader, destination, only=only, existing=existing, options=options, progress=progress)
        place = self._somewhere(destination, only)
        began = clock.monotonic()
        how = replace(wanted, at=None)
        restored = reader.restore(place, only=[f"/{RECORD}"], existing=existing, options=how, progress=progress)
        if restored.problems:
            return restored  # another vault may have the record whole
        to = rfc3339(wanted.at) if wanted.at is not None else self._recorded_in(place)
        with self._reaching.service() as service:
            if wanted.one_copy:
                clones = self._reaching.clones(service)
                clones.sweep()
                name = clones.make(to)
            else:
                name = f"{self._instance[:60]}-restored-{clock.now():%Y%m%d-%H%M%S}"
                service.clone(self._instance, name, to)
            told = service.get(name)
        (place / CLONE).write_text(json.dumps({"instance": name, "at": str(to)}) + "\n", encoding="utf-8")
        note = f"instance {name} holds what {self._instance} held at {to}; it costs money until it is deleted"
        took = clock.monotonic() - began
        where = f"{self._reaching.place(name)} at {self._reaching.way(told).host}"
        return replace(restored, seconds=took, places=(where,), notes=(*restored.notes, note))

    def plan_database(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """What `restore_database` would do, as with a server of one's own."""
        return self._single(told, wish).plan_database(reader, told, wish)

    def restore_database(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring one database, or tables of it, out of an export to the instance, or as a dump to a folder."""
        return self._single(told, wish).restore_database(fetch, told, wish, stage)

    def service_backups(self) -> Sequence[BackupRun]:
        """The backups that Cloud SQL has of the instance, the newest first. Raises SourceError."""
        with self._reaching.service() as service:
            return service.backups(self._instance)

    def restore_service_backup(self, number: str, into: str | None, *, save_first: bool) -> BroughtBack:
        """Have Cloud SQL bring one of them back: to a new instance like this one, or over this one. Raises SourceError.

        Both engines come back so, and neither their data nor their passwords pass through here.
        """
        with self._reaching.service() as service:
            told, before = service.get(self._instance), None
            if into is not None:
                service.make(into, told)
            elif save_first:
                moment = f"{clock.now():%Y-%m-%d %H:%M:%S}"
                before = service.back_up(self._instance, f"cto.backups {self.name} before restore at {moment}")
            name = into or self._instance
            service.restore_backup(self._instance, number, name)
            return BroughtBack(self._reaching.place(name), self._reaching.way(service.get(name)).host, before)

    def _single(self, told: Fingerprint, wish: DatabaseWish) -> PostgresqlSource | MysqlSource:
        """The source of a server of one's own, for a database out of an export."""
        is_postgresql = told.algorithm in LOGICAL_HASHES
        if not (is_postgresql or told.algorithm in MYSQL_HASHES) or told_elsewhere(told) or wish.at is not None:
            raise RefusedError(
                f"source {self.name}: single databases come out of exports, as these were made",
                why="this point is none, or another moment is wanted",
                todo="Restore all of it with --to FOLDER; of another moment, take the database from the new instance.",
            )
        if wish.folder is not None:
            return self._reaching.away(is_postgresql=is_postgresql)
        with self._reaching.service() as service:
            return self._reaching.inner(service.get(self._instance))

    def _somewhere(self, destination: Path | None, only: Sequence[str]) -> Path:
        if only:
            raise RefusedError(
                f"source {self.name}: a part of an instance does not come back by itself",
                why="Cloud SQL clones all of it",
                todo="Restore all of it, without --only, and take from the new instance what you need.",
            )
        if destination is None:
            raise RefusedError(
                f"source {self.name}: instance {self._instance} is not taken back to another moment in place",
                why="what it holds now would be lost; Cloud SQL makes a new instance of a moment",
                todo="Restore with --to FOLDER, look at the new instance, and let the applications use that one.",
            )
        return destination

    # -- proving ------------------------------------------------------------------------------------------------------

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Of an export: bring the dumps up, and a clone of its moment beside; of a record, the clone alone.

        Clones are deleted, whatever happens. Raises VerificationError, SourceError.
        """
        told = about(expected)
        to = leads_to(told.fields) if told is not None else ""
        if told_elsewhere(expected) is not None:
            return self._prove_restored(restored, expected)
        inner = self._reaching.away(is_postgresql=expected.algorithm in LOGICAL_HASHES)
        apart = tuple(sample for sample in expected.samples if of_elsewhere(sample))
        of_dump = tuple(sample for sample in expected.samples if not of_elsewhere(sample))
        found = inner.probe(restored, replace(expected, samples=of_dump))
        if to and self._clone_tests:
            self._prove_clone(to, expected)
        return replace(found, samples=(*found.samples, *apart))

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _prove_clone(self, to: str | LogPlace, expected: Fingerprint) -> None:
        with self._reaching.service() as service:
            clones = self._reaching.clones(service)
            clones.sweep()
            with clones.made(to) as name:
                compare_with_dump(self.name, str(to), expected, self._found_on(service.get(name), expected))

    def _found_on(self, clone: Mapping[str, Any], expected: Fingerprint) -> Found:
        """What the databases that a fingerprint is of are summed up to on a clone."""
        names = sorted(key.removesuffix(": rows") for key in expected.checksums if key.endswith(": rows"))
        if engine(clone) == MYSQL:
            return mysql.found_on(self._reaching.mysql(clone), names, expected.algorithm)
        return found_on(self._reaching.server(clone), names)

    def _prove_restored(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Sum up the clone that `restore` made, and delete it."""
        try:
            name = str(json.loads((restored / CLONE).read_text(encoding="utf-8"))["instance"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise VerificationError(
                f"source {self.name}: nothing says which instance was made", why=str(error), todo="restore again"
            ) from error
        with self._reaching.service() as service:
            try:
                found = self._found_on(service.get(name), expected)
            finally:
                self._reaching.clones(service).delete(name)
        return fingerprint_of_clone(self.name, expected, found)

    def _is_record(self, reader: PointReader) -> bool:
        """Whether a point holds no data."""
        names = [path for path, _ in reader.listing()]
        return names == [f"/{RECORD}".encode()]

    def _recorded_in(self, place: Path) -> str | LogPlace:
        """To which moment, or place in the log, a record leads."""
        try:
            to = leads_to(json.loads((place / RECORD).read_text(encoding="utf-8")))
            if not to:
                raise ValueError(f"{RECORD} names none")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RestoreError(
                f"source {self.name}: this recovery point does not say to which moment it leads",
                why=str(error),
                todo="Choose another recovery point, or a moment: --at.",
            ) from error
        return to


def _cloned_from(name: str) -> str:
    return name.rpartition("-ctotest-")[0]
