"""The files of a server as a program sends them, as a tree that arrives, and what there is to know of them.

`data` is a data directory, once the program has prepared it; `server.json` says of which server it is.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.trees import UNKNOWN_SIZE, Arrival, Before, Entry, EntryKind
from cto_backups.errors import SourceError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.mysql.copier import SETTINGS, Copier
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.mbstream import MbstreamReader
from cto_backups.sources.streams import Giver, Ready

DATA: Final = "data"
SERVER: Final = "server.json"
CHECKPOINTS: Final = "xtrabackup_checkpoints"
_PLACE: Final = b"xtrabackup_binlog_info"
_NEEDED: Final = frozenset({CHECKPOINTS.encode(), b"xtrabackup_info", SETTINGS.encode()})
_LINK: Final = b".isl"
"""What says where a table lies that is not among the others."""


@dataclass(frozen=True, slots=True)
class About:
    """What a point of a server's files says of that: its version, and settings without which they are not read."""

    version: str
    settings: Mapping[str, str]

    def written(self) -> bytes:
        """As a file."""
        document = {"format": 1, "version": self.version, "settings": dict(self.settings)}
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes) -> "About":
        """What `written` gave. Raises VerificationError."""
        try:
            document = json.loads(content)
            return cls(str(document["version"]), {str(a): str(b) for a, b in document["settings"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VerificationError(
                "The files of the server cannot be brought up",
                why=f"{SERVER} does not tell of which server they are",
                todo="verify the vault, and test an older recovery point",
            ) from error


class FilesTree:
    """Implements `core.trees.ArrivingTree`. `begin` starts the program; `refuse` says what its failure means."""

    def __init__(
        self,
        about: About,
        copier: Copier,
        datadir: Path,
        spool: Path,
        begin: Callable[[], Giver],
        refuse: Callable[[ToolError], SourceError],
    ) -> None:
        self.root = Entry(b"", b"", EntryKind.FOLDER)
        self.place: Position | None = None
        """Where in the binary log the program says that it ended, if there is one."""
        self._about, self._copier, self._datadir, self._spool = about, copier, datadir, spool
        self._begin, self._refuse = begin, refuse
        own = datadir.stat()
        self._owner = own.st_uid, own.st_gid
        self._now_ns = int(clock.now().timestamp()) * 1_000_000_000

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        """The server's files as they come, each folder before what is in it."""
        try:
            yield Arrival(self._folder(DATA))
            yield from self._files()
            content = self._about.written()
            yield Arrival(self._own(SERVER, len(content)), Ready(content))
        except ToolError as error:
            raise self._refuse(error) from error
        except OSError as error:
            raise self._refuse(ToolError(self._copier.name, None, f"{self._spool}: {error.strerror}")) from error

    def _files(self) -> Iterator[Arrival]:
        giver = self._begin()
        reader = MbstreamReader(self._copier.name, giver, self._spool, frozenset({self._copier.log}))
        seen: set[bytes] = set()
        folders: set[bytes] = set()
        for path in reader.files():
            if path.endswith(_LINK):
                raise ToolError(
                    self._copier.name, None, f"{os.fsdecode(path)}: a table lies outside of the data directory"
                )
            above = path.rpartition(b"/")[0]
            parts = above.split(b"/") if above else []
            for depth in range(1, len(parts) + 1):
                folder = b"/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    yield Arrival(self._folder(f"{DATA}/{os.fsdecode(folder)}"))
            seen.add(path)
            entry = self._file(path)
            yield Arrival(entry, self._told(reader, entry) if path == _PLACE else _Reader(self, reader))
        lacking = _NEEDED - seen
        if lacking:
            raise ToolError(self._copier.name, 0, f"it ended well, but without {os.fsdecode(min(lacking))}")

    def _told(self, reader: MbstreamReader, entry: Entry) -> Ready:
        """The small file that tells the place, which is read ourselves as well."""
        content = bytearray()
        part = memoryview(bytearray(1 << 16))
        while count := reader.readinto(part):
            content += part[:count]
        with suppress(ValueError, IndexError):
            file, offset = content.decode("utf-8", "surrogateescape").split("\t")[:2]
            self.place = Position(file, int(offset))
        entry.size = len(content)
        return Ready(bytes(content))

    def _file(self, path: bytes) -> Entry:
        """As the server has it; some are made on the way, and some are gone by now."""
        entry = self._own(f"{DATA}/{os.fsdecode(path)}", UNKNOWN_SIZE)
        with suppress(OSError):
            there = os.lstat(os.fsencode(self._datadir) + b"/" + path)
            if stat.S_ISREG(there.st_mode):
                entry.mode, entry.uid, entry.gid = there.st_mode, there.st_uid, there.st_gid
                entry.mtime_ns = entry.ctime_ns = there.st_mtime_ns
                entry.size = there.st_size
        return entry

    def _folder(self, path: str) -> Entry:
        entry = self._own(path, 0)
        entry.kind, entry.mode = EntryKind.FOLDER, stat.S_IFDIR | 0o700
        return entry

    def _own(self, path: str, size: int) -> Entry:
        whole = b"/" + os.fsencode(path)
        uid, gid = self._owner
        name = whole.rpartition(b"/")[2]
        now = self._now_ns
        return Entry(name, whole, EntryKind.FILE, stat.S_IFREG | 0o660, uid, gid, size, now, now)

    def refusal(self, error: ToolError) -> SourceError:
        """What a failure of the program means to people."""
        return self._refuse(error)


class _Reader:
    """Implements `core.trees.BlockReader` for the file that comes."""

    def __init__(self, tree: FilesTree, reader: MbstreamReader) -> None:
        self._tree, self._reader = tree, reader

    def readinto(self, buffer: memoryview) -> int:
        try:
            return self._reader.readinto(buffer)
        except ToolError as error:
            raise self._tree.refusal(error) from error

    def close(self) -> None:
        """What was not read is passed over later."""
