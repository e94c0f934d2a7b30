"""Trying BigQuery out in the project of a source: tables of every type, made in a dataset for that, there and back.

What no server of ours does as Google's own (extract and load jobs, snapshots, time travel, change history) is done here
by just the code that backs up, restores and proves.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.source_check import Found, Outcome, Tried
from cto_backups.core.trees import EntryKind
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError
from cto_backups.sources.bigquery import appends, documents, sums
from cto_backups.sources.bigquery.bucket import Bucket
from cto_backups.sources.bigquery.client import BigQuery, job_name
from cto_backups.sources.bigquery.extract import Extraction, Moment, Table, size
from cto_backups.sources.bigquery.history import Copier, Route, Way
from cto_backups.sources.bigquery.loading import Loader
from cto_backups.sources.bigquery.partitions import Partitioning
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.point import StoredTable
from cto_backups.sources.bigquery.scratch import dataset_of_ours
from cto_backups.sources.bigquery.state import State
from cto_backups.sources.bigquery.tree import TABLE, ExtractTree, columns_digest, folder_of
from cto_backups.sources.bigquery.trial_tables import PLAIN, TABLES, Sample
from cto_backups.sources.bigquery.words import FAILURES, explained, telling

RULES: Final = {
    "tables": "A dataset and a table can be made here, and rows put into it",
    "snapshot": "A table is snapshotted as of a moment",
    "sums": "BigQuery's own SQL sums up the rows of a snapshot",
    "extract": "A snapshot is written as Avro, each partition by itself",
    "load": "What was written is loaded, and holds the same rows",
    **{each.name: each.title for each in TABLES},
    "appends": "Change history tells of just the rows that were added",
    "time-travel": "A table is made again as it was a moment ago",
    "snapshot-back": "A table is made again of a snapshot",
    "dropped": "A table that was dropped comes back as it was",
    "removed": "All that was made for this is gone again",
}
_LEAST_BILLED: Final = 10 << 20  # of a query, and of each table in it


class _DiffersError(Exception):
    """Something came back otherwise."""


@dataclass
class _Trial:
    """One check that is under way."""

    place: Place
    bigquery: BigQuery
    bucket: Bucket
    extraction: Extraction
    dataset: str
    folder: Path
    tried: list[Tried]
    loader: Loader
    optional: frozenset[str]

    def attempt(self, name: str, do: Callable[[], str]) -> bool:
        """Do something, and note what came of it."""
        began = clock.monotonic()
        outcome, detail = Outcome.WORKS, ""
        try:
            detail = do()
        except _DiffersError as error:
            outcome, detail = Outcome.DIFFERS, str(error)
        except BackupsError as error:
            outcome, detail = Outcome.REFUSED, error.why or str(error)
        except FAILURES as error:
            outcome, detail = Outcome.REFUSED, explained(error)[0]
        self.tried.append(Tried(name, outcome, detail, name not in self.optional, clock.monotonic() - began))
        return outcome is Outcome.WORKS

    # -- what is tried ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything; what rests on something that failed is not tried."""
        if not self.attempt("tables", lambda: self._make(PLAIN)):
            return
        moment = self._now()
        table = self._table(PLAIN, moment)
        if self.attempt("snapshot", lambda: self._snapshot(table, moment)):
            stored = self._there_and_back(table, moment)
            if stored is not None:
                self._ways_back(table, stored, moment)
        for sample in TABLES:
            self.attempt(sample.name, partial(self._round, sample))

    def _there_and_back(self, table: Table, moment: int) -> StoredTable | None:
        def summed() -> str:
            parts = self.extraction.summed(table, State(table.columns))
            rows = sum(part.rows for part in parts.values())
            return f"{counted(rows, 'row')} in {counted(len(parts), 'partition')}"

        stored: list[StoredTable] = []

        def extract() -> str:
            stored.append(self._stored(table, moment))
            files = [file for part in stored[0].state.parts.values() for file in part.files]
            return f"{counted(len(files), 'file')}, {size(sum(int(file['size']) for file in files))}"

        if not self.attempt("sums", summed) or not self.attempt("extract", extract):
            return None
        self.attempt("load", lambda: self._loaded(stored[0], "back_load"))
        return stored[0]

    def _ways_back(self, table: Table, stored: StoredTable, moment: int) -> None:
        """What BigQuery itself still has, once a row was added to the table."""

        def appended() -> str:
            self._add(PLAIN.more)
            until = self._now()
            query, aside = appends.telling(self.place.project, table, moment, until), f"{table.snapshot}_appended"
            self.extraction.select_into(aside, query, table, "appends")
            rows = int(self.bigquery.table(self.place.staging_dataset, aside)["numRows"])
            if rows != 1:
                raise _DiffersError(f"it tells of {counted(rows, 'row')}, and one was added")
            return "one row was added, and is told"

        self.attempt("appends", appended)
        at = datetime.fromtimestamp(moment / 1000, UTC)
        self.attempt("time-travel", lambda: self._copied(stored, Route(Way.TIME_TRAVEL, at), "back_time"))
        self.attempt("snapshot-back", lambda: self._copied(stored, Route(Way.SNAPSHOTS, at), "back_snapshot"))

        def dropped() -> str:
            self.bigquery.delete_table(self.dataset, PLAIN.table)
            return self._copied(stored, Route(Way.TIME_TRAVEL, at), "back_dropped")

        self.attempt("dropped", dropped)

    def _round(self, sample: Sample) -> str:
        """A table there and back."""
        self._make(sample)
        moment = self._now()
        table = self._table(sample, moment)
        self._snapshot(table, moment)
        return self._loaded(self._stored(table, moment), f"back_{sample.table}")

    # -- how ----------------------------------------------------------------------------------------------------------

    def _make(self, sample: Sample) -> str:
        reference = self.bigquery.reference(self.dataset, sample.table)
        document = {"tableReference": reference, "schema": {"fields": list(sample.fields)}, **sample.cut}
        self.bigquery.make_table(self.dataset, document)
        self._add(sample.rows)
        return f"{self.place.project}.{self.dataset}"

    def _add(self, rows: str) -> None:
        statement = rows.replace("{}", f"{self.place.project}.{self.dataset}")
        query = {"query": {"query": statement, "useLegacySql": False}}
        self.bigquery.job(query, job_name(self.dataset, statement), "bigquery.tables.updateData")

    def _now(self) -> int:
        name = job_name(self.dataset, "now", clock.now().isoformat())
        (row,) = self.bigquery.query("SELECT UNIX_MILLIS(CURRENT_TIMESTAMP()) AS now", name).rows
        return int(row["now"])

    def _table(self, sample: Sample, moment: int) -> Table:
        definition = documents.lasting(self.bigquery.table(self.dataset, sample.table))
        name = self.place.snapshot_name(moment, self.dataset, sample.table)
        cut = Partitioning.of(definition)
        return Table(self.dataset, sample.table, definition, cut, columns_digest(definition), name)

    def _snapshot(self, table: Table, moment: int) -> str:
        self.extraction.make_datasets()
        self.extraction.snapshot(table, moment)
        self.extraction.see(table)
        return ""

    def _stored(self, table: Table, moment: int) -> StoredTable:
        """A table as a point has it, in a folder."""
        at = Moment(datetime.fromtimestamp(moment / 1000, UTC), moment, [table])
        described = {f"{folder_of(table.dataset, table.name)}/{TABLE}": table.definition}
        for arrival in ExtractTree(self.extraction, at, described).arrivals():
            path = self.folder / os.fsdecode(arrival.entry.path).lstrip("/")
            if arrival.entry.kind is EntryKind.FOLDER:
                path.mkdir(exist_ok=True)
            elif arrival.content is not None:
                buffer = memoryview(bytearray(1 << 16))
                with path.open("wb") as file:
                    while count := arrival.content.readinto(buffer):
                        file.write(buffer[:count])
                arrival.content.close()
        return StoredTable(self.folder / folder_of(table.dataset, table.name).lstrip("/"))

    def _loaded(self, stored: StoredTable, name: str) -> str:
        self.loader.load(stored, self.dataset, name, bare=True)
        return self._compared(stored, name)

    def _copied(self, stored: StoredTable, route: Route, name: str) -> str:
        Copier(self.place, self.bigquery, route).load(stored, self.dataset, name, bare=True)
        return self._compared(stored, name)

    def _compared(self, stored: StoredTable, name: str) -> str:
        path = f"{self.place.project}.{self.dataset}.{name}"
        query = sums.summing(path, stored.definition["schema"]["fields"], stored.partitioning)
        answer = self.bigquery.query(query, job_name(self.dataset, name, "sums"))
        self.loader.scanned.append(answer.scanned_bytes)
        if differ := sums.differing(stored.state.sums, sums.read(answer)):
            raise _DiffersError("; ".join(differ))
        return f"{counted(stored.rows, 'row')}, the same"


