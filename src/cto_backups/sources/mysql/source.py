"""A MySQL or MariaDB server as a source: its databases dumped at one moment, with accounts; or the files of it all."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import pymysql

from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseWish, Fetch, Stage
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.streams import Following, Follows, PieceRead
from cto_backups.errors import PolicyError, RefusedError, RestoreError, VerificationError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources.mysql import capture as mysql_capture
from cto_backups.sources.mysql import log as mysql_log
from cto_backups.sources.mysql import logged, stream, tail, unfinished
from cto_backups.sources.mysql import restore as mysql_restore
from cto_backups.sources.mysql.bases import Dumps
from cto_backups.sources.mysql.connection import Address, Session, Tools, Version, said, version_of
from cto_backups.sources.mysql.database import DatabaseForm
from cto_backups.sources.mysql.dump import BROKEN_FILE, VIEWS_FILE
from cto_backups.sources.mysql.hashes import HASHES
from cto_backups.sources.mysql.inventory import databases
from cto_backups.sources.mysql.physical import METHOD, PhysicalForm
from cto_backups.sources.mysql.proof import found_there, plugins_of
from cto_backups.sources.mysql.remains import refuse_remains
from cto_backups.sources.mysql.server import Server
from cto_backups.sources.mysql.sums import log_sample, split, sums_in
from cto_backups.sources.mysql.throwaway import throwaway
from cto_backups.sources.options import seconds, text, texts
from cto_backups.sources.staging import staging


class MysqlSource:
    """Implements `core.ports.Source` for the databases of one server, as dumps or as the server's files.

    Options: `method`, `logical` or `physical`; `host` (a name, or the path of a socket), `port`, `user`, `password`
    (what reveals it), `databases` (all when empty), `ssl_mode`, `ssl_ca`; `accounts`, whether accounts and their rights
    are kept; `tools`, the folder of the server's programs; `lock_seconds`, how long to wait for a lock;
    `timeout_seconds`, how long a program may be silent; `scratch`, where throwaway servers live; `base_every_seconds`,
    how often there is a base when the binary log is kept in between, and `sums_every_seconds`, how often all rows are
    summed up at most then; `max_rate_mib`, how much a second the files of a server may be read at.
    """

    kind = "mysql"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        silent = seconds(options, "timeout_seconds", 3600.0)
        address = Address(
            host=text(options, "host"),
            port=int(seconds(options, "port", 3306)),
            user=str(options.get("user") or ""),
            password=_revealed(options),
            ssl_mode=str(options.get("ssl_mode") or ""),
            ssl_ca=str(options.get("ssl_ca") or ""),
            lock_seconds=seconds(options, "lock_seconds", 30.0),
            silent_seconds=silent,
        )
        self._server = Server(
            name=name,
            address=address,
            chosen=texts(options, "databases"),
            accounts=options.get("accounts", True) is True,
            tools=str(options.get("tools") or ""),
            timeout_seconds=silent,
        )
        every = options.get("base_every_seconds")
        self._base_every = timedelta(seconds=seconds(options, "base_every_seconds", 0)) if every is not None else None
        summed = options.get("sums_every_seconds")
        self._sums_every = timedelta(seconds=seconds(options, "sums_every_seconds", 0)) if summed is not None else None
        self._scratch = str(options.get("scratch") or "")
        self._state = state / "sources" / name
        rate = int(seconds(options, "max_rate_mib", 1.0)) if options.get("max_rate_mib") else None
        self._physical_form = partial(PhysicalForm, state=self._state, max_rate_mib=rate, scratch=self._scratch)
        self._physical = self._physical_form(self._server)
        self._is_physical = options.get("method") == METHOD

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The server, and every database of it; those that nobody named are found, and not covered."""
        with self._server.within(limit).session() as session:
            found = databases(session)
        place = self._server.place
        return [
            Resource(f"mysql:{place}", "mysql", place),
            *(
                Resource(f"mysql:{place}/{name}", "mysql", f"{place}/{name}", size, covered=self._server.covers(name))
                for name, size in found.items()
            ),
        ]

    def capture(self, limit: Limit = UNLIMITED) -> AbstractContextManager[Capture]:
        """All databases, and who may do what, at one moment. Raises SourceError."""
        server = self._server.within(limit)
        unfinished.refuse_unfinished(server)
        if self._base_every is not None:
            form = self._physical_form(server) if self._is_physical else Dumps(server, self._state)
            often = logged.Often(self._base_every, self._sums_every)
            return logged.capture(server, form, self._state, often)
        if self._is_physical:
            return self._physical_form(server).capture()
        return mysql_capture.capture(server, self._state)

    @property
    def server(self) -> Server:
        """The server, as this source knows it."""
        return self._server

    @property
    def streams(self) -> bool:
        """Whether the server's log can be followed between points: with `base_every`."""
        return self._base_every is not None

    def follow(self, follows: Follows, last: PieceRead | None) -> AbstractContextManager[Following]:
        """Follow the server's binary log on from where the last piece begins. Raises SourceError."""
        return stream.following(self._server, follows, last)

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do; in place, which databases it would make, and which are in the way."""
        if destination is not None and not only:
            refuse_remains(self.name, reader, destination)
        if self._physical.made(reader):
            return self._physical.plan_restore(reader, destination, only=only, existing=existing, options=options)
        if destination is not None:
            return reader.plan(destination, only=only, existing=existing, options=options)
        plan = reader.plan(Path("/"), only=_with_views(only))
        wanted = mysql_restore.databases_in(reader, only)
        with self._server.session() as session:
            conflicts = self._standing(reader, session, only, goes_on=_goes_on(reader, options, only))
            half = sorted(unfinished.unfinished(session))
        notes = [f"the server {self._server.place} gets: {', '.join(wanted) or 'no database'}"]
        if half:
            notes.append(
                f"an earlier restore did not finish {', '.join(half)}: what is there of it is no whole database"
            )
        if conflicts:
            notes.append(f"it will refuse, for these are there already: {', '.join(conflicts)}")
        return replace(plan, destination=Path(self._server.place), conflicts=conflicts, notes=(*plan.notes, *notes))

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
        """Write dumps or files; in place, make the databases from dumps. Raises RefusedError, RestoreError."""
        if destination is not None and not only:
            refuse_remains(self.name, reader, destination)
        if self._physical.made(reader):
            return self._physical.restore(
                reader, destination, only=only, existing=existing, options=options, progress=progress
            )
        if destination is not None:
            return tail.brought_back(
                self.name,
                destination,
                options,
                self._state,
                partial(reader.restore, destination, only=only, existing=existing, options=options, progress=progress),
            )
        with (
            self._server.session() as session,
            unfinished.alone(self.name, session),
            staging(self._state) as place,
            staging(self._state) as private,
        ):
            goes_on = _goes_on(reader, options, only)
            self._refuse(reader, session, only, goes_on=goes_on)
            restored = tail.brought_back(
                self.name,
                place,
                options if goes_on or options is None else replace(options, tail=None),
                self._state,
                partial(reader.restore, place, only=_with_views(only), options=options, progress=progress),
            )
            if any(problem.path != f"/{mysql_log.STREAMED_FILE}" for problem in restored.problems):
                return replace(restored, places=())  # another vault may have it whole
            log, streamed = mysql_log.whole_log(place), mysql_log.whole_streamed(place)
            tools = Tools(version_of(session)[0], self._server.tools)
            loader = mysql_restore.Loader(tools, self._server.address, private, first=unfinished.LOCK_OF_CLIENTS)
            try:
                with mysql_restore.eased(session, log=log is not None):
                    notes = mysql_restore.into(loader, session, place, everything=goes_on)
                    if log is not None:
                        mysql_log.replay(loader, place, log, streamed)
                    unfinished.finish(session, None if goes_on else mysql_restore.dumps_in(place).keys())
            except (ToolError, pymysql.MySQLError) as error:
                raise RestoreError(
                    f"source {self.name}: its databases were restored in part",
                    why=str(error) if isinstance(error, ToolError) else said(error),
                    todo="what is there has a table that says so, and is made anew when you restore again; where you"
                    f" make it whole yourself, drop that table in each database: {unfinished.TABLE}",
                ) from error
        return replace(restored, places=(self._server.place,), notes=(*restored.notes, *notes))

    def plan_database(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """What `restore_database` would do."""
        return self._database.plan(reader, told, wish)

    def restore_database(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring one database out of dumps to the server, or as a file to a folder."""
        return self._database.restore(fetch, told, wish, stage)

    @property
    def _database(self) -> DatabaseForm:
        return DatabaseForm(self._server, self._state, self.streams)

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Bring everything up on a throwaway server of the same series, check its tables, sum them up."""
        server = next((sample.fields for sample in expected.samples if sample.key == "server"), None)
        if server is None or expected.algorithm not in HASHES:
            raise VerificationError(
                f"source {self.name}: the fingerprint is not one of a MySQL or MariaDB server",
                why=f"it is {expected.algorithm}",
                todo="make a new recovery point",
            )
        tools = Tools(Version.parse(server["version"]), self._server.tools)
        try:
            if server.get("method") == METHOD:
                return self._physical.probe(restored, tools, expected)
            return self._made_anew(restored, server, tools, expected)
        except ToolMissingError as error:
            raise VerificationError(
                f"source {self.name}: no throwaway server of {tools.version.name} can be started here",
                why=error.detail,
                todo="install that series (Debian: apt-get install mariadb-server-core, and mariadb-backup for"
                " `method: physical`), or name its folder: `tools`",
            ) from error
        except (ToolError, pymysql.MySQLError) as error:
            raise VerificationError(
                f"source {self.name}: the restored databases do not work",
                why=str(error) if isinstance(error, ToolError) else said(error),
                todo="verify the vault, and test an older recovery point",
            ) from error

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _made_anew(self, restored: Path, server: Mapping[str, str], tools: Tools, expected: Fingerprint) -> Fingerprint:
        """The fingerprint of a server that was made from dumps. Raises what `probe` tells."""
        plugins = plugins_of(server)
        zones = [zone for zone in server["time_zones"].split(",") if zone]
        log, streamed, sums = mysql_log.whole_log(restored), mysql_log.whole_streamed(restored), sums_in(restored)
        first, rest = split(log, sums)
        with (
            throwaway(tools, server, plugins, zones=zones, scratch=self._scratch) as address,
            staging(self._state) as private,
        ):
            loader = mysql_restore.Loader(tools, address, private, then=True)
            mysql_restore.make_everything(loader, restored, with_accounts=server["accounts"] == "kept")
            mysql_log.replay(loader, restored, first)
            with closing(address.connect(patient=True)) as session:
                found = found_there(address, session, expected, tools.version)
                mysql_log.replay(loader, restored, rest, streamed)
                for name in databases(session):
                    mysql_restore.check_tables(session, name)
        if log is not None:
            found = replace(found, samples=(*found.samples, log_sample(log, sums)))
        if (restored / BROKEN_FILE).is_file():
            digest = sha256((restored / BROKEN_FILE).read_bytes()).hexdigest()
            found = replace(found, checksums={**found.checksums, "server: broken views": digest})
        return found

    def _standing(
        self, reader: PointReader, session: Session, only: Sequence[str], *, goes_on: bool
    ) -> tuple[str, ...]:
        """The databases that are in the way: where a log is to be carried out, every one that is there."""
        if goes_on:
            return mysql_restore.in_use(session, mysql_restore.databases_in(reader, only))
        return mysql_restore.standing(session, mysql_restore.databases_in(reader, only))

    def _refuse(self, reader: PointReader, session: Session, only: Sequence[str], *, goes_on: bool) -> None:
        """Raise RefusedError where something else than the point would be touched, or half of it restored."""
        standing = self._standing(reader, session, only, goes_on=goes_on)
        if goes_on and (only or standing):
            raise RefusedError(
                f"source {self.name}: a log is carried out on a server without databases alone, and all of it",
                why="it is of all databases: it says what became of each, by its name"
                + (f"; there are: {', '.join(standing)}" if standing else ""),
                todo="restore in place on a new server; or with --to FOLDER, and take what you need from a server"
                " that is made from it",
            )
        mysql_restore.refuse_standing(self.name, standing)


def _goes_on(reader: PointReader, options: RestoreOptions | None, only: Sequence[str]) -> bool:
    """Whether a log leads on from a point's dumps: one that it has, or that was streamed, which is for all of it."""
    streamed = options is not None and options.tail is not None and not only
    return streamed or any(True for _ in reader.listing([f"/{mysql_log.PREFIX}*"]))


def _with_views(only: Sequence[str]) -> Sequence[str]:
    """A database comes with its views, which lie in a file for all."""
    return [*only, f"/{VIEWS_FILE}"] if only else only


def _revealed(options: Mapping[str, object]) -> Callable[[], str] | None:
    value = options.get("password")
    if value is None or callable(value):
        return value
    raise PolicyError(
        "option `password` of a source is wrong", why="it must say where it is", todo="correct the policy"
    )
