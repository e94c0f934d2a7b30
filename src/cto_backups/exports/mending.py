"""Putting objects right in their place: each part from the object itself where it is intact, or from another vault.

An object that cannot be made whole again is left as it is. What is damaged otherwise (folders, the index) is repaired
as in a repository, after this.
"""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from cto_backups import _native
from cto_backups.core.payloads import Damage, PayloadStore, RepairScope
from cto_backups.core.ports import Progress
from cto_backups.errors import BackupsError, DamageError, VaultError
from cto_backups.exports import layout
from cto_backups.exports.files import ExportFiles
from cto_backups.exports.parts import Parts
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher, Room
from cto_backups.repository.index import BlobKind, Index, load_index, packed_blobs
from cto_backups.repository.locks import locked, locked_for_reading
from cto_backups.repository.proving import proved_blobs
from cto_backups.repository.stored import StoredFiles

_AT_ONCE = 2048


@dataclass(slots=True)
class Mended:
    """What was put right: damages that are gone now, parts that came from where, and the bytes that were stored."""

    damages: list[Damage] = field(default_factory=list)
    salvaged: int = 0
    fetched: dict[str, int] = field(default_factory=dict)
    added_bytes: int = 0
    troubles: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Object:
    """An object as the index lists it: its parts (their ids and sizes) by the number of its section."""

    sections: dict[int, tuple[int, list[tuple[bytes, int]]]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether every section of it is listed."""
        return set(self.sections) == set(range(len(self.sections)))

    @property
    def parts(self) -> list[tuple[bytes, int]]:
        """Its parts in order."""
        return [part for number in sorted(self.sections) for part in self.sections[number][1]]


class _NowhereError(Exception):
    """A part is intact nowhere."""


def mend(
    files: ExportFiles, threads: int, donors: Sequence[PayloadStore], scope: RepairScope, progress: Progress
) -> Mended:
    """Find objects that are damaged, and store them anew. Raises BusyError, VaultError."""
    mended = Mended()
    with locked(files, exclusive=True) as lock, ExitStack() as opened:
        files.view.forget()
        index = load_index(files)
        mending = _Mending(files, index, donors, opened, mended)
        sizes = files.pack_sizes()
        objects = _objects(files, index)
        mending.look(objects, sizes, threads, read=scope is RepairScope.EVERYTHING, progress=progress)
        for name, why in sorted(mending.damaged.items()):
            lock.check()
            mending.store(name, objects[name], why)
    return mended


def _objects(files: ExportFiles, index: Index) -> dict[str, _Object]:
    found: dict[str, _Object] = defaultdict(_Object)
    for start in range(0, index.pack_count, _AT_ONCE):
        for number, blobs in packed_blobs(index, range(start, min(start + _AT_ONCE, index.pack_count))).items():
            name = index.pack_name(number)
            if any(blob.kind is BlobKind.TREE for blob in blobs) or not files.view.is_object(name):
                continue
            section = layout.section_of(name)
            blobs.sort(key=lambda blob: blob.offset)
            parts = [(blob.id, blob.length - layout.SEALED_PART + layout.PART) for blob in blobs]
            found[section.object].sections[section.start // layout.SECTION] = number, parts
    return found


class _Mending:
    """Looks at objects and stores them anew; `damaged` says what is wrong with which."""

    def __init__(
        self,
        files: ExportFiles,
        index: Index,
        donors: Sequence[PayloadStore],
        opened: ExitStack,
        mended: Mended,
    ) -> None:
        self.damaged: dict[str, str] = {}
        self._files = files
        self._own = Fetcher(files, index)
        self._donors = donors
        self._opened = opened
        self._mended = mended
        self._elsewhere: list[Fetcher] | None = None
        self._lock = threading.Lock()

    def look(
        self, objects: dict[str, _Object], sizes: dict[bytes, int], threads: int, *, read: bool, progress: Progress
    ) -> None:
        """Compare what is there with the index, and with `read` every byte."""
        with Crew(threads, Room, name="mend") as crew:
            for name, one in objects.items():
                if not one.whole:
                    continue  # an index file is lost: that is to be repaired first, and then this again
                crew.submit(partial(self._look, name=name, one=one, sizes=sizes, read=read, progress=progress))

    def _look(
        self, room: Room, name: str, one: _Object, sizes: dict[bytes, int], read: bool, progress: Progress
    ) -> None:
        why = ""
        total = sum(size for _, size in one.parts)
        packs = layout.section_names(name, total)
        if any(pack not in sizes for pack in packs):
            why = "it is missing"
        elif not self._files.view.has_size(name, total):
            why = "it is of another size"
        try:
            if not why and len(name) != 64:
                parts = self._files.view.parts(name)
                if list(parts.ids) != [part for part, _ in one.parts]:
                    why = "what is known of its parts is not what the index says"
            for number, pack in enumerate(packs if read and not why else ()):
                if proved_blobs(self._own, one.sections[number][0], sizes[pack], room) is None:
                    why = "its content is not what it was"
                    break
                progress.advance(size_bytes=sizes[pack])
        except (DamageError, VaultError) as error:
            why = error.why or error.what
        if why:
            with self._lock:
                self.damaged[name] = why

    def store(self, name: str, one: _Object, why: str) -> None:
        """Store an object anew in its place, if every part of it can be had."""
        parts = one.parts
        counts: dict[str, int] = defaultdict(int)
        whole, checksum = hashlib.sha256(), 0

        def pieces() -> Iterator[bytes]:
            nonlocal checksum
            for part, _ in parts:
                plain = self._part(part, counts)
                whole.update(plain)
                checksum = _native.crc32c(plain, checksum)
                yield plain

        try:
            self._files.view.store_object(name, pieces(), overwrite=True)
        except _NowhereError:
            return
        total = sum(size for _, size in parts)
        if len(name) != 64:
            known = Parts(name, total, whole.digest(), checksum, [part for part, _ in parts])
            self._files.view.store_parts(known, overwrite=True)
        mended = self._mended
        mended.damages.append(Damage(f"object {name[:12]}", why))
        mended.added_bytes += total
        mended.salvaged += counts.pop("", 0)
        for vault, count in counts.items():
            mended.fetched[vault] = mended.fetched.get(vault, 0) + count

    def _part(self, part: bytes, counts: dict[str, int]) -> bytes:
        """A part's bytes, from here or from elsewhere."""
        try:
            plain = self._own.data(part)
            counts[""] += 1
            return plain
        except (DamageError, VaultError):
            pass
        for origin in self._donors_opened():
            try:
                plain = origin.data(part)
            except (DamageError, VaultError):
                continue
            counts[origin.files.vault.name] += 1
            return plain
        raise _NowhereError

    def _donors_opened(self) -> list[Fetcher]:
        if self._elsewhere is None:
            self._elsewhere = []
            for donor in self._donors:
                files = getattr(donor, "files", None)
                if not isinstance(files, StoredFiles):
                    continue
                try:
                    self._opened.enter_context(locked_for_reading(files))
                    self._elsewhere.append(Fetcher(files, load_index(files)))
                except BackupsError as error:
                    self._mended.troubles.append(f"{files.vault.name}: {error}")
        return self._elsewhere
