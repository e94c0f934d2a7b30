"""Making what is no file's content: folders, further names of files, symlinks, fifos, sockets and devices."""

import contextlib
import os
import stat
from functools import partial

from cto_backups._native import Folders
from cto_backups.core.trees import Entry
from cto_backups.repository.metadata import apply_to_descriptor, apply_to_name, as_root, make_special
from cto_backups.repository.mishaps import Mishaps
from cto_backups.repository.places import make_folder, status, temporary_name
from cto_backups.repository.standing import Comparison
from cto_backups.repository.survey import Batch, Outline


class NodeMaker:
    """Makes the nodes of one batch after another, in one thread. `lost` are folders that could not be made,
    `left_alone` those whose attributes are as they were, and `unmade` how many other nodes are not there.
    """

    def __init__(self, outline: Outline, mishaps: Mishaps) -> None:
        self._outline = outline
        self._mishaps = mishaps
        self._open: dict[int, Entry] = {}
        self._timely: set[int] = set()
        self.lost: set[int] = set()
        self.unmade = 0
        self.left_alone: set[int] = set()

    def begin(self, found: Batch, folders: Folders, there: Comparison) -> None:
        """Go on to a batch, of which `there` says what stands there."""
        self._found = found
        self._folders = folders
        self._there = there

    def make_folders(self, *, replace: bool) -> None:
        """Make or find every folder; with `replace` anything else gives way."""
        found, outline = self._found, self._outline
        for number, entry in found.folders.items():
            self._open[number] = entry
            above = outline.parents[number]
            if above in self.lost:
                self.lost.add(number)
                continue
            try:
                made = make_folder(self._folders.descriptor(above), outline.names[number], replace=replace)
                if not made and number in found.on_the_way:
                    # It stood there before and was not asked for: its attributes are not ours to change.
                    self.left_alone.add(number)
                    if os.fstat(self._folders.descriptor(number)).st_mtime_ns == entry.mtime_ns:
                        self._timely.add(number)
            except OSError as error:
                self.lost.add(number)
                self._mishaps.note(above, outline.names[number], error)

    def may_replace(self, folder: int, entry: Entry) -> bool:
        """Anything may be replaced but a folder: nobody asked to lose what is in it."""
        there = status(self._folders.descriptor(folder), entry.name)
        if there is not None and stat.S_ISDIR(there.st_mode):
            self._mishaps.add(
                folder, entry.name, "unsupported", "a folder stands where it should go; it was left alone"
            )
            return False
        return True

    def make_links_and_specials(self) -> None:
        """Once the files of the batch are written: all else that goes into its folders."""
        found = self._found
        for place, (number, entry, first) in enumerate(found.links):
            if place in self._there.kept_links:
                continue
            if number in self.lost:
                self.unmade += 1
            elif first.failed:
                self.unmade += 1
                self._mishaps.add(number, entry.name, "damaged", "the file that it is another name of was not restored")
            else:
                self._make(number, entry, (first.folder, first.entry))
        for place, (number, entry) in enumerate(found.specials):
            if number in self.lost:
                self.unmade += 1
            elif (number, entry.name) not in self._there.kept:
                self._make(number, entry, found.special_links.get(place))

    def _make(self, number: int, entry: Entry, first: tuple[int, Entry] | None) -> None:
        """A hard link to `first`, or else a special node; under its name, or in place of what stands there."""
        replacing = (number, entry.name) in self._there.standing
        if replacing and first is not None and self._is_one(number, entry.name, first):
            return
        if replacing and not self.may_replace(number, entry):
            self.unmade += 1
            return
        name = temporary_name() if replacing else entry.name
        try:
            if first is not None:
                origin = os.dup(self._folders.descriptor(first[0]))
                try:
                    folder = self._folders.descriptor(number)
                    os.link(first[1].name, name, src_dir_fd=origin, dst_dir_fd=folder, follow_symlinks=False)
                finally:
                    os.close(origin)
            else:
                folder = self._folders.descriptor(number)
                make_special(folder, name, entry)
                path = f"/proc/self/fd/{folder}/{os.fsdecode(name)}"
                apply_to_name(folder, path, name, entry, partial(self._mishaps.add, number, entry.name))
            if replacing:
                os.rename(name, entry.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            self.unmade += 1
            self._mishaps.note(number, entry.name, error)

    def _is_one(self, number: int, name: bytes, first: tuple[int, Entry]) -> bool:
        """Whether a name is one of `first` already, which may have been restored long before."""
        try:
            here = status(self._folders.descriptor(number), name)
            there = status(self._folders.descriptor(first[0]), first[1].name)
        except OSError:
            return False
        return here is not None and there is not None and os.path.samestat(here, there)

    def finish_folders(self) -> list[tuple[int, Entry]]:
        """Metadata of the folders into which nothing more goes, deepest first: until here they were open to us, and
        their times moved. The folders that are as they should be now.
        """
        finished = []
        for number in self._found.finished:
            entry = self._open.pop(number)
            timely = number in self._timely
            if number in self.lost or (number in self.left_alone and not timely):
                continue
            try:
                descriptor = self._folders.descriptor(number)
                if timely:
                    # Its time was the point's until we wrote into it: as when another vault fills in what was missing.
                    with contextlib.suppress(PermissionError):
                        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
                    continue  # its other attributes were left alone
                if not as_root() and os.fstat(descriptor).st_uid != os.geteuid():
                    self._mishaps.foreign_folders += 1
                    self.left_alone.add(number)
                    continue
                above = self._outline.parents[number]
                apply_to_descriptor(descriptor, entry, partial(self._mishaps.add, above, entry.name))
            except OSError as error:
                self._mishaps.note(self._outline.parents[number], entry.name, error)
            finished.append((number, entry))
        return finished
