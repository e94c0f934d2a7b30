"""How far back a service keeps the history of what a source reads there, and how far policy wants it; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from cto_backups.core.duration import format_duration


@dataclass(frozen=True, slots=True)
class Window:
    """At `place`, any moment not longer ago than `reaches` comes back at once; `wanted` is how long that should be."""

    place: str
    reaches: timedelta
    wanted: timedelta

    @property
    def is_enough(self) -> bool:
        """Whether it reaches as far as policy wants."""
        return self.reaches >= self.wanted

    @property
    def told(self) -> str:
        """In words."""
        asked = f"policy asks for {format_duration(self.wanted)}"
        return f"{self.place}: its time travel leads back {format_duration(self.reaches)}; {asked}"


@runtime_checkable
class TimeTravelling(Protocol):
    """A source whose service keeps a history, out of which it brings any moment back by itself."""

    def windows(self) -> Sequence[Window]:
        """How far back it leads, place by place. Raises SourceError."""