def rules() -> Mapping[str, str]:
    """What is tried, in its order."""
    return RULES


def cost() -> str:
    """What it costs at most."""
    queries = 8 + 6 * (len(TABLES) + 1)
    return (
        f"At most {queries} queries over a few kilobytes, each of which BigQuery bills as {size(_LEAST_BILLED)}:"
        f" {size(queries * _LEAST_BILLED)}. Load, extract and copy jobs are free of charge, and nothing of it stays."
    )


def try_out(place: Place) -> Found:
    """Try it, in a dataset and a place of the bucket that are for this alone. Raises SourceError."""
    own = replace(place, name=f"{place.name}_check", keep_snapshots=timedelta(), budget_bytes=None)
    tried: list[Tried] = []
    optional = frozenset(
        [each.name for each in TABLES]
        + ([] if place.appended else ["appends"])
        + ([] if place.keeps_snapshots else ["snapshot-back"])
    )
    with own.opened() as (bigquery, bucket), tempfile.TemporaryDirectory(prefix="cto-backups-check-") as folder:
        extraction, loader = Extraction(own, bigquery, bucket, drops=False), Loader(own, bigquery, bucket)
        with telling(f"source {place.name}: its project cannot be tried out"):
            extraction.clear()
        with _emptied(extraction, bigquery, bucket):
            name = ""
            try:
                with dataset_of_ours(own, bigquery) as name:
                    _Trial(own, bigquery, bucket, extraction, name, Path(folder), tried, loader, optional).run()
            except FAILURES as error:  # between two things that are tried: it is the next that cannot be
                there = {each.name for each in tried}
                tried.append(
                    Tried(next(each for each in RULES if each not in there), Outcome.REFUSED, explained(error)[0])
                )
        tried.append(_removed(own, bigquery, bucket, name))
    there = {each.name for each in tried}
    tried += [
        Tried(rule, Outcome.NOT_TRIED, "what it rests on failed", wanted=rule not in optional)
        for rule in RULES
        if rule not in there
    ]
    order = list(RULES)
    tried.sort(key=lambda each: order.index(each.name))
    return Found(tuple(tried), extraction.scanned_bytes + sum(loader.scanned))


@contextmanager
def _emptied(extraction: Extraction, bigquery: BigQuery, bucket: Bucket) -> Iterator[None]:
    """Remove what lies on the way in the end."""
    try:
        yield
    finally:
        extraction.close()
        with suppress(*FAILURES):  # seen below
            extraction.clear()
            bucket.clear(extraction.place.loads)
            bigquery.delete_dataset(extraction.place.staging_dataset)


def _removed(place: Place, bigquery: BigQuery, bucket: Bucket, dataset: str) -> Tried:
    """Whether all of it is gone."""
    try:
        left = [name for name in (dataset, place.staging_dataset) if name and bigquery.has_dataset(name)]
        left += [file.uri for below in (place.extracts, place.loads) for file in bucket.list(below)]
    except FAILURES as error:
        return Tried("removed", Outcome.REFUSED, explained(error)[0])
    if left:
        return Tried("removed", Outcome.DIFFERS, f"this stays, and expires within a day: {', '.join(left[:5])}")
    return Tried("removed", Outcome.WORKS)
