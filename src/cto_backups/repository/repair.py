"""Repairing a repository: the index from the packs themselves, lost blobs from what is left of them or other vaults.

The order makes every moment a good one to be killed at. Index files that list every sound pack are stored; new packs
follow, each run of them with an index file of its own; then the marks of the packs that will be in no index, and only
then the old index files go. Until the last of them is gone blobs are listed twice, never not at all. Damaged packs
are deleted by a later prune, once their grace is over. The next repair finishes.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol

from cto_backups import _native, clock
from cto_backups.core.payloads import Damage, PayloadStore, Repaired, RepairScope
from cto_backups.core.ports import Progress, Silent
from cto_backups.core.trees import Buffer
from cto_backups.errors import BackupsError, DamageError, VaultError
from cto_backups.repository.crew import Crew
from cto_backups.repository.damage import Found, Reading, look
from cto_backups.repository.depot import Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, load_index, save_listing, see_that_packs_are_there
from cto_backups.repository.locks import Lock, locked, locked_for_reading, remove
from cto_backups.repository.marks import replace_marks
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.seal import CameOutWrongError, Sealer
from cto_backups.repository.stored import StoredFiles

_READING = {
    RepairScope.INDEX: Reading.HEADERS,
    RepairScope.STRUCTURE: Reading.TREES,
    RepairScope.EVERYTHING: Reading.ALL,
}

Blob = tuple[BlobKind, bytes]


def repair_planned(
    files: StoredFiles,
    options: RepositoryOptions,
    donors: Sequence[PayloadStore],
    scope: RepairScope,
    progress: Progress | None = None,
) -> Repaired:
    """What a repair would do now, under a shared lock; nothing is written. Raises BusyError, VaultError."""
    with locked_for_reading(files):
        found = look(files, options.threads, _READING[scope], progress or Silent())
        if scope is RepairScope.INDEX:
            return _repaired(found, done=False)
        rescue = _Rescue(files, found, _Trial(found), donors, options.threads)
        rescue.run()
        return _repaired(found, rescue, done=False)


def repair(
    files: StoredFiles,
    options: RepositoryOptions,
    donors: Sequence[PayloadStore],
    scope: RepairScope,
    progress: Progress | None = None,
) -> Repaired:
    """Find what is damaged and put it right, alone with the repository.

    Raises BusyError while anybody holds a lock, or when the lock was lost; VaultError.
    """
    with locked(files, exclusive=True) as lock:
        found = look(files, options.threads, _READING[scope], progress or Silent())
        lock.check()
        if found.changes_index:
            save_listing(files, found.good, options.index_blobs)
        if scope is RepairScope.INDEX:
            repaired = _repaired(found, done=True)
        else:
            with Depot(files, found.good, options) as depot:
                rescue = _Rescue(files, found, depot, donors, options.threads)
                rescue.run()
                depot.finish()  # this saves the index of the new packs
            repaired = _repaired(found, rescue, done=True, added_bytes=depot.added_bytes)
        if found.changes_index:
            _replace_index(files, lock, found)
        return repaired


def _replace_index(files: StoredFiles, lock: Lock, found: Found) -> None:
    """Let the new index files take the place of the old ones."""
    see_that_packs_are_there(files, found.good, "repaired")
    sizes = files.pack_sizes()
    listed = {found.good.pack_name(number) for number in range(found.good.pack_count)}
    now = clock.now()
    bad = {found.bad.pack_name(number).hex() for number in range(found.bad.pack_count)}
    marks = {
        name.hex(): now if name.hex() in bad else found.marks.get(name.hex(), now) for name in sizes.keys() - listed
    }
    lock.check()
    if marks != found.marks or len(found.mark_files) > 1:
        replace_marks(files, marks, found.mark_files)
    remove(files, lock, "index", found.index_files)


def _repaired(found: Found, rescue: "_Rescue | None" = None, *, done: bool, added_bytes: int = 0) -> Repaired:
    return Repaired(
        done=done,
        damages=(*found.damages, *(rescue.damages if rescue else ())),
        index_files=tuple(name for name, _ in found.listed.damages),
        relisted=tuple(found.relisted),
        missing=tuple(found.missing),
        unlisted=tuple(found.unlisted),
        left=tuple(found.left),
        salvaged_blobs=rescue.salvaged if rescue else 0,
        fetched_blobs=dict(sorted(rescue.fetched.items())) if rescue else {},
        lost_blobs=len(rescue.lost) if rescue else 0,
        added_bytes=added_bytes,
        unreadable=tuple(found.unreadable),
        troubles=tuple(rescue.troubles) if rescue else (),
    )


class _Taking(Protocol):
    """What takes blobs, on one thread."""

    def copy(self, origin: Sealer, kind: BlobKind, blob: bytes, sealed: Buffer, plain_size: int) -> int:
        """Take a blob of another repository. Raises DamageError when it is not what `blob` names."""


class _Store(Protocol):
    """Where rescued blobs go: a depot, or a trial."""

    def bench(self) -> _Taking:
        """What takes blobs on one thread."""

    def known(self, kind: BlobKind, blob: bytes) -> bool:
        """Whether a blob is there."""


class _Trial:
    """Takes blobs as a depot would, and keeps nothing: for a dry run. Any thread may call."""

    def __init__(self, found: Found) -> None:
        self._index = found.good
        self._taken: set[Blob] = set()

    def bench(self) -> "_Trial":
        """Itself."""
        return self

    def known(self, kind: BlobKind, blob: bytes) -> bool:
        """Whether a blob is there, or was taken."""
        return (kind, blob) in self._taken or self._index.pack_of(kind, blob) >= 0

    def copy(self, origin: Sealer, kind: BlobKind, blob: bytes, sealed: Buffer, plain_size: int) -> int:
        """Open a blob. Raises DamageError."""
        self._taken.add((kind, blob))
        try:
            return len(_native.open_blob(origin.native, sealed, blob, plain_size))
        except DamageError:
            self._taken.discard((kind, blob))
            raise


class _Rescue:
    """Brings blobs back: what opens of damaged packs, and from elsewhere what snapshots need besides.

    `salvaged` counts those from this vault, `fetched` those from others, by name; `lost` are needed, but nowhere.
    """

    def __init__(
        self, files: StoredFiles, found: Found, store: _Store, donors: Sequence[PayloadStore], threads: int
    ) -> None:
        self.salvaged = 0
        self.fetched: dict[str, int] = {}
        self.lost: set[Blob] = set()
        self.troubles: list[str] = []
        self._files = files
        self._found = found
        self._store = store
        self._donors = donors
        self._threads = threads
        self._good, self._bad = Fetcher(files, found.good), Fetcher(files, found.bad)
        self._opened: list[Fetcher] | None = None
        self._open = ExitStack()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Rescue all that can be. Raises VaultError when the vault cannot take it."""
        with self._open:
            self._salvage()
            self._data(self._walk())

    @property
    def damages(self) -> Iterator[Damage]:
        """What is lost for good."""
        for kind, blob in sorted(self.lost):
            yield Damage(f"{kind.name.lower()} blob {blob.hex()[:12]}", "it is needed, and intact in no vault")

    def _salvage(self) -> None:
        """What opens of damaged packs, and is in no sound one."""
        bad = self._found.bad
        blobs = dict.fromkeys((kind, blob) for kind, blob, _ in bad.blobs_in(range(bad.pack_count)))
        with Crew(self._threads, self._store.bench, name="salvage") as crew:
            for kind, blob in blobs:
                if not self._store.known(kind, blob):
                    crew.submit(partial(self._salvage_one, kind=kind, blob=blob))

    def _salvage_one(self, bench: _Taking, kind: BlobKind, blob: bytes) -> None:
        self._bring(bench, kind, blob, [self._bad])

    def _walk(self) -> list[bytes]:
        """Go through all trees that snapshots need, and bring those that are lost; the data blobs that are."""
        bench = self._store.bench()
        needs = _native.Needs(self._found.good.native)
        for snapshot in self._found.snapshots:
            needs.add(snapshot.tree)
        while (tree := needs.next()) is not None:
            try:
                needs.enter(self._tree(bench, tree))
            except DamageError:
                self.lost.add((BlobKind.TREE, tree))
        return [blob for blob in needs.missing(BlobKind.DATA) if not self._store.known(BlobKind.DATA, blob)]

    def _tree(self, bench: _Taking, tree: bytes) -> bytes:
        """A tree's plain bytes, from wherever they are. Raises DamageError."""
        if not self._store.known(BlobKind.TREE, tree):
            self._bring(bench, BlobKind.TREE, tree, self._elsewhere())
        elif self._found.good.pack_of(BlobKind.TREE, tree) >= 0:
            return self._good.tree(tree)
        for origin in (self._bad, *self._elsewhere()):
            try:
                return origin.tree(tree)
            except (DamageError, VaultError):
                continue
        raise DamageError(f"Tree {tree.hex()[:12]} is lost", why="no vault holds it intact")

    def _data(self, blobs: Sequence[bytes]) -> None:
        """Bring data blobs that are lost here."""
        origins = self._elsewhere() if blobs else []
        with Crew(self._threads, self._store.bench, name="fetch") as crew:
            for blob in blobs:
                crew.submit(partial(self._bring_data, blob=blob, origins=origins))

    def _bring_data(self, bench: _Taking, blob: bytes, origins: Sequence[Fetcher]) -> None:
        if not self._bring(bench, BlobKind.DATA, blob, origins):
            with self._lock:
                self.lost.add((BlobKind.DATA, blob))

    def _bring(self, bench: _Taking, kind: BlobKind, blob: bytes, origins: Sequence[Fetcher]) -> bool:
        """Take a blob from the first place where it is intact; whether there is one."""
        for origin in origins:
            for place in origin.index.locate(kind, blob):
                try:
                    sealed = origin.read(place.pack, place.offset, place.length)
                except VaultError:
                    continue
                try:
                    bench.copy(origin.files.sealer, kind, blob, sealed, place.plain)
                except CameOutWrongError:
                    raise
                except DamageError:
                    continue
                self._count(origin.files)
                return True
        return False

    def _count(self, files: StoredFiles) -> None:
        with self._lock:
            if files is self._files:
                self.salvaged += 1
            else:
                self.fetched[files.vault.name] = self.fetched.get(files.vault.name, 0) + 1

    def _elsewhere(self) -> list[Fetcher]:
        """Where else blobs may be: packs that wait to be deleted, and other vaults, opened when first asked for."""
        if self._opened is None:
            self._opened = [Fetcher(self._files, self._found.strays)]
            for donor in self._donors:
                files = getattr(donor, "files", None)
                if not isinstance(files, StoredFiles):
                    continue
                try:
                    self._open.enter_context(locked_for_reading(files))
                    self._opened.append(Fetcher(files, load_index(files)))
                except BackupsError as error:
                    self.troubles.append(f"{files.vault.name}: {error}")
        return self._opened
