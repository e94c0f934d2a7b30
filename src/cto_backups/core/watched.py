"""What watching a source's places for changes takes: which they are, and who tells of changes there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

Leaving = Callable[[bytes, bytes, bool], bool]
"""Whether an entry does not count, by its path, its name, and whether it is a folder."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """Changes of a source that a watch noticed: when the first of them was, and the last until now."""

    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """A folder (its real path) whose changes concern a source.

    With `names` only these entries of it do, otherwise all that `leaves` does not leave out; with `below` also what is
    in the folders below it, on `one_file_system` or all.
    """

    folder: bytes
    names: frozenset[bytes] | None = None
    below: bool = False
    leaves: Leaving = field(default=lambda _path, _name, _folder: False)
    one_file_system: bool = False


@runtime_checkable
class Watchable(Protocol):
    """A source whose content lies on this machine, at least where it is configured so."""

    def places(self) -> Sequence[Place]:
        """Where to watch for changes; nowhere when it lies elsewhere. Raises SourceError when it is not there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watch saw since it was last asked: sources that may have changed, and those it lost, with the reason."""

    changed: frozenset[str] = frozenset()
    lost: dict[str, str] = field(default_factory=dict)


class Watch(Protocol):
    """Tells which sources may have changed. It may tell too much, and now and then too little."""

    def add(self, source: str, places: Sequence[Place]) -> str | None:
        """Begin to watch a source, all of these places or none, and no others of before.

        Why it cannot be watched, None when it is.
        """

    def look(self) -> Seen:
        """What was seen since the last call; returns at once."""

    def replaced(self) -> dict[str, str]:
        """Sources lost since their places have become others without a word, with the reason."""

    def close(self) -> None:
        """End watching."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What a feed told since it was last asked: whether the source may have changed; `lost`: why it tells no more."""

    changed: bool = False
    lost: str = ""


class Feed(Protocol):
    """What a service tells of changes of one source, a hint: too much, too late, and now and then nothing."""

    def look(self) -> Hint:
        """What was told since the last call; returns at once."""

    def close(self) -> None:
        """End listening."""


@runtime_checkable
class Fed(Protocol):
    """A source whose service can tell of its changes, where somebody has set that up."""

    def feed(self) -> Feed | None:
        """Begin to listen; None where nothing was set up. Raises SourceError."""
