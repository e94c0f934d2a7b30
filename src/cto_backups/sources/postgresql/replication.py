"""PostgreSQL's replication protocol, as far as it sends a server's files and its write-ahead log.

As the manual's chapter on the streaming replication protocol has it, from version 15 on. `pg_basebackup` writes the
files of several tablespaces into a folder alone, and `pg_receivewal` calls safe what lies on this machine's disk: what
goes straight into a vault needs both said by us.
"""

import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import pq

from cto_backups import clock
from cto_backups.process import ToolError, ToolTimeoutError
from cto_backups.sources.postgresql.connection import Address

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LOG_DATA: Final = struct.Struct(">QQQ")
_STATUS: Final = struct.Struct(">cQQQQB")
_OLDEST: Final = 15
_CALM_SECONDS: Final = 5.0
_UPLOAD_BYTES: Final = 1 << 18

PROGRAM: Final = "replication"
"""What errors name as the program."""


def lsn(text: str) -> int:
    """A place in the log, as a number of bytes from its beginning; PostgreSQL writes `16/B374D848`."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def lsn_text(number: int) -> str:
    """The opposite."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server's log is: what identifies the server, its timeline, and how far the log goes."""

    system: str
    timeline: int
    at: int


class Replication:
    """A replication connection; a context. Everything raises ToolError for what the server or the network does.

    With `database`, it also makes logical slots there. `silent_seconds` is how long the server may say nothing.
    """

    def __init__(self, address: Address, silent_seconds: float, *, database: str | None = None) -> None:
        self._silent_seconds = silent_seconds
        try:
            self._connection = address.replicating(database)
        except psycopg.Error as error:
            raise _told(error) from error
        self._server: pq.abc.PGconn = self._connection.pgconn

    def __enter__(self) -> "Replication":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it; temporary slots are gone then."""
        self._connection.close()

    @property
    def major(self) -> int:
        """The server's version."""
        return int(self._server.server_version) // 10_000

    def row(self, command: str) -> list[str]:
        """The only row that a command gives."""
        result = self._begin(command)
        if result.status != pq.ExecStatus.TUPLES_OK or result.ntuples != 1:
            raise self._refused(result)
        found = _row(result, 0)
        self._finish()
        return found

    def place(self) -> Place:
        """Which server this is, and where its log is."""
        system, timeline, at, *_ = self.row("IDENTIFY_SYSTEM")
        return Place(system, int(timeline), lsn(at))

    def segment_bytes(self) -> int:
        """How large one file of the log is."""
        (shown,) = self.row("SHOW wal_segment_size")
        number, unit = shown[:-2], shown[-2:]
        return int(number) * {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[unit]

    def hold_log(self, slot: str) -> None:
        """Have the server keep its log from here on, as long as this connection stands."""
        self.row(f"CREATE_REPLICATION_SLOT {slot} TEMPORARY PHYSICAL (RESERVE_WAL true)")

    def make_slot(self, slot: str) -> None:
        """Have the server keep its log from here on, whoever is connected, until what was received is reported safe."""
        self.row(f"CREATE_REPLICATION_SLOT {slot} PHYSICAL (RESERVE_WAL true)")

    def drop_slot(self, slot: str) -> None:
        """Let the server forget a slot."""
        self._begin(f"DROP_REPLICATION_SLOT {slot}")
        self._finish()

    def exported(self, slot: str) -> tuple[int, str]:
        """A moment of the database: its place in the log, and the snapshot that shows it, until the next command.

        The server waits for every transaction that has written something to end.
        """
        _, consistent, snapshot, _ = self.row(
            f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')"
        )
        return lsn(consistent), snapshot

    def history(self, timeline: int) -> tuple[str, bytes]:
        """The file that says which timelines led to this one: its name, and its content."""
        name, content = self.row(f"TIMELINE_HISTORY {timeline}")
        return name, content.encode()

    # -- the files of the server ---------------------------------------------------------------------------------------

    def tell_earlier(self, manifest: bytes) -> None:
        """Tell the server by its manifest which base backup is there already: `base_backup` may build on it then."""
        result = self._begin("UPLOAD_MANIFEST")
        if result.status != pq.ExecStatus.COPY_IN:
            raise self._refused(result)
        try:
            for begins in range(0, len(manifest), _UPLOAD_BYTES):
                self._server.put_copy_data(manifest[begins : begins + _UPLOAD_BYTES])
                self._flush()
            self._server.put_copy_end()
            self._flush()
        except psycopg.Error as error:
            raise _told(error) from error
        self._finish()

    def base_backup(self, label: str, max_rate_kib: int | None = None, *, incremental: bool = False) -> "BaseBackup":
        """Begin to send the files of the server; `incremental`, what changed in them since that of `tell_earlier`."""
        if self.major < _OLDEST:
            raise ToolError(PROGRAM, None, f"the server is PostgreSQL {self.major}, and this needs {_OLDEST} or newer")
        options = [f"LABEL '{label}'", "CHECKPOINT 'fast'", "WAL false", "TABLESPACE_MAP true"]
        options += ["MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'", "WAIT false"]
        if incremental:
            options.append("INCREMENTAL")
        if max_rate_kib is not None:
            options.append(f"MAX_RATE {max_rate_kib}")
        result = self._begin(f"BASE_BACKUP ({', '.join(options)})")
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise self._refused(result)
        begins, timeline = _row(result, 0)
        spaces = self._next()
        if spaces is None or spaces.status != pq.ExecStatus.TUPLES_OK:
            raise self._refused(spaces)
        sizes = {row[0]: int(row[2] or 0) for row in (_row(spaces, number) for number in range(spaces.ntuples))}
        copying = self._next()
        if copying is None or copying.status != pq.ExecStatus.COPY_OUT:
            raise self._refused(copying)
        return BaseBackup(self, lsn(begins), int(timeline), sizes)

    def end_of_base_backup(self) -> int:
        """Where in the log the server was done with its files."""
        ended = self._next()
        if ended is None or ended.status != pq.ExecStatus.TUPLES_OK:
            raise self._refused(ended)
        place = lsn(_row(ended, 0)[0])
        self._finish()
        return place

    # -- the log -------------------------------------------------------------------------------------------------------

    def begin_log(self, slot: str | None, begins: int, timeline: int) -> None:
        """Have the server send its log from a place on; without a slot, what it still has."""
        held = f"SLOT {slot} " if slot is not None else ""
        command = f"START_REPLICATION {held}PHYSICAL {lsn_text(begins)} TIMELINE {timeline}"
        result = self._begin(command)
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise self._refused(result)

    def log_data(self, seconds: float) -> tuple[int, memoryview] | None:
        """A piece of the log and where it begins; None after this many seconds without one.

        An answer that the server wants is given by `report`, for which there is time in between.
        """
        message = self.message(seconds)
        if message is None or bytes(message[:1]) != b"w":
            return None
        begins, _, _ = _LOG_DATA.unpack_from(message, 1)
        return begins, message[1 + _LOG_DATA.size :]

    def report(self, received: int, durable: int) -> None:
        """Tell the server how far its log was received, and how far it is safe: it may drop that."""
        since = int((clock.now() - _EPOCH).total_seconds() * 1_000_000)
        try:
            self._server.put_copy_data(_STATUS.pack(b"r", received, durable, durable, since, 0))
            self._server.flush()
        except psycopg.Error as error:
            raise _told(error) from error

    def finish_log(self, durable: int) -> None:
        """End the log, which is safe up to this place."""
        self.report(durable, durable)
        try:
            self._server.put_copy_end()
            self._server.flush()
        except psycopg.Error as error:
            raise _told(error) from error
        while self.message() is not None:
            pass
        self._finish()

    # -- messages ------------------------------------------------------------------------------------------------------

    def message(self, seconds: float | None = None) -> memoryview | None:
        """The next message of what is being sent; None at its end, or after this many seconds."""
        limit = self._silent_seconds if seconds is None else seconds
        try:
            while True:
                size, data = self._server.get_copy_data(1)
                if size > 0:
                    return data
                if size < 0:
                    if seconds is not None:
                        raise ToolError(PROGRAM, None, "the server sends its log no longer")
                    return None
                if not self._readable(limit):
                    if seconds is not None:
                        return None
                    raise ToolTimeoutError(PROGRAM, None, f"the server sent nothing for {limit:g} seconds")
                self._server.consume_input()
        except psycopg.Error as error:
            raise _told(error) from error

    def _begin(self, command: str) -> "pq.abc.PGresult":
        try:
            self._server.send_query(command.encode())
        except psycopg.Error as error:
            raise _told(error) from error
        result = self._next()
        if result is None:
            raise ToolError(PROGRAM, None, "the server did not answer")
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise self._refused(result)
        return result

    def _next(self) -> "pq.abc.PGresult | None":
        """The next result, waiting for it."""
        try:
            while self._server.is_busy():
                if not self._readable(self._silent_seconds):
                    raise ToolTimeoutError(
                        PROGRAM, None, f"the server said nothing for {self._silent_seconds:g} seconds"
                    )
                self._server.consume_input()
            return self._server.get_result()
        except psycopg.Error as error:
            raise _told(error) from error

    def _finish(self) -> None:
        """The end of a command, which tells whether all went well."""
        while (result := self._next()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise self._refused(result)

    def _flush(self) -> None:
        """Send what waits to be sent; the server may say something meanwhile."""
        poll = select.poll()
        poll.register(self._server.socket, select.POLLIN | select.POLLOUT)
        while self._server.flush():
            ready = poll.poll(self._silent_seconds * 1000)
            if not ready:
                raise ToolTimeoutError(PROGRAM, None, f"the server took nothing for {self._silent_seconds:g} seconds")
            if any(event & select.POLLIN for _, event in ready):
                self._server.consume_input()

    def _readable(self, seconds: float) -> bool:
        """Wait until something has come, in short steps: a signal is noticed in between."""
        poll = select.poll()
        poll.register(self._server.socket, select.POLLIN)
        left = seconds
        while left > 0:
            step = min(left, _CALM_SECONDS)
            if poll.poll(step * 1000):
                return True
            left -= step
        return False

    def _refused(self, result: "pq.abc.PGresult | None") -> ToolError:
        said = (result.error_message if result is not None else b"") or self._server.error_message
        words = " ".join(said.decode("utf-8", "replace").split())
        return ToolError(PROGRAM, None, words.removeprefix("ERROR: ").strip() or "the server ended it")


class BaseBackup:
    """The files of a server while they are sent: one tar archive for each tablespace, the server's own one last."""

    def __init__(self, connection: Replication, begins: int, timeline: int, sizes: dict[str, int]) -> None:
        self._connection = connection
        self.begins = begins
        self.timeline = timeline
        self.tablespaces = tuple(sorted(int(oid) for oid in sizes if oid))
        self.ends = 0
        """Where in the log it ends, once all was read."""

    def archives(self) -> Iterator["tuple[str, Iterator[memoryview]]"]:
        """Each archive's name (``base.tar``, ``16400.tar``), and its bytes; at last the manifest, as ``manifest``."""
        pending: str | None = None

        def content() -> Iterator[memoryview]:
            nonlocal pending
            while (message := self._connection.message()) is not None:
                match bytes(message[:1]):
                    case b"d":
                        yield message[1:]
                    case b"n":
                        pending = bytes(message[1:]).split(b"\0")[0].decode()
                        return
                    case b"m":
                        pending = "manifest"
                        return
                    case _:
                        pass  # how far it is
            pending = None

        for rest in content():  # up to the name of the first archive there is nothing
            raise ToolError(PROGRAM, None, f"the server sent {len(rest)} bytes of no archive")
        while pending is not None:
            yield pending, content()
        self.ends = self._connection.end_of_base_backup()


def _row(result: "pq.abc.PGresult", number: int) -> list[Any]:
    values = (result.get_value(number, column) for column in range(result.nfields))
    return [None if value is None else bytes(value).decode() for value in values]


def _told(error: psycopg.Error) -> ToolError:
    said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    return ToolError(PROGRAM, None, said)
