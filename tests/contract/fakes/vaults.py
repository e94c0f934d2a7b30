"""Vaults that misbehave, each a decorator over a real one, for tests of everything that relies on vaults.

::

    InterceptedVault   calls a function before each operation; the others are built on it
    FaultyVault        fails the planned calls, before or after their effect
    SlowVault          waits a seeded, random moment before each operation, so that threads interleave
    FullVault          has room for so many bytes
    ReadOnlyVault      refuses every change
    MissingVault       is not there
    LyingVault         alters what is read, forgets what is stored, hides what is listed
    FarVault           wants several requests under way, and tells which of them a thread waited for by itself
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import StoredFile, Streaming, Vault
from cto_backups.errors import (
    VaultError,
    VaultExistsError,
    VaultFullError,
    VaultMissingError,
    VaultReadOnlyError,
)

T = TypeVar("T")

Interception = Callable[[str, str], None]
"""Given the operation (``put``, ``read`` …) and the key; raises to make it fail."""


def nothing(operation: str, key: str) -> None:
    """Let it pass."""


class InterceptedVault:
    """Calls `before` and `after` around each operation of the inner vault, and remembers the operations."""

    def __init__(self, inner: Vault, before: Interception = nothing, after: Interception = nothing) -> None:
        self.inner = inner
        self.before = before
        self.after = after
        self.log: list[tuple[str, str]] = []

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def location(self) -> str:
        return self.inner.location

    def _around(self, operation: str, key: str, do: Callable[[], T]) -> T:
        self.log.append((operation, key))
        self.before(operation, key)
        result = do()
        self.after(operation, key)
        return result

    def check(self) -> None:
        self._around("check", "", self.inner.check)

    def create(self) -> None:
        self._around("create", "", self.inner.create)

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        self._around("put", key, lambda: self.inner.put(key, parts, overwrite=overwrite))

    def put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        assert isinstance(self.inner, Streaming)
        streaming = self.inner
        self._around("put_stream", key, lambda: streaming.put_stream(key, pieces, overwrite=overwrite))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._around("read", key, lambda: self.inner.read(key, offset, length))

    def size(self, key: str) -> int:
        return self._around("size", key, lambda: self.inner.size(key))

    def list(self, prefix: str) -> Iterator[StoredFile]:
        yield from self._around("list", prefix, lambda: self.inner.list(prefix))

    def delete(self, key: str) -> None:
        self._around("delete", key, lambda: self.inner.delete(key))


@dataclass(frozen=True, slots=True)
class Fault:
    """Fail the `number`-th call (from 1) of `operation` on a key that contains `key`; `late`: after its effect."""

    operation: str
    number: int = 1
    key: str = ""
    late: bool = False
    error: type[VaultError] = VaultError


class FaultyVault(InterceptedVault):
    """Fails as planned: every call that a fault names, once; `failed` lists the faults that struck."""

    def __init__(self, inner: Vault, *faults: Fault) -> None:
        super().__init__(inner, lambda o, k: self._strike(o, k, late=False), lambda o, k: self._strike(o, k, late=True))
        self.faults = faults
        self.failed: list[Fault] = []
        self._counts = [0] * len(faults)
        self._lock = threading.Lock()

    def _strike(self, operation: str, key: str, *, late: bool) -> None:
        for index, fault in enumerate(self.faults):
            if fault.late is late and fault.operation == operation and fault.key in key:
                with self._lock:
                    self._counts[index] += 1
                    strikes = self._counts[index] == fault.number
                if strikes:
                    self.failed.append(fault)
                    raise fault.error(f"Vault {self.name} failed as planned", why=f"{operation} {key}")


class SlowVault(InterceptedVault):
    """Waits up to `longest` seconds before each operation, by a seeded die."""

    def __init__(self, inner: Vault, *, seed: int = 0, longest: float = 0.002) -> None:
        die = random.Random(seed)
        super().__init__(inner, lambda operation, key: time.sleep(die.uniform(0, longest)))


class FullVault(InterceptedVault):
    """Has room for `capacity` bytes of stored files."""

    def __init__(self, inner: Vault, capacity: int) -> None:
        super().__init__(inner)
        self.capacity = capacity
        self._lock = threading.Lock()

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        with self._lock:
            used = sum(stored.size_bytes for stored in self.inner.list("") if stored.key != key)
            if used + sum(memoryview(part).nbytes for part in parts) > self.capacity:
                raise VaultFullError(f"Vault {self.name} is full", why=f"it has room for {self.capacity} bytes")
            super().put(key, parts, overwrite=overwrite)


class ReadOnlyVault(InterceptedVault):
    """Refuses every change."""

    def __init__(self, inner: Vault) -> None:
        super().__init__(inner, self._refuse)

    def _refuse(self, operation: str, key: str) -> None:
        if operation in ("check", "create", "put", "put_stream", "delete"):
            raise VaultReadOnlyError(f"Vault {self.name} cannot be written to", why="it is read-only")


class MissingVault(InterceptedVault):
    """Is not there, until `present` is set."""

    def __init__(self, inner: Vault) -> None:
        super().__init__(inner, self._refuse)
        self.present = False

    def _refuse(self, operation: str, key: str) -> None:
        if not self.present:
            raise VaultMissingError(f"Vault {self.name} is not there")


def flip_a_bit(content: bytes) -> bytes:
    """The content with its middle byte changed; an empty content stays."""
    middle = len(content) // 2
    return content and content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


class LyingVault(InterceptedVault):
    """Answers wrongly about the keys that contain `about`, and truthfully about all others.

    `alter` changes what is read; `forgets` says that a put succeeded without storing; `hides` leaves keys out of lists.
    """

    def __init__(
        self,
        inner: Vault,
        about: str,
        *,
        alter: Callable[[bytes], bytes] | None = None,
        forgets: bool = False,
        hides: bool = False,
    ) -> None:
        super().__init__(inner)
        self.about = about
        self.alter = alter
        self.forgets = forgets
        self.hides = hides

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        if self.forgets and self.about in key:
            if not overwrite and any(stored.key == key for stored in self.inner.list("")):
                raise VaultExistsError(f"Vault {self.name} holds {key} already")
            return
        super().put(key, parts, overwrite=overwrite)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        content = super().read(key, offset, length)
        return self.alter(content) if self.alter and self.about in key else content

    def list(self, prefix: str) -> Iterator[StoredFile]:
        for stored in super().list(prefix):
            if not (self.hides and self.about in stored.key):
                yield stored


class FarVault(InterceptedVault):
    """As one in a bucket, each request to which waits on its way.

    `alone` are the requests of the thread that made it, which has waited for each of them; `beside` are those that were
    under way on other threads meanwhile.
    """

    requests_at_once = 8

    def __init__(self, inner: Vault) -> None:
        super().__init__(inner, before=self._note)
        self.thread = threading.get_ident()
        self.alone: list[tuple[str, str]] = []
        self.beside: list[tuple[str, str]] = []

    def _note(self, operation: str, key: str) -> None:
        noted = self.alone if threading.get_ident() == self.thread else self.beside
        noted.append((operation, key))

    def forget(self) -> None:
        """Begin anew with what was asked."""
        self.alone, self.beside = [], []
