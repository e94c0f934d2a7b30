"""The legal holds of a vault's store, on what a view shows as one file and the store has as several."""

from collections.abc import Callable, Iterator, Sequence

from cto_backups.core.object_locks import FormerVersion
from cto_backups.core.vaults import StoreHolds


class ViewedHolds:
    """Implements `core.vaults.StoreHolds`; `places` gives the stored files behind a key."""

    def __init__(self, holds: StoreHolds, places: Callable[[str], Sequence[str]]) -> None:
        self._holds = holds
        self._places = places

    def is_on(self, key: str) -> bool:
        """Whether one is on any of the files behind it. Raises VaultMissingError."""
        return any(map(self._holds.is_on, self._places(key)))

    def put_on(self, key: str) -> bool:
        """Put one on all of them; whether the store then tells of each. Raises VaultMissingError."""
        return all([self._holds.put_on(place) for place in self._places(key)])

    def take_off(self, key: str) -> bool:
        """Take it off all of them; whether the store tells of none then. Raises VaultMissingError."""
        return all([self._holds.take_off(place) for place in self._places(key)])

    def former(self) -> Iterator[FormerVersion]:
        """Versions of what is stored, below what is read now."""
        return self._holds.former()

    def is_on_former(self, former: FormerVersion) -> bool:
        """Whether one is on such a version. Raises VaultMissingError."""
        return self._holds.is_on_former(former)

    def take_off_former(self, former: FormerVersion) -> None:
        """Take it off such a version. Raises VaultMissingError."""
        self._holds.take_off_former(former)
