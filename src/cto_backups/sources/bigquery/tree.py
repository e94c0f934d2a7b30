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
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

from cto_backups.core.objects import ObjectState
from cto_backups.core.trees import Arrival, Before, Entry, EntryKind
from cto_backups.errors import SourceError
from cto_backups.sources.bigquery.ahead import Ahead
from cto_backups.sources.bigquery.appends import APPENDED, Appended
from cto_backups.sources.bigquery.avro import AvroRows, DamagedAvroError
from cto_backups.sources.bigquery.bucket import DamagedObjectError, ObjectInMemory, ObjectReader, StagedObject
from cto_backups.sources.bigquery.documents import columns, digest, file_name, made_of, written
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


_Wanted = tuple[Table, State, State | None]
"""A table; of what the point before has of it, what is kept, and all that is whole."""


@dataclass
class _Open:
    """A table of which partitions are `left` to be extracted."""

    table: Table
    known: State
    sums: Mapping[str, PartitionSums]
    appended: Appended | None
    left: set[str]


@dataclass(frozen=True)
class _Done:
    """A table that was summed up, or with the `part` of it that was extracted, too."""

    opened: _Open
    part: str | None = None
    files: Sequence[StagedObject] = ()


class ExtractTree:
    """Implements `core.trees.ArrivingTree`. `documents` are JSON by their paths.

    Complete in the end: `states` of tables; `definitions`, which are digests of what those are made of; and `files`,
    those of documents by their paths.
    """

    def __init__(self, extraction: Extraction, moment: Moment, documents: Mapping[str, Any]) -> None:
        self.root = Entry(b"", b"", EntryKind.FOLDER)
        self.states: dict[str, State] = {}
        self.definitions: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self._extraction, self._moment, self._documents = extraction, moment, documents
        self._nanoseconds = int(moment.at.timestamp() * 1000) * 1_000_000
        self._there: set[str] = set()

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        """Definitions first, then each table as its partitions come, in any order. Raises SourceError."""
        tables = {f"{folder_of(table.dataset, table.name)}/{TABLE}" for table in self._moment.tables}
        extraction = self._extraction
        most = extraction.threads + 2 * extraction.jobs
        with Ahead[_Done](extraction.threads, most, "bigquery") as ahead:
            try:
                wanted = self._wanted(before)
                parts: deque[tuple[_Open, str]] = deque()
                self._begin(ahead, wanted, parts)
                for path, document in sorted(self._documents.items()):
                    if path not in tables:
                        yield from self._folders(path)
                        yield self._document(path, document)
                while ahead.under_way:
                    done = ahead.taken()
                    opened = done.opened
                    if done.part is None:
                        parts.extend((opened, part) for part in sorted(opened.left))
                    self._begin(ahead, wanted, parts)
                    if done.part is not None:
                        yield from self._taken(opened, done.part, done.files, before)
                        opened.left.discard(done.part)
                    if not opened.left:
                        yield from self._ended(opened, before)
            except FAILURES as error:
                raise self._failed("its tables could not be extracted", error) from error

    def _wanted(self, before: Before | None) -> Iterator[_Wanted]:
        """Every table with what the point before has of it; where there is a budget, once it is known to suffice."""
        wanted = ((table, *self._known(table, before)) for table in self._moment.tables)
        if self._extraction.place.budget_bytes is None:
            return wanted
        every = list(wanted)
        self._extraction.check_budget(every, self._moment.milliseconds)
        return iter(every)

    def _begin(self, ahead: Ahead[_Done], wanted: Iterator[_Wanted], parts: deque[tuple[_Open, str]]) -> None:
        """Begin as much as there is a place for; what was begun of a table is ended before others are."""
        while ahead.has_place():
            if parts:
                ahead.begin(partial(self._extracted, *parts.popleft()))
            elif (one := next(wanted, None)) is not None:
                ahead.begin(partial(self._summed, *one))
            else:
                return

    def _summed(self, table: Table, known: State, former: State | None) -> _Done:
        sums = self._extraction.summed(table, known)
        appended = self._extraction.appended(table, former, sums, self._moment.milliseconds)
        opened = _Open(table, known, sums, appended, set(sums))
        return self._extracted(opened, *sums) if len(sums) == 1 else _Done(opened)

    def _extracted(self, opened: _Open, part: str) -> _Done:
        return _Done(opened, part, self._extraction.extracted(opened.table, part, opened.appended))

    def _taken(
        self, opened: _Open, part: str, extracted: Sequence[StagedObject], before: Before | None
    ) -> Iterator[Arrival]:
        """A partition whose files are in the bucket."""
        table = opened.table
        inside = f"{folder_of(table.dataset, table.name)}/{DATA}/{file_name(part)}"
        yield from self._folders(f"{inside}/")
        files: list[Mapping[str, Any]] = []
        more: dict[str, bool] = {}
        if opened.appended is not None and part in opened.appended.former:
            assert before is not None
            files += opened.appended.former[part].files
            more = {APPENDED: True}
            for entry in before.folder(os.fsencode(inside)):
                yield Arrival(entry, kept=True)
        for number, staged in enumerate(extracted, len(files)):
            reader = _Reader(staged, self._extraction.open(staged), self._failed)
            path = f"{inside}/{number:012}.avro"
            entry = self._entry(path, EntryKind.FILE)
            entry.size = staged.size
            yield Arrival(entry, reader)
            files.append({**staged.document(), "rows": reader.rows, **more})
            self._extraction.done_with(staged)
        sums = opened.sums[part]
        rows = sum(int(file["rows"]) for file in files)
        if rows != sums.rows:
            raise self._extraction.refused(
                f"{table.key} was not extracted whole",
                why=f"the files of partition {part} hold {rows:,} rows, and the snapshot {sums.rows:,}",
                todo="nothing of this attempt was kept; back up again",
            )
        state = self._state(table)
        state.parts[part] = Part(self._moment.token(table, part), sums, files)

    def _ended(self, opened: _Open, before: Before | None) -> Iterator[Arrival]:
        """A table of which nothing is left to be extracted: what is kept of it, and what is known of it."""
        table, known = opened.table, opened.known
        self._extraction.done_with_table(table)
        place = folder_of(table.dataset, table.name)
        state = self._state(table)
        if known.parts:
            assert before is not None
            yield from self._folders(f"{place}/{DATA}/")
            kept = {os.fsencode(file_name(part)) for part in known.parts}
            folders = before.folder(os.fsencode(f"{place}/{DATA}"))
            yield from (Arrival(entry, kept=True) for entry in folders if entry.name in kept)
            state.parts |= known.parts
        yield from self._folders(f"{place}/")
        yield self._document(f"{place}/{TABLE}", self._documents[f"{place}/{TABLE}"])
        self.definitions[table.key] = digest(made_of(table.definition))
        yield self._given(f"{place}/{FILE}", state.written())

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

    def _document(self, path: str, document: Any) -> Arrival:
        content = written(document)
        self.files[path] = sha256(content).hexdigest()
        return self._given(path, content)

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
