"""One capture of a server: what there is, its moment, the dump of that, and what it is summed up to."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import pymysql

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.trees import CaptureTree
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources import pipes
from cto_backups.sources.mysql.catalogue import Catalogue, catalogue
from cto_backups.sources.mysql.connection import Session, Version, quoted, rows, said, stop, version_of
from cto_backups.sources.mysql.dump import BROKEN_FILE, VIEWS_FILE, Parts, Position, file_of
from cto_backups.sources.mysql.inventory import READING, STOPPING, databases, is_dumped, rights
from cto_backups.sources.mysql.left import end_left
from cto_backups.sources.mysql.moment import (
    ChangingError,
    Held,
    broken_views,
    fingerprint_of,
    moving,
    moving_sample,
    tells_position,
    together,
)
from cto_backups.sources.mysql.rows import SequenceAt
from cto_backups.sources.mysql.server import Server
from cto_backups.sources.mysql.summing import Summed, summed_up
from cto_backups.sources.mysql.throwaway import SAME
from cto_backups.sources.mysql.users import GRANTS_FILE, USERS_FILE, Accounts, accounts
from cto_backups.sources.mysql.watch import Watch
from cto_backups.sources.staging import staging
from cto_backups.sources.streams import Ready, Stream, StreamTree

_TRIES: Final = 5
_LOOKS: Final = (0.0, 0.5, 2.0)
"""How long to wait before each look at what a database is made of, in seconds."""
_ANY_NUMBER: Final = 1 << 62
_BEGINNING_SECONDS: Final = 10.0
"""How long a dump may take to begin: it is waited for while nobody may commit."""
_PLUGINS: Final = """
    SELECT PLUGIN_NAME, PLUGIN_LIBRARY FROM information_schema.PLUGINS WHERE PLUGIN_LIBRARY IS NOT NULL
    AND PLUGIN_STATUS = 'ACTIVE' AND PLUGIN_TYPE IN ('AUTHENTICATION', 'STORAGE ENGINE', 'DATA TYPE', 'FUNCTION')
"""


@dataclass(frozen=True)
class Plan:
    """What one capture knows of the server before its moment."""

    version: Version
    made_of: Sequence[Catalogue]
    server: Mapping[str, str]
    moved: Sequence[tuple[str, SequenceAt]]


class MysqlCapture:
    """Implements `core.ports.Capture`."""

    staged = True
    problems: tuple[Problem, ...] = ()  # a dump is whole, or there is none
    newest_content_at: datetime | None = None

    def __init__(
        self,
        streams: StreamTree,
        now: datetime,
        server: Server,
        plan: Plan,
        held: Held,
        users: Accounts | None,
        summed: "Future[list[Summed]]",
    ) -> None:
        self.captured_at = now
        self.paths = ("/",)
        self.tree: CaptureTree = streams
        self._server, self._plan, self._held, self._users, self._summed = server, plan, held, users, summed

    @property
    def place(self) -> Position | None:
        """Where in the binary log its moment is, if the server tells."""
        return self._held.place

    @property
    def summed(self) -> list[Summed]:
        """What all rows come to, once that is known. Raises SourceError."""
        try:
            return self._summed.result()
        except pymysql.MySQLError as error:
            raise self._server.unreadable(error) from error

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError."""
        summed = self.summed
        samples = [Sample("server", {**self._plan.server, **self._held.where})]
        samples += [moving_sample(key, at) for key, at in self._plan.moved]
        shared = self._users.digests() if self._users else {}
        return fingerprint_of(summed, shared, len(self._users.every) if self._users else 0, samples)

    def stored(self) -> None:
        """Nothing is remembered: what is in a database is only known when it is read."""


Beside: TypeAlias = Callable[[datetime, Position | None], Sequence[Stream]]
"""What is stored beside dumps, once their moment is known, and its place in the binary log, if the server tells."""


