"""Pruning a repository: what no snapshot needs leaves the index now, and the vault once a grace is over.

The order makes every moment a good one to be killed at: overdue packs are deleted; new packs and new index files, which
list all that stays, are stored; then the marks of what will be in no index; and only then the old index files go. Until
the last of them is gone blobs are listed twice, never not at all; the next prune finishes.
"""

from datetime import datetime
from functools import partial

from cto_backups import clock
from cto_backups.core.ports import Progress, Silent
from cto_backups.core.pruning import Pruned, PrunePlan, PruneRules, plan_prune
from cto_backups.errors import DamageError
from cto_backups.repository.copying import Wanted, copy_group, ranges
from cto_backups.repository.crew import Crew
from cto_backups.repository.depot import Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, Index, Location, save_listing
from cto_backups.repository.locks import Lock, locked, locked_for_reading
from cto_backups.repository.marks import load_marks, replace_marks
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.stocktaking import Stock, take_stock
from cto_backups.repository.stored import StoredFiles

_BETWEEN_CHECKS = 100  # deletions for which the lock is trusted to stand


def planned(files: StoredFiles, rules: PruneRules) -> Pruned:
    """What a prune would do now, under a shared lock. Raises BusyError, DamageError, VaultError."""
    with locked_for_reading(files):
        marks, _ = load_marks(files)
        return Pruned(_plan(take_stock(files), marks, rules), done=False)


def prune(
    files: StoredFiles, options: RepositoryOptions, rules: PruneRules, progress: Progress | None = None
) -> Pruned:
    """Make a plan and carry it out, alone with the repository.

    Raises BusyError while anybody holds a lock, DamageError for anything that a snapshot needs and that cannot be read
    (nothing is removed then), VaultError.
    """
    with locked(files, exclusive=True) as lock:
        marks, mark_files = load_marks(files)
        stock = take_stock(files)
        plan = _plan(stock, marks, rules)
        run = _Pruning(files, options, lock, stock, plan)
        run.delete_overdue()
        added = 0
        index_files: list[str] = []
        if plan.changes_index:
            index_files = list(stock.index.files)
            added = run.write_index(progress or Silent())
        left = plan.marks(clock.now())
        if left != marks or len(mark_files) > 1:
            lock.check()
            replace_marks(files, left, mark_files)
        run.remove("index", index_files)
        return Pruned(plan, done=True, added_bytes=added)


def _plan(stock: Stock, marks: dict[str, datetime], rules: PruneRules) -> PrunePlan:
    return plan_prune(
        stock.uses,
        unlisted=stock.unlisted,
        marks=marks,
        now=clock.now(),
        rules=rules,
        index_files=len(stock.index.files),
        listed_blobs=sum(stock.index.native.count(kind) for kind in BlobKind),
        gone=stock.gone,
        relisted=stock.relisted,
        contested=stock.contested,
        duplicate_blobs=stock.duplicate_blobs,
    )


class _Pruning:
    """The steps of one plan, while the exclusive lock stands."""

    def __init__(
        self, files: StoredFiles, options: RepositoryOptions, lock: Lock, stock: Stock, plan: PrunePlan
    ) -> None:
        self._files = files
        self._options = options
        self._lock = lock
        self._plan = plan
        self._origin = Fetcher(files, stock.index)
        self._needs = stock.needs
        names = {stock.index.pack_name(number).hex(): number for number in range(stock.index.pack_count)}
        self._kept = {names[use.name] for use in plan.keep}
        self._repacked = {names[use.name] for use in plan.repack}

    def delete_overdue(self) -> None:
        """Delete the packs whose grace is over; first, since the space may be needed."""
        self.remove("data", [pack.name for pack in self._plan.overdue])

    def remove(self, folder: str, names: list[str]) -> None:
        """Delete stored files, as long as the lock stands."""
        for number, name in enumerate(names):
            if number % _BETWEEN_CHECKS == 0:
                self._lock.check()
            self._files.vault.delete(self._files.key(folder, name))

    def write_index(self, progress: Progress) -> int:
        """Store what is written anew, and index files for it and for all that stays; the bytes that were added."""
        kept = self._origin.index.only(self._kept)
        self._read_contested(kept)
        save_listing(self._files, kept, self._options.index_blobs)
        with Depot(self._files, kept, self._options) as depot:
            self._repack(depot, progress)
            depot.finish()  # this saves the index of the new packs, and `kept` has them too from now
        self._see_that_all_is_there(kept)
        return depot.added_bytes

    def _read_contested(self, kept: Index) -> None:
        """Of a blob in several packs, see that what stays is intact before the others go.

        What is written anew is opened on the way.
        """
        fetcher = Fetcher(self._files, kept)
        for number, blob in self._plan.contested:
            kind = BlobKind(number)
            if kept.pack_of(kind, blob) >= 0:
                fetcher.data(blob) if kind is BlobKind.DATA else fetcher.tree(blob)

    def _repack(self, depot: Depot, progress: Progress) -> None:
        """Bring what is needed of the packs to write anew into the depot, data and trees apart."""
        wanted: dict[BlobKind, list[Wanted]] = {kind: [] for kind in BlobKind}
        for kind, blob, place in self._needs.held_in(self._repacked):
            wanted[BlobKind(kind)].append((blob, Location(*place)))
        progress.total(
            entries=sum(map(len, wanted.values())),
            size_bytes=sum(place.plain or place.length for found in wanted.values() for _, place in found),
        )
        with Crew(self._options.threads, depot.bench, name="prune") as crew:
            for kind, found in wanted.items():
                for group in ranges(found):
                    crew.submit(partial(copy_group, origin=self._origin, kind=kind, group=group, progress=progress))

    def _see_that_all_is_there(self, listed: Index) -> None:
        sizes = self._files.pack_sizes()
        for number in range(listed.pack_count):
            name = listed.pack_name(number)
            if sizes.get(name, 0) <= listed.pack_end(number):
                raise DamageError(
                    f"{self._files.prefix} in vault {self._files.vault.name} was not pruned: pack {name.hex()[:12]} "
                    "vanished meanwhile",
                    why="something deleted it in spite of the lock",
                    todo="The index still lists what it listed before. Find out who deletes there, then run again.",
                )
