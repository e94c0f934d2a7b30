"""Reading a point of a store of exports: as every other one, and each file also as the object that it lies in."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from cto_backups.core.objects import ObjectState
from cto_backups.core.payloads import Node
from cto_backups.core.ports import Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.trees import Entry
from cto_backups.exports.files import ExportFiles
from cto_backups.exports.within import twin_of
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import Index, load_index
from cto_backups.repository.tree import decode_tree

_FOLDERS_KEPT = 64


class ExportReader:
    """Implements `core.ports.PointReader` over a reader of the same point, and `core.objects.KnowingStates`."""

    def __init__(self, reader: PointReader, files: ExportFiles, root: bytes) -> None:
        self._reader = reader
        self._files = files
        self._root = root
        self._lock = threading.Lock()
        self._folders: dict[bytes, Mapping[bytes, Node]] = {}

    def listing(self, only: Sequence[str] = ()) -> Iterator[tuple[bytes, Entry]]:
        """Every entry with its full path inside the point."""
        return self._reader.listing(only)

    def plan(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do."""
        return self._reader.plan(destination, only=only, existing=existing, options=options)

    def restore(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the tree below `destination` with all metadata."""
        return self._reader.restore(destination, only=only, existing=existing, options=options, progress=progress)

    def state_of(self, path: bytes) -> ObjectState | None:
        """The object that holds a file's content, with the checksums that were made here; None where there is none.

        Raises DamageError, VaultError, where folders cannot be read.
        """
        node = self._node(path)
        twin = twin_of(self._files, self._index, node.content) if node is not None and node.content else None
        return None if twin is None else replace(twin.state, checksums=twin.known)

    @cached_property
    def _index(self) -> Index:
        return load_index(self._files)

    @cached_property
    def _fetcher(self) -> Fetcher:
        return Fetcher(self._files, self._index)

    def _node(self, path: bytes) -> Node | None:
        tree: bytes | None = self._root
        node = None
        for name in path.strip(b"/").split(b"/"):
            node = None if tree is None else self._folder(tree).get(name)
            if node is None:
                return None
            tree = node.subtree
        return node

    def _folder(self, tree: bytes) -> Mapping[bytes, Node]:
        with self._lock:
            found = self._folders.get(tree)
            if found is None:
                found = {node.entry.name: node for node in decode_tree(self._fetcher.tree(tree))}
                if len(self._folders) >= _FOLDERS_KEPT:
                    self._folders.clear()
                self._folders[tree] = found
        return found
