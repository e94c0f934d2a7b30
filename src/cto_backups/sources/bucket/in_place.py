"""A point of a bucket, back into the bucket or another one: compared by the manifest, and written object by object.

What is there with the point's content already is left alone. All is written, or deleted, under the condition that the
bucket still holds what was compared: whoever writes there meanwhile loses nothing.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cto_backups import clock
from cto_backups.core.model import Problem
from cto_backups.core.ports import Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan, Silent
from cto_backups.core.wording import counted
from cto_backups.errors import RefusedError, RestoreError
from cto_backups.sources.bucket.inventory import Inventory
from cto_backups.sources.bucket.manifest import INSIDE, Line, lines, name_in
from cto_backups.sources.bucket.reading import GoneError, digest_of
from cto_backups.sources.bucket.stores import Found, ObjectStore, OtherStateError, TornError, UnreadableError
from cto_backups.sources.bucket.within import ByStore
from cto_backups.sources.names import readable

_BATCH_BYTES: Final = 256 << 20
_BATCH_OBJECTS: Final = 500
_AT_ONCE: Final = 8
_SHOWN: Final = 1000
_BESIDE: Final = ("content_type", "content_encoding", "cache_control", "content_disposition", "metadata")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; `url` is the place that the source names."""

    url: str
    only: Sequence[str] = ()
    existing: Existing = Existing.REFUSE
    options: RestoreOptions = field(default_factory=RestoreOptions)

    @property
    def deletes(self) -> bool:
        """Whether what the point does not have is to go."""
        return self.options.delete and self.existing is Existing.OVERWRITE and not self.only


@dataclass(slots=True)
class _Counted:
    """What a restore comes to."""

    entries: int = 0
    size_bytes: int = 0
    kept_entries: int = 0
    kept_bytes: int = 0
    conflicts: list[str] = field(default_factory=list)
    conflict_count: int = 0


class _Comparison:
    """The manifest of a point against what is in the bucket now."""

    def __init__(self, store: ObjectStore, reader: PointReader, place: Path, wish: Wish) -> None:
        self._wish = wish
        self._wanted = {path for path, _ in reader.listing(wish.only)} if wish.only else None
        self._manifest = _manifest(reader, place)
        self.there = Inventory(place / "there.db")
        self.there.fill(store.listing())
        self.sums = _Counted()
        for line, now in self.lines():
            self._count(line, now)

    def lines(self) -> Iterator[tuple[Line, Found | None]]:
        """What is wanted of the point, each with what is in its place now."""
        for _, line in lines(self._manifest):
            path = line["path"].encode("utf-8", "surrogateescape")
            row = self.there.find(name_in(line))
            self.there.mark(name_in(line))
            spared = any(path == one or path.startswith(one + b"/") for one in self._wish.options.spare)
            if (self._wanted is None or path in self._wanted) and not spared:
                yield line, None if row is None else row.found

    def extraneous(self) -> Iterator[tuple[str, Found]]:
        """What is in the bucket, and not in the point, by its path."""
        leave = self._wish.options.leave
        for row in self.there.unmarked():
            path = b"/objects/" + row.path
            if leave is None or not leave(path, False):
                yield readable(path), row.found

    def _count(self, line: Line, now: Found | None) -> None:
        sums, size = self.sums, int(line["size"])
        sums.entries += 1
        sums.size_bytes += size
        if now is not None and is_same(line, now):
            sums.kept_entries += 1
            sums.kept_bytes += size
        elif now is not None:
            sums.conflict_count += 1
            if len(sums.conflicts) < _SHOWN:
                sums.conflicts.append(readable(name_in(line)))


def plan(store: ObjectStore, reader: PointReader, place: Path, wish: Wish) -> RestorePlan:
    """What `restore` would do. `place` is a folder for what is needed on the way."""
    with _compared(store, reader, place, wish) as comparison:
        sums = comparison.sums
        extra = list(comparison.extraneous()) if wish.deletes else []
        return RestorePlan(
            Path(wish.url),
            sums.entries,
            sums.size_bytes,
            tuple(sums.conflicts),
            (f"objects go back into {wish.url}; versions that are replaced there stay as its settings have it",),
            sums.kept_entries,
            sums.kept_bytes,
            tuple(path for path, _ in extra[:_SHOWN]),
            len(extra),
            sum(found.size for _, found in extra),
        )


def restore(store: ObjectStore, reader: PointReader, place: Path, wish: Wish, progress: Progress | None) -> Restored:
    """Write what is lacking or differs. Raises RefusedError before anything is written where something would be
    replaced and that was not said; RestoreError when the point's manifest does not come back.
    """
    started = clock.monotonic()
    progress = progress or Silent()
    with _compared(store, reader, place, wish) as comparison:
        sums = comparison.sums
        if sums.conflict_count and wish.existing is Existing.REFUSE:
            raise RefusedError(
                f"{counted(sums.conflict_count, 'object')} in {wish.url} would be replaced",
                why=f"what is there differs from the point, first: {sums.conflicts[0]}",
                todo="Look at it with --dry-run; add --overwrite if it is meant. Nothing was written.",
            )
        progress.total(entries=sums.entries, size_bytes=sums.size_bytes)
        writer = _Writer(store, reader, place, wish, progress)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore") as pool:
            for batch in _batches(comparison.lines(), progress):
                writer.write(batch, pool)
        problems = list(writer.problems)
        deleted = _delete(store, comparison, problems) if wish.deletes and not problems else (0, 0)
        return Restored(
            sums.entries,
            sums.size_bytes,
            clock.monotonic() - started,
            (wish.url,),
            tuple(problems),
            sums.kept_entries,
            sums.kept_bytes,
            writer.notes,
            deleted_entries=deleted[0],
            deleted_bytes=deleted[1],
        )


