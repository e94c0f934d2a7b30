"""The tree of a capture: definitions as JSON, and each table's partitions as Avro while they are extracted.

/project.json, /transfers.json
/DATASET/dataset.json
/DATASET/views/NAME.json, /DATASET/routines/NAME.json
/DATASET/tables/NAME/table.json, state.json
/DATASET/tables/NAME/data/PARTITION/000000000000.avro …
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from cto_backups.core.objects import ObjectState
from cto_backups.core.trees import Arrival, Before, Entry, EntryKind
from cto_backups.errors import SourceError
from cto_backups.sources.bigquery.appends import APPENDED, Appended
from cto_backups.sources.bigquery.avro import AvroRows, DamagedAvroError
from cto_backups.sources.bigquery.bucket import DamagedObjectError, ObjectInMemory, ObjectReader, StagedObject
from cto_backups.sources.bigquery.documents import columns, digest, file_name, written
from cto_backups.sources.bigquery.extract import Extraction, Moment, Table
from cto_backups.sources.bigquery.state import FILE, Part, State
from cto_backups.sources.bigquery.sums import PartitionSums
from cto_backups.sources.bigquery.words import FAILURES, explained
from cto_backups.sources.streams import Ready

DATA: Final = "data"
TABLE: Final = "table.json"


def folder_of(dataset: str, table: str) -> str:
    """Where a table lies in the tree."""
    return f"/{file_name(dataset)}/tables/{file_name(table)}"


@dataclass(frozen=True)
class _Unit:
    """A partition that is being extracted, or with `part` None the end of its table."""

    table: Table
    known: State
    sums: Mapping[str, PartitionSums]
    appended: Appended | None = None
    part: str | None = None
    extracted: "Future[Sequence[StagedObject]] | None" = None


class ExtractTree:
    """Implements `core.trees.ArrivingTree`. `documents` are JSON by their paths; `states` is complete in the end."""

    def __init__(self, extraction: Extraction, moment: Moment, documents: Mapping[str, Any]) -> None:
        self.root = Entry(b"", b"", EntryKind.FOLDER)
        self.states: dict[str, State] = {}
        self._extraction, self._moment, self._documents = extraction, moment, documents
        self._nanoseconds = int(moment.at.timestamp() * 1000) * 1_000_000
        self._there: set[str] = set()

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        """Definitions first, then each table as its partitions come. Raises SourceError."""
        for path, document in sorted(self._documents.items()):
            yield from self._folders(path)
            yield self._given(path, written(document))
        with ThreadPoolExecutor(self._extraction.jobs, thread_name_prefix="bigquery") as pool:
            try:
                wanted = [(table, *self._known(table, before)) for table in self._moment.tables]
                self._extraction.check_budget(wanted, self._moment.milliseconds)
                waiting: deque[_Unit] = deque()
                for unit in self._units(pool, before):
                    waiting.append(unit)
                    while len(waiting) > 2 * self._extraction.jobs:
                        yield from self._taken(waiting.popleft(), before)
                while waiting:
                    yield from self._taken(waiting.popleft(), before)
            except FAILURES as error:
                raise self._failed("its tables could not be extracted", error) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _units(self, pool: ThreadPoolExecutor, before: Before | None) -> Iterator[_Unit]:
        """Every partition that is to be extracted, begun; tables are summed up ahead."""
        summed: deque[tuple[Table, State, Future[_Summed]]] = deque()
        left = iter(self._moment.tables)
        while True:
            while len(summed) < 2 * self._extraction.jobs and (table := next(left, None)) is not None:
                known, former = self._known(table, before)
                summed.append((table, known, pool.submit(self._summed, table, known, former)))
            if not summed:
                return
            table, known, future = summed.popleft()
            sums, appended = future.result()
            for part in sorted(sums):
                extracted = pool.submit(self._extraction.extracted, table, part, appended)
                yield _Unit(table, known, sums, appended, part, extracted)
            yield _Unit(table, known, sums)

    def _summed(self, table: Table, known: State, former: State | None) -> "_Summed":
        sums = self._extraction.summed(table, known)
        return sums, self._extraction.appended(table, former, sums, self._moment.milliseconds)

    def _taken(self, unit: _Unit, before: Before | None) -> Iterator[Arrival]:
        table = unit.table
        place = folder_of(table.dataset, table.name)
        if unit.part is None:
            state = self._state(table)
            if unit.known.parts:
                assert before is not None
                yield from self._folders(f"{place}/{DATA}/")
                kept = {os.fsencode(file_name(part)) for part in unit.known.parts}
                folders = before.folder(os.fsencode(f"{place}/{DATA}"))
                yield from (Arrival(entry, kept=True) for entry in folders if entry.name in kept)
                state.parts |= unit.known.parts
            yield from self._folders(f"{place}/")
            yield self._given(f"{place}/{FILE}", state.written())
            return
        assert unit.extracted is not None
        inside = f"{place}/{DATA}/{file_name(unit.part)}"
        yield from self._folders(f"{inside}/")
        files: list[Mapping[str, Any]] = []
        more: dict[str, bool] = {}
        if unit.appended is not None and unit.part in unit.appended.former:
            assert before is not None
            files += unit.appended.former[unit.part].files
            more = {APPENDED: True}
            for entry in before.folder(os.fsencode(inside)):
                yield Arrival(entry, kept=True)
        for number, staged in enumerate(unit.extracted.result(), len(files)):
            reader = _Reader(staged, self._extraction.open(staged), self._failed)
            path = f"{inside}/{number:012}.avro"
            entry = self._entry(path, EntryKind.FILE)
            entry.size = staged.size
            yield Arrival(entry, reader)
            files.append({**staged.document(), "rows": reader.rows, **more})
            self._extraction.done_with(staged)
        sums = unit.sums[unit.part]
        rows = sum(int(file["rows"]) for file in files)
        if rows != sums.rows:
            raise self._extraction.refused(
                f"{table.key} was not extracted whole",
                why=f"the files of partition {unit.part} hold {rows:,} rows, and the snapshot {sums.rows:,}",
                todo="nothing of this attempt was kept; back up again",
            )
        state = self._state(table)
        state.parts[unit.part] = Part(self._moment.token(table, unit.part), sums, files)

    def _state(self, table: Table) -> State:
        """What is found of a table; its moment is told where somebody asks later what was added since."""
        if table.key not in self.states:
            at = self._moment.milliseconds if self._extraction.place.is_appended(table.key) else 0
            self.states[table.key] = State(table.columns, has_texts=table.has_texts, at=at)
        return self.states[table.key]

    def _known(self, table: Table, before: Before | None) -> tuple[State, State | None]:
        """The partitions that the point before holds as they are now; and all that it holds whole."""
        known = State(table.columns)
        if before is None:
            return known, None
        place = folder_of(table.dataset, table.name)
        content = before.content(os.fsencode(f"{place}/{FILE}"))
        former = State.read(content) if content is not None else None
        if former is None or former.columns != table.columns or former.has_texts != table.has_texts:
            return known, None
        for name, part in tuple(former.parts.items()):
            is_same = bool(part.token) and part.token == self._moment.token(table, name)
            path = os.fsencode(f"{place}/{DATA}/{file_name(name)}")
            if not (is_same or self._extraction.place.is_appended(table.key)) or not before.is_whole(path):
                del former.parts[name]
            elif is_same:
                known.parts[name] = part
        return known, former

    def _folders(self, path: str) -> Iterator[Arrival]:
        """The folders above a path that did not come yet."""
        names = path.split("/")[1:-1]
        for depth in range(1, len(names) + 1):
            folder = "/" + "/".join(names[:depth])
            if folder not in self._there:
                self._there.add(folder)
                yield Arrival(self._entry(folder, EntryKind.FOLDER))

    def _given(self, path: str, content: bytes) -> Arrival:
        entry = self._entry(path, EntryKind.FILE)
        entry.size = len(content)
        return Arrival(entry, Ready(content))

    def _entry(self, path: str, kind: EntryKind) -> Entry:
        whole = os.fsencode(path)
        mode = stat.S_IFDIR | 0o700 if kind is EntryKind.FOLDER else stat.S_IFREG | 0o600
        now = self._nanoseconds
        name = whole.rpartition(b"/")[2]
        return Entry(name, whole, kind, mode, os.geteuid(), os.getegid(), 0, now, now)

    def _failed(self, what: str, error: Exception) -> SourceError:
        why, todo = explained(error)
        return self._extraction.refused(what, why=why, todo=todo)


_Summed = tuple[Mapping[str, PartitionSums], Appended | None]


class _Reader:
    """Implements `core.trees.BlockReader` for a staged file; its rows are counted on the way."""

    def __init__(
        self,
        staged: StagedObject,
        reader: ObjectReader | ObjectInMemory,
        failed: Callable[[str, Exception], SourceError],
    ) -> None:
        self._staged, self._reader, self._failed = staged, reader, failed
        self._counted = AvroRows()

    @property
    def state(self) -> ObjectState:
        return self._reader.state

    @property
    def rows(self) -> int:
        return self._counted.rows

    def readinto(self, buffer: memoryview) -> int:
        try:
            count = self._reader.readinto(buffer)
            if count:
                self._counted.add(buffer[:count])
            else:
                self._counted.end()
        except (DamagedAvroError, DamagedObjectError) as error:
            raise self._failed(f"{self._staged.uri} is damaged", error) from error
        except FAILURES as error:
            raise self._failed(f"{self._staged.uri} could not be read", error) from error
        return count

    def close(self) -> None:
        self._reader.close()


def columns_digest(table: Mapping[str, Any]) -> str:
    """What a table's rows are made of, and how they are cut: if that changes, all is extracted anew."""
    cut = {name: table.get(name) for name in ("timePartitioning", "rangePartitioning")}
    return digest([columns(table["schema"]["fields"]), cut])
