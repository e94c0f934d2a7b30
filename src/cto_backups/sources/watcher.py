# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH116
"""Watches the places of sources for changes, through the kernel."""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cto_backups.core.watched import Place, Seen
from cto_backups.core.wording import counted
from cto_backups.sources import inotify
from cto_backups.sources.mounts import network_file_system
from cto_backups.sources.names import readable


@dataclass(slots=True)
class _Folder:
    path: bytes
    places: list[tuple[str, Place]] = field(default_factory=list)


class Watcher:
    """Implements `core.watched.Watch` with inotify.

    Every folder of a place is watched by itself; those that are made there later are, too. At most half of the folders
    that the system lets a user watch are used up: other programs need some.
    """

    def __init__(self) -> None:
        self._queue: inotify.Inotify | None = None
        self._most = 0
        self._folders: dict[int, _Folder] = {}
        self._roots: dict[str, tuple[tuple[bytes, tuple[int, int]], ...]] = {}

    def add(self, source: str, places: Sequence[Place]) -> str | None:
        """Watch all these places, or none of them; why not, in the words of a sentence's end."""
        self._drop(source)
        for place in places:
            kind = network_file_system(place.folder)
            if kind is not None:
                return f"{readable(place.folder)} is on a network file system ({kind}), which tells nothing of changes"
        path = b""
        try:
            if self._queue is None:
                self._queue, self._most = inotify.Inotify(), inotify.most_watches() // 2
            roots = []
            for place in places:
                path = place.folder
                status = os.stat(path or b"/")
                roots.append((path, (status.st_dev, status.st_ino)))
                self._add_tree(source, place, path)
        except OSError as error:
            self._drop(source)
            return _why(error, path)
        self._roots[source] = tuple(roots)
        return None

    def look(self) -> Seen:
        """What happened since, and which places are not what they were."""
        changed: set[str] = set()
        lost: dict[str, str] = {}
        if self._queue is not None:
            for event in self._queue.events():
                self._take(event, changed, lost)
        for source in lost:
            self._drop(source)
        return Seen(frozenset(changed | lost.keys()), lost)

    def replaced(self) -> dict[str, str]:
        """The sources a place of which has become another folder without a word (one above it was renamed), dropped."""
        lost = {}
        for source, roots in list(self._roots.items()):
            for path, was in roots:
                try:
                    status = os.stat(path or b"/")
                except OSError as error:
                    lost[source] = _why(error, path)
                    break
                if (status.st_dev, status.st_ino) != was:
                    lost[source] = f"{readable(path)} has been replaced"
                    break
        for source in lost:
            self._drop(source)
        return lost

    def close(self) -> None:
        """Let go of the queue."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    def _take(self, event: inotify.Event, changed: set[str], lost: dict[str, str]) -> None:
        if event.mask & inotify.OVERFLOWED:
            changed.update(self._roots)  # nobody knows what was in the events that are gone
            return
        folder = self._folders.get(event.watch)
        if folder is None:
            return
        if event.mask & (inotify.GONE | inotify.ENDED):
            lost.update(
                (source, f"{readable(folder.path)} was removed, renamed or unmounted")
                for source, place in folder.places
                if place.folder == folder.path
            )
            if event.mask & inotify.ENDED:
                del self._folders[event.watch]
            return
        is_folder = bool(event.mask & inotify.IS_FOLDER)
        path = folder.path + b"/" + event.name if event.name else folder.path
        for source, place in tuple(folder.places):
            if place.names is not None:
                if event.name in place.names:
                    changed.add(source)
            elif not is_folder and source in changed:
                continue  # nothing new, and asking what is left out takes time
            elif not (event.name and place.leaves(path, event.name, is_folder)):
                changed.add(source)
                if is_folder and place.below:
                    self._follow(source, place, path, event.mask, lost)

    def _follow(self, source: str, place: Place, path: bytes, mask: int, lost: dict[str, str]) -> None:
        """Watch a folder that came, with all in it; one that went is watched no more."""
        if mask & inotify.APPEARED:
            try:
                self._add_tree(source, place, path)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # it is gone again
                    lost[source] = _why(error, path)
        elif mask & inotify.MOVED_AWAY:
            for watch, folder in list(self._folders.items()):
                if folder.path == path or folder.path.startswith(path + b"/"):
                    self._forget(watch, source)

    def _add_tree(self, source: str, place: Place, top: bytes) -> None:
        """Raises OSError when `top` cannot be watched, or the system allows no more; what vanishes below it is fine."""
        device = os.stat(top or b"/").st_dev
        waiting = [top]
        while waiting:
            path = waiting.pop()
            try:
                self._add_folder(source, place, path)
                if place.below:
                    # After the watch began: what is made meanwhile is told, or found here.
                    waiting.extend(_folders_in(path, place, device))
            except OSError as error:
                if path == top or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    raise

    def _add_folder(self, source: str, place: Place, path: bytes) -> None:
        assert self._queue is not None
        watch = self._queue.add(path)
        if watch not in self._folders and len(self._folders) >= self._most:
            self._queue.remove(watch)
            raise OSError(errno.ENOSPC, "")
        folder = self._folders.setdefault(watch, _Folder(path))
        folder.path = path
        if (source, place) not in folder.places:
            folder.places.append((source, place))

    def _drop(self, source: str) -> None:
        self._roots.pop(source, None)
        for watch in list(self._folders):
            self._forget(watch, source)

    def _forget(self, watch: int, source: str) -> None:
        folder = self._folders[watch]
        folder.places = [(other, place) for other, place in folder.places if other != source]
        if not folder.places and self._queue is not None:
            self._queue.remove(watch)
            del self._folders[watch]


def _folders_in(path: bytes, place: Place, device: int) -> Iterator[bytes]:
    with os.scandir(path or b"/") as listing:
        for item in listing:
            if not item.is_dir(follow_symlinks=False):
                continue
            inside = path + b"/" + item.name
            if place.leaves(inside, item.name, True):
                continue
            if not place.one_file_system or item.stat(follow_symlinks=False).st_dev == device:
                yield inside


def _why(error: OSError, path: bytes) -> str:
    if error.errno == errno.ENOSPC:
        most = counted(inotify.most_watches(), "folder")
        return (
            f"it has too many folders: a user may watch {most} (fs.inotify.max_user_watches), this program half of them"
        )
    if error.errno == errno.EMFILE:
        return "this machine lets a user watch from no more places (fs.inotify.max_user_instances)"
    if error.errno == errno.ENOSYS:
        return "this system cannot watch folders (it has no inotify)"
    return f"{readable(path or b'/')}: {error.strerror or type(error).__name__}"
