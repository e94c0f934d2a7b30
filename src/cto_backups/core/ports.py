"""What flows ask of adapters. Each port has one contract suite (tests/contract) that every implementation passes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Problem, Resource
from cto_backups.core.streams import Tail
from cto_backups.core.trees import AnyTree, Entry


class Progress(Protocol):
    """Told about long work; any thread may call."""

    def total(self, *, entries: int, size_bytes: int) -> None:
        """Say how much is expected; may be called again with a better guess."""

    def advance(self, *, entries: int = 0, size_bytes: int = 0) -> None:
        """Say that this much more is done."""


class Silent:
    """Progress that nobody watches."""

    def total(self, *, entries: int, size_bytes: int) -> None:
        """Ignore it."""

    def advance(self, *, entries: int = 0, size_bytes: int = 0) -> None:
        """Ignore it."""


@runtime_checkable
class TellingLimits(Protocol):
    """Progress that also tells why it is slow."""

    def tell_limits(self, limited: Callable[[], Sequence[tuple[str, int]]]) -> None:
        """Ask this for the vaults whose bandwidth limits are waited for at the time, with their bytes a second."""


# -- capture: what a source offers, what a payload store takes --------------------------------------------------------


class Capture(Protocol):
    """A consistent moment of a source, held while it is stored."""

    @property
    def captured_at(self) -> datetime:
        """The moment of the content."""

    @property
    def paths(self) -> tuple[str, ...]:
        """What restic calls the snapshot's paths."""

    @property
    def tree(self) -> AnyTree:
        """What to store."""

    @property
    def staged(self) -> bool:
        """Whether the tree is a prepared form (a database's backup) rather than the original files."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be captured so far."""

    @property
    def newest_content_at(self) -> datetime | None:
        """The moment of the newest content in it, no later than `captured_at`, once the whole tree was stored.

        By the source's own dates; None where it has none that can be believed.
        """

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what was captured, complete once the whole tree was stored."""

    def stored(self) -> None:
        """Told once the point is safe: what was learned (digests of unchanged files) may be remembered now."""


@runtime_checkable
class Remarking(Protocol):
    """A capture, or a source after a probe, that has something to tell a person, though nothing is missing."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences without their full stop."""


class Existing(StrEnum):
    """What to do with what already stands where a restore writes."""

    REFUSE = "refuse"
    OVERWRITE = "overwrite"


Leave = Callable[[bytes, bool], bool]
"""Whether an entry is to be left where it is, by its path inside the point and whether it is a folder."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a restore goes about it.

    What stands there is compared by content, or with `trust_times` taken as the same if its size and time are. A file
    that differs is replaced whole; with `patch` a large one is rewritten where it stands, and only where it differs.
    `verify` reads everything back from the disk afterwards. With `delete`, and OVERWRITE, what the point does not have
    is removed from the restored folders at the end, unless there was a problem; all but what `leave` says, and what is
    mounted there. What the point has at a path of `spare`, or below one, is not restored. `at` is the moment to come
    back to, within a point that holds a log. `tail` is what was streamed after the point. `one_copy`: what does not
    come back from one place is not taken from another, since this is a test of that place. `into`: the URL of another
    bucket, or of a place in it, which takes the place of the one that objects came from.
    """

    trust_times: bool = False
    patch: bool = False
    verify: bool = False
    delete: bool = False
    leave: Leave | None = None
    spare: frozenset[bytes] = frozenset()
    at: datetime | None = None
    tail: Tail | None = None
    one_copy: bool = False
    into: str = ""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would write: exactly what the dry run prints.

    `conflicts` are files there already that would be replaced. `kept_entries` and `kept_bytes` are those of `entries`
    and `size_bytes` that stand there as they should, and would be left alone. `extraneous` are the topmost of what
    would be removed, `deleted_entries` and `deleted_bytes` all of it.
    """

    destination: Path
    entries: int
    size_bytes: int
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept_entries: int = 0
    kept_bytes: int = 0
    extraneous: tuple[str, ...] = ()
    deleted_entries: int = 0
    deleted_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """What is restored. `places` are where a person should look now.

    `kept_entries` and `kept_bytes` are those of `entries` and `size_bytes` that stood there already. `notes` say what
    nobody should expect to come back. `deleted_entries` are what was removed because the point does not have it,
    `deleted_bytes` the sizes of the files among them.
    """

    entries: int
    size_bytes: int
    seconds: float
    places: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    kept_entries: int = 0
    kept_bytes: int = 0
    notes: tuple[str, ...] = ()
    deleted_entries: int = 0
    deleted_bytes: int = 0


class PointReader(Protocol):
    """Reads one copy of one recovery point back."""

    def listing(self, only: Sequence[str] = ()) -> Iterator[tuple[bytes, Entry]]:
        """Every entry with its full path inside the point ('/'-separated, leading '/'), folders before their content.

        `only` keeps these paths and what lies below them; shell patterns are allowed.
        """

    def plan(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do. Raises NotFoundError when `only` matches nothing.

        With OVERWRITE, what stands there is compared, so that the plan says what would be kept.
        """

    def restore(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the tree below `destination` with all metadata.

        Raises RefusedError before anything is written when files are there and `existing` is REFUSE. With OVERWRITE
        what stands there as it should is left alone. Damaged or unwritable entries become problems, the rest is
        restored.
        """


class Source(Protocol):
    """One kind of data, as one source of the policy configures it."""

    @property
    def name(self) -> str:
        """Its name in the policy."""

    @property
    def kind(self) -> str:
        """Its kind in the registry."""

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """What there is inside, asked for no longer than `limit`. Raises SourceError when it cannot be reached."""

    def capture(self, limit: Limit = UNLIMITED) -> AbstractContextManager[Capture]:
        """Hold a consistent moment, no longer than `limit`. Raises SourceError, also when there is nothing readable."""

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do; `destination` None means in place."""

    def restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Bring the data back below `destination`, or in place when it is None."""

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Fingerprint what `restore` wrote below `restored`, after the kind's own integrity checks.

        `expected` says which samples to take. Raises VerificationError when the data does not work at all.
        """

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Parts of the fingerprint that this process cannot compare (owners, when not root): name → reason."""


@runtime_checkable
class IntoBuckets(Protocol):
    """A source whose points can be restored into other buckets than the one that it names, by `RestoreOptions.into`."""

    def check_into(self, url: str) -> None:
        """Raise RefusedError for a place that is none, is the source's own, or is of one of the vaults."""


@runtime_checkable
class Recognising(Protocol):
    """A source that can tell, without reading its content, that it is as it was captured last."""

    def still(self, fingerprint: Fingerprint) -> datetime | None:
        """The moment at which it was seen to be what this fingerprint is of; None when it has to be read to know."""
