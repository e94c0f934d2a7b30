"""What flows and stores ask of the places where copies lie. The port's contract is tests/contract/vault_contract.py."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cto_backups.core.object_locks import FileLock, FormerVersion, Hidden, Locking
from cto_backups.core.policy import Tls
from cto_backups.core.trees import Buffer

MARKER = "vault.json"
"""The file at a vault's root that says that there is one; no listing has it."""


def lock_folders(repository: str) -> tuple[str, str]:
    """Where the locks of a repository lie, and those of the exports beside it; each ends in a slash."""
    place = repository.rpartition("/")[2].strip(".") or "main"
    begin = "" if repository == "." else f"{repository}/"
    return f"{begin}locks/", f"exports/{place}/locks/"


def is_lock(key: str) -> bool:
    """Whether a stored file is a lock of a repository."""
    return "locks" in key.split("/")[:-1]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a vault: its key and its size in bytes."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where in an object store a vault lies, and how it is reached: what its adapter is made from.

    `prefix` is "" for the bucket's root, else without a slash at its end. `region` is what requests are signed for.
    `endpoint` is the server's address, without a slash at its end; None for the provider's own. `logins` look up what
    the policy names for logging in, by setting (``access_key``, ``secret_key``, ``credentials``), when it is needed;
    empty: the provider's usual places are searched. `kms_key` is the key under which the store is to encrypt. `locking`
    says how what is stored is locked; None: not at all.
    """

    bucket: str
    prefix: str
    region: str
    endpoint: str | None = None
    tls: Tls = Tls.V1_3
    logins: Mapping[str, Callable[[], str]] = field(default_factory=dict, repr=False)
    kms_key: str | None = None
    locking: Locking | None = None

    def key(self, name: str) -> str:
        """The object that holds what is stored under this name; with "", what all of them begin with."""
        return f"{self.prefix}/{name}" if self.prefix else name


class Vault(Protocol):
    """A place for immutable stored files, each under a '/'-separated key such as ``repositories/main/data/ab/ab12…``.

    Every method raises VaultError (or a subclass) with the vault's name in the message. Thread-safe.
    """

    @property
    def name(self) -> str:
        """Its name in the policy."""

    @property
    def location(self) -> str:
        """Where it is, for people: no secret in it."""

    def check(self) -> None:
        """Raise VaultMissingError when the vault is not there (an unmounted disk must not be filled by accident)."""

    def create(self) -> None:
        """Make the vault's root; fine when it is there already."""

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts, whole or not at all, durable on return.

        Raises VaultExistsError when the key is there and `overwrite` is false; VaultFullError; VaultReadOnlyError.
        """

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all. Raises VaultMissingError; a short answer is a VaultError."""

    def size(self, key: str) -> int:
        """Size in bytes. Raises VaultMissingError."""

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file whose key starts with the folder `prefix` ("" for all), in no order, no temporary ones."""

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already."""


@runtime_checkable
class Sweeping(Protocol):
    """A vault in which a killed writer can leave something behind."""

    def sweep(self) -> int:
        """Remove the temporary files of dead writers; how many. Raises VaultMissingError, VaultReadOnlyError."""


class Summed(tuple[Buffer, ...]):
    """Parts of a file whose SHA-256 is known: who sends that along, or compares it, need not take it again."""

    sha256: bytes

    @classmethod
    def of(cls, parts: Iterable[Buffer], sha256: bytes) -> "Summed":
        """Parts, and the sum of all of them joined."""
        made = cls(parts)
        made.sha256 = sha256
        return made


@runtime_checkable
class ReadingInto(Protocol):
    """A vault that can read into memory that is there already: fresh memory costs more than what is read into it."""

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes from `offset`. Raises VaultMissingError; VaultError when there are fewer."""


@runtime_checkable
class Streaming(Protocol):
    """A vault that can store what is not all in memory at once."""

    def put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        """Store the pieces, joined, whole or not at all, durable on return; each is let go of before the next.

        What the pieces raise is raised, and nothing is stored then. Raises what `Vault.put` raises.
        """


@runtime_checkable
class LockingVault(Protocol):
    """A vault whose store can lock what is stored. `delete` raises VaultLockedError there while a lock stands."""

    @property
    def locking(self) -> Locking | None:
        """How it locks; None when it does not."""

    def lock_of(self, key: str) -> FileLock | None:
        """The lock of a stored file, read from the store; None when it has none. Raises VaultMissingError."""

    def lock(self, key: str) -> FileLock | None:
        """Lock a stored file for a whole window from now, and read back what came of it. Raises VaultMissingError."""

    def hidden(self) -> Iterator[Hidden]:
        """What was deleted or replaced while its lock stands. Raises RefusedError where the store cannot tell."""

    def bring_back(self, hidden: Hidden) -> None:
        """Let it be read again, as it was. Raises VaultError."""


class StoreHolds(Protocol):
    """Legal holds that a store itself puts on what is stored. Every method raises VaultError.

    Nobody deletes what is held, whatever its lock says, until the hold is taken off: it has no end.
    """

    def is_on(self, key: str) -> bool:
        """Whether one is on a stored file, read from the store. Raises VaultMissingError."""

    def put_on(self, key: str) -> bool:
        """Put one on a stored file; whether the store then tells of it. Raises VaultMissingError."""

    def take_off(self, key: str) -> bool:
        """Take it off a stored file; whether the store tells of none then. Raises VaultMissingError."""

    def former(self) -> Iterator[FormerVersion]:
        """Versions below what is read now, of what may be held; none where a store refuses to replace what is held."""

    def is_on_former(self, former: FormerVersion) -> bool:
        """Whether one is on such a version. Raises VaultMissingError."""

    def take_off_former(self, former: FormerVersion) -> None:
        """Take it off such a version. Raises VaultMissingError."""


@runtime_checkable
class HoldingVault(Protocol):
    """A vault whose store has legal holds of its own."""

    @property
    def legal_holds(self) -> StoreHolds:
        """What puts them on and takes them off, whether policy asks for that or not."""


def store_holds(vault: Vault) -> StoreHolds | None:
    """The holds of a vault's store, where policy has legal holds put on what is stored; else None."""
    locking = locking_of(vault)
    if locking is None or not locking.holds or not isinstance(vault, HoldingVault):
        return None
    return vault.legal_holds


def requests_at_once(vault: Vault) -> int:
    """How many requests to a vault to have under way: one, unless it says that each waits on its way, and how many."""
    return int(getattr(vault, "requests_at_once", 1))


def locking_of(vault: Vault) -> Locking | None:
    """How a vault locks what it stores; None when it does not."""
    return vault.locking if isinstance(vault, LockingVault) else None
