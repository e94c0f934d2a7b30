"""Writing a tree back: blobs pack by pack on all cores, each compared with its id, straight into the files' places."""

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cto_backups import _native, clock
from cto_backups._native import Folders
from cto_backups.core.ports import Existing, Progress, Restored, RestoreOptions
from cto_backups.errors import DamageError, VaultError, VaultReadOnlyError
from cto_backups.repository.copying import Wanted, ranges
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher, Room
from cto_backups.repository.metadata import apply_to_descriptor, as_root, note_lacks
from cto_backups.repository.mishaps import Mishaps
from cto_backups.repository.nodes import NodeMaker
from cto_backups.repository.places import create_file, open_file, remove_leftovers, temporary_name
from cto_backups.repository.readback import ReadBack
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.standing import Comparison, open_folders
from cto_backups.repository.survey import SLICE, Batch, RestoredFile, conflicts

PlaceInFile = tuple[RestoredFile, int]

_NOTHING = hashlib.sha256(b"").digest()
_EMPTY_FILES = 256


class Restorer:
    """Writes batches below one destination."""

    def __init__(
        self,
        fetcher: Fetcher,
        destination: Path,
        existing: Existing,
        options: RestoreOptions,
        threads: int,
        progress: Progress,
    ) -> None:
        self._fetcher = fetcher
        self._destination = destination
        self._overwrite = existing is Existing.OVERWRITE
        self._options = options
        self._threads = threads
        self._progress = progress
        self._lock = threading.Lock()
        self._gone: VaultError | None = None
        self._entries = self._size_bytes = self._kept_entries = self._kept_bytes = 0

    def run(self, batches: Iterator[Batch]) -> Restored:
        """Write everything. Raises RestoreError when the disk is full or the destination cannot be written at all."""
        started = clock.monotonic()
        found = next(batches)  # first of all: nothing is made where there is nothing to restore
        self._mishaps = Mishaps(found.outline, self._destination)
        nodes = NodeMaker(found.outline, self._mishaps)
        try:
            self._destination.mkdir(parents=True, exist_ok=True)
            self._write(found, nodes)
            for found in batches:
                self._write(found, nodes)
        except OSError as error:
            raise self._mishaps.failure(error) from error
        return Restored(
            entries=self._entries - len(nodes.lost) - nodes.unmade,
            size_bytes=self._size_bytes,
            seconds=clock.monotonic() - started,
            places=(str(self._destination),),
            problems=tuple(self._mishaps.problems),
            kept_entries=self._kept_entries,
            kept_bytes=self._kept_bytes,
            notes=self._mishaps.notes(),
        )

    def _write(self, found: Batch, nodes: NodeMaker) -> None:
        self._found = found
        self._local = threading.local()
        self._mishaps.begin(found)
        self._entries += found.entries
        self._size_bytes += found.size_bytes
        times = 2 if self._options.verify else 1
        self._progress.total(entries=self._entries * times, size_bytes=self._size_bytes * times)
        leftovers: set[int] = set()
        there = Comparison(found, conflicts(found, self._destination, leftovers) if self._overwrite else set())
        there.run(self._fetcher, self._destination, self._threads, trust_times=self._options.trust_times)
        nodes.begin(found, self._own_folders(), there)
        nodes.make_folders(replace=self._overwrite)
        for number in leftovers - nodes.lost:
            remove_leftovers(self._own_folders().descriptor(number))
        self._kept_bytes += self._keep(there)
        with Crew(self._threads, self._own_folders, name="restore") as crew:
            self._write_files(crew, there, nodes)
        nodes.make_links_and_specials()
        finished = nodes.finish_folders()
        self._progress.advance(entries=found.entries - len(found.files))
        if self._options.verify:
            read_back = ReadBack(found, finished, self._destination, self._mishaps, nodes.lost, self._progress)
            read_back.run(self._fetcher, self._threads)
        self._kept_entries += there.entries
        self._entries -= sum(file.failed for file in found.files)
        self._size_bytes -= sum(file.size for file in found.files if file.failed)

    def _own_folders(self) -> Folders:
        """The calling thread's folders."""
        folders: Folders | None = getattr(self._local, "folders", None)
        if folders is None:
            folders = open_folders(self._found.outline, self._destination)
            self._local.folders = folders
        return folders

    def _own_room(self) -> Room:
        """The calling thread's room to read into."""
        room: Room | None = getattr(self._local, "room", None)
        if room is None:
            room = self._local.room = Room()
        return room

    # -- what stands there already ------------------------------------------------------------------------------------

    def _keep(self, there: Comparison) -> int:
        """Put right what is kept, and prepare files of which parts are; how many bytes need not be written."""
        if not there.standing:
            return 0
        with Crew(self._threads, self._own_folders, name="keep") as crew:
            for start in range(0, len(there.stale), _EMPTY_FILES):
                crew.submit(partial(self._put_right, files=there.stale[start : start + _EMPTY_FILES]))
            folders = self._own_folders()
            for file in self._found.files:
                if file.intact and not file.kept:
                    self._take_over(crew, folders, file, patch=self._options.patch and file in there.own)
        for file in self._found.files:
            file.waiting -= len(file.intact)
        return there.strike_out()

    def _put_right(self, folders: Folders, files: Sequence[RestoredFile]) -> None:
        for file in files:
            try:
                self._complete(folders, file)
            except OSError as error:
                self._mishaps.note(file.folder, file.entry.name, error)

    def _take_over(self, crew: Crew[Folders], folders: Folders, file: RestoredFile, *, patch: bool) -> None:
        """Begin a file with what is intact of the standing one: in a copy, or in that file itself."""
        if patch:
            try:
                self._open_up(folders.descriptor(file.folder), file)
            except OSError:
                pass  # not ours to write to: a copy will do
            else:
                file.over = True
                return
        file.name = temporary_name()
        self._prepare(folders, file)
        if not file.failed:
            for number in range(len(file.starts)):
                crew.submit(partial(self._copy_intact, file=file, number=number))

    def _open_up(self, folder: int, file: RestoredFile) -> None:
        """Make the standing file large enough; who may not read the restored one cannot read it from here on."""
        descriptor = open_file(folder, file.name)
        try:
            there = os.fstat(descriptor)
            os.fchmod(descriptor, stat.S_IMODE(there.st_mode) & (file.entry.mode | stat.S_IRWXU) & 0o777)
            if there.st_size < file.size:
                os.ftruncate(descriptor, file.size)
        finally:
            os.close(descriptor)

    def _copy_intact(self, folders: Folders, file: RestoredFile, number: int) -> None:
        start = file.starts[number]
        end = file.starts[number + 1] if number + 1 < len(file.starts) else file.size
        blobs = file.content[number * SLICE : (number + 1) * SLICE]
        with self._lock:
            intact = {offset for offset in file.intact if start <= offset < end}
        index = self._fetcher.index.native
        try:
            copied = _native.take_over(
                folders, index, file.folder, file.entry.name, file.name, start, blobs, sorted(intact)
            )
        except OSError as error:
            self._fail(file, error)
            return
        with self._lock:
            file.intact -= intact.difference(copied)

    # -- files --------------------------------------------------------------------------------------------------------

    def _write_files(self, crew: Crew[Folders], there: Comparison, nodes: NodeMaker) -> None:
        empty: list[RestoredFile] = []
        folders = self._own_folders()
        for file in self._found.files:
            if file.folder in nodes.lost:
                file.failed = True
                continue
            if file.kept or file.failed:
                self._progress.advance(entries=1, size_bytes=file.size)
                continue
            if file.intact:
                if not file.waiting:
                    self._finish(folders, file)
                continue
            if (file.folder, file.name) in there.standing:
                if not nodes.may_replace(file.folder, file.entry):
                    file.failed = True
                    continue
                file.name = temporary_name()
            if not file.waiting:
                empty.append(file)
            elif not file.whole:
                self._prepare(folders, file)
        for start in range(0, len(empty), _EMPTY_FILES):
            crew.submit(partial(self._write_empty, files=empty[start : start + _EMPTY_FILES]))
        for group in ranges(self._found.wanted, self._fetcher.reach):
            crew.submit(partial(self._write_group, group=group))

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
            if self._gone is not None:
                raise self._gone
            sealed = self._own_room().of(last.offset + last.length - first.offset)
            self._fetcher.read_into(first.pack, first.offset, sealed)
        except VaultError as error:
            sealed = memoryview(b"")  # each blob is looked for on its own below
            self._see_whether_gone(error)
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
                as_root(),
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
                if self._gone is not None:
                    raise self._gone
                plain = self._fetcher.data(blob)
            except (DamageError, VaultError) as error:
                for file, _ in there:
                    self._fail(file, error)
                continue
            entries += self._write_plain(folders, blob, plain, there)
            size_bytes += len(plain) * len(there)
        self._progress.advance(entries=entries, size_bytes=size_bytes)

    def _see_whether_gone(self, error: VaultError) -> None:
        """A vault that is away is not asked for millions of blobs one by one."""
        try:
            self._fetcher.files.vault.check()
        except VaultReadOnlyError:
            return
        except VaultError:
            self._gone = error

    def _write_plain(self, folders: Folders, blob: bytes, plain: bytes, there: Sequence[PlaceInFile]) -> int:
        """Write what was fetched already to its places; how many files are complete by it."""
        sealer = self._fetcher.files.sealer
        sealed = sealer.seal(plain)
        parts = [(0, len(sealed), blob, 0, [_described(one) for one in there])]
        (results,) = _native.write_parts(folders, sealer.native, sealed, parts, as_root())
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
                    note_lacks(lacks, partial(self._mishaps.add, file.folder, file.entry.name))
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
        return self._finish(folders, file)

    def _finish(self, folders: Folders, file: RestoredFile) -> int:
        """All parts of a file are written: 1, or 0 when it could not be finished."""
        try:
            self._complete(folders, file)
        except OSError as error:
            self._fail(file, error)
            return 0
        return 1

    def _complete(self, folders: Folders, file: RestoredFile) -> None:
        folder = folders.descriptor(file.folder)
        descriptor = open_file(folder, file.name, write=not file.kept)
        try:
            if file.over:
                os.ftruncate(descriptor, file.size)
            apply_to_descriptor(descriptor, file.entry, partial(self._mishaps.add, file.folder, file.entry.name))
            if file.name != file.entry.name:
                os.rename(file.name, file.entry.name, src_dir_fd=folder, dst_dir_fd=folder)
                file.name = file.entry.name
        finally:
            os.close(descriptor)

    def _fail(self, file: RestoredFile, error: Exception) -> None:
        """A file could not be restored; an incomplete one is not left under its name, unless it stood there before."""
        self._mishaps.stop_if_full(error)
        with self._lock:
            if file.failed:
                return
            file.failed = True
        if not file.over and not isinstance(error, FileExistsError):
            with contextlib.suppress(OSError):
                os.unlink(file.name, dir_fd=self._own_folders().descriptor(file.folder))
        self._mishaps.note(file.folder, file.entry.name, error)


def _described(one: PlaceInFile) -> "_native._Place":
    """A place as native code takes it."""
    file, offset = one
    entry = file.entry
    if not file.whole:
        return file.folder, file.name, None, offset, file.over, None
    final = entry.name if entry.name != file.name else None
    return file.folder, file.name, final, 0, False, (entry.uid, entry.gid, entry.mode, entry.mtime_ns, entry.extended)
