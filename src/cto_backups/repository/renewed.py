"""A file that differs in places from what the snapshot before has: which chunks of that still stand, and the rest.

Where a chunk ends is told by its bytes and two behind them, from where it begins on. So a chunk in which nothing
changed, nor right behind it, ends where it did, and is taken over by its id: the file gets the blobs that it would
have got by being read.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Final

from cto_backups.core.trees import BlockReader, Patch
from cto_backups.errors import SourceError
from cto_backups.repository.depot import Depot
from cto_backups.repository.fetch import Fetcher, missing
from cto_backups.repository.index import BlobKind
from cto_backups.repository.seal import OVERHEAD

_BEHIND: Final = 2
"""So many bytes behind a chunk are looked at to find its end: one, or two of them at once."""
AHEAD: Final = 4
"""So many chunks are fetched at once: a far vault takes its time for each."""


class Former:
    """The content of a file in the snapshot before, by its blobs. Raises DamageError, VaultError."""

    def __init__(self, fetcher: Fetcher, depot: Depot, pool: Executor, blobs: Sequence[bytes]) -> None:
        self._fetcher = fetcher
        self._depot = depot
        self._pool = pool
        self._blobs = blobs
        self._starts = [0]
        for blob in blobs:
            places = fetcher.index.locate(BlobKind.DATA, blob)
            if not places:
                raise missing(BlobKind.DATA, blob)
            self._starts.append(self._starts[-1] + (places[0].plain or places[0].length - OVERHEAD))
        self._opened = -1, b""
        self._expected: Iterator[int] = iter(())
        self._coming: dict[int, Future[bytes]] = {}

    @property
    def size(self) -> int:
        """How many bytes it is."""
        return self._starts[-1]

    @property
    def starts(self) -> Sequence[int]:
        """Where its chunks begin."""
        return self._starts[:-1]

    def chunk(self, at: int) -> tuple[bytes, int] | None:
        """The chunk that begins at a place: its blob, which is relied on from now, and where it ends."""
        number = bisect_left(self._starts, at)
        if number >= len(self._blobs) or self._starts[number] != at:
            return None
        if not self._depot.known(BlobKind.DATA, self._blobs[number]):
            return None
        return self._blobs[number], self._starts[number + 1]

    def expect(self, places: Iterator[int]) -> None:
        """Have the chunks that begin at these places, in their order, fetched a few ahead of who reads them."""
        self._expected = (bisect_left(self._starts, at) for at in places)

    def bytes_from(self, at: int) -> memoryview:
        """The bytes from a place on, as far as the chunk there goes; no place before one that was read from."""
        number = bisect_right(self._starts, at) - 1
        if self._opened[0] != number:
            self._opened = number, self._fetched(number)
        return memoryview(self._opened[1])[at - self._starts[number] :]

    def _fetched(self, number: int) -> bytes:
        for passed in [each for each in self._coming if each < number]:
            self._coming.pop(passed).cancel()
        while len(self._coming) < AHEAD and (following := next(self._expected, None)) is not None:
            if following >= number:
                self._coming[following] = self._pool.submit(self._fetcher.data, self._blobs[following])
        coming = self._coming.pop(number, None)
        return coming.result() if coming is not None else self._fetcher.data(self._blobs[number])


class Renewed:
    """Implements `core.trees.BlockReader` for the file as it is now, of so many bytes; it is read forwards.

    `content` reads the stretches of the patch.
    """

    def __init__(self, former: Former, patch: Patch, size: int, content: BlockReader | None) -> None:
        self.size = size
        self._former = former
        self._kept = min(patch.kept_bytes, former.size, size)
        self._stretches = patch.stretches
        self._ends = [begins + length for begins, length in patch.stretches]
        self._content = content
        self._at = 0
        former.expect(self._wanted())

    @property
    def new_bytes(self) -> int:
        """How many bytes of it come in stretches."""
        return sum(length for _, length in self._stretches)

    @property
    def is_as_before(self) -> bool:
        """Whether nothing changed in it."""
        return not self._stretches and self._kept == self.size == self._former.size

    def standing(self, at: int) -> tuple[bytes, int] | None:
        """The chunk of before that begins at a place, if it stands there still: its blob, and where it ends."""
        chunk = self._former.chunk(at)
        if chunk is None:
            return None
        _, end = chunk
        ends_both = end == self._kept == self.size == self._former.size
        if end + _BEHIND > self._kept and not ends_both:
            return None
        following = bisect_right(self._ends, at)
        if following < len(self._stretches) and self._stretches[following][0] < end + _BEHIND:
            return None
        return chunk

    def _wanted(self) -> Iterator[int]:
        """Where chunks of before begin that have to be read: that do not stand, and the one behind each."""
        stood = True
        for at in self._former.starts:
            if at >= self._kept:
                return
            stands = self.standing(at) is not None
            if not (stands and stood):
                yield at
            stood = stands

    def go_on_at(self, place: int) -> None:
        """Read from this place on; no stretch is passed over by that."""
        self._at = place

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer, no further than a chunk of before goes; 0 at the end."""
        at = self._at
        if at < self._kept:
            former = self._former.bytes_from(at)[: min(len(buffer), self._kept - at)]
            count = len(former)
            buffer[:count] = former
        else:
            count = min(len(buffer), self.size - at)
            buffer[:count] = bytes(count)
        number = bisect_right(self._ends, at)
        while number < len(self._stretches) and self._stretches[number][0] < at + count:
            begins, ends = max(self._stretches[number][0], at), min(self._ends[number], at + count)
            self._fill(buffer[begins - at : ends - at])
            number += 1
        self._at += count
        return count

    def close(self) -> None:
        """End."""
        if self._content is not None:
            self._content.close()

    def _fill(self, room: memoryview) -> None:
        while room:
            count = self._content.readinto(room) if self._content is not None else 0
            if not count:
                raise SourceError(
                    "Less came of a file than it was said to differ in",
                    why="what sent it ended too soon",
                    todo="make the recovery point again",
                )
            room = room[count:]
