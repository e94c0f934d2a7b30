"""Keys of a payload store, as a port: several secrets may open one store, each through a key file of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

MOST_KEYS = 20  # stock restic looks at no more of them


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file in a store: its id, and what it says of itself; `damage` says why it is of no use."""

    id: str
    created: datetime | None
    username: str
    hostname: str
    damage: str = ""


class KeyRing(Protocol):
    """The key files of one opened store. Whoever opens one of them holds the key that everything is sealed with."""

    @property
    def in_use(self) -> str:
        """The id of the key file through which this store was opened."""

    def files(self) -> Sequence[KeyFile]:
        """Every key file, the newest first."""

    def opened_by(self, secret: str) -> str | None:
        """The id of the key file that a secret opens. Raises DamageError when what it opens is another store's key."""

    def add(self, secret: str, *, username: str, hostname: str, chosen: bool) -> str:
        """Make a key file for a secret, durable on return; its id, also when there is one already.

        `chosen` says that people chose the secret, so that guessing it has to be slow. Raises RefusedError when there
        are as many as a store may have, BusyError.
        """

    def end(self, key: str) -> None:
        """Remove a key file whatever goes on there: who uses it is to be stopped. Raises RefusedError for that in use.

        Fine when it is gone.
        """

    def remove(self, key: str) -> None:
        """Remove a key file. Raises NotFoundError, RefusedError for the one in use and the last one, BusyError."""


@runtime_checkable
class Keyed(Protocol):
    """A payload store that is opened with keys."""

    @property
    def keys(self) -> KeyRing:
        """Its key files."""


class KeyService(Protocol):
    """A key that never leaves its service, which wraps small secrets with it. Every method raises KeyProblemError."""

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """The secret, sealed by the service; only the same context opens it again."""

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """What `wrap` was given."""

    def check(self) -> None:
        """See that the key is there and enabled: some services go on unwrapping for a while with one that is not."""
