"""One dump of many databases, which is of one moment, read as a file for each of them and one for all views.

mariadb-dump and mysqldump write ``-- Current Database: `name``` before each database, and once more before its views,
which come after all tables of all databases. Each file begins with what the dump begins with, and ends with its last
words, so that it can be loaded by itself.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition
from typing import Final
from urllib.parse import quote, unquote

from cto_backups.process import ToolError, ToolTimeoutError
from cto_backups.sources.mysql.connection import quoted
from cto_backups.sources.streams import Giver

VIEWS_FILE: Final = "views.sql"
BROKEN_FILE: Final = "broken-views.sql"
_PREFIX: Final = "database-"
_SUFFIX: Final = ".sql"
_NEXT_LINE: Final = "\n-- "
"""A comment's next line, where a name has one."""
COMPLETED: Final = b"-- Dump completed\n"
_READ: Final = 1 << 18
_LONGEST_PREAMBLE: Final = 1 << 20
# Else a table would lose what was valid when it was written, or would not be made at all.
_LENIENT: Final = (
    b"/*!40101 SET SQL_MODE=CONCAT(@@SQL_MODE, ',ALLOW_INVALID_DATES') */;\n"
    b"/*M!100201 SET check_constraint_checks=0 */;\n"
)
_POSITION: Final = re.compile(rb"^-- CHANGE MASTER TO MASTER_LOG_FILE='([^']*)', MASTER_LOG_POS=(\d+);", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the binary log: all that was committed before it is in, and nothing after."""

    file: str
    offset: int


def file_of(database: str) -> str:
    """The name of a database's dump: letters beyond ASCII as they are, for 64 of them would be too long otherwise."""
    return f"{_PREFIX}{''.join(quote(each, safe='') if each.isascii() else each for each in database)}{_SUFFIX}"


def database_of(file: str) -> str | None:
    """The database whose dump has this name; None for other files."""
    if file.startswith(_PREFIX) and file.endswith(_SUFFIX):
        return unquote(file[len(_PREFIX) : -len(_SUFFIX)])
    return None


def mark_of(database: str) -> bytes:
    """What stands before what a dump says of a database."""
    return f"\n--\n-- Current Database: {quoted(database).replace(chr(10), _NEXT_LINE)}\n--\n\n".encode()


class Parts:
    """A dump's parts: one for each of `databases`, which are dumped in this order, and at last the views.

    They are read one after the other, as they come; whoever wants a later one waits. `begun` is called once the dump's
    transaction has begun, and `finish` once the dump
    was read to its end and is whole, before its last part ends; it raises ToolError when it is not to be believed.
    """

    def __init__(
        self,
        dump: Giver,
        databases: Sequence[str],
        begun: Callable[[], None],
        finish: Callable[[], None],
        *,
        wait_seconds: float,
        program: str,
    ) -> None:
        self._dump, self._begun, self._finish, self._program = dump, begun, finish, program
        self._wait_seconds = wait_seconds
        self._marks = [
            *(mark_of(name) + b"CREATE DATABASE " for name in databases[1:]),
            mark_of(databases[0]) + b"USE ",
        ]
        self._first = mark_of(databases[0])
        self._held = bytearray()
        self._tail = b""
        self._scanned = 0
        self._ended = False
        self._turn = 0
        self._broken = False
        self._changed = Condition()
        self.preamble = b""

    def open(self) -> None:
        """Read until the first database begins: from then on the dump is of a moment. Raises ToolError."""
        while (at := self._held.find(self._first)) < 0:
            if len(self._held) > _LONGEST_PREAMBLE or not self._more():
                raise ToolError(self._program, 0, "it does not say which database it dumps")
        self.preamble = bytes(self._held[:at]) + _LENIENT
        del self._held[:at]
        self._begun()

    def position(self) -> Position | None:
        """Where in the binary log its moment is, if it says so."""
        found = _POSITION.search(self.preamble)
        return Position(found[1].decode("utf-8", "replace"), int(found[2])) if found else None

    def begin(self, number: int) -> "Part":
        """A part, once its turn has come. Raises ToolError when that never comes."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._broken or self._turn >= number, self._wait_seconds):
                raise ToolTimeoutError(self._program, None, "nobody read what it dumped before this")
            if self._broken or self._turn != number:
                raise ToolError(self._program, None, "what it dumped before this was not read to its end")
        return Part(self, number, self.preamble)

    def close(self) -> None:
        """Give no more."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()
        self._dump.close()

    def give(self, number: int, buffer: memoryview) -> int:
        """Some bytes of the part whose turn it is; 0 at its end, when the next one's turn has come."""
        while True:
            limit, at_end = self._limit(number)
            if limit:
                count = min(limit, len(buffer))
                buffer[:count] = self._held[:count]
                del self._held[:count]
                self._scanned = max(0, self._scanned - count)
                return count
            if at_end:
                self._pass_on(number)
                return 0
            self._more()

    def abandoned(self, number: int) -> None:
        """A part was closed: the others can be read only if it was read to its end."""
        with self._changed:
            if self._turn == number:
                self._broken = True
                self._changed.notify_all()

    def _limit(self, number: int) -> tuple[int, bool]:
        """How many of the bytes at hand belong to this part for certain, and whether it ends with them."""
        if number >= len(self._marks):
            return len(self._held), self._ended
        mark = self._marks[number]
        at = self._held.find(mark, self._scanned)
        if at >= 0:
            self._scanned = at
            return at, True
        self._scanned = max(0, len(self._held) - len(mark) + 1)
        if not self._ended:
            return self._scanned, False
        if number < len(self._marks) - 1:
            raise ToolError(self._program, 0, "it ended well, but without every database")
        return max(0, len(self._held) - len(COMPLETED)), True  # no views: the last words are the last file's

    def _pass_on(self, number: int) -> None:
        if number == len(self._marks):
            self._finish()
        with self._changed:
            self._turn = number + 1
            self._scanned = 0
            self._changed.notify_all()

    def _more(self) -> bool:
        """Read on. Raises ToolError when the dump ends without its last words."""
        if self._ended:
            return False
        read = bytearray(_READ)
        with memoryview(read) as view:
            count = self._dump.readinto(view)
        self._held += read[:count]
        self._tail = (self._tail + bytes(read[max(0, count - len(COMPLETED)) : count]))[-len(COMPLETED) :]
        if not count:
            self._ended = True
            if self._tail != COMPLETED:
                raise ToolError(self._program, 0, "it ended well, but without the words that it is complete")
        return bool(count)


class Part:
    """Implements `streams.Giver`: what the dump begins with, a part of it, and the last words."""

    def __init__(self, parts: Parts, number: int, preamble: bytes) -> None:
        self._parts, self._number = parts, number
        self._before = memoryview(preamble)
        self._after: memoryview | None = None
        self._last = b""
        self._given = False

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes; 0 once it is whole. Raises ToolError."""
        if self._before:
            count = min(len(buffer), len(self._before))
            buffer[:count], self._before = self._before[:count], self._before[count:]
            return count
        if not self._given:
            count = self._parts.give(self._number, buffer)
            if count:
                self._last = (self._last + bytes(buffer[max(0, count - len(COMPLETED)) : count]))[-len(COMPLETED) :]
                return count
            self._given = True
            self._after = memoryview(b"" if self._last == COMPLETED else b"\n" + COMPLETED)
        assert self._after is not None
        count = min(len(buffer), len(self._after))
        buffer[:count], self._after = self._after[:count], self._after[count:]
        return count

    def close(self) -> None:
        """Whatever was not read is lost, and with it what follows."""
        if not self._given:
            self._parts.abandoned(self._number)
