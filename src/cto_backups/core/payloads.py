"""What flows ask of the store of payloads inside a vault, as a port; tests/contract has its suite."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from cto_backups.core.change import NewContent
from cto_backups.core.objects import Ways
from cto_backups.core.policy import Payload as Payload
from cto_backups.core.ports import PointReader, Progress
from cto_backups.core.pruning import Pruned, PrunePlan
from cto_backups.core.trees import AnyTree, Entry
from cto_backups.core.vaults import Vault
from cto_backups.core.verification import Ledger, Part, Readings


@dataclass(frozen=True, slots=True)
class SnapshotLabel:
    """How a committed snapshot is described in the repository, readable with stock tools."""

    time: datetime
    hostname: str
    username: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeftBy:
    """A process that may write no more, and gave no sign of life since before a moment."""

    host: str
    pid: int
    before: datetime

    def has_made(self, host: str, pid: int, at: datetime) -> bool:
        """Whether something is of this process, and of that time."""
        return (host, pid) == (self.host, self.pid) and at < self.before


@dataclass(frozen=True, slots=True)
class Draft:
    """Content that is stored, but not committed: nobody sees it yet. `root` identifies it.

    `kept` false: it was read only, nothing of it was kept, and it cannot be committed. `moved_entries` are, of the new
    ones, the files whose content was there already. `payload` is what it was asked to be. `ways`: how new contents
    came, where files lie as they are.
    """

    root: str
    entries: int
    size_bytes: int
    read_bytes: int
    added_bytes: int
    new_entries: int
    changed_entries: int
    unchanged_entries: int
    parent: str | None = None
    kept: bool = True
    moved_entries: int = 0
    content: NewContent = field(default_factory=NewContent)
    payload: Payload = Payload.SNAPSHOT
    ways: Ways | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in a payload store that is not as it was written; `points` are the references it hurts."""

    what: str
    detail: str
    references: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification read, and what it found damaged.

    `packs` and `pack_bytes` are all that the store holds (or that the references need), `packs_read` and `bytes_read`
    what of it was read now; of a whole vault, the bytes of what was streamed are counted too. `readings` are for the
    ledger; None when only structure or only some references were looked at. `remarks` are sentences on what does not
    belong there, though it hurts nothing.
    """

    files_read: int
    bytes_read: int
    blobs_read: int
    references: tuple[str, ...]
    damages: tuple[Damage, ...] = ()
    packs: int = 0
    packs_read: int = 0
    pack_bytes: int = 0
    readings: Readings | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copied:
    """A reference in the destination store, and what it grew by; `ways` as a `Draft` has it."""

    reference: str
    added_bytes: int
    blobs: int
    ways: Ways | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed reference, as a listing of the store shows it."""

    reference: str
    root: str
    time: datetime
    hostname: str
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    detail: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Node:
    """One node of a stored tree: the entry, and what identifies its content; not frozen, because millions are made.

    `content` identifies a file's bytes, part by part; `subtree` a folder with all that is in it, metadata included.
    Equal ones mean equal content, in any vault; only files of several parts may be equal though theirs are not, where
    different programs cut them.
    """

    entry: Entry
    content: tuple[bytes, ...] = ()
    subtree: bytes | None = None


class Contents(Protocol):
    """Everything that a payload store holds, by what identifies it. Any thread may call; nothing is written or locked.

    What a prune deletes meanwhile is missing then, as if it were damaged.
    """

    def folder(self, subtree: bytes) -> Sequence[Node]:
        """The nodes in a folder (a point's root, or a `Node.subtree`), sorted by name. Raises DamageError, VaultError.

        Their entries know their names, not their paths.
        """

    def content(self, content: Sequence[bytes], offset: int = 0) -> Iterator[bytes]:
        """A file's bytes from `offset` on, in pieces of bounded size; each was compared with what identifies it.

        Raises DamageError, VaultError in place of the first piece that is not intact.
        """


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair found in a store, and did about it; with `done` false, what it would do.

    `damages` is what was found, `index_files` the damaged ones of these. `relisted` packs are in the index again,
    `missing` ones are not there, `unlisted` ones are damaged: they are in the index no longer, and deleted by a later
    prune. `left` ones are damaged, and only the index was to be repaired. What was in them: `salvaged_blobs` were
    written anew out of them, `fetched_blobs` came from other vaults (by name), `lost_blobs` are needed, and intact
    nowhere. `unreadable` are the references that cannot be read; they are left. `troubles` tell why other vaults could
    not help.
    """

    done: bool
    damages: tuple[Damage, ...] = ()
    index_files: tuple[str, ...] = ()
    relisted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    salvaged_blobs: int = 0
    fetched_blobs: Mapping[str, int] = field(default_factory=dict)
    lost_blobs: int = 0
    added_bytes: int = 0
    unreadable: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether there was nothing to repair."""
        return not (self.damages or self.relisted or self.fetched_blobs or self.lost_blobs)


