"""Writing files as objects: each as it is, once for each content; implements `repository.cutter.Cutting`.

A file of up to PART bytes is named by its digest, so it is seen at once whether it is there. A larger one is read part
by part: as long as its parts are those of an object that is there, nothing is stored; from the first that differs on it
gets an object of its own, whose beginning is taken from there. Memory holds a part or two for each thread.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from cto_backups import _native, clock
from cto_backups.core.objects import ObjectState
from cto_backups.core.trees import BlockReader, Buffer, CaptureTree, Entry, EntryUnreadableError
from cto_backups.errors import BackupsError, VaultError, VaultExistsError
from cto_backups.exports import layout
from cto_backups.exports.files import Candidates, ExportFiles, listed_as, object_of
from cto_backups.exports.layout import PART
from cto_backups.exports.parts import Parts
from cto_backups.exports.within import ByProvider, Twin, state_of
from cto_backups.repository.cutter import Hands
from cto_backups.repository.depot import Bench, Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, save_listing
from cto_backups.repository.largefile import Done, LeftOut
from cto_backups.repository.renewed import Renewed
from cto_backups.repository.tree import content_text

_LOOK_BYTES = 1 << 20
_NEVER = 1 << 30
_ZEROES = memoryview(bytes(PART))

Content = tuple[list[bytes], int, bool]
"""The parts of a file, its size in bytes, and whether an object of it was there already."""


def ignore(_count: int) -> None:
    """Nobody watches."""


class ObjectWriter:
    """Stores the contents of one run; any thread may call. While it is `tentative` no index lists them."""

    def __init__(self, files: ExportFiles, depot: Depot, tentative: bool = False) -> None:
        self._files = files
        self._view = files.view
        self._depot = depot
        self._index = depot.index
        self._fetcher = Fetcher(files, depot.index)
        self._lock = threading.Lock()
        self._tentative = tentative
        self._provider = ByProvider(files.view)
        self._claimed: set[bytes] = set()
        self._unlisted: list[tuple[str, list[int]]] = []
        self._unlisted_parts = 0
        self._listed_at = clock.monotonic()
        self._own = threading.local()
        self._looked_at = _native.Claims(_native.BlobIndex())

    # -- as a repository's writer asks for it -------------------------------------------------------------------------

    def save_many(self, bench: Bench, contents: Sequence[bytes | None]) -> tuple[list[str | None], list[int]]:
        """Store contents: for each the ids of its parts as JSON, and the places of those that were there already."""
        texts: list[str | None] = []
        known = []
        for place, plain in enumerate(contents):
            if plain is None:
                texts.append(None)
                continue
            ids, _, was_there = self._read(_Memory(plain), ignore)
            texts.append(content_text(ids))
            if was_there:
                known.append(place)
        return texts, known

    def save(self, bench: Bench, plain: bytes) -> str:
        """Store a file's content; its ids as JSON."""
        return content_text(self._read(_Memory(plain), ignore)[0])

    def large(self, on: Hands, opened: Callable[[], BlockReader], done: Done, left_out: LeftOut) -> None:
        """Have a worker read and store it, while others do so with other files."""

        def store(bench: Bench) -> None:
            try:
                content = self._opened(opened(), lambda count: on.progress.advance(size_bytes=count))
            except EntryUnreadableError:
                left_out(bench)
            else:
                done(bench, *content)

        on.crew.submit(store)

    def arriving(self, on: Hands, reader: BlockReader, done: Done) -> None:
        """Read and store it here."""
        done(self._bench(), *self._opened(reader, lambda count: on.progress.advance(size_bytes=count)))

    def renewed(self, on: Hands, reader: Renewed, done: Done) -> None:
        """Read all of it, what still stands from the object before; or nothing, where all of that stands."""
        content: list[bytes] = []
        size = 0
        while size < reader.size and (chunk := reader.standing(size)) is not None:
            content.append(chunk[0])
            size = chunk[1]
        if size == reader.size and (found := object_of(self._index, self._view, content)) is not None:
            self._rely(found[1])
            on.progress.advance(size_bytes=size)
            reader.close()
            done(self._bench(), content, size, True)
        else:
            self.arriving(on, reader, done)

    def alone(self, tree: CaptureTree, entry: Entry, bench: Bench) -> tuple[list[bytes], int]:
        """Store a file with the calling thread only; its parts and size. Raises EntryUnreadableError."""
        content, size, _ = self._opened(tree.open(entry), ignore)
        return content, size

    def finish(self) -> None:
        """List what was stored in the index."""
        with self._lock:
            self._list()
        self._depot.beside.ways = self._provider.ways

    def abandon(self) -> None:
        """Remove the objects that no index file lists yet; a vault that keeps them leaves them to a prune."""
        for name, _ in self._unlisted:
            with suppress(BackupsError):
                self._view.delete_object(name)

    # -- objects ------------------------------------------------------------------------------------------------------

    def bring(
        self,
        content: Sequence[bytes],
        pieces: Iterator[Buffer],
        twin: Twin | None = None,
        advance: Callable[[int], object] = ignore,
    ) -> bool:
        """Store the content of these parts unless it is there; whether it had to be. For what comes from elsewhere.

        `twin` is an object of it where the provider may be able to copy it from; then no piece is taken.
        """
        if (found := object_of(self._index, self._view, content)) is not None:
            self._rely(found[1])
            return False
        if twin is not None and self._copied(content, twin):
            advance(sum(twin.sizes))
            return True
        return not self._read(_Pieces(pieces), ignore, look=False)[2]

    def _copied(self, content: Sequence[bytes], twin: Twin) -> bool:
        """Have the provider copy an object of another vault, whose parts are known; whether it did."""
        single = len(content) == 1 and layout.may_name(content[0])
        name = content[0].hex() if single else layout.new_object_id().hex()
        told = self._provider.copied(name, twin.state, frozenset(twin.known))
        if told is None:
            return False
        size = sum(twin.sizes)
        try:
            with self._provider.undone(name):
                self._provider.check(name, size, twin.known, told)
        except VaultError:
            return False  # then every part is opened on its way, which tells where the damage is
        if not single:
            assert twin.crc32c is not None
            self._view.store_parts(Parts(name, size, twin.sha256, twin.crc32c, content))
        self._stored(name, twin.sizes, content)
        return True

    def _bench(self) -> Bench:
        """The calling thread's own bench, which is not of a crew."""
        bench: Bench | None = getattr(self._own, "bench", None)
        if bench is None:
            bench = self._own.bench = self._depot.bench()
        return bench

    def _opened(self, reader: BlockReader, advance: Callable[[int], None]) -> Content:
        try:
            return self._read(reader, advance)
        finally:
            reader.close()

    def _read(self, reader: BlockReader, advance: Callable[[int], None], *, look: bool = True) -> Content:
        part = _part_of(reader)
        advance(len(part))
        following = _part_of(reader) if len(part) == PART else b""
        if not part:
            return [], 0, False
        digest = hashlib.sha256(part).digest()
        if not following and layout.may_name(digest):
            return [digest], len(part), not self._single(digest, part, look)
        advance(len(following))
        return self._several(reader, (part, following) if following else (part,), advance, look)

    def _single(self, digest: bytes, part: bytes, look: bool) -> bool:
        """Store a small file; whether it had to be."""
        with self._lock:
            claimed = digest in self._claimed
            self._claimed.add(digest)
        there = None if claimed else object_of(self._index, self._view, [digest])
        if claimed or there is not None:
            if there is not None:
                self._rely(there[1])
            self._note_blank(part)
            return False
        if look:
            self._look(part)
        try:
            self._view.store_object(digest.hex(), [part])
        except VaultExistsError:
            # Left by a run that was killed, or by a prune until its grace is over; if it is intact it will do.
            if self._view.vault.read(self._view.object_key(digest.hex())) != part:
                self._store(iter([part]), look=False)
                return True
        self._stored(digest.hex(), [len(part)], [digest])
        return True

    def _several(
        self, reader: BlockReader, begun: Sequence[bytes], advance: Callable[[int], None], look: bool
    ) -> Content:
        """Compare a large file with what is there as far as that goes, and store it where it differs."""
        alike = Candidates(self._index)
        ids: list[bytes] = []
        size = 0
        parts = _read_on(reader, begun, advance)
        for part in parts:
            digest = hashlib.sha256(part).digest()
            if not alike.narrow(digest):
                break
            self._note_blank(part)
            ids.append(digest)
            size += len(part)
        else:
            name = alike.whole(self._view, size)
            if name is not None:
                self._rely(alike.objects[name])
                return ids, size, True
            part = b""

        def pieces() -> Iterator[bytes]:
            for one in ids:
                yield self._fetcher.data(one)
            if part:
                yield part
                yield from parts

        stored = self._store(pieces(), look=look, alike=len(ids), state=state_of(reader))
        return list(stored.ids), stored.size, False

    def _store(self, pieces: Iterator[bytes], *, look: bool, alike: int = 0, state: ObjectState | None = None) -> Parts:
        """Store an object with a random id; the first `alike` parts of it are nothing new.

        What is the `state` of an object is copied by the provider if that can be, and read to know its parts.
        """
        ids: list[bytes] = []
        sizes: list[int] = []
        whole, checksum = hashlib.sha256(), 0

        def seen() -> Iterator[bytes]:
            nonlocal checksum
            for part in pieces:
                if look and len(ids) >= alike:
                    self._look(part)
                ids.append(hashlib.sha256(part).digest())
                sizes.append(len(part))
                whole.update(part)
                checksum = _native.crc32c(part, checksum)
                yield part

        name = layout.new_object_id().hex()
        told = None if state is None else self._provider.copied(name, state)
        if told is None:
            name = layout.new_object_id().hex()  # of the other, something may have come through
            self._view.store_object(name, seen())
        else:
            with self._provider.undone(name):
                for _ in seen():
                    pass
                known = {"sha256": whole.hexdigest(), "crc32c": f"{checksum:08x}"}
                self._provider.check(name, sum(sizes), known, told)
        parts = Parts(name, sum(sizes), whole.digest(), checksum, ids)
        self._view.store_parts(parts)
        self._stored(name, sizes, ids)
        return parts

    def _stored(self, name: str, sizes: Sequence[int], ids: Sequence[bytes]) -> None:
        numbers = [self._index.add_pack(pack, blobs) for pack, blobs in listed_as(name, sizes, ids)]
        self._rely(numbers)
        options = self._depot.options
        with self._lock:
            self._depot.beside.size_bytes += sum(sizes)
            self._depot.beside.blobs += len(ids)
            self._unlisted.append((name, numbers))
            self._unlisted_parts += len(ids)
            late = clock.monotonic() - self._listed_at > options.index_seconds
            if not self._tentative and (late or self._unlisted_parts >= options.index_blobs):
                self._list()

    def _list(self) -> None:
        """Have the index list what it does not yet; the caller holds the lock."""
        numbers = {number for _, numbers in self._unlisted for number in numbers}
        if numbers:
            save_listing(self._files, self._index.only(numbers), self._depot.options.index_blobs)
        self._unlisted, self._unlisted_parts = [], 0
        self._listed_at = clock.monotonic()

    def _rely(self, packs: Sequence[int]) -> None:
        for number in packs:
            self._depot.claims.rely(number)

    # -- what is new --------------------------------------------------------------------------------------------------

    def _look(self, part: Buffer) -> None:
        """See how new content compresses, as a sign of what it is; what comes of that is thrown away."""
        bench: Any = getattr(self._own, "look", None)
        if bench is None:
            bench = _native.Bench(self._files.sealer.native, self._looked_at, 1, _NEVER, _LOOK_BYTES)
            self._own.look = bench
            with self._lock:
                self._depot.beside.looked.append(bench)
        bench.save(BlobKind.DATA, part)
        bench.take_full()

    def _note_blank(self, part: bytes) -> None:
        """Count known content that is zeroes; of new content a look tells that."""
        if part == _ZEROES[: len(part)]:
            with self._lock:
                self._depot.beside.blank_bytes += len(part)


class _Memory:
    """Reads content that is in memory; implements `core.trees.BlockReader`."""

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._left.release()


class _Pieces:
    """Reads content that comes in pieces; implements `core.trees.BlockReader`."""

    def __init__(self, pieces: Iterator[Buffer]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        while not self._left.nbytes:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece).cast("B")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._left.release()


def _part_of(reader: BlockReader) -> bytes:
    """The next part of a file, b"" at its end."""
    buffer = bytearray(PART)
    view = memoryview(buffer)
    filled = 0
    while filled < PART and (count := reader.readinto(view[filled:])):
        filled += count
    return bytes(view[:filled])


def _read_on(reader: BlockReader, begun: Sequence[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    """The parts that were read, and those that follow."""
    yield from begun
    while begun and len(begun[-1]) == PART and (part := _part_of(reader)):
        advance(len(part))
        yield part
        begun = (part,)
