"""After a restore: read everything back from the disk, and see that it is what the point has."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from cto_backups import _native
from cto_backups.core.ports import Progress
from cto_backups.core.trees import Entry
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.metadata import ROOTS_OWN, as_root
from cto_backups.repository.mishaps import Mishaps
from cto_backups.repository.standing import FORMATS, Look, look_at, open_folders, slices
from cto_backups.repository.survey import Batch

_WHAT = ("owner", "extended attribute", "mode", "time", "link target or device")


class ReadBack:
    """Reads one restored batch back, and `finished` folders. Entries that have a problem already are passed over.

    `lost` folders are not there.
    """

    def __init__(
        self,
        found: Batch,
        finished: Sequence[tuple[int, Entry]],
        destination: Path,
        mishaps: Mishaps,
        lost: set[int],
        progress: Progress,
    ) -> None:
        self._found = found
        self._outline = found.outline
        self._finished = finished
        self._destination = destination
        self._mishaps = mishaps
        self._lost = lost
        self._progress = progress
        self._known = {problem.path for problem in mishaps.problems}
        self._told: set[tuple[int, bytes]] = set()
        self._lock = threading.Lock()

    def run(self, fetcher: Fetcher, threads: int) -> None:
        """What differs becomes a problem of the kind "altered". Raises OSError when the destination is gone."""
        folders = open_folders(self._outline, self._destination)
        folders.sync()  # only what is on the disk can be dropped from the cache, and read from the disk then
        with Crew(threads, lambda: open_folders(self._outline, self._destination), name="read-back") as crew:
            look_at(crew, fetcher, self._looks(), self._take, from_disk=True)

    def _looks(self) -> Iterator[Look]:
        found = self._found
        for file in found.files:
            if not file.failed and self._restored(file.folder, file.entry.name):
                yield from slices(file)
        others = [*found.specials, *((folder, entry) for folder, entry, _ in found.links)]
        folders = [(self._outline.parents[number], entry) for number, entry in self._finished]
        for folder, entry in others + folders:
            if self._restored(folder, entry.name):
                yield Look(folder, entry)

    def _restored(self, folder: int, name: bytes) -> bool:
        if folder in self._lost:
            return False  # that is said of the folder
        return not self._known or self._outline.path(folder, name) not in self._known

    def _take(self, look: Look, seen: "_native._Seen") -> None:
        failed, kind, _, _, size, intact, differs = seen
        if not as_root():
            differs = [(what, name) for what, name in differs if not os.fsdecode(name).startswith(ROOTS_OWN)]
        blobs = look.content
        self._progress.advance(entries=int(look.slice == 0), size_bytes=look.size)
        if failed:
            wrong = f"it cannot be read: {os.strerror(failed)}"
        elif kind != FORMATS[look.entry.kind]:
            wrong = "something else stands there"
        elif look.file is not None and (size != look.file.size or len(intact) != len(blobs)):
            wrong = "its content is not what was written"
        elif differs:
            names = dict.fromkeys(_WHAT[what] for what, _ in differs)
            wrong = f"not as the recovery point has it: {', '.join(names)}"
        else:
            return
        place = look.folder, look.entry.name
        with self._lock:
            if place in self._told:
                return
            self._told.add(place)
        self._mishaps.add(*place, "altered", f"read back from the disk: {wrong}")