def is_same(line: Line, now: Found) -> bool:
    """Whether the bucket holds what a line of the manifest tells, as far as its listing says."""
    if int(line["size"]) != now.size:
        return False
    if "metageneration" in now.told:  # of Google's, the listing tells all there is
        if any(line.get(name) != now.told.get(name) for name in _BESIDE):
            return False
        telling = "md5" if "md5" in line or "md5" in now.told else "crc32c"
        return telling in line and line[telling] == now.told.get(telling)
    return "etag" in line and line["etag"] == now.told.get("etag")


class _Writer:
    def __init__(self, store: ObjectStore, reader: PointReader, place: Path, wish: Wish, progress: Progress) -> None:
        self._store, self._reader, self._place, self._wish, self._progress = store, reader, place, wish, progress
        self._by_store = ByStore(store, reader)
        self.problems: list[Problem] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        return self._by_store.notes

    def write(self, batch: Sequence[tuple[Line, Found | None]], pool: ThreadPoolExecutor) -> None:
        """Have large objects copied by the store; bring the others to this machine, and from here to the bucket."""
        batch = [one for one, here in zip(batch, pool.map(self._copied, batch), strict=True) if not here]
        if not batch:
            return
        with TemporaryDirectory(dir=self._place) as below:
            paths = [line["path"] for line, _ in batch]
            options = RestoreOptions(one_copy=self._wish.options.one_copy)
            restored = self._reader.restore(Path(below), only=paths, options=options)
            self.problems += restored.problems
            failed = {problem.path for problem in restored.problems}

            def send(one: tuple[Line, Found | None]) -> Problem | None:
                return None if _shown(one[0]) in failed else self._send(Path(below), *one)

            self.problems += filter(None, pool.map(send, batch))

    def _copied(self, one: tuple[Line, Found | None]) -> bool:
        """Whether nothing is left to be done for an object: the store copied it, or it is a problem."""
        line, now = one
        try:
            if not self._by_store.copied(line, now):
                return False
            if self._wish.options.verify and self._altered(name_in(line), line):
                raise UnreadableError("altered", "what was read back is not what was written")
        except OtherStateError:
            self.problems.append(_changed(line))
        except UnreadableError as error:
            self.problems.append(Problem(_shown(line), error.kind, error.detail))
        else:
            self._progress.advance(entries=1, size_bytes=int(line["size"]))
        return True

    def _send(self, below: Path, line: Line, now: Found | None) -> Problem | None:
        name, size = name_in(line), int(line["size"])
        file = os.fsencode(below) + line["path"].encode("utf-8", "surrogateescape")
        try:
            self._store.put(name, size, lambda: open(file, "rb"), line, now)  # noqa: PTH123, SIM115 - bytes; the store closes
            if self._wish.options.verify and self._altered(name, line):
                return Problem(_shown(line), "altered", "what was read back is not what was written")
        except OtherStateError:
            return _changed(line)
        except UnreadableError as error:
            return Problem(_shown(line), error.kind, error.detail)
        except OSError as error:
            return Problem(_shown(line), "unreadable", f"it did not come to this machine: {error.strerror}")
        self._progress.advance(entries=1, size_bytes=size)
        return None

    def _altered(self, name: bytes, line: Line) -> bool:
        now = self._store.look_up(name)
        try:
            return now is None or digest_of(self._store, now).hex() != line["sha256"]
        except GoneError:
            return True


@contextmanager
def _compared(store: ObjectStore, reader: PointReader, place: Path, wish: Wish) -> Iterator[_Comparison]:
    with TemporaryDirectory(dir=place) as below:
        comparison = _Comparison(store, reader, Path(below), wish)
        try:
            yield comparison
        finally:
            comparison.there.discard()


def _manifest(reader: PointReader, place: Path) -> Path:
    restored = reader.restore(place, only=(INSIDE,))
    if restored.problems:
        raise RestoreError(
            "The manifest of this point does not come back",
            why=restored.problems[0].detail,
            todo="restore with --to FOLDER what can be read, or take another vault or point",
        )
    return place / INSIDE.lstrip("/")


def _batches(
    compared: Iterator[tuple[Line, Found | None]], progress: Progress
) -> Iterator[list[tuple[Line, Found | None]]]:
    """What has to be written, in portions for which there is room on this machine."""
    batch: list[tuple[Line, Found | None]] = []
    size_bytes = 0
    for line, now in compared:
        size = int(line["size"])
        if now is not None and is_same(line, now):
            progress.advance(entries=1, size_bytes=size)
            continue
        if batch and (len(batch) == _BATCH_OBJECTS or size_bytes + size > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append((line, now))
        size_bytes += size
    if batch:
        yield batch


def _delete(store: ObjectStore, comparison: _Comparison, problems: list[Problem]) -> tuple[int, int]:
    entries = size_bytes = 0
    for path, found in comparison.extraneous():
        try:
            store.delete(found)
        except OtherStateError:
            problems.append(Problem(path, "extraneous", "somebody wrote to it since it was compared"))
        except (UnreadableError, TornError) as error:
            problems.append(Problem(path, "extraneous", str(error)))
        else:
            entries += 1
            size_bytes += found.size
    return entries, size_bytes


def _changed(line: Line) -> Problem:
    detail = "somebody wrote to it since it was compared; it was left alone"
    return Problem(_shown(line), "changed-while-read", detail)


def _shown(line: Line) -> str:
    return readable(line["path"].encode("utf-8", "surrogateescape"))
