"""A vault that counts what is asked of it: requests as providers bill them, and bytes each way."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cto_backups.core.objects import ObjectState
from cto_backups.core.traffic import Traffic
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import StoredFile, Vault
from cto_backups.vaults.forwarding import ForwardingVault

_PAGE = 1000  # names that one request lists
_SINGLE_BYTES, _PART_BYTES = 32 << 20, 16 << 20  # beyond the first, stores get parts of the second


class Counter:
    """What was asked of one vault since it was last told. Any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = Traffic()

    def add(self, seen: Traffic) -> None:
        """Add what was asked."""
        with self._lock:
            self._seen += seen

    def take(self) -> Traffic:
        """What was asked since the last time, which begins anew."""
        with self._lock:
            seen, self._seen = self._seen, Traffic()
        return seen


class CountedVault(ForwardingVault):
    """Another vault, counted. Thread-safe.

    What was asked is counted also where it failed, and what a client tries again within a request once.
    """

    def __init__(self, vault: Vault, counter: Counter) -> None:
        super().__init__(vault)
        self._counter = counter

    def check(self) -> None:
        """Raise VaultMissingError when the vault is not there."""
        self._counter.add(Traffic(reads=1))
        super().check()

    def create(self) -> None:
        """Make the vault's root; fine when it is there already."""
        self._counter.add(Traffic(writes=2))
        super().create()

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts, whole or not at all, durable on return."""
        size = sum(memoryview(part).nbytes for part in parts)
        self._counter.add(Traffic(writes=_requests(size), up_bytes=size))
        super().put(key, parts, overwrite=overwrite)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all."""
        self._counter.add(Traffic(reads=1))
        content = super().read(key, offset, length)
        self._counter.add(Traffic(down_bytes=len(content)))
        return content

    def size(self, key: str) -> int:
        """Size in bytes."""
        self._counter.add(Traffic(reads=1))
        return super().size(key)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix`."""
        self._counter.add(Traffic(writes=1))
        for number, stored in enumerate(super().list(prefix)):
            if number and number % _PAGE == 0:
                self._counter.add(Traffic(writes=1))
            yield stored

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already."""
        self._counter.add(Traffic(deletes=1))
        super().delete(key)

    def _read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        self._counter.add(Traffic(reads=1))
        super()._read_into(key, offset, buffer)
        self._counter.add(Traffic(down_bytes=buffer.nbytes))

    def _state_of(self, key: str) -> ObjectState:
        self._counter.add(Traffic(reads=1))
        return super()._state_of(key)

    def _copy_within(self, key: str, state: ObjectState) -> Mapping[str, str]:
        self._counter.add(Traffic(writes=1))  # what is copied there passes no border that is billed by bytes
        return super()._copy_within(key, state)

    def _put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        self._counter.add(Traffic(writes=1))
        super()._put_stream(key, self._counted(pieces), overwrite=overwrite)

    def _counted(self, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
        for piece in pieces:
            self._counter.add(Traffic(up_bytes=memoryview(piece).nbytes))
            yield piece


def _requests(size: int) -> int:
    """How many requests store so many bytes: one, or one for each part and two around them."""
    return 1 if size <= _SINGLE_BYTES else -(-size // _PART_BYTES) + 2
