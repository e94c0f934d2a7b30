"""A source in memory, for tests of what relies on sources."""

import dataclasses
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Problem, Resource, Sample
from cto_backups.core.ports import (
    Capture,
    Existing,
    PointReader,
    Progress,
    Restored,
    RestoreOptions,
    RestorePlan,
    Source,
)
from cto_backups.core.trees import BlockReader, CaptureTree, Entry, EntryKind, EntryUnreadableError
from cto_backups.errors import SourceError


class MemorySource:
    """Files by name in a dictionary, stored in the folder ``/<name>``. Names in `unreadable` cannot be read."""

    kind = "memory"

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.name = name
        self.files = files
        self.unreadable: set[str] = set()
        self.changed_at = 1_700_000_000_000_000_000
        self.remembered: dict[str, bytes] = {}

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        self._check()
        return [Resource(f"memory:{name}", "memory", name, len(content)) for name, content in self.files.items()]

    @contextmanager
    def capture(self, limit: Limit = UNLIMITED) -> Iterator[Capture]:
        self._check()
        yield _MemoryCapture(self)

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        return reader.plan(self._place(destination), only=only)

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
        return reader.restore(
            self._place(destination), only=only, existing=existing, options=options, progress=progress
        )

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        place = restored / self.name
        return fingerprint({path.name: path.read_bytes() for path in place.iterdir()} if place.is_dir() else {})

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        return {}

    def _check(self) -> None:
        if not self.files:
            raise SourceError(f"source {self.name}: nothing to back up", why="it is empty", todo="fill it")

    def _place(self, destination: Path | None) -> Path:
        if destination is None:
            raise SourceError(f"source {self.name} has no place", why="it is in memory", todo="use --to")
        return destination


_implements: type[Source] = MemorySource


def fingerprint(files: Mapping[str, bytes]) -> Fingerprint:
    digests = {name: sha256(content).hexdigest() for name, content in files.items()}
    whole = sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode()).hexdigest()
    return Fingerprint(
        "memory/1",
        {"content": whole},
        {"files": len(files), "bytes": sum(map(len, files.values()))},
        tuple(Sample(name, {"sha256": digests[name]}) for name in sorted(digests)[:8]),
    )


class _MemoryCapture:
    staged = False

    def __init__(self, source: MemorySource) -> None:
        self._source = source
        self._files = dict(source.files)
        self._read: dict[str, bytes] = {}
        self._problems: list[Problem] = []
        self.captured_at: datetime = clock.now()
        self.paths = (f"/{source.name}",)
        self.tree: CaptureTree = self

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(self._problems)

    @property
    def newest_content_at(self) -> datetime | None:
        return min(datetime.fromtimestamp(self._source.changed_at // 1_000_000_000, UTC), self.captured_at)

    def fingerprint(self) -> Fingerprint:
        return fingerprint(self._read)

    def stored(self) -> None:
        self._source.remembered = dict(self._read)

    @property
    def root(self) -> Entry:
        return Entry(b"", b"", EntryKind.FOLDER)

    def folder(self, entry: Entry) -> Sequence[Entry]:
        like = Entry(b"", b"", EntryKind.FOLDER, stat.S_IFDIR | 0o755, os.geteuid(), os.getegid())
        like = dataclasses.replace(like, mtime_ns=self._source.changed_at, ctime_ns=self._source.changed_at)
        if entry.path == b"":
            name = self._source.name.encode()
            return [dataclasses.replace(like, name=name, path=b"/" + name)]
        return [
            dataclasses.replace(
                like,
                name=name.encode(),
                path=entry.path + b"/" + name.encode(),
                kind=EntryKind.FILE,
                mode=stat.S_IFREG | 0o644,
                size=len(self._files[name]),
                inode=number,
            )
            for number, name in enumerate(sorted(self._files, key=str.encode), 1)
        ]

    def read(self, entry: Entry) -> bytes:
        name = entry.name.decode()
        if name in self._source.unreadable:
            self._problems.append(Problem(entry.path.decode(), "permission", "it may not be read"))
            raise EntryUnreadableError(name)
        self._read[name] = self._files[name]
        return self._files[name]

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        contents: list[bytes | None] = []
        for entry in entries:
            try:
                contents.append(self.read(entry))
            except EntryUnreadableError:
                contents.append(None)
        return contents

    def open(self, entry: Entry) -> BlockReader:
        return _MemoryReader(self.read(entry))

    def reuse(self, entry: Entry) -> bool:
        name = entry.name.decode()
        if self._source.remembered.get(name) != self._files[name]:
            return False
        self._read[name] = self._files[name]
        return True

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        return [self.reuse(entry) for entry in entries]


class _MemoryReader:
    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def readinto(self, buffer: memoryview) -> int:
        part, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._left = memoryview(b"")
