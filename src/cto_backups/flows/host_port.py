"""Enrolled hosts in the catalog, as flows use them; see `catalog.hosts`."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from cto_backups.core.enrolment import Host


class Hosts(Protocol):
    """The enrolled hosts; see `catalog.hosts.HostBook`."""

    def listed(self) -> tuple[Host, ...]:
        """All of them, revoked ones included, by name."""

    def one(self, name: str) -> Host | None:
        """The host of this name; None when none was enrolled."""

    def enrol(self, host: Host) -> None:
        """Note a host with its names, anew where it is there. Raises RefusedError when a name belongs to another."""

    def take(self, hosts: Iterable[Host]) -> None:
        """Note hosts of which records tell; those that are known stay as they are."""

    def revoke(self, name: str, now: datetime, left: Iterable[str] = (), unended: Iterable[str] = ()) -> None:
        """Note that a host is trusted no longer, what people still have to do, and what is not ended yet."""
