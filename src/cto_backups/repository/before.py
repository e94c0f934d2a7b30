"""The snapshot before the one that is written, by paths; implements `core.trees.Before`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from cto_backups.core.payloads import Node
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.repository.depot import Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind
from cto_backups.repository.tree import decode_tree


class SnapshotBefore:
    """Reads a snapshot's trees through a fetcher, each once. Everything raises DamageError, VaultError: what cannot be
    read is not taken for what is not there.
    """

    def __init__(self, fetcher: Fetcher, depot: Depot, root: bytes) -> None:
        self._fetcher = fetcher
        self._depot = depot
        self._root = root
        self._nodes = cache(self._read)

    def folder(self, path: bytes) -> Sequence[Entry]:
        """The entries of a folder; none where there is none."""
        subtree = self.subtree(path)
        if subtree is None:
            return ()
        return [replace(node.entry, path=path + b"/" + name) for name, node in self._nodes(subtree).items()]

    def content(self, path: bytes) -> bytes | None:
        """The bytes of a file; None where there is none."""
        node = self.node(path)
        if node is None or node.entry.kind is not EntryKind.FILE:
            return None
        return b"".join(self._fetcher.data(blob) for blob in node.content)

    def is_whole(self, path: bytes) -> bool:
        """Whether every blob of what is at a path, and below it, is in a pack that is there; it is relied on then."""
        node = self.node(path)
        if node is None:
            return False
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if not all(self._depot.known(BlobKind.DATA, blob) for blob in one.content):
                return False
            if one.subtree is not None:
                if not self._depot.known(BlobKind.TREE, one.subtree):
                    return False
                waiting += self._nodes(one.subtree).values()
        return True

    def node(self, path: bytes) -> Node | None:
        """What is at a path."""
        above, _, name = path.rpartition(b"/")
        subtree = self.subtree(above)
        return None if subtree is None else self._nodes(subtree).get(name)

    def subtree(self, path: bytes) -> bytes | None:
        """The tree of a folder."""
        if not path:
            return self._root
        node = self.node(path)
        return None if node is None else node.subtree

    def counted(self, subtree: bytes) -> tuple[int, int]:
        """How many entries are below a folder, and the bytes of its files."""
        entries = size_bytes = 0
        waiting = [subtree]
        while waiting:
            for node in self._nodes(waiting.pop()).values():
                entries += 1
                size_bytes += node.entry.size if node.entry.kind is EntryKind.FILE else 0
                if node.subtree is not None:
                    waiting.append(node.subtree)
        return entries, size_bytes

    def _read(self, subtree: bytes) -> dict[bytes, Node]:
        return {node.entry.name: node for node in decode_tree(self._fetcher.tree(subtree))}
