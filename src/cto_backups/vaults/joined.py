"""Parts of content as one stream, without a copy of the whole of them."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from cto_backups.core.trees import Buffer
from cto_backups.vaults.pacing import Fare, current

_PACED_BYTES = 64 << 10  # at a time, where a pace is kept


class Joined:
    """What is in the parts, one after the other, for clients that send what can be read and wound back.

    A read within one part gives a view of it; one across parts, which are small then, gives a copy.
    """

    def __init__(self, parts: Sequence[Buffer], fare: Fare | None = None) -> None:
        self._fare = fare or current()  # of the thread that began: parts may be sent by others
        self.parts = [memoryview(part).cast("B") for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self.parts))
        self._position = 0

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return self.size

    def part(self, begin: int, end: int) -> "Joined":
        """The bytes from `begin` to before `end`, as a stream of their own over the same memory."""
        ends = zip(self.parts, self._ends, strict=True)
        within = ((part, last - len(part)) for part, last in ends)
        cut = [part[max(begin - first, 0) : max(end - first, 0)] for part, first in within]
        return Joined(cut, self._fare)

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position from the beginning (0), from here (1) or from the end (2); where that is."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes | memoryview:
        """The next `size` bytes, fewer at the end; all that are left for a negative one."""
        left = max(self.size - self._position, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        if self._fare is not None:
            wanted = min(wanted, _PACED_BYTES)
            self._fare.pay(wanted)
        index = bisect_right(self._ends, self._position)
        pieces = []
        while wanted:
            part = self.parts[index]
            start = len(part) - (self._ends[index] - self._position)
            piece = part[start : start + wanted]
            pieces.append(piece)
            self._position += len(piece)
            wanted -= len(piece)
            index += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
