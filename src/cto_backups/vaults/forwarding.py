"""What vaults share that stand before another vault: everything goes through, but for what they change."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from cto_backups.core.objects import CopyingWithin, ObjectState
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import ReadingInto, StoredFile, Streaming, Vault

_PASSING = frozenset({"read_into", "put_stream", "state_of", "copy_within"})


class ForwardingVault:
    """Another vault, to which everything is passed on; implements `core.vaults.Vault`. As thread-safe as the other.

    It has what else the other one has, and no more, since who stores or reads asks for it: locks, sweeping, reading
    into memory, streaming, copies by its provider. What is in `_PASSING` passes through a method whose name begins with
    a line, which a kind of it may have for itself.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "_vault":  # not there yet
            raise AttributeError(attribute)
        other = getattr(self._vault, attribute)
        return getattr(self, f"_{attribute}") if attribute in _PASSING else other

    @property
    def behind(self) -> Vault:
        """The vault that everything is passed on to."""
        return self._vault

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
        self._vault.put(key, parts, overwrite=overwrite)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all."""
        return self._vault.read(key, offset, length)

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
        cast("ReadingInto", self._vault).read_into(key, offset, buffer)

    def _put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        cast("Streaming", self._vault).put_stream(key, pieces, overwrite=overwrite)

    def _state_of(self, key: str) -> ObjectState:
        return cast("CopyingWithin", self._vault).state_of(key)

    def _copy_within(self, key: str, state: ObjectState) -> Mapping[str, str]:
        return cast("CopyingWithin", self._vault).copy_within(key, state)
