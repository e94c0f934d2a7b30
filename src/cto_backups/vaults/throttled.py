"""A vault that keeps to the bandwidth limits of the policy, whatever kind it is."""

from collections.abc import Iterable, Iterator, Sequence

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import Vault
from cto_backups.vaults.forwarding import ForwardingVault
from cto_backups.vaults.pacing import Fare, Pace, paying


class ThrottledVault(ForwardingVault):
    """Another vault at a limited pace, up and down. Thread-safe."""

    def __init__(self, vault: Vault, up: Pace, down: Pace) -> None:
        super().__init__(vault)
        self._up = up
        self._down = down

    def limiting(self, vault: Vault) -> "ThrottledVault":
        """Another vault under the same limits."""
        return ThrottledVault(vault, self._up, self._down)

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts, whole or not at all, durable on return."""
        size = sum(memoryview(part).nbytes for part in parts)
        with paying(Fare(self._up, size)) as fare:
            super().put(key, parts, overwrite=overwrite)
        fare.settle(size)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all."""
        with paying(Fare(self._down)) as fare:
            content = super().read(key, offset, length)
        fare.settle(len(content))
        return content

    def _read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        with paying(Fare(self._down, buffer.nbytes)) as fare:
            super()._read_into(key, offset, buffer)
        fare.settle(buffer.nbytes)

    def _put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        super()._put_stream(key, self._paced(pieces), overwrite=overwrite)

    def _paced(self, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
        for piece in pieces:
            self._up.take(memoryview(piece).nbytes)
            yield piece
