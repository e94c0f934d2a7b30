"""Incremental base backups: of files that the point before has, the server sends only what changed since.

From PostgreSQL 17 on, a server with `summarize_wal` knows which blocks its log changed. Told what an earlier base
backup holds, it sends a file of that as INCREMENTAL.name: the numbers of the blocks that changed, and these. They take
their place in the file of the point before while they come, so that each point has whole files, as any base backup.
"""

import os
import stat
import struct
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Final, Literal

from cto_backups import _native, clock
from cto_backups.core.duration import format_duration
from cto_backups.core.trees import Before, Patch
from cto_backups.errors import DamageError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql.inventory import tablespaces
from cto_backups.sources.postgresql.manifest import Listed, listed, whole_path, with_files
from cto_backups.sources.postgresql.point import DATA, MOMENTS, TABLESPACES, Moments, is_whole
from cto_backups.sources.postgresql.replication import PROGRAM, Place
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.tar import Member, TarReader

FULL_EVERY: Final = timedelta(days=7)
"""How often all files are read, although what changed in them would do, where nobody says otherwise."""

_OLDEST: Final = 17
_MAGIC: Final = 0xD3AE1F0D
_WORD: Final = 4
_ALL_ONES: Final = 0xFFFFFFFF

_SPACES: Final = TABLESPACES.encode()

MANIFEST: Final = f"{DATA}/backup_manifest"
LABEL: Final = b"backup_label"


@dataclass(frozen=True)
class Earlier:
    """A point that a base backup can build on: what it tells, the manifest of its files, and how large blocks are."""

    moments: Moments
    manifest: bytes
    block_bytes: int


def started(server: Server) -> str:
    """When a server was started, in its own words: the same as long as it runs. Raises SourceError."""
    with server.session("postgres") as session:
        row = session.execute("SELECT extract(epoch FROM pg_postmaster_start_time())::text").fetchone()
    return str(row[0]) if row is not None else ""


def earlier(
    server: Server, before: Before | None, place: Place, full_every: timedelta, started_at: str
) -> Earlier | str:
    """What a base backup can build on; or why on nothing, which is "" where nobody could expect it.

    Raises SourceError, VaultError.
    """
    if before is None:
        return ""
    with server.session("postgres") as session:
        if session.info.server_version // 10_000 < _OLDEST:
            return ""
        shown = session.execute("SELECT current_setting('summarize_wal'), current_setting('block_size')").fetchone()
        summarizes, block_bytes = shown or ("", "0")
        spaces = tablespaces(session)
    try:
        content = before.content(f"/{MOMENTS}".encode())
        if content is None:
            return ""
        told = Moments.read(content)
        manifest = before.content(f"/{MANIFEST}".encode())
        if manifest is None or not is_whole(before):
            return "the point before is not whole where it lies"
    except (VerificationError, DamageError):
        return "the point before is not whole where it lies"
    if told.full_at is None:
        return "the point before is of an earlier release, which did not note what is needed for less"
    age = clock.now() - told.full_at
    for not_so, why in (
        (summarizes != "on", "`summarize_wal` is off on the server, and without it nobody knows what changed"),
        (not timedelta(0) <= age < full_every, f"so they are every {format_duration(full_every)}"),
        (
            told.system != place.system or told.timeline != place.timeline or place.at < told.ends,
            "the point before is of another server, or this one was set back since",
        ),
        (
            told.started != started_at,
            "the server was started anew since, and what was done to them while it stood still is in no log",
        ),
        (spaces != told.tablespaces, "tablespaces were made or dropped since the point before"),
    ):
        if not_so:
            return why
    return Earlier(told, manifest, int(block_bytes))


class Changes:
    """What changed since an earlier point, while it comes."""

    def __init__(self, earlier: Earlier) -> None:
        self._block_bytes = earlier.block_bytes
        self._former = listed(earlier.manifest)
        self._now: dict[bytes, Listed] = {}
        self._last: tuple[bytes, ChangedFile] | None = None
        self._order: Literal["little", "big"] = "little"
        self.label = b""
        """The label of a base backup, once it came, as a server wants it that is started on whole files."""

    def file(self, within: str, member: Member, reader: TarReader) -> "ChangedFile | None":
        """The file of which a member of an archive is what changed in it; None where it is a file itself.

        `within` is where the archive's files belong in the point. Raises ToolError.
        """
        path = whole_path(member.path)
        if path == member.path or not stat.S_ISREG(member.mode):
            return None
        there = path if within == DATA else b"pg_tblspc" + os.fsencode(within).removeprefix(_SPACES) + b"/" + path
        former = self._former.get(there)
        if former is None:
            raise ToolError(PROGRAM, None, f"what changed in {os.fsdecode(there)} came, which was not there before")
        self._settle()
        changed = ChangedFile(replace(member, path=path), reader, self._block_bytes, former)
        self._last = there, changed
        self._order = changed.order
        return changed

    def take_label(self, content: bytes) -> None:
        """Take the label without that it is of an incremental base backup: a server is not started on such."""
        lines = content.splitlines(keepends=True)
        self.label = b"".join(line for line in lines if not line.startswith(b"INCREMENTAL FROM "))

    def manifest(self, content: bytes) -> bytes:
        """The manifest of the whole files, by the server's own, once all of them came. Raises ToolError."""
        self._settle()
        self._now[LABEL] = Listed(len(self.label), _native.crc32c(self.label).to_bytes(4, self._order))
        return with_files(content, self._now)

    def _settle(self) -> None:
        """Of the last file, which was read, keep what the manifest needs: where its blocks belong takes room."""
        if self._last is not None:
            path, changed = self._last
            self._now[path] = changed.listed
            self._last = None


