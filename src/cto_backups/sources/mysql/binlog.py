"""A server's binary log: asked for from a place on, event by event, and read again from files.

An event is a header of 19 bytes (when, in seconds since 1970; its type; the server's number; its size; where the next
one begins; flags), what it says, and 4 bytes of CRC-32 where the server writes them. A file is ``\\xfebin``, an event
that describes the format, and what follows. One of our pieces begins where the one before ended, and not at a file's
beginning: mariadb-binlog reads it all the same. Format: https://mariadb.com/kb/en/2-binlog-event-header/
"""

import secrets
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pymysql
from pymysql.constants import COMMAND

from cto_backups.sources.mysql.connection import Session, do, rows
from cto_backups.sources.mysql.dump import Position

MAGIC: Final = b"\xfebin"
_HEADER: Final = struct.Struct("<IBIIIH")
_ARTIFICIAL: Final = 0x20
_QUERY: Final = 2
_STOP: Final = 3
_ROTATE: Final = 4
_FORMAT: Final = 15
_XID: Final = 16
_INCIDENT: Final = 26
_HEARTBEAT: Final = 27
_XA_PREPARE: Final = 38
_GTID: Final = 162
_QUERY_COMPRESSED: Final = 165
_NON_BLOCKING: Final = 1
_WITH_ANNOTATIONS: Final = 2
"""Else what a row's statement was is left out, and places do not follow one another."""
_UNDERSTANDS_GTIDS: Final = 4
_STANDALONE: Final = 1
"""Of a group's flags: it has no end of its own, and is one statement."""
_FLAGS_AT: Final = _HEADER.size + 12
_QUERY_HEAD: Final = struct.Struct("<IIBHH")
"""Of a statement: its session, how long it took, how long its database's name is, its error, how much follows first."""
_CRC_BYTES: Final = 4
_BODY_BEGINS: Final = 8
"""A rotation's body: the place in the next file, and its name."""


class BrokenLogError(Exception):
    """The log cannot be gone on with from this place: it is not there, it is another one, or it has a hole."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event: `at` is where it begins in its file, and `content` all of it, header and checksum included."""

    file: str
    at: int
    content: bytes

    @property
    def when(self) -> int:
        """When what it is about began, in seconds since 1970."""
        return int(_HEADER.unpack_from(self.content)[0])

    @property
    def kind(self) -> int:
        """The number of its type."""
        return self.content[4]

    @property
    def ends(self) -> int:
        """Where the next one begins."""
        return int(_HEADER.unpack_from(self.content)[4])

    @property
    def is_format(self) -> bool:
        """Whether it describes the format of a file, which begins with it."""
        return self.kind == _FORMAT

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is none of the log's, and says that nothing more came for a while."""
        return self.kind == _HEARTBEAT

    @property
    def begins_file(self) -> bool:
        """Whether it is the first of a file, and one of its bytes."""
        return self.kind == _FORMAT and self.at == len(MAGIC) and self.ends > 0

    @property
    def ends_file(self) -> bool:
        """Whether the server itself ended a file with it: after a crash there is none."""
        return self.kind in (_ROTATE, _STOP)

    @property
    def begins_group(self) -> bool:
        """Whether a transaction, or a statement that stands for itself, begins with it."""
        return self.kind == _GTID

    @property
    def digest(self) -> str:
        """The SHA-256 of all of it."""
        return sha256(self.content).hexdigest()


class Groups:
    """Follows events, and knows whether the last of them lies within a transaction that goes on."""

    def __init__(self) -> None:
        self.is_open = False
        self._standalone = False

    def pass_by(self, event: Event) -> None:
        """The next event."""
        if event.begins_group:
            self.is_open = True
            self._standalone = bool(event.content[_FLAGS_AT] & _STANDALONE)
        elif event.kind in (_XID, _XA_PREPARE) or event.begins_file:
            self.is_open = False
        elif event.kind in (_QUERY, _QUERY_COMPRESSED) and self.is_open:
            self.is_open = not (self._standalone or _ends_transaction(event))


def _ends_transaction(event: Event) -> bool:
    if event.kind != _QUERY:
        return False  # what is compressed is longer
    _, _, name, _, status = _QUERY_HEAD.unpack_from(event.content, _HEADER.size)
    words = event.content[_HEADER.size + _QUERY_HEAD.size + status + name + 1 :]
    return words.startswith((b"COMMIT", b"ROLLBACK")) and not words.startswith(b"ROLLBACK TO")


