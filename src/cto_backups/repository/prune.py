"""Pruning a repository: what no snapshot needs leaves the index now, and the vault once a grace is over.

The order makes every moment a good one to be killed at: overdue packs are deleted; new packs and new index files, which
list all that stays, are stored; then the marks of what will be in no index; and only then the old index files go. Until
the last of them is gone blobs are listed twice, never not at all; the next prune finishes.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

from cto_backups import clock
from cto_backups.core.ports import Progress, Silent
from cto_backups.core.pruning import PackUse, Pruned, PrunePlan, PruneRules, plan_prune
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.copying import Wanted, carriers, copy_group, ranges
from cto_backups.repository.depot import Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, Location, save_listing, see_that_packs_are_there
from cto_backups.repository.kept import kept_until
from cto_backups.repository.locks import Lock, locked, locked_for_reading, remove
from cto_backups.repository.marks import load_marks, replace_marks
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.stocktaking import InPack, Stock, take_stock
from cto_backups.repository.stored import StoredFiles

Expected = Callable[[], Iterable[str]]
"""Which snapshots must be there; asked while nobody else can add or drop any."""


Adjust = Callable[[Stock, Sequence[PackUse]], Sequence[PackUse]]
"""Says what is needed of packs, where that is more or less than the blobs that snapshots need."""


def as_found(_stock: Stock, uses: Sequence[PackUse]) -> Sequence[PackUse]:
    """What is needed of a pack is what is needed of its blobs."""
    return uses


def planned(files: StoredFiles, rules: PruneRules, expected: Expected = tuple, adjust: Adjust = as_found) -> Pruned:
    """What a prune would do now, under a shared lock. Raises BusyError, DamageError, VaultError."""
    with locked_for_reading(files):
        marks, _ = load_marks(files)
        return Pruned(_plan(files, take_stock(files, expected()), marks, rules, adjust), done=False)


def prune(
    files: StoredFiles,
    options: RepositoryOptions,
    rules: PruneRules,
    expected: Expected = tuple,
    agree: Callable[[PrunePlan], None] | None = None,
    progress: Progress | None = None,
    adjust: Adjust = as_found,
) -> Pruned:
    """Make a plan and carry it out, alone with the repository, unless `agree`, which is shown it, raises something.

    Raises BusyError while anybody holds a lock, DamageError for anything that a snapshot needs and that cannot be read,
    and for an expected snapshot that is not listed (nothing is removed then), VaultError.
    """
    with locked(files, exclusive=True) as lock:
        marks, mark_files = load_marks(files)
        stock = take_stock(files, expected())
        plan = _plan(files, stock, marks, rules, adjust)
        if agree is not None:
            agree(plan)
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
        remove(files, lock, "index", index_files)
        return Pruned(plan, done=True, added_bytes=added)


def _plan(files: StoredFiles, stock: Stock, marks: dict[str, datetime], rules: PruneRules, adjust: Adjust) -> PrunePlan:
    """The plan. Where a blob lies in several packs, what stays was read, and is intact: the others may go."""
    now = clock.now()
    fetcher = Fetcher(files, stock.index)
    locks = kept_until(files, "data", [name for name in stock.unlisted if now - marks.get(name, now) >= rules.grace])
    damaged: set[InPack] = set()
    while True:
        held = stock.held(damaged)
        plan = plan_prune(
            adjust(stock, held.uses),
            unlisted=stock.unlisted,
            marks=marks,
            now=now,
            rules=rules,
            index_files=len(stock.index.files),
            listed_blobs=sum(stock.index.native.count(kind) for kind in BlobKind),
            gone=stock.gone,
            relisted=stock.relisted,
            taken_over=stock.to_delete,
            duplicate_blobs=held.duplicate_blobs,
            locks=locks,
        )
        kept = {use.name for use in plan.keep}
        # What is written anew is opened on the way, and taken from another pack then.
        relied = [place for place in held.contested if fetcher.pack_name(place[2]) in kept]
        found = {place for place in relied if not _intact(fetcher, *place)} - damaged
        if not found:
            return plan
        damaged |= found


def _intact(fetcher: Fetcher, kind: int, blob: bytes, pack: int) -> bool:
    """Whether a blob can be read from this pack."""
    for place in fetcher.index.locate(BlobKind(kind), blob):
        if place.pack == pack:
            try:
                fetcher.open(fetcher.read(*place[:3]), blob, place.plain)
            except (DamageError, VaultError):
                return False
    return True


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
        remove(self._files, self._lock, "data", [pack.name for pack in self._plan.overdue])

    def write_index(self, progress: Progress) -> int:
        """Store what is written anew, and index files for it and for all that stays; the bytes that were added."""
        kept = self._origin.index.only(self._kept)
        save_listing(self._files, kept, self._options.index_blobs)
        with Depot(self._files, kept, self._options) as depot:
            self._repack(depot, progress)
            depot.finish()  # this saves the index of the new packs, and `kept` has them too from now
        see_that_packs_are_there(self._files, kept, "pruned")
        return depot.added_bytes

    def _repack(self, depot: Depot, progress: Progress) -> None:
        """Bring what is needed of the packs to write anew into the depot, data and trees apart."""
        wanted: dict[BlobKind, list[Wanted]] = {kind: [] for kind in BlobKind}
        for kind, blob, place in self._needs.held_in(self._repacked):
            wanted[BlobKind(kind)].append((blob, Location(*place)))
        progress.total(
            entries=sum(map(len, wanted.values())),
            size_bytes=sum(place.plain or place.length for found in wanted.values() for _, place in found),
        )
        crew, benches = carriers(self._origin, depot, "prune")
        bring = partial(copy_group, benches=benches, origin=self._origin, progress=progress)
        with crew:
            for kind, found in wanted.items():
                for group in ranges(found, self._origin.reach):
                    crew.submit(partial(bring, kind=kind, group=group))