class RepairScope(StrEnum):
    """How far a repair looks.

    Only at the index (which is made anew from what packs say of themselves); at the structure: that all is there,
    and that trees can be read; or at every byte.
    """

    INDEX = "index"
    STRUCTURE = "structure"
    EVERYTHING = "everything"


class Writing(Protocol):
    """A store opened for writing, under its lock."""

    def write(
        self,
        tree: AnyTree,
        *,
        parent: str | None = None,
        progress: Progress | None = None,
        unless: Callable[[], bool] | None = None,
        payload: Payload = Payload.SNAPSHOT,
    ) -> Draft:
        """Store a tree; `parent` is the reference to compare with, so that unchanged files are not opened.

        `unless` is asked once everything was read: if it says so, nothing is kept, as the draft then says. An export is
        stored in such a way that each file may lie as it is in vaults that take it so.
        """

    def commit(self, draft: Draft, label: SnapshotLabel) -> str:
        """Make the draft a committed snapshot, durable on return; its reference."""

    def recommit(self, root: str, label: SnapshotLabel) -> str:
        """Make content that is stored already visible again, when its snapshot was lost; the new reference.

        What is missing of it stays so. Raises DamageError when its root is not there.
        """

    def copy(self, origin: "PayloadStore", reference: str, *, progress: Progress | None = None) -> Copied:
        """Bring a committed reference over from another store, opening (and so verifying) every blob on the way."""


@runtime_checkable
class Lapsing(Protocol):
    """A payload store that knows which of its files nobody needs any more, so that their locks need no renewal."""

    def lapsing(self, dropped: Sequence[str]) -> Collection[str]:
        """The keys of these files, those of dropped references among them. Raises VaultError."""


@dataclass(frozen=True, slots=True)
class Needed:
    """The keys of all files without which references cannot be restored.

    `unread` are those of which not all could be read that says what they need: all packs there are are among the keys.
    """

    keys: frozenset[str]
    unread: tuple[str, ...] = ()


@runtime_checkable
class TellingNeeds(Protocol):
    """A payload store that knows which files a reference needs."""

    def needed_by(self, references: Sequence[str]) -> Needed:
        """These files, with the config, the keys and the index. Raises VaultError."""


class PayloadStore(Protocol):
    """Where the payloads of recovery points lie inside one vault."""

    @property
    def vault(self) -> Vault:
        """The vault it lies in."""

    def writing(self) -> AbstractContextManager[Writing]:
        """Open for writing. Raises BusyError while somebody holds an exclusive lock."""

    def reader(self, reference: str) -> PointReader:
        """Read one reference. Raises NotFoundError, DamageError."""

    def contents(self) -> Contents:
        """Look into everything that is stored."""

    def verify(
        self,
        references: Sequence[str] | None = None,
        *,
        read_data: bool = True,
        part: Part | None = None,
        ledger: Ledger | None = None,
        progress: Progress | None = None,
    ) -> Verified:
        """Check structure and, with `read_data`, re-read every byte, of these references or of everything.

        With `part`, re-read only the next portion of everything, by what the ledger says was read before.
        """

    def committed(self) -> Sequence[Committed]:
        """Everything committed."""

    def expire(self, references: Sequence[str], progress: Progress | None = None) -> None:
        """Drop references; bytes are reclaimed by a later prune."""

    def prune(
        self,
        *,
        dry_run: bool = False,
        expected: Callable[[], Iterable[str]] = tuple,
        agree: Callable[[PrunePlan], None] | None = None,
        progress: Progress | None = None,
    ) -> Pruned:
        """Reclaim what no reference needs, or only say how.

        `expected` is asked, once nobody else can add or drop any, which references must be there: a listing that lacks
        one is an old one, or something is lost. `agree` is then shown the plan before anything is done: what it raises
        stops it. Raises BusyError; DamageError, and nothing is removed.
        """

    def repair(
        self,
        donors: Sequence["PayloadStore"] = (),
        *,
        scope: RepairScope = RepairScope.EVERYTHING,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Repaired:
        """Put right what is damaged, with what `donors` (the stores of other vaults) still hold; or only say how.

        What is damaged stays in the vault until a later prune. Raises BusyError while anybody holds a lock, VaultError.
        """

    def seal(self, content: bytes) -> bytes:
        """Encrypt and authenticate what lies in the vault beside the store. The size depends on the content's alone."""

    def unseal(self, sealed: bytes) -> bytes:
        """What `seal` was given. Raises DamageError when it was altered, or sealed with another store's key."""

    def clear_leftovers(self, *, own: bool = False, left: LeftBy | None = None) -> tuple[str, ...]:
        """Clear what a killed process left (stale locks, temporary files); what was done, in sentences.

        With `own`, only the locks of this user on this host. Those that were `left` go although their process lives.
        """
