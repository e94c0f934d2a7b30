"""Looking into a repository by the ids of its blobs: folders, bytes of files; implements `core.payloads.Contents`."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from cto_backups.core.payloads import Node
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.copying import Wanted
from cto_backups.repository.fetch import Fetcher, Reach, missing
from cto_backups.repository.index import BlobKind, Location, load_index
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.tree import decode_tree


class RepositoryContents:
    """Reads blobs of one repository; its index is read once, when it is first needed."""

    def __init__(self, files: StoredFiles) -> None:
        self._files = files

    @cached_property
    def _fetcher(self) -> Fetcher:
        return Fetcher(self._files, load_index(self._files))

    def folder(self, subtree: bytes) -> Sequence[Node]:
        """The nodes of a tree blob. Raises DamageError, VaultError."""
        return decode_tree(self._fetcher.tree(subtree))

    def content(self, content: Sequence[bytes], offset: int = 0) -> Iterator[bytes]:
        """The data blobs of a file, opened one after the other, from `offset` on. Raises DamageError, VaultError."""
        first = 0
        while offset and first < len(content):
            place = self._located(content[first])
            size = place.plain or place.length - OVERHEAD
            if offset < size:
                break
            offset -= size
            first += 1
        for group in self._stretches(content[first:]):
            for plain in self._opened(group):
                yield plain[offset:] if offset else plain
                offset = 0

    def _located(self, blob: bytes) -> Location:
        """The first place of a blob. Raises DamageError when no index file lists it."""
        places = self._fetcher.index.locate(BlobKind.DATA, blob)
        if not places:
            raise missing(BlobKind.DATA, blob)
        return places[0]

    def _stretches(self, blobs: Sequence[bytes]) -> Iterator[list[Wanted]]:
        """Blobs in groups of one read of a pack each, in their order; equal ones in a row (a hole) are read once."""
        group: list[Wanted] = []
        for blob in blobs:
            try:
                place = self._located(blob)
            except DamageError:
                if group:
                    yield group  # what is before it is right
                raise
            if group and blob != group[-1][0] and not _continues(group, place, self._fetcher.reach):
                yield group
                group = []
            group.append((blob, place))
        if group:
            yield group

    def _opened(self, group: Sequence[Wanted]) -> Iterator[bytes]:
        first, last = group[0][1], group[-1][1]
        try:
            sealed = self._fetcher.read(first.pack, first.offset, last.offset + last.length - first.offset)
        except VaultError:
            sealed = b""  # each blob is looked for on its own below
        stretch = memoryview(sealed)
        former = plain = b""
        for blob, place in group:
            if blob != former:
                start = place.offset - first.offset
                try:
                    plain = self._fetcher.open(stretch[start : start + place.length], blob, place.plain)
                except DamageError:
                    plain = self._fetcher.data(blob)  # from another place, or the error that names the pack
                former = blob
            yield plain


def _continues(group: Sequence[Wanted], place: Location, reach: Reach) -> bool:
    """Whether a blob follows closely enough on a group to be read with it."""
    first, last = group[0][1], group[-1][1]
    gap, ends = place.offset - (last.offset + last.length), place.offset + place.length
    return place.pack == last.pack and 0 <= gap <= reach.gap_bytes and ends - first.offset <= reach.read_bytes
