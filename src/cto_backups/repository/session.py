"""A repository opened for writing, under its lock; implements `core.payloads.Writing`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from cto_backups import __version__, clock
from cto_backups.core.payloads import Copied, Draft, Payload, PayloadStore, SnapshotLabel
from cto_backups.core.ports import Progress, Silent
from cto_backups.core.trees import AnyTree, ArrivingTree
from cto_backups.errors import DamageError, NotFoundError, RefusedError
from cto_backups.repository.arrivals import ArrivalWriter
from cto_backups.repository.chunker import Chunker, Cuts, EvenCuts, seed_of
from cto_backups.repository.copying import copy_tree
from cto_backups.repository.cutter import Cutter, Cutting
from cto_backups.repository.depot import Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.gotime import format_time
from cto_backups.repository.index import BlobKind, Index, load_index, save_listing
from cto_backups.repository.locks import Lock, locked_for_reading
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.snapshot import Snapshot, load_snapshot, load_snapshots, new_document
from cto_backups.repository.stored import StoredFiles, checked_name, is_name
from cto_backups.repository.together import both
from cto_backups.repository.writer import TreeWriter

PROGRAM = f"cto.backups {__version__}"

Details = Callable[[], dict[str, Any]]
"""What a snapshot says beside what restic knows, made when all that it refers to is stored."""


def nothing() -> dict[str, Any]:
    """Nothing besides."""
    return {}


class Session:
    """Writes, commits and copies, in one repository, while its lock stands."""

    def __init__(
        self,
        files: StoredFiles,
        polynomial: int,
        options: RepositoryOptions,
        lock: Lock,
        cutting: Callable[[Depot, bool], Cutting] | None = None,
    ) -> None:
        self._files = files
        self._options = options
        self._lock = lock
        self._seed = seed_of(polynomial)
        self._cutting = cutting
        self._started = clock.now()
        self._relied: dict[str, tuple[Index, set[int]]] = {}
        self._index = self._read_index()
        self._unsure = False

    @property
    def index(self) -> Index:
        """What is stored, as this session knows it; read anew after what was stored last was not finished."""
        if self._unsure:
            self._index, self._unsure = self._read_index(), False
        return self._index

    @contextmanager
    def depot(self) -> Iterator[Depot]:
        """What takes blobs; one at a time."""
        with Depot(self._files, self.index, self._options) as depot:
            try:
                yield depot
            finally:
                self._unsure = not depot.finished

    def write(
        self,
        tree: AnyTree,
        *,
        parent: str | None = None,
        progress: Progress | None = None,
        unless: Callable[[], bool] | None = None,
        payload: Payload = Payload.SNAPSHOT,
    ) -> Draft:
        """Store a tree. A parent that is gone or damaged is done without. An export is cut evenly."""
        parent_tree = self._parent_tree(parent, payload)
        with self.depot() as depot:
            cutter = self._cutting(depot, unless is not None) if self._cutting else Cutter(self._cuts(payload))
            tools = depot, Fetcher(self._files, depot.index), cutter, progress or Silent()
            writer = ArrivalWriter(tree, *tools) if isinstance(tree, ArrivingTree) else TreeWriter(tree, *tools)
            root = writer.run(parent_tree, self._options.threads)
            kept = unless is None or not unless()
            if kept:
                cutter.finish()
                depot.finish()
            else:
                cutter.abandon()
        if kept:
            self._relied[root.hex()] = depot.index, depot.relied
        tally = writer.tally
        return Draft(
            root=root.hex(),
            entries=tally.entries,
            size_bytes=tally.size_bytes,
            read_bytes=tally.read_bytes,
            added_bytes=depot.added_bytes if kept else 0,
            new_entries=tally.new,
            changed_entries=tally.changed,
            unchanged_entries=tally.unchanged,
            parent=parent if parent_tree is not None else None,
            kept=kept,
            moved_entries=tally.moved,
            content=depot.new_content(tally.read_bytes),
            payload=payload,
            ways=depot.beside.ways if kept else None,
        )

    def commit(self, draft: Draft, label: SnapshotLabel, details: Details = nothing) -> str:
        """Make the draft visible. Raises BusyError when the lock was lost, DamageError when packs vanished.

        `details` gives what the snapshot is to say besides, once nothing else can go wrong.
        """
        if draft.root not in self._relied:
            raise RefusedError("This draft was not written in this session", todo="write it again, then commit it")
        self._recheck(*self._relied[draft.root])
        document = new_document(draft, label, program=PROGRAM, started=self._started, ended=clock.now())
        if draft.payload is Payload.EXPORT:
            document["payload"] = draft.payload.value
        return self._files.save("snapshots", document | details())

    def recommit(self, root: str, label: SnapshotLabel, details: Details = nothing) -> str:
        """Make a tree that is here already visible again. Raises DamageError when its root is not, BusyError."""
        index = self.index
        tree = bytes.fromhex(root)
        Fetcher(self._files, index).tree(tree)
        self._recheck(index, {place.pack for place in index.locate(BlobKind.TREE, tree)})
        document: dict[str, Any] = {"time": format_time(label.time), "tree": root, "paths": list(label.paths)}
        document |= {"hostname": label.hostname, "username": label.username, "tags": list(label.tags)}
        return self._files.save("snapshots", document | {"program_version": PROGRAM} | details())

    def copy(
        self,
        origin: PayloadStore,
        reference: str,
        *,
        progress: Progress | None = None,
        details: Details = nothing,
        counts: Callable[[Snapshot], bool] = lambda _: True,
    ) -> Copied:
        """Bring a snapshot over. One that is here already, and `counts`, is completed, and not stored a second time."""
        files = getattr(origin, "files", None)
        if not isinstance(files, StoredFiles):
            raise RefusedError(
                f"{reference[:12]} cannot be copied from vault {origin.vault.name}",
                why="what lies there is not a repository in the restic format",
            )
        with locked_for_reading(files), self.depot() as depot:
            snapshot = load_snapshot(files, checked_name(files, reference))
            fetcher = Fetcher(files, load_index(files))
            copy_tree(fetcher, snapshot.tree, depot, progress or Silent())
            depot.finish()
        self._recheck(depot.index, depot.relied)
        present = self._copied_before(snapshot, counts)
        if present is None:
            document = dict(snapshot.document)
            document.pop("parent", None)  # a parent is named as this repository knows it, or not at all
            document.pop("manifest", None)  # which is of a store of exports, and tells of that one's objects
            document["original"] = snapshot.original or snapshot.name
            present = self._files.save("snapshots", document | details())
        return Copied(present, depot.added_bytes, depot.added_blobs)

    def _cuts(self, payload: Payload) -> Callable[[], Cuts]:
        return EvenCuts if payload is Payload.EXPORT else partial(Chunker, self._seed)

    def _parent_tree(self, parent: str | None, payload: Payload) -> bytes | None:
        if parent is None or not is_name(parent):
            return None
        try:
            snapshot = load_snapshot(self._files, parent)
        except (NotFoundError, DamageError):
            return None
        if payload is Payload.EXPORT and snapshot.document.get("payload") != payload.value:
            return None  # what it holds is cut otherwise: none of it may be taken over
        return snapshot.tree

    def _copied_before(self, snapshot: Snapshot, counts: Callable[[Snapshot], bool]) -> str | None:
        same = {snapshot.name, snapshot.original or snapshot.name}
        for name, other in load_snapshots(self._files, self._files.names("snapshots")):
            if not isinstance(other, Snapshot):
                continue
            is_same = (
                other.tree == snapshot.tree and {other.name, other.original} & same and other.time == snapshot.time
            )
            if is_same and counts(other):
                return name
        return None

    def _read_index(self) -> Index:
        sizes, names = both(self._files.vault, self._files.pack_sizes, partial(self._files.names, "index"))
        return load_index(self._files, usable=sizes, names=names)

    def _recheck(self, index: Index, relied: set[int]) -> None:
        """Before anything becomes visible: our lock still stands, and so do the packs it relies on."""
        (_, there), names = both(
            self._files.vault,
            lambda: both(self._files.vault, self._lock.check, self._files.pack_sizes),
            lambda: self._files.names("index"),
        )
        for number in relied:
            pack = index.pack_name(number)
            if there.get(pack, -1) < index.pack_end(number):
                raise DamageError(
                    f"Pack {pack.hex()[:12]} of {self._files.prefix} vanished from vault {self._files.vault.name} "
                    "during this run",
                    why="something deleted it in spite of the lock",
                    todo="run again: what is missing is stored again",
                )
        self._list_again(index, relied, names)

    def _list_again(self, index: Index, relied: set[int], names: Sequence[str]) -> None:
        """rustic minds no lock: what its prune took out of the index during this run comes back, and is kept."""
        if index.files.keys() <= set(names):
            return
        now = load_index(self._files, names=names)
        listed = {now.pack_name(number) for number in range(now.pack_count)}
        lost = {number for number in relied if index.pack_name(number) not in listed}
        if lost:
            save_listing(self._files, index.only(lost), self._options.index_blobs)
