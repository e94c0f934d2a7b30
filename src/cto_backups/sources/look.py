# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH112
"""What is worth protecting below a folder: git repositories and SQLite databases, found fast and within a bound."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cto_backups import clock
from cto_backups.core.model import Resource
from cto_backups.sources.names import readable

_MAGIC = b"SQLite format 3\0"
_SMALLEST_PAGE = 512


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, and whether everything was looked at; if not, `reason` says why."""

    resources: tuple[Resource, ...]
    complete: bool
    reason: str = ""


def look(folder: Path, *, exclude: Collection[Path] = (), seconds: float = 10.0, depth: int = 12) -> list[Resource]:
    """Resources below `folder`, named ``git:/path`` and ``sqlite:/path``, sorted by name. See `survey`."""
    return list(survey(folder, exclude=exclude, seconds=seconds, depth=depth).resources)


def survey(folder: Path, *, exclude: Collection[Path] = (), seconds: float = 10.0, depth: int = 12) -> Survey:
    """Look below `folder` for at most `seconds` and `depth` levels, not into `exclude` and not through links.

    Folders nearer to the top come first, so a short look finds what matters most. A repository's own folder (``.git``)
    is not looked into. Databases are known by their first bytes, whatever they are called.
    """
    top = os.path.realpath(os.fsencode(folder))
    left_out = {os.path.realpath(os.fsencode(path)) for path in exclude}
    until = clock.monotonic() + seconds
    found: list[Resource] = []
    unseen: set[str] = set()
    level = [top]
    for _ in range(depth):
        below: list[bytes] = []
        for path in level:
            if clock.monotonic() > until:
                unseen.add(f"the time of {seconds:g} s was up")
                below = []
                break
            if path not in left_out:
                try:
                    below.extend(_look_into(path, found))
                except OSError:
                    unseen.add("some folders cannot be read")
        level = below
    if level:
        unseen.add(f"there are more than {depth} levels of folders")
    resources = tuple(sorted(found, key=lambda resource: resource.name))
    return Survey(resources, complete=not unseen, reason="; ".join(sorted(unseen)))


def _look_into(folder: bytes, found: list[Resource]) -> list[bytes]:
    """Note what a folder is and holds; the folders to look into next."""
    folders: list[bytes] = []
    with os.scandir(folder) as listing:
        items = {item.name: item for item in listing}
    if b".git" in items:
        found.append(_resource("git", folder))
    elif _is_bare(folder, items):
        found.append(_resource("git", folder))
        return []
    for name, item in items.items():
        if item.is_dir(follow_symlinks=False):
            if name != b".git":
                folders.append(item.path)
        elif item.is_file(follow_symlinks=False):
            size = _database_size(item)
            if size:
                found.append(_resource("sqlite", item.path, size))
    return folders


def _is_bare(folder: bytes, items: Collection[bytes]) -> bool:
    return b"HEAD" in items and b"objects" in items and b"refs" in items and os.path.isdir(folder + b"/objects")


def _database_size(item: "os.DirEntry[bytes]") -> int:
    """The file's size if it is a SQLite database, else 0. A database is a whole number of pages: most files are not."""
    try:
        size = item.stat(follow_symlinks=False).st_size
        if size == 0 or size % _SMALLEST_PAGE:
            return 0
        descriptor = os.open(item.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return size if os.read(descriptor, len(_MAGIC)) == _MAGIC else 0
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def _resource(kind: str, path: bytes, size: int | None = None) -> Resource:
    place = readable(path)
    return Resource(name=f"{kind}:{place}", kind=kind, location=place, size_bytes=size)
