"""All payloads of one vault as one store: its repository and the exports beside it.

Whoever reads asks for a reference, and gets it from where it lies. Whoever writes says which payload it is to be: an
export lies as plain objects where the vault takes it so, and sealed in the repository elsewhere, cut into the same
parts. So a point has the same root in every vault.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from cto_backups.core.payloads import (
    Committed,
    Contents,
    Copied,
    Draft,
    LeftBy,
    Needed,
    Node,
    PayloadStore,
    Repaired,
    RepairScope,
    SnapshotLabel,
    Verified,
    Writing,
)
from cto_backups.core.policy import Payload
from cto_backups.core.ports import PointReader, Progress
from cto_backups.core.pruning import Pruned, PrunePlan
from cto_backups.core.trees import AnyTree
from cto_backups.core.vaults import Vault
from cto_backups.core.verification import Ledger, Part
from cto_backups.errors import BackupsError, DamageError, NotFoundError, VaultError, VaultLockedError
from cto_backups.exports.merging import merged_plans, merged_prunes, merged_repairs, merged_verifications
from cto_backups.exports.store import ExportStore
from cto_backups.repository.kept import still_locked
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.store import RepositoryStore
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.together import both

if TYPE_CHECKING:
    from cto_backups.repository.keyring import RepositoryKeys


def joined(repository: RepositoryStore, *, plain: bool) -> "JoinedStore":
    """A vault's store: the repository that was opened, and the exports beside it, under the same key."""
    place = repository.files.prefix.rpartition("/")[2].strip(".") or "main"
    return JoinedStore(repository, ExportStore(repository, repository.vault, f"exports/{place}"), plain=plain)


