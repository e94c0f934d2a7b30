"""Which objects a prune keeps: those that are the object of a file of some point; counted by files, not by parts.

The same part may lie in several objects. Whoever only asked where each part can be had would let one of them go, and a
manifest would name an object that is gone.
"""

from collections.abc import Sequence
from dataclasses import replace

from cto_backups.core.pruning import PackUse
from cto_backups.exports.copying import contents_of
from cto_backups.exports.files import ExportFiles, object_of
from cto_backups.exports.layout import section_of
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.stocktaking import Stock


class ObjectNeeds:
    """Adjusts what is needed of packs; implements `repository.prune.Adjust`, for one plan."""

    def __init__(self, files: ExportFiles) -> None:
        self._files = files
        self._needed: set[str] | None = None

    def __call__(self, stock: Stock, uses: Sequence[PackUse]) -> Sequence[PackUse]:
        """Objects are needed whole, or not at all; packs of trees as was found."""
        if self._needed is None:
            self._needed = self._find(stock)
        return [self._adjusted(use, self._needed) for use in uses]

    def _adjusted(self, use: PackUse, needed: set[str]) -> PackUse:
        name = bytes.fromhex(use.name)
        if use.kind != "data" or not self._files.view.is_object(name):
            return use
        if section_of(name).object in needed:
            blobs = max(use.used_blobs, 1)
            return replace(use, kind="object", used_bytes=use.size_bytes, unused_bytes=0, used_blobs=blobs)
        return replace(use, kind="object", used_bytes=0, unused_bytes=use.size_bytes, used_blobs=0)

    def _find(self, stock: Stock) -> set[str]:
        """The names of the objects that files need."""
        files, index = self._files, stock.index
        roots = [load_snapshot(files, name).tree for name in files.names("snapshots")]
        needed = set()
        for content in contents_of(Fetcher(files, index), list(dict.fromkeys(roots))):
            found = object_of(index, files.view, content)
            if found is not None:
                needed.add(found[0])
                continue
            # Its own object was lost: those count that hold its parts.
            for part in content:
                for place in index.locate(BlobKind.DATA, part)[:1]:
                    needed.add(section_of(index.pack_name(place.pack)).object)
        return needed
