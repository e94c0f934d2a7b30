"""Content that comes in pieces and is never all in memory: in parts as stores want them, and what it was."""

from collections.abc import Iterable, Iterator

from cto_backups import _native
from cto_backups.core.trees import Buffer


class Passing:
    """Pieces of any size put together into parts of one size; only the last is shorter.

    It is read once. `size` and `crc32c` are of the parts that were taken so far. What the pieces raise is raised.
    """

    def __init__(self, pieces: Iterable[Buffer], part_bytes: int) -> None:
        self.size = self.crc32c = 0
        self._parts = _gathered(pieces, part_bytes)
        self._waiting: list[bytearray] = []

    def begin(self, count: int) -> list[bytearray]:
        """The first so many parts, which are iterated over all the same; fewer if there are no more."""
        while len(self._waiting) < count and (part := next(self._parts, None)) is not None:
            self._waiting.append(part)
        return list(self._waiting)

    def __iter__(self) -> Iterator[bytearray]:
        while self.begin(1):
            part = self._waiting.pop(0)
            self.size += len(part)
            self.crc32c = _native.crc32c(part, self.crc32c)
            yield part


def _gathered(pieces: Iterable[Buffer], size: int) -> Iterator[bytearray]:
    part = bytearray()
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while view.nbytes:
            if len(part) == size:
                yield part
                part = bytearray()
            taken = view[: size - len(part)]
            part += taken
            view = view[len(taken) :]
    if part:
        yield part