@contextmanager
def capture(server: Server, state: Path, beside: Beside = lambda *_: ()) -> Iterator[MysqlCapture]:
    """All databases, and who may do what, at one moment; `state` is a private folder. Raises SourceError."""
    with ExitStack() as stack, ThreadPoolExecutor(1, thread_name_prefix="fingerprint") as pool:
        control = stack.enter_context(server.session())
        plan = planned(server, control)
        options = server.address.option_file(stack.enter_context(staging(state)), plan.version)
        held, users = _begun(server, control, plan, options, stack)
        now = clock.now()
        history = plan.version.keeps_history
        future = pool.submit(summed_up, held.sessions, plan.made_of, history=history, beside=held.beside)
        files = [*(file_of(each.name) for each in plan.made_of), VIEWS_FILE]
        streams = [
            Stream(file.encode(), partial(held.parts.begin, number), partial(server.refusal, file))
            for number, file in enumerate(files)
        ]
        broken = broken_views(plan.made_of)
        if broken:
            streams.append(Stream(BROKEN_FILE.encode(), partial(Ready, broken), partial(server.refusal, BROKEN_FILE)))
        if users is not None:
            for file, content in ((USERS_FILE, users.users_file()), (GRANTS_FILE, users.grants_file())):
                streams.append(Stream(file.encode(), partial(Ready, content), partial(server.refusal, file)))
        streams += beside(now, held.place)
        watch = stack.enter_context(Watch(server.address, held.connection))
        try:
            yield MysqlCapture(StreamTree(streams, now), now, server, plan, held, users, future)
        except SourceError as error:
            failed = future.exception() if future.done() and not future.cancelled() else None
            if isinstance(failed, pymysql.MySQLError):
                raise server.unreadable(failed) from failed  # the reason, and not that the dump was left alone
            if watch.reason:
                raise server.refusal("its databases", ToolError("mariadb-dump", None, watch.reason)) from None
            raise error from None
        finally:
            if not future.cancel() and not future.done():
                for session in held.sessions:
                    stop(server.address, session)


