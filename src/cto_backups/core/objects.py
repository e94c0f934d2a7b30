"""Objects of a provider's store that the provider itself copies into a vault: of which state, and how that is proven.

Whoever has bytes copied that do not pass through this machine has to name the one state that is meant, and to compare
what the store then tells of the copy. Why so is told in docs/adr/0047.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ObjectState:
    """One state of one object, as its store names it.

    `scheme` is ``gs`` or ``s3``; `endpoint` the server's address, None for the provider's own. `generation` is what
    tells this state from others of its key: a generation at Google, a version at S3 ("" in a bucket without versions,
    where `etag` alone does). `checksums` are what the store tells of all of it: hexadecimal, by algorithm (``crc32c``,
    ``md5``, ``sha256``).
    """

    scheme: str
    endpoint: str | None
    bucket: str
    key: str
    size: int
    generation: str = ""
    etag: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The bucket, for people."""
        return f"{self.scheme}://{self.bucket}"

    def is_at(self, scheme: str, endpoint: str | None) -> bool:
        """Whether it lies in a store that this server is the face of, too."""
        return self.scheme == scheme and (self.endpoint or "").rstrip("/") == (endpoint or "").rstrip("/")


@dataclass(frozen=True, slots=True)
class Proof:
    """What speaks for a copy being what is known: the algorithms that agree, and those that do not."""

    agreeing: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether something agrees, and nothing differs."""
        return bool(self.agreeing) and not self.differing


def proof(known: Mapping[str, str], told: Mapping[str, str]) -> Proof:
    """Compare checksums that are known of a content with those that are told of it, where both have one."""
    both = [name for name in known if name in told]
    return Proof(
        tuple(name for name in both if known[name] == told[name]),
        tuple(name for name in both if known[name] != told[name]),
    )


@dataclass(frozen=True, slots=True)
class Ways:
    """How the contents of new files came into a vault: copied by the provider, or through this machine.

    Those that `passed` were offered by a store all the same; `reasons` say why they were not copied there.
    """

    copied: int = 0
    copied_bytes: int = 0
    passed: int = 0
    passed_bytes: int = 0
    reasons: tuple[str, ...] = ()


@runtime_checkable
class FromObject(Protocol):
    """A reader of a file that is an object of a store."""

    @property
    def state(self) -> ObjectState | None:
        """The state that is read; None where there is none that can be named."""


@runtime_checkable
class KnowingStates(Protocol):
    """A reader of a point whose files lie as objects of a store."""

    def state_of(self, path: bytes) -> ObjectState | None:
        """The object that holds a file's content, with the checksums that were made here; None where there is none."""


@runtime_checkable
class OfferingObjects(Protocol):
    """A source that consists of objects of a store."""

    def sample(self) -> ObjectState | None:
        """One of its smaller objects, as it is now; None where there is none. Raises SourceError."""


@runtime_checkable
class CopyingWithin(Protocol):
    """A vault whose store copies objects by itself, from its own buckets and from others."""

    def copies(self, state: ObjectState) -> bool:
        """Whether it lies where this vault's store can copy from; whether it may is seen by trying."""

    def state_of(self, key: str) -> ObjectState:
        """A stored file as it is now, for another vault to copy. Raises VaultMissingError."""

    def copy_within(self, key: str, state: ObjectState) -> Mapping[str, str]:
        """Have a state copied to a new key, locked and encrypted as what is stored; the copy's checksums.

        Raises NotCopiedError, and nothing of it stays: then it can still be sent. VaultError as `put` does.
        """
