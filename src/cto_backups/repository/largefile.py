"""Large files: one thread reads ahead into big buffers and cuts, all workers seal the chunks where they lie."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cto_backups.core.ports import Progress
from cto_backups.core.trees import BlockReader, CaptureTree, Entry, EntryUnreadableError
from cto_backups.repository.chunker import LARGEST, Cuts
from cto_backups.repository.crew import Crew
from cto_backups.repository.depot import Bench
from cto_backups.repository.index import BlobKind
from cto_backups.repository.memory import fresh
from cto_backups.repository.options import MIB
from cto_backups.repository.renewed import Renewed

_READ = 2 * MIB


def _new_buffer() -> memoryview:
    """Room for the largest chunk and a read. Chunks are seldom so large, and what is not written to costs no memory."""
    return fresh(LARGEST + _READ)


class BufferPool:
    """A fixed number of buffers: what bounds memory, and how far reading runs ahead."""

    def __init__(self, crew: Crew[Bench], threads: int) -> None:
        self._crew = crew
        self._count = 2 + (threads + 1) // 2
        self._made = 0
        self._free: queue.Queue[memoryview] = queue.Queue()

    def take(self) -> memoryview:
        """A buffer, waiting for one. Raises what failed in the crew."""
        if self._made < self._count and self._free.empty():
            self._made += 1
            return _new_buffer()
        while True:
            try:
                return self._free.get(timeout=0.5)
            except queue.Empty:
                self._crew.check()

    def give(self, buffer: memoryview) -> None:
        """Bring one back."""
        self._free.put(buffer)


@dataclass(slots=True)
class _Block:
    """A filled buffer and how many still need it."""

    buffer: memoryview
    users: int = 1


@dataclass(slots=True)
class _State:
    """A file in progress: its blobs by number, and how many are awaited (one of them: the end of reading).

    `known` while all of its blobs were there already.
    """

    content: list[bytes] = field(default_factory=list)
    waiting: int = 1
    size: int = 0
    unreadable: bool = False
    known: bool = True


Done = Callable[[Bench, list[bytes], int, bool], None]
LeftOut = Callable[[Bench], None]


class LargeFile:
    """Stores one large file."""

    def __init__(
        self, opened: Callable[[], BlockReader], crew: Crew[Bench], buffers: BufferPool, progress: Progress
    ) -> None:
        self._open = opened
        self._crew = crew
        self._buffers = buffers
        self._progress = progress
        self._lock = threading.Lock()
        self._state = _State()

    def store(self, chunker: Cuts, done: Done, left_out: LeftOut) -> None:
        """Read and cut it; `done` or `left_out` is called on a worker, once all chunks are dealt with.

        `done` is told the blobs, the size, and whether all of it was there already.
        """
        self._done, self._left_out = done, left_out
        try:
            reader = self._open()
        except EntryUnreadableError:
            self._state.unreadable = True
        else:
            self._read(reader, chunker)
        self._crew.submit(self._one_less)

    def renew(self, reader: Renewed, chunker: Cuts, done: Done) -> None:
        """Take over what still stands of it, and read and cut the rest; `done` as in `store`."""
        self._done = done
        state = self._state
        while state.size < reader.size:
            chunk = reader.standing(state.size)
            if chunk is None:
                reader.go_on_at(state.size)
                self._cut(reader, chunker, until=lambda: reader.standing(state.size) is not None)
            else:
                blob, end = chunk
                self._progress.advance(size_bytes=end - state.size)
                state.content.append(blob)
                state.size = end
        reader.close()
        self._crew.submit(self._one_less)

    def _read(self, reader: BlockReader, chunker: Cuts) -> None:
        try:
            self._cut(reader, chunker)
        except EntryUnreadableError:
            self._state.unreadable = True
        finally:
            try:
                reader.close()
            except EntryUnreadableError:
                self._state.unreadable = True

    def _cut(self, reader: BlockReader, chunker: Cuts, until: Callable[[], bool] | None = None) -> None:
        """Read and cut to the end; or with `until`, no more than is needed to come to a cut at which that is so."""
        block = _Block(self._buffers.take())
        filled = 0
        try:
            while True:
                filled, last = _fill(reader, block.buffer, filled, little=until is not None)
                view = block.buffer[:filled]
                start = 0
                for end in chunker.ends(view, last=last):
                    self._send(block, view[start:end])
                    start = end
                    if until is not None and until():
                        return
                if last:
                    return
                if not start:
                    continue
                following = _Block(self._buffers.take())
                following.buffer[: filled - start] = view[start:]
                filled -= start
                view.release()
                block, previous = following, block
                self._leave(previous)
        finally:
            self._leave(block)

    def _send(self, block: _Block, chunk: memoryview) -> None:
        state = self._state
        place = len(state.content)
        state.content.append(b"")
        state.size += len(chunk)
        with self._lock:
            state.waiting += 1
            block.users += 1

        def seal(bench: Bench) -> None:
            before = bench.native.added_blobs
            state.content[place] = bench.save(BlobKind.DATA, chunk)
            if bench.native.added_blobs != before:
                state.known = False
            self._progress.advance(size_bytes=len(chunk))
            self._leave(block)
            self._one_less(bench)

        self._crew.submit(seal)

    def _leave(self, block: _Block) -> None:
        with self._lock:
            block.users -= 1
            free = not block.users
        if free:
            self._buffers.give(block.buffer)

    def _one_less(self, bench: Bench) -> None:
        with self._lock:
            self._state.waiting -= 1
            if self._state.waiting:
                return
        if self._state.unreadable:
            self._left_out(bench)
        else:
            self._done(bench, self._state.content, self._state.size, self._state.known)


def store_alone(tree: CaptureTree, entry: Entry, bench: Bench, chunker: Cuts) -> tuple[list[bytes], int]:
    """Store a large file with the calling thread only; its blobs and size. Raises EntryUnreadableError."""
    content: list[bytes] = []
    size = filled = 0
    buffer = _new_buffer()
    reader = tree.open(entry)
    try:
        last = False
        while not last:
            filled, last = _fill(reader, buffer, filled)
            start = 0
            for end in chunker.ends(buffer[:filled], last=last):
                content.append(bench.save(BlobKind.DATA, buffer[start:end]))
                start = end
            size += start
            filled -= start
            buffer[:filled] = buffer[start : start + filled]
    finally:
        reader.close()
    return content, size


def _fill(reader: BlockReader, buffer: memoryview, filled: int, *, little: bool = False) -> tuple[int, bool]:
    """Fill the buffer, with `little` by what one read gives; up to where, and whether the file ends there."""
    end = min(len(buffer), filled + _READ)
    while filled < end:
        count = reader.readinto(buffer[filled:end])
        if not count:
            return filled, True
        filled += count
        if little:
            break
    return filled, False