def planned(server: Server, session: Session) -> Plan:
    """What there is, once it is sure that this user may see all of it."""
    end_left(session)
    version, whole = version_of(session)
    there = {name: size for name, size in databases(session).items() if is_dumped(name)}
    missing = [name for name in server.chosen if name not in there]
    if missing or not there:
        raise SourceError(
            f"source {server.name}: there is no database {', '.join(missing) or 'at all'} at {server.place}",
            why=f"there are: {', '.join(there) or 'none that this user may see'}",
            todo="correct `databases` of this source in the policy, or see what its user may read",
        )
    ((most,),) = rows(session, "SELECT @@GLOBAL.sql_select_limit")
    if int(most) < _ANY_NUMBER:
        raise SourceError(
            f"source {server.name}: the server at {server.place} gives {most} rows of a table, and no more",
            why="its setting sql_select_limit says so, and dumps would be cut by it",
            todo="as an administrator: SET GLOBAL sql_select_limit = DEFAULT",
        )
    names = sorted(server.chosen or there, key=file_of)
    server.require(session, READING)
    made_of = [catalogue(session, name) for name in names]
    if any(each.broken for each in made_of):
        server.require(session, ["EXECUTE"])  # else a view may seem to be broken that calls a function
    hidden = [f"{each.name}: {what}" for each in made_of for what in each.unreadable]
    if hidden:
        raise SourceError(
            f"source {server.name}: its user may not see everything that it dumps",
            why=f"hidden: {', '.join(hidden[:5])}",
            todo="grant it SELECT on *.* (MariaDB), or SHOW_ROUTINE (MySQL), and SHOW VIEW",
        )
    settings = dict(rows(session, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {SAME}"))
    zones = {zone for each in made_of for zone in each.zones if zone[:1].isalpha() and zone != "SYSTEM"}
    plugins = sorted(f"{name}={library.rpartition('.')[0]}" for name, library in rows(session, _PLUGINS))
    told = {
        **{str(name).lower(): str(value) for name, value in settings.items()},
        "version": whole,
        "plugins": ",".join(plugins),
        "time_zones": ",".join(sorted(zones)),
        "accounts": "kept" if server.accounts else "left out",
    }
    keys = sorted({key for each in made_of for key in each.keys})
    if keys:
        told["encryption_keys"] = ",".join(map(str, keys))
    return Plan(version, made_of, told, moving(session, made_of))


def _begun(
    server: Server, control: Session, plan: Plan, options: Path, stack: ExitStack
) -> tuple[Held, Accounts | None]:
    """A dump and a session at one moment, and who may do what just then."""
    may_stop, tells = bool(rights(control) & STOPPING), tells_position(control, plan.version)
    if not may_stop and not tells:
        raise SourceError(
            f"source {server.name}: nothing makes sure that dump and fingerprint are of one moment",
            why="its user lacks RELOAD, and the server has no binary log whose place snapshots tell",
            todo="as an administrator: GRANT RELOAD ON *.* TO that user; or back up when less is written",
        )
    unsafe = unsafe_in(plan)
    if unsafe:
        server.require(control, ["LOCK TABLES"])
    if unsafe and not may_stop:
        raise SourceError(
            f"source {server.name}: it has tables that are in no snapshot, which its user may not hold",
            why=f"of MyISAM, Aria or the like: {unsafe[:200]}",
            todo="as an administrator: GRANT RELOAD ON *.* TO that user; or make them InnoDB",
        )
    program = server.program(plan.version, "dump")  # looked for now, and not while nobody may commit
    start = partial(_dump, server, control, plan, program, options, tells=tells)
    for _ in range(_TRIES):
        users = who(server, control, plan)
        with ExitStack() as own:
            try:
                held = own.enter_context(
                    together(server.address, plan.version, start, unsafe, stop=may_stop, compare=tells)
                )
            except ToolError as error:
                raise server.refusal("its databases", error) from error
            except ChangingError as error:
                raise SourceError(
                    f"source {server.name}: no dump and fingerprint of one moment came about",
                    why=str(error),
                    todo="as an administrator: GRANT RELOAD ON *.* TO that user",
                ) from error
            if who(server, control, plan) == users:
                stack.push(own.pop_all())
                return held, users
    raise SourceError(
        f"source {server.name}: accounts of {server.place} change faster than they are read",
        why=f"they were others {_TRIES} times",
        todo="back up when nobody makes or drops accounts",
    )


def unsafe_in(plan: Plan) -> str:
    """The tables that are in no snapshot, with commas between them, as a statement names them."""
    return ", ".join(f"{quoted(each.name)}.{quoted(name)}" for each in plan.made_of for name in each.unsafe)


def who(server: Server, session: Session, plan: Plan) -> Accounts | None:
    """Who may do what, where that is kept. Raises pymysql.MySQLError."""
    objects = {each.name: each.objects for each in plan.made_of}
    return accounts(session, plan.version, objects) if server.accounts else None


def _dump(server: Server, control: Session, plan: Plan, program: str, options: Path, *, tells: bool) -> Parts:
    """Start to dump all databases in one transaction. Raises ToolError."""
    names = [each.name for each in plan.made_of]
    words = ["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob", "--tz-utc"]
    words += ["--no-tablespaces", "--default-character-set=utf8mb4", "--skip-dump-date", "--comments"]
    words += ["--max-allowed-packet=1G", "--no-autocommit"]
    words += [f"--ignore-table={each.name}.{view}" for each in plan.made_of for view in each.broken]
    if plan.version.is_mariadb:
        words += ["--master-data=2"] if tells else []
        words += ["--dump-history"] if plan.version.keeps_history else []
    else:
        words += ["--set-gtid-purged=OFF", "--loose-column-statistics=0"]
    output = pipes.Output(
        [program, f"--defaults-file={options}", *words, "--databases", "--", *names],
        environment=server.address.environment(options.parent),
        folder=options.parent,
        silent_seconds=min(_BEGINNING_SECONDS, server.timeout_seconds),
        limit=server.address.limit,
    )

    def begun() -> None:
        output.silent_seconds = server.timeout_seconds

    return Parts(
        output,
        names,
        begun,
        partial(unaltered, control, plan),
        wait_seconds=server.timeout_seconds,
        program=Path(program).name,
    )


def unaltered(control: Session, plan: Plan) -> None:
    """Raise ToolError when a database is made of something else than before its moment.

    What differs is looked at again: a server that opens tables anew says less of what rests on them for a moment.
    """
    altered = plan.made_of
    try:
        for pause in _LOOKS:
            time.sleep(pause)
            found = [(each, catalogue(control, each.name)) for each in altered]
            altered = [before for before, now in found if now.state != before.state]
            if not altered:
                return
    except pymysql.MySQLError as error:
        raise ToolError("the catalogue", None, said(error)) from error
    kinds = {kind for before, now in found for kind in now.digests if now.digests[kind] != before.digests.get(kind)}
    raise ToolError(
        "the catalogue",
        None,
        f"somebody made, altered, emptied or dropped tables of {', '.join(each.name for each in altered)}"
        f" ({', '.join(sorted(kinds)) or 'made anew as they were'})",
    )
