"""What a vault in a bucket asks of the store: few verbs, each one request of its protocol, by names below the prefix.

A store tells what fails in the words of its provider. What the vault has to know more of has errors of its own::

    AbsentError     there is no such object; whether the bucket is there is not told
    TakenError      there is an object of this name already
    BeyondError     the range begins behind the object's end
    UnansweredError nobody knows whether it was stored: the answer got lost
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, runtime_checkable

from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.object_locks import FileLock
from cto_backups.core.objects import ObjectState
from cto_backups.core.policy import LockMode
from cto_backups.core.trees import Buffer
from cto_backups.core.vault_settings import Change
from cto_backups.core.vaults import StoreAddress, StoredFile
from cto_backups.errors import VaultError, VaultExistsError, VaultMissingError
from cto_backups.vaults.passing import Passing
from cto_backups.vaults.trial import Trial
from cto_backups.vaults.wording import Wording


class AbsentError(VaultMissingError):
    """There is no such object; whether the bucket is there is not told."""


class TakenError(VaultExistsError):
    """There is an object of this name already. `again`: an earlier try of the same call may have come through."""

    again = False


class BeyondError(VaultError):
    """The range that is asked for begins behind the object's end."""


class UnansweredError(VaultError):
    """A put failed in a way that leaves open whether it was stored: the answer got lost, or said nothing."""


class Body(Protocol):
    """Bytes on their way, which are let go of in the end."""

    def read(self) -> bytes:
        """All that are left."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill what comes of the buffer; 0 at the end."""

    def shutdown(self) -> None:
        """Wake whoever waits for them, from another thread: nothing more comes."""

    def close(self) -> None:
        """Let go of them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store answers who asks for bytes of an object: how many come, of which range, in its own words.

    `told` is the answer's Content-Range, such as "bytes 0-9/100"; "" for the whole of it.
    """

    body: Body
    size_bytes: int
    told: str

    @property
    def range(self) -> tuple[int | None, int | None, int | None]:
        """Of "bytes 3-6/10": where it begins, its last byte, and the whole's size; None for what is not told."""
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", self.told)
        if found is None:
            return None, None, None
        return int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])

    def __enter__(self) -> "Answer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.body.close()


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, by names below the prefix; `next` asks for the one after it, None after the last."""

    files: tuple[StoredFile, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """One of what was stored under a key, as the store calls it; `marker`: the key was deleted then.

    `current`: it is what is read now. `tag` is the store's own digest of the content.
    """

    key: str
    id: str
    size_bytes: int
    tag: str
    current: bool
    marker: bool


@runtime_checkable
class Versioned(Protocol):
    """A store that keeps what is deleted or replaced, below what takes its place."""

    def versions(self) -> Iterator[tuple[Version, ...]]:
        """All versions, those of a key together, the newest first."""

    def lock_of_version(self, version: Version) -> FileLock | None:
        """The lock that keeps a version; None when it has none."""

    def read_version(self, key: str, version: str) -> bytes:
        """A version's content."""

    def remove_marker(self, key: str, marker: str) -> None:
        """Undo a deletion, of which this is the marker."""


class Holds(Protocol):
    """The legal holds of a store, on an object as it is read now, or on one of its versions."""

    def is_on(self, key: str, version: str | None = None) -> bool:
        """Whether one is on it. Raises AbsentError."""

    def set(self, key: str, *, on: bool, version: str | None = None) -> None:
        """Put one on, or take it off. Raises AbsentError."""


class ObjectStore(Protocol):
    """A bucket, below a prefix. Thread-safe. Every method raises VaultError (or a subclass) in plain words."""

    @property
    def say(self) -> Wording:
        """The words of its provider."""

    @property
    def address(self) -> StoreAddress:
        """Where it is."""

    @property
    def torn(self) -> tuple[type[Exception], ...]:
        """What is raised by a body that ends before its end."""

    @property
    def condition(self) -> str:
        """What a request says so that it replaces nothing, by the protocol's name."""

    def look(self) -> None:
        """See that the bucket is there, and where the policy says. Raises VaultMissingError."""

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool, until: datetime | None = None) -> None:
        """Store the joined parts, whole or not at all, locked `until` then; proven by the checksum it tells.

        Raises TakenError when it is there and `overwrite` is false; UnansweredError; VaultFullError;
        VaultReadOnlyError.
        """

    def put_stream(self, key: str, passing: Passing, *, overwrite: bool, until: datetime | None = None) -> None:
        """Store parts as they come, as `put` does; what they raise is raised, and nothing is stored then."""

    def holds(self, key: str, parts: Sequence[Buffer]) -> bool | None:
        """Whether what is there is these parts, by the checksum that the store tells; None: it tells none to compare.

        Raises AbsentError.
        """

    def holds_stream(self, key: str, passed: Passing) -> bool | None:
        """Whether what is there is what passed; None: it has its size, and the store tells nothing else to compare.

        Raises AbsentError.
        """

    def copies(self, state: ObjectState) -> bool:
        """Whether an object lies where this store can copy from; whether it may is seen by trying."""

    def state_of(self, key: str) -> ObjectState:
        """An object as it is now, with all checksums that are told of the whole of it. Raises AbsentError."""

    def copy_within(self, key: str, state: ObjectState, *, until: datetime | None = None) -> Mapping[str, str]:
        """Have a state copied to a key that is not there yet, locked `until` then; the checksums told of the copy.

        Raises NotCopiedError.
        """

    def get(self, key: str, headers: Mapping[str, str]) -> Answer:
        """Bytes of an object, with these headers of the request. Raises AbsentError, BeyondError."""

    def size(self, key: str) -> int:
        """Size in bytes. Raises AbsentError."""

    def lock_of(self, key: str) -> FileLock | None:
        """The lock that keeps an object; None when it has none. Raises AbsentError."""

    def lock(self, key: str, until: datetime, mode: LockMode) -> None:
        """Lock an object until then, and never for less. Raises AbsentError."""

    @property
    def legal_holds(self) -> Holds:
        """Its legal holds."""

    def page(self, folder: str, after: str | None) -> Page:
        """Up to a thousand names that begin with `folder` ("" for all), the next ones after the page before."""

    def delete(self, key: str) -> None:
        """Remove an object. Raises AbsentError where that is told; VaultReadOnlyError."""

    def sweep(self, before: datetime) -> int:
        """Remove what uploads that began before left behind unfinished; how many. Raises VaultReadOnlyError."""

    def settings(self) -> BucketSettings:
        """How the bucket is set."""

    def change(self, change: Change) -> str:
        """Set it; why not, or "" once the store has taken it."""

    def trial(self) -> Trial:
        """What asks it for more than a vault does. Raises VaultError."""

    def close(self) -> None:
        """Close the connections; they are made anew when needed."""
