"""What there is to report elsewhere, as flows ask the catalog for it; see `catalog.reports`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from cto_backups.core.reporting import Told


class Reports(Protocol):
    """What there is to report elsewhere."""

    def newest(self) -> datetime | None:
        """When the catalog learned something last."""

    def told(self, since: datetime | None) -> Iterator[Told]:
        """What came or changed since a moment, everything without one; in the end how all sources are."""
