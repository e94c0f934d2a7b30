"""What a files source leaves out of its recovery points: a restore that removes what a point lacks leaves that be."""

from cto_backups.core.ports import Leave
from cto_backups.sources.patterns import Patterns
from cto_backups.sources.selection import Selection, is_cache


def leaving(selection: Selection, base: bytes, within: tuple[bytes, ...]) -> Leave:
    """For a restore below `base`: whether an entry would not be captured, were it in the source.

    Patterns are asked about its path inside the point, and about the place where it is. Restored into the root folder,
    whatever is not below one of the paths `within` is nobody's business either; these end in a slash.
    """

    def leave(path: bytes, folder: bool) -> bool:
        if not base and not path.startswith(within):
            return True
        name = path.rpartition(b"/")[2]
        place = base + path
        if selection.exclude.match(path, name, folder) or selection.exclude.match(place, name, folder):
            return True
        if selection.exclude_caches and name != b"CACHEDIR.TAG" and is_cache(place.rpartition(b"/")[0]):
            return True
        return bool(selection.include) and not folder and not _included(selection.include, path, name)

    return leave


def _included(include: Patterns, path: bytes, name: bytes) -> bool:
    """Whether patterns name a file, or a folder that it lies in."""
    folder = False
    while path:
        if include.match(path, name, folder):
            return True
        path, folder = path.rpartition(b"/")[0], True
        name = path.rpartition(b"/")[2]
    return False
