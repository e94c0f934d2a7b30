"""What planning asks of the catalog: when each source and vault is due, and what the hosts of a fleet know."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from cto_backups.core.lanes import Homes
from cto_backups.core.looks import Looked, Place
from cto_backups.core.model import Action


class DueTimes(Protocol):
    """When each source and vault is due; see `catalog.due_times.DueTimes`."""

    def to_look_at(
        self,
        now: datetime,
        *,
        limit: int,
        at_leisure: int,
        also: Iterable[Place] = (),
        until: datetime | None = None,
    ) -> tuple[Place, ...]:
        """What is due until a moment (now) or was touched; of what was not looked at for long, some; what is named."""

    def note(self, looked: Collection[Looked], now: datetime) -> None:
        """Note what looks came to, where nothing was touched since they began."""

    def next_look(self, now: datetime) -> datetime | None:
        """When there is something to look at next; None where there is nothing at all."""

    def to_judge(self, now: datetime) -> tuple[Place, ...]:
        """The sources that are not known to be well now."""

    def note_well(self, well: Mapping[Place, datetime], now: datetime) -> None:
        """Note until when sources are well, where nothing was touched since that was judged."""


class Fleet(Protocol):
    """What the hosts of a fleet know of each other; see `catalog.fleet.FleetBook`."""

    @property
    def is_one(self) -> bool:
        """Whether workers of several hosts can come together here."""

    def homes(self) -> Homes:
        """Which host has each source and vault; nothing while there is no fleet."""

    def adopt(self, host: str, sources: Iterable[str], vaults: Iterable[str]) -> None:
        """Let who had them last have those that no host has yet, or else this host, of these alone."""

    def lead(self, name: str, holder: str, now: datetime, lasting: timedelta) -> bool:
        """Take or keep a lease for so long; no while another one has it."""

    def yield_lead(self, name: str, holder: str) -> None:
        """Give a lease back."""

    def interrupt(self, action: Action, now: datetime) -> None:
        """Note that whoever was at an action gives no sign of life."""
