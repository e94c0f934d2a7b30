"""What the source asks of an object store; `s3` and `gcs` give it. Names of objects are relative to the prefix."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.objects import ObjectState
from cto_backups.core.trees import BlockReader

Properties = Mapping[str, Any]
"""What a store tells of an object beside its content, by the names of the manifest; JSON values."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object as it is at one moment.

    `name` is UTF-8. `made_ns` is when this content was written, in nanoseconds since 1970. `state` is the store's own
    name for it (a generation, an ETag): while it stays, so does the content. `told` is what a listing tells, and `more`
    what only reading does.
    """

    name: bytes
    size: int
    made_ns: int
    state: str
    told: Properties = field(default_factory=dict)
    more: Properties = field(default_factory=dict)


class OtherStateError(Exception):
    """The object is not in the state that was asked for: it was overwritten, or deleted."""


class TornError(Exception):
    """An answer ended before its end, or the connection did: what is left can be asked for."""


class UnreadableError(Exception):
    """One object cannot be read, and others may be; `kind` is that of a `core.model.Problem`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class UncopiedError(Exception):
    """The store does not copy an object by itself: it can be written instead. `lasting`: nor others from there."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting


class Body(BlockReader, Protocol):
    """The bytes of an object from some place on; `readinto` raises TornError."""

    @property
    def found(self) -> Found:
        """The object, with all that is told by reading it."""

    @property
    def claims(self) -> Mapping[str, str]:
        """What the store says of the whole content, for `checksums.Checksums`."""


class ObjectStore(Protocol):
    """One place in a bucket. Thread-safe. Raises SourceError for what keeps it from answering at all."""

    def listing(self) -> Iterator[Found]:
        """Every object at the place, in the order of names. Raises SourceError, also when there is no such bucket."""

    def look_up(self, name: bytes) -> Found | None:
        """The object as it is now; None when there is none. Raises UnreadableError."""

    def open(self, found: Found, offset: int = 0) -> Body:
        """The content of just this state. Raises OtherStateError, UnreadableError, TornError."""

    def state(self, found: Found) -> ObjectState:
        """An object that was opened, for a vault whose store may copy it."""

    def others(self) -> tuple[str, ...]:
        """The URLs of the other buckets that this login can list; none when it may not."""

    def settings(self) -> BucketSettings:
        """What is set for the bucket."""

    def put(
        self, name: bytes, size: int, content: Callable[[], Any], properties: Properties, instead: Found | None
    ) -> None:
        """Write an object in place of `instead` (None: where there is none). Raises OtherStateError, UnreadableError.

        `content` opens its bytes, as a binary file, anew each time.
        """

    def copies(self, state: ObjectState) -> bool:
        """Whether an object lies where this store can copy from; whether it may is seen by trying."""

    def copy(self, name: bytes, state: ObjectState, properties: Properties, instead: Found | None) -> Mapping[str, str]:
        """Have the store make an object of a state, as `put` would of content; the checksums told of it.

        Raises UncopiedError; OtherStateError.
        """

    def delete(self, found: Found) -> None:
        """Delete an object that is in this state. Raises OtherStateError, UnreadableError."""

    def close(self) -> None:
        """Close the connections."""