class ChangedFile:
    """Implements `core.trees.BlockReader` for the blocks that changed in a file, of which `former` says what it was.

    `patch` says where they belong; `member` is the file itself. Raises ToolError for what is no such file.
    """

    def __init__(self, member: Member, reader: TarReader, block_bytes: int, former: Listed) -> None:
        self._reader = reader
        order, kept, numbers = _head(reader, member.size, block_bytes)
        self.order: Literal["little", "big"] = order
        end = max([kept, *(number + 1 for number in numbers[-1:])])
        self.member = replace(member, size=end * block_bytes)
        self.patch = Patch(kept * block_bytes, _stretches(numbers, block_bytes))
        self._left = list(reversed(self.patch.stretches))
        self._checksum = _with_zeroes(former, self.member.size, order) if self.patch.kept_bytes >= former.size else None

    def readinto(self, buffer: memoryview) -> int:
        """Some of the blocks; the buffer holds what stood there."""
        if not self._left:
            return 0
        begins, length = self._left.pop()
        room = buffer[: min(len(buffer), length)]
        stood = _native.crc32c(room)
        filled = 0
        while filled < len(room):
            count = self._reader.readinto(room[filled:])
            if not count:
                raise ToolError(PROGRAM, None, "less came of a file than it was said to differ in")
            filled += count
        if self._checksum is not None:
            behind = self.member.size - begins - filled
            self._checksum ^= _native.crc32c_joined(stood ^ _native.crc32c(room), 0, behind)
        if filled < length:
            self._left.append((begins + filled, length - filled))
        return filled

    def close(self) -> None:
        """The next file follows."""

    @property
    def listed(self) -> Listed:
        """What the file is now, once all was read; what was cut off from it is not in what came, nor its checksum."""
        return Listed(self.member.size, None if self._checksum is None else self._checksum.to_bytes(4, self.order))


def _head(reader: TarReader, size: int, block_bytes: int) -> tuple[Literal["little", "big"], int, tuple[int, ...]]:
    """The byte order, how many blocks of before still count, and the numbers of those that come, in their order."""
    fixed = _exactly(reader, 3 * _WORD)
    order: Literal["little", "big"] = "little" if int.from_bytes(fixed[:_WORD], "little") == _MAGIC else "big"
    sign = "<" if order == "little" else ">"
    magic, count, kept = struct.unpack(f"{sign}3I", fixed)
    head = (3 + count) * _WORD
    padding = -head % block_bytes if count else 0
    if magic != _MAGIC or size != head + padding + count * block_bytes:
        raise ToolError(PROGRAM, None, "what the server sent of a file that changed is not known")
    numbers = struct.unpack(f"{sign}{count}I", _exactly(reader, count * _WORD))
    if any(after <= number for number, after in pairwise(numbers)):
        raise ToolError(PROGRAM, None, "the server sent the blocks of a file in no order")
    _exactly(reader, padding)
    return order, kept, numbers


def _exactly(reader: TarReader, size: int) -> bytes:
    content = bytearray(size)
    filled = 0
    while filled < size:
        count = reader.readinto(memoryview(content)[filled:])
        if not count:
            raise ToolError(PROGRAM, None, "what the server sent of a file that changed ended too soon")
        filled += count
    return bytes(content)


def _stretches(numbers: tuple[int, ...], block_bytes: int) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and sum(found[-1]) == number * block_bytes:
            found[-1] = found[-1][0], found[-1][1] + block_bytes
        else:
            found.append((number * block_bytes, block_bytes))
    return tuple(found)


def _with_zeroes(former: Listed, size: int, order: Literal["little", "big"]) -> int | None:
    """The checksum of a file as it was, and of zeroes from its end on up to this size."""
    if former.checksum is None:
        return None
    register = int.from_bytes(former.checksum, order) ^ _ALL_ONES
    return _native.crc32c_joined(register, 0, size - former.size) ^ _ALL_ONES