class LogStream:
    """A server's log from a place on; a context. `session` is used for nothing else any more.

    With `wait_seconds` it has no end: what is written comes as it is, and a heartbeat when nothing came for so long.

    Raises BrokenLogError, pymysql.MySQLError. PyMySQL has no word for the command by which replicas ask, and its
    functions below that are its own.
    """

    def __init__(self, session: Session, place: Position, *, wait_seconds: float | None = None) -> None:
        self._session: Any = session
        self._place = place
        self._waits = wait_seconds is not None
        try:
            ((checksum,),) = rows(session, "SELECT @@GLOBAL.binlog_checksum")
            self._crc = str(checksum).upper() != "NONE"
            do(session, "SET @master_binlog_checksum = @@GLOBAL.binlog_checksum")
            do(session, f"SET @mariadb_slave_capability = {_UNDERSTANDS_GTIDS}")
            if wait_seconds is not None:
                do(session, f"SET @master_heartbeat_period = {round(wait_seconds * 1e9)}")
        except BaseException:
            self.close()
            raise

    def events(self) -> Iterator[Event]:
        """Every event from the place on, up to where the log ends now; before those of a file, its format."""
        file, at = self._place.file, self._place.offset
        name = file.encode("utf-8", "surrogateescape")
        # Without a number one is given what there is. With another's, it would be ended: so it is any, and a high one.
        flags, number = (0, secrets.randbits(31) | 1 << 31) if self._waits else (_NON_BLOCKING, 0)
        self._session._execute_command(
            COMMAND.COM_BINLOG_DUMP, struct.pack("<IHI", at, flags | _WITH_ANNOTATIONS, number) + name
        )
        checked = False
        for content in self._packets():
            event = Event(file, at, content)
            kind, flags = event.kind, int(_HEADER.unpack_from(content)[5])
            if kind == _ROTATE and flags & _ARTIFICIAL:
                end = len(content) - (_CRC_BYTES if self._crc else 0)
                following = content[_HEADER.size + _BODY_BEGINS : end].decode("utf-8", "surrogateescape")
                at = at if following == file else len(MAGIC)
                file = following
                continue
            if kind == _INCIDENT:
                raise BrokenLogError(f"the server itself says that something is missing in {file} at {at}")
            if kind == _FORMAT:
                checked = _is_checked(content)
            if checked and not _is_intact(content):
                raise BrokenLogError(f"an event of {file} at {at} is not as it was written")
            if kind == _HEARTBEAT:
                yield event
                continue
            if kind == _FORMAT and (flags & _ARTIFICIAL or event.ends == 0 or at > len(MAGIC)):
                yield event  # of a file that is not read from its beginning
                continue
            if flags & _ARTIFICIAL or event.ends == 0:
                continue
            if event.ends - len(content) != at:
                raise BrokenLogError(f"no event of {file} begins at {at}, or there is a hole")
            yield event
            at = event.ends

    def close(self) -> None:
        """Ask for no more."""
        with suppress(OSError, AttributeError):
            self._session._force_close()

    def __enter__(self) -> "LogStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _packets(self) -> Iterator[bytes]:
        while True:
            try:
                packet = self._session._read_packet()
            except pymysql.MySQLError as error:
                if error.args[:1] == (1236,):
                    raise BrokenLogError(str(error.args[1])) from error
                raise
            if packet.is_eof_packet():
                return
            yield packet.get_all_data()[1:]


def events_in(piece: Path, begins: int) -> Iterator[Event]:
    """The events of a file whose first one, after its format, begins at `begins`. Raises BrokenLogError, OSError."""
    with piece.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise BrokenLogError(f"{piece.name} is not of a binary log")
        at, first = begins, True
        crc = False
        while header := file.read(_HEADER.size):
            size = _HEADER.unpack(header)[3] if len(header) == _HEADER.size else 0
            content = header + file.read(max(0, size - len(header)))
            event = Event(piece.name, at, content)
            if len(content) != size or size < _HEADER.size or event.is_format != first:
                raise BrokenLogError(f"{piece.name} is cut or damaged at {at}")
            crc = _is_checked(content) if first else crc
            if crc and not _is_intact(content):
                raise BrokenLogError(f"an event of {piece.name} at {at} is not as it was written")
            if not first or at == len(MAGIC):
                if event.ends - size != at:
                    raise BrokenLogError(f"{piece.name} has a hole at {at}")
                at = event.ends
            first = False
            yield event


def _is_checked(description: bytes) -> bool:
    """Whether events have checksums, by what describes their format."""
    return description[-_CRC_BYTES - 1] == 1


def _is_intact(content: bytes) -> bool:
    return zlib.crc32(memoryview(content)[:-_CRC_BYTES]) == int.from_bytes(content[-_CRC_BYTES:], "little")