class JoinedStore:
    """A repository and the store of exports beside it; with `plain`, new exports go there.

    Implements `core.payloads.PayloadStore`.
    """

    def __init__(self, repository: RepositoryStore, exports: ExportStore, *, plain: bool) -> None:
        self.repository = repository
        self.exports = exports
        self._plain = plain

    @cached_property
    def _has_exports(self) -> bool:
        """Whether exports lie here: also where new ones would not."""
        return self._plain or bool(self.exports.files.names("snapshots"))

    @property
    def parts(self) -> tuple[RepositoryStore | ExportStore, ...]:
        """The stores that hold something."""
        return (self.repository, self.exports) if self._has_exports else (self.repository,)

    def part_with(self, reference: str) -> RepositoryStore | ExportStore:
        """The store in which a reference lies; the repository, where it lies in none."""
        return self.exports if self._has_exports and reference in self._exported() else self.repository

    def _exported(self) -> set[str]:
        return set(self.exports.files.names("snapshots"))

    @property
    def vault(self) -> Vault:
        """The vault it lies in."""
        return self.repository.vault

    @property
    def files(self) -> StoredFiles:
        """The stored files of the repository."""
        return self.repository.files

    @property
    def keys(self) -> "RepositoryKeys":
        """The key files, which open both."""
        return self.repository.keys

    @property
    def repository_id(self) -> str:
        """The id of the repository."""
        return self.repository.repository_id

    def writing(self) -> AbstractContextManager[Writing]:
        """Open for writing. Raises BusyError while somebody holds an exclusive lock."""
        return self._session()

    @contextmanager
    def _session(self) -> Iterator[Writing]:
        with ExitStack() as opened:
            yield JoinedWriting(self.repository, self.exports if self._plain else None, opened)

    def reader(self, reference: str) -> PointReader:
        """Read one reference. Raises NotFoundError, DamageError."""
        part, found = both(self.vault, lambda: self.part_with(reference), lambda: self._from_repository(reference))
        if part is not self.repository or (self._plain and isinstance(found, NotFoundError)):
            return self.exports.reader(reference)  # also where a listing does not show it yet
        if isinstance(found, BackupsError):
            raise found
        return found

    def _from_repository(self, reference: str) -> "PointReader | BackupsError":
        """Asked before anybody knows that it lies there: most do."""
        try:
            return self.repository.reader(reference)
        except BackupsError as error:
            return error

    def contents(self) -> Contents:
        """Look into everything that is stored."""
        parts = [part.contents() for part in self.parts]
        return parts[0] if len(parts) == 1 else JoinedContents(parts)

    def verify(
        self,
        references: Sequence[str] | None = None,
        *,
        read_data: bool = True,
        part: Part | None = None,
        ledger: Ledger | None = None,
        progress: Progress | None = None,
    ) -> Verified:
        """Verify what lies in both, each part of the way by the same share."""
        if part is not None and part.share is None and self._has_exports:
            total = sum(sum(store.files.pack_sizes().values()) for store in self.parts)
            part = Part(share=min(Fraction(part.size_bytes, total or 1), Fraction(1)))

        def one(store: RepositoryStore | ExportStore, wanted: list[str] | None) -> Verified:
            return store.verify(wanted, read_data=read_data, part=part, ledger=ledger, progress=progress)

        if references is None:
            found, exported = both(self.vault, lambda: one(self.repository, None), lambda: self._has_exports)
            return merged_verifications([found, one(self.exports, None)] if exported else [found])
        apart = self._apart(references)
        return merged_verifications([one(store, mine) for store, mine in apart if mine or store is self.repository])

    def _apart(self, references: Iterable[str]) -> list[tuple[RepositoryStore | ExportStore, list[str]]]:
        exported = self._exported() if self._has_exports else set()
        named = list(references)
        there = [one for one in named if one in exported]
        return [(self.repository, [one for one in named if one not in exported]), (self.exports, there)]

    def committed(self) -> Sequence[Committed]:
        """Everything committed, oldest first."""
        found = [one for part in self.parts for one in part.committed()]
        return sorted(found, key=lambda one: (one.time, one.reference))

    def expire(self, references: Sequence[str], progress: Progress | None = None) -> None:
        """Drop references (fine when they are gone already); bytes are reclaimed by a later prune.

        Raises VaultLockedError in the end, when some are `left` since the vault's store keeps them.
        """
        kept: list[VaultLockedError] = []
        for store, mine in self._apart(references):
            if mine:
                try:
                    store.expire(mine, progress)
                except VaultLockedError as error:
                    kept.append(error)
        if kept:
            left = {name: until for error in kept for name, until in error.left.items()}
            raise still_locked(self.files, left) if left else kept[0]

    def lapsing(self, dropped: Sequence[str]) -> Collection[str]:
        """Keys of files whose locks may end, in both; what is gone already is looked for in none."""
        return [key for store, mine in self._apart(dropped) if store in self.parts for key in store.lapsing(mine)]

    def needed_by(self, references: Sequence[str]) -> Needed:
        """The files without which these cannot be restored; what opens them is the repository's."""
        apart = [(store, mine) for store, mine in self._apart(references) if mine or store is self.repository]
        found = [store.needed_by(mine) for store, mine in apart]
        keys = frozenset(key for one in found for key in one.keys)
        return Needed(keys, tuple(name for one in found for name in one.unread))

    def prune(
        self,
        *,
        dry_run: bool = False,
        expected: Callable[[], Iterable[str]] = tuple,
        agree: Callable[[PrunePlan], None] | None = None,
        progress: Progress | None = None,
    ) -> Pruned:
        """Reclaim what no reference needs, in one after the other.

        `agree` is shown one plan for both before anything is done; and again what has come to it in the second since.
        """

        def prune(number: int, agree: Callable[[PrunePlan], None] | None, *, dry_run: bool = dry_run) -> Pruned:
            return self.parts[number].prune(
                dry_run=dry_run,
                expected=lambda: self._apart(expected())[number][1],
                agree=agree,
                progress=progress,
            )

        if agree is None or dry_run or len(self.parts) == 1:
            return merged_prunes([prune(number, agree) for number in range(len(self.parts))])
        shown = prune(1, None, dry_run=True).plan

        def agree_to_more(plan: PrunePlan) -> None:
            if not plan.going <= shown.going:
                agree(plan)

        first = prune(0, lambda plan: agree(merged_plans(plan, shown)))
        return merged_prunes([first, prune(1, agree_to_more)])

    def repair(
        self,
        donors: Sequence[PayloadStore] = (),
        *,
        scope: RepairScope = RepairScope.EVERYTHING,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Repaired:
        """Put right what is damaged in both, with what both hold in other vaults."""
        from_all: list[PayloadStore] = []
        for donor in donors:
            from_all += donor.parts if isinstance(donor, JoinedStore) else [donor]
        return merged_repairs(
            [store.repair(from_all, scope=scope, dry_run=dry_run, progress=progress) for store in self.parts]
        )

    def seal(self, content: bytes) -> bytes:
        """Encrypt and authenticate what lies in the vault beside the repository."""
        return self.repository.seal(content)

    def unseal(self, sealed: bytes) -> bytes:
        """What `seal` was given. Raises DamageError."""
        return self.repository.unseal(sealed)

    def clear_leftovers(self, *, own: bool = False, left: LeftBy | None = None) -> tuple[str, ...]:
        """Clear what a killed process left in both; in sentences."""
        return tuple(sentence for part in self.parts for sentence in part.clear_leftovers(own=own, left=left))


class JoinedWriting:
    """Both stores opened for writing, each when it is first written to; `exports` is None where they are sealed."""

    def __init__(self, repository: RepositoryStore, exports: ExportStore | None, opened: ExitStack) -> None:
        self._repository = opened.enter_context(repository.writing())
        self._store = exports
        self._opened = opened
        self._of: dict[str, Writing] = {}

    @cached_property
    def _exports(self) -> Writing:
        assert self._store is not None
        return self._opened.enter_context(self._store.writing())

    def write(
        self,
        tree: AnyTree,
        *,
        parent: str | None = None,
        progress: Progress | None = None,
        unless: Callable[[], bool] | None = None,
        payload: Payload = Payload.SNAPSHOT,
    ) -> Draft:
        """Store a tree where such a payload goes."""
        plain = payload is Payload.EXPORT and self._store is not None
        writing = self._exports if plain else self._repository
        draft = writing.write(tree, parent=parent, progress=progress, unless=unless, payload=payload)
        self._of[draft.root] = writing
        return draft

    def commit(self, draft: Draft, label: SnapshotLabel) -> str:
        """Make the draft visible where it was stored."""
        return self._of.get(draft.root, self._repository).commit(draft, label)

    def recommit(self, root: str, label: SnapshotLabel) -> str:
        """Make content that is stored already visible again, wherever it is. Raises DamageError."""
        try:
            return self._repository.recommit(root, label)
        except DamageError:
            if self._store is None:
                raise
        return self._exports.recommit(root, label)

    def copy(self, origin: PayloadStore, reference: str, *, progress: Progress | None = None) -> Copied:
        """Bring a reference over, from where it lies at the origin to where its payload goes here."""
        if isinstance(origin, JoinedStore):
            origin = origin.part_with(reference)
        writing = self._exports if self._store is not None and _is_export(origin, reference) else self._repository
        return writing.copy(origin, reference, progress=progress)


class JoinedContents:
    """What several stores of one vault hold; implements `core.payloads.Contents`."""

    def __init__(self, parts: Sequence[Contents]) -> None:
        self._parts = parts

    def folder(self, subtree: bytes) -> Sequence[Node]:
        """The nodes in a folder, from the first that has it. Raises DamageError, VaultError."""
        problem: DamageError | VaultError | None = None
        for part in self._parts:
            try:
                return part.folder(subtree)
            except (DamageError, VaultError) as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def content(self, content: Sequence[bytes], offset: int = 0) -> Iterator[bytes]:
        """A file's bytes, each piece from the first that has it. Raises DamageError, VaultError."""
        problem: DamageError | VaultError | None = None
        for part in self._parts:
            try:
                for piece in part.content(content, offset):
                    offset += len(piece)
                    yield piece
                return
            except (DamageError, VaultError) as error:
                problem = problem or error
        assert problem is not None
        raise problem


def _is_export(origin: PayloadStore, reference: str) -> bool:
    """Whether what lies at the origin was made to be an export. What cannot be read is told when it is copied."""
    if isinstance(origin, ExportStore):
        return True
    files = getattr(origin, "files", None)
    try:
        document = load_snapshot(files, reference).document if isinstance(files, StoredFiles) else {}
    except (DamageError, NotFoundError):
        return False
    return bool(document.get("payload") == Payload.EXPORT.value)
