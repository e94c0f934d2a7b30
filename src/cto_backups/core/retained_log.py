"""What a server keeps of its log for a source until that is in a vault, and when it is too much; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

_MUCH: Final = 4
"""Where nothing bounds what is kept: so many times what the server sets out to keep of its log by itself."""


@dataclass(frozen=True, slots=True)
class RetainedLog:
    """The log that a server keeps in a slot, in bytes.

    `is_lost`: it has thrown some of it away. `left_bytes` are how much may be written until it does; None: it never
    does. `usual_bytes` are what it sets out to keep by itself, `free_bytes` the room on its disk, None where that is
    not known. One that is not `ours` is of another installation, or of this one before it moved.
    """

    slot: str
    retained_bytes: int
    usual_bytes: int
    left_bytes: int | None = None
    free_bytes: int | None = None
    is_lost: bool = False
    ours: bool = True

    @property
    def told(self) -> str:
        """How much is kept, in words."""
        whose = "" if self.ours else ", which is of another installation or of this one before it moved,"
        return f"slot {self.slot}{whose} keeps {_size(self.retained_bytes)} of the server's log"

    @property
    def peril(self) -> str:
        """Why it is too much; nothing where it is not."""
        if self.is_lost:
            return "the server throws away log that it was to keep: the next backup has to read all files again"
        if self.left_bytes is not None and self.left_bytes <= self.retained_bytes:
            return f"the server throws it away once {_size(max(self.left_bytes, 0))} more are written"
        if self.free_bytes is not None and self.free_bytes <= self.retained_bytes:
            return f"{_size(self.free_bytes)} are free on the server's disk"
        if self.left_bytes is None and self.retained_bytes > _MUCH * self.usual_bytes:
            return "nothing bounds that, until the server's disk is full"
        return ""


def _size(number: int) -> str:
    """Bytes in the unit that people think of disks in."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


@runtime_checkable
class LogRetainer(Protocol):
    """A source whose server keeps its log for it."""

    def retained_logs(self) -> Sequence[RetainedLog]:
        """What is kept in slots that are this source's by their names. Raises SourceError."""
