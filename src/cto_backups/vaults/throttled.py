"""A vault that keeps to the bandwidth limits of the policy, whatever kind it is."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import ReadingInto, StoredFile, Streaming, Vault
from cto_backups.vaults.pacing import Fare, Pace, paying

_OPTIONAL = {"put_stream": "_put_stream", "read_into": "_read_into"}


class ThrottledVault:
    """Another vault at a limited pace, up and down; implements `core.vaults.Vault`. Thread-safe.

    It has what else the other one has: locks, sweeping, reading into memory, streaming.
    """

    def __init__(self, vault: Vault, up: Pace, down: Pace) -> None:
        self._vault = vault
        self._up = up
        self._down = down

    def __getattr__(self, attribute: str) -> Any:
        # Only what the other vault has: who stores or reads asks for it, and would find too much otherwise.
        other = getattr(self._vault, attribute)
        return getattr(self, _OPTIONAL[attribute]) if attribute in _OPTIONAL else other

    @property
    def at_full_speed(self) -> Vault:
        """The other vault itself."""
        return self._vault

    def limiting(self, vault: Vault) -> "ThrottledVault":
        """Another vault under the same limits."""
        return ThrottledVault(vault, self._up, self._down)

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self._vault.name

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return self._vault.location

    def check(self) -> None:
        """Raise VaultMissingError when the vault is not there."""
        self._vault.check()

    def create(self) -> None:
        """Make the vault's root; fine when it is there already."""
        self._vault.create()

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts, whole or not at all, durable on return."""
        size = sum(memoryview(part).nbytes for part in parts)
        with paying(Fare(self._up, size)) as fare:
            self._vault.put(key, parts, overwrite=overwrite)
        fare.settle(size)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all."""
        with paying(Fare(self._down)) as fare:
            content = self._vault.read(key, offset, length)
        fare.settle(len(content))
        return content

    def size(self, key: str) -> int:
        """Size in bytes."""
        return self._vault.size(key)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix`."""
        return self._vault.list(prefix)

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already."""
        self._vault.delete(key)

    def _read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        with paying(Fare(self._down, buffer.nbytes)) as fare:
            cast("ReadingInto", self._vault).read_into(key, offset, buffer)
        fare.settle(buffer.nbytes)

    def _put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        cast("Streaming", self._vault).put_stream(key, self._paced(pieces), overwrite=overwrite)

    def _paced(self, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
        for piece in pieces:
            self._up.take(memoryview(piece).nbytes)
            yield piece
