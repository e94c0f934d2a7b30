"""Writing a tree back: blobs pack by pack on all cores, each compared with its id, straight into the files' places."""

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cto_backups import _native, clock
from cto_backups._native import Folders
from cto_backups.core.model import Problem
from cto_backups.core.ports import Entry, Existing, Progress, Restored
from cto_backups.errors import DamageError, RestoreError, VaultError
from cto_backups.repository.copying import Wanted, ranges
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.metadata import AS_ROOT, apply_to_descriptor, apply_to_name, make_special, note_lacks
from cto_backups.repository.places import create_file, make_folder, open_file, status, temporary_name
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.survey import RestoredFile, Survey, conflicts

PlaceInFile = tuple[RestoredFile, int]

_NOTHING = hashlib.sha256(b"").digest()
_EMPTY_FILES = 256
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Restorer:
    """Writes one survey below one destination."""

    def __init__(
        self, fetcher: Fetcher, found: Survey, destination: Path, existing: Existing, threads: int, progress: Progress
    ) -> None:
        self._fetcher = fetcher
        self._found = found
        self._destination = destination
        self._existing = existing
        self._threads = threads
        self._progress = progress
        self._lock = threading.Lock()
        self._problems = list(found.problems)
        self._standing: set[tuple[int, bytes]] = set()
        self._lost: set[int] = set()
        self._others: set[int] = set()
        self._local = threading.local()

    def run(self) -> Restored:
        """Write everything. Raises RestoreError when the disk is full or the destination cannot be written at all."""
        started = clock.monotonic()
        found = self._found
        self._progress.total(entries=found.entries, size_bytes=found.size_bytes)
        try:
            self._destination.mkdir(parents=True, exist_ok=True)
            self._standing = conflicts(found, self._destination) if self._existing is Existing.OVERWRITE else set()
            self._make_folders()
            with Crew(self._threads, self._own_folders, name="restore") as crew:
                self._write_files(crew)
            self._make_links_and_specials(self._own_folders())
            self._finish_folders(self._own_folders())
        except OSError as error:
            raise self._failure(error) from error
        failed = sum(file.failed for file in found.files)
        return Restored(
            entries=found.entries - failed - len(self._lost),
            size_bytes=found.size_bytes - sum(file.size for file in found.files if file.failed),
            seconds=clock.monotonic() - started,
            places=(str(self._destination),),
            problems=tuple(self._problems),
        )

    def _own_folders(self) -> Folders:
        """The calling thread's folders."""
        folders: Folders | None = getattr(self._local, "folders", None)
        if folders is None:
            folders = Folders(os.fsencode(self._destination), self._found.parents, self._found.names)
            self._local.folders = folders
        return folders

    def _make_folders(self) -> None:
        folders = self._own_folders()
        found = self._found
        for number in range(1, len(found.names)):
            if found.folders[number] is None:
                continue
            above = found.parents[number]
            if above in self._lost:
                self._lost.add(number)
                continue
            try:
                made = make_folder(
                    folders.descriptor(above), found.names[number], replace=self._existing is Existing.OVERWRITE
                )
                if not made and number in found.on_the_way:
                    # It stood there before and was not asked for: its attributes are not ours to change.
                    self._others.add(number)
            except OSError as error:
                self._lost.add(number)
                self._note(above, found.names[number], error)

    # -- files --------------------------------------------------------------------------------------------------------

    def _write_files(self, crew: Crew[Folders]) -> None:
        empty: list[RestoredFile] = []
        folders = self._own_folders()
        for file in self._found.files:
            if file.folder in self._lost:
                file.failed = True
                continue
            if (file.folder, file.name) in self._standing:
                if not self._may_replace(folders, file.folder, file.entry):
                    file.failed = True
                    continue
                file.name = temporary_name()
            if not file.waiting:
                empty.append(file)
            elif not file.whole:
                self._prepare(folders, file)
        for start in range(0, len(empty), _EMPTY_FILES):
            crew.submit(partial(self._write_empty, files=empty[start : start + _EMPTY_FILES]))
        for group in ranges(self._found.wanted):
            crew.submit(partial(self._write_group, group=group))

    def _may_replace(self, folders: Folders, folder: int, entry: Entry) -> bool:
        """Anything may be replaced but a folder: nobody asked to lose what is in it."""
        there = status(folders.descriptor(folder), entry.name)
        if there is not None and stat.S_ISDIR(there.st_mode):
            self._problem(folder, entry.name, "unsupported", "a folder stands where it should go; it was left alone")
            return False
        return True

    def _prepare(self, folders: Folders, file: RestoredFile) -> None:
        """Make a file of several blobs at its full size: what is not written stays a hole."""
        try:
            descriptor = create_file(folders.descriptor(file.folder), file.name)
        except OSError as error:
            self._fail(file, error)
            return
        try:
            os.ftruncate(descriptor, file.size)
        except OSError as error:
            self._fail(file, error)
        finally:
            os.close(descriptor)

    def _write_empty(self, folders: Folders, files: Sequence[RestoredFile]) -> None:
        self._write_plain(folders, _NOTHING, b"", [(file, 0) for file in files])
        self._progress.advance(entries=len(files))

    def _write_group(self, folders: Folders, group: Sequence[Wanted]) -> None:
        first, last = group[0][1], group[-1][1]
        try:
            sealed = self._fetcher.read(first.pack, first.offset, last.offset + last.length - first.offset)
        except VaultError:
            sealed = b""  # each blob is looked for on its own below
        places = [[one for one in self._found.places[blob] if not one[0].failed] for blob, _ in group]
        size_bytes = entries = 0
        lost = []
        if sealed:
            written = _native.write_parts(
                folders,
                self._fetcher.files.sealer.native,
                sealed,
                [
                    (place.offset - first.offset, place.length, blob, place.plain, [_described(one) for one in there])
                    for (blob, place), there in zip(group, places, strict=True)
                ],
                AS_ROOT,
            )
        else:
            written = [None] * len(group)
        for (blob, place), there, results in zip(group, places, written, strict=True):
            if results is None:
                lost.append((blob, there))
            else:
                entries += self._take(folders, there, results)
                size_bytes += (place.plain or place.length - OVERHEAD) * len(there)
        for blob, there in lost:
            try:
                plain = self._fetcher.data(blob)
            except (DamageError, VaultError) as error:
                for file, _ in there:
                    self._fail(file, error)
                continue
            entries += self._write_plain(folders, blob, plain, there)
            size_bytes += len(plain) * len(there)
        self._progress.advance(entries=entries, size_bytes=size_bytes)

    def _write_plain(self, folders: Folders, blob: bytes, plain: bytes, there: Sequence[PlaceInFile]) -> int:
        """Write what was fetched already to its places; how many files are complete by it."""
        sealer = self._fetcher.files.sealer
        sealed = sealer.seal(plain)
        parts = [(0, len(sealed), blob, 0, [_described(one) for one in there])]
        (results,) = _native.write_parts(folders, sealer.native, sealed, parts, AS_ROOT)
        assert results is not None, "what was just sealed opens"
        return self._take(folders, there, results)

    def _take(
        self,
        folders: Folders,
        there: Sequence[PlaceInFile],
        results: Sequence[tuple[int, list[tuple[int, bytes, int]]]],
    ) -> int:
        """Note how writing to these places went; how many files are complete by it."""
        complete = 0
        for (file, _), (number, lacks) in zip(there, results, strict=True):
            if number:
                self._fail(file, OSError(number, os.strerror(number)))
            elif file.whole:
                if lacks:
                    note_lacks(lacks, partial(self._problem, file.folder, file.entry.name))
                file.name = file.entry.name
                complete += 1
            else:
                complete += self._one_part_less(folders, file)
        return complete

    def _one_part_less(self, folders: Folders, file: RestoredFile) -> int:
        """One part of a file is written; 1 when that was the last one."""
        with self._lock:
            file.waiting -= 1
            if file.waiting or file.failed:
                return 0
        try:
            folder = folders.descriptor(file.folder)
            descriptor = open_file(folder, file.name)
            try:
                self._complete(folder, descriptor, file)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._fail(file, error)
            return 0
        return 1

    def _complete(self, folder: int, descriptor: int, file: RestoredFile) -> None:
        apply_to_descriptor(descriptor, file.entry, partial(self._problem, file.folder, file.entry.name))
        if file.name != file.entry.name:
            os.rename(file.name, file.entry.name, src_dir_fd=folder, dst_dir_fd=folder)
            file.name = file.entry.name

    def _fail(self, file: RestoredFile, error: Exception) -> None:
        """A file could not be restored; an incomplete one is not left under its name."""
        if isinstance(error, OSError) and error.errno in _FULL:
            raise self._failure(error) from error
        with self._lock:
            if file.failed:
                return
            file.failed = True
        if not isinstance(error, FileExistsError):
            with contextlib.suppress(OSError):
                os.unlink(file.name, dir_fd=self._own_folders().descriptor(file.folder))
        self._note(file.folder, file.entry.name, error)

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _make_links_and_specials(self, folders: Folders) -> None:
        found = self._found
        for number, entry, first in found.links:
            if first.failed or number in self._lost:
                self._problem(number, entry.name, "damaged", "the file that it is another name of was not restored")
            else:
                self._make(folders, number, entry, (first.folder, first.entry))
        for place, (number, entry) in enumerate(found.specials):
            if number not in self._lost:
                self._make(folders, number, entry, found.special_links.get(place))
        self._progress.advance(entries=len(found.links) + len(found.specials))

    def _make(self, folders: Folders, number: int, entry: Entry, first: tuple[int, Entry] | None) -> None:
        """A hard link to `first`, or else a special node; under its name, or in place of what stands there."""
        replacing = (number, entry.name) in self._standing
        if replacing and not self._may_replace(folders, number, entry):
            return
        name = temporary_name() if replacing else entry.name
        try:
            if first is not None:
                origin = os.dup(folders.descriptor(first[0]))
                try:
                    folder = folders.descriptor(number)
                    os.link(first[1].name, name, src_dir_fd=origin, dst_dir_fd=folder, follow_symlinks=False)
                finally:
                    os.close(origin)
            else:
                folder = folders.descriptor(number)
                make_special(folder, name, entry)
                path = f"/proc/self/fd/{folder}/{os.fsdecode(name)}"
                apply_to_name(folder, path, name, entry, partial(self._problem, number, entry.name))
            if replacing:
                os.rename(name, entry.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self._note(number, entry.name, error)

    def _finish_folders(self, folders: Folders) -> None:
        """Metadata of folders, deepest first: until here they were open to us, and their times moved."""
        for number in range(len(self._found.names) - 1, 0, -1):
            entry = self._found.folders[number]
            if entry is None or number in self._lost or number in self._others:
                continue
            try:
                descriptor = folders.descriptor(number)
                apply_to_descriptor(descriptor, entry, partial(self._problem, self._found.parents[number], entry.name))
            except OSError as error:
                self._note(self._found.parents[number], entry.name, error)
        self._progress.advance(entries=sum(entry is not None for entry in self._found.folders))

    def _note(self, folder: int, name: bytes, error: Exception) -> None:
        if isinstance(error, OSError):
            if error.errno in _FULL:
                raise self._failure(error) from error
            kind = "permission" if error.errno in (errno.EPERM, errno.EACCES) else "unreadable"
            hint = "" if AS_ROOT or kind != "permission" else " (only root may)"
            self._problem(folder, name, kind, f"it could not be written: {error.strerror}{hint}")
        else:
            self._problem(folder, name, "damaged", str(error))

    def _problem(self, folder: int, name: bytes, kind: str, detail: str) -> None:
        with self._lock:
            self._problems.append(Problem(self._found.path(folder, name), kind, detail))

    def _failure(self, error: OSError) -> RestoreError:
        full = error.errno in _FULL
        return RestoreError(
            f"The restore into {self._destination} did not complete",
            why="the disk is full" if full else (error.strerror or str(error)),
            todo="free space or choose another place, then restore again" if full else "check the destination",
        )


def _described(one: PlaceInFile) -> "_native._Place":
    """A place as native code takes it."""
    file, offset = one
    entry = file.entry
    if not file.whole:
        return file.folder, file.name, None, offset, None
    final = entry.name if entry.name != file.name else None
    return file.folder, file.name, final, 0, (entry.uid, entry.gid, entry.mode, entry.mtime_ns, entry.extended)
