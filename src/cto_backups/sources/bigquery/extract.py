"""Extracting the tables of one moment: snapshots, what they sum up to, and jobs that write them into the bucket."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from cto_backups.errors import SourceError
from cto_backups.providers.google import RefusedError
from cto_backups.sources.bigquery import appends, as_text, documents
from cto_backups.sources.bigquery import sums as bigquery_sums
from cto_backups.sources.bigquery.appends import Appended
from cto_backups.sources.bigquery.bucket import Bucket, DamagedObjectError, ObjectInMemory, ObjectReader, StagedObject
from cto_backups.sources.bigquery.client import BigQuery, Document, job_name, scanned
from cto_backups.sources.bigquery.partitions import WHOLE, Partitioning
from cto_backups.sources.bigquery.place import KEPT_MS, Place
from cto_backups.sources.bigquery.state import State, Tokens
from cto_backups.sources.bigquery.sums import PartitionSums
from cto_backups.sources.bigquery.words import FAILURES

_AHEAD_BYTES: Final = 1 << 20
"""The files of a partition that are no more than this are read into memory as soon as they were written."""
_MOST_AHEAD_BYTES: Final = 64 << 20
"""So much of them in all: others wait in the bucket until it is their turn."""
_BESIDE: Final = 8
"""Threads for what no job waits for: removing what is needed no longer."""


@dataclass(frozen=True)
class Table:
    """A table that is extracted, by its definition; `snapshot` is the name of its snapshot in the dataset for those."""

    dataset: str
    name: str
    definition: Document
    partitioning: Partitioning
    columns: str
    snapshot: str

    @property
    def key(self) -> str:
        """How it is called: DATASET.TABLE."""
        return f"{self.dataset}.{self.name}"

    @property
    def has_texts(self) -> bool:
        """Whether its files have columns as text."""
        return as_text.has(self.definition["schema"]["fields"])


@dataclass(frozen=True)
class Moment:
    """The moment of a capture, and its tables; `tokens` say of their partitions what BigQuery did then.

    It may take a while until that is known: `tokens` waits for it, and raises what `words.FAILURES` has.
    """

    at: datetime
    milliseconds: int
    tables: Sequence[Table]
    tokens: Callable[[], Mapping[str, Tokens]] = dict

    def token(self, table: Table, part: str) -> str:
        """What was said of a partition; nothing where that is not known for certain."""
        return self.tokens().get(table.key, {}).get(part, "")


class Extraction:
    """The jobs of one capture; `scanned_bytes` is what its queries had BigQuery read, `notes` are for people.

    A snapshot that is not kept goes as soon as its table was extracted; with `drops` False all stay until `clear`.
    """

    def __init__(self, place: Place, bigquery: BigQuery, bucket: Bucket, *, drops: bool = True) -> None:
        self.place = place
        self.jobs = place.jobs
        self.threads = place.threads
        self.scanned_bytes = 0
        self.estimated_bytes: int | None = None
        self._drops = drops and not place.keeps_snapshots
        self.notes: list[str] = []
        self.bigquery, self.bucket = bigquery, bucket
        self._lock = threading.Lock()
        self._begun = 0
        self._snapshotted: list[Table] = []
        self._ahead: dict[StagedObject, ObjectInMemory] = {}
        self._ahead_bytes = 0
        self.beside = ThreadPoolExecutor(min(self.jobs, _BESIDE), thread_name_prefix="beside")

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Remove what a capture leaves on the way: of this one, and of any that was killed."""
        self.bucket.clear(self.place.extracts)
        try:
            left = list(self.bigquery.tables(self.place.staging_dataset))
        except RefusedError as error:
            if error.status != 404:
                raise
            return
        names = [each["tableReference"]["tableId"] for each in left]
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="remove") as pool:
            for _ in pool.map(partial(self.bigquery.delete_table, self.place.staging_dataset), names):
                pass

    def forget(self) -> None:
        """Remove the snapshots of a capture that became no point, where they would be kept."""
        if self.place.keeps_snapshots:
            for done in [self.beside.submit(self._drop, table) for table in self._snapshotted]:
                done.result()

    def make_datasets(self) -> None:
        """Make the datasets for what is made on the way, where there are none."""
        for dataset, kept in {
            self.place.staging_dataset: timedelta(milliseconds=KEPT_MS),
            self.place.snapshots_dataset: self._kept,
        }.items():
            if not self.bigquery.has_dataset(dataset):
                self.bigquery.make_dataset(self.place.scratch(dataset, kept))

    @property
    def _kept(self) -> timedelta:
        """For how long snapshots are there, should nobody remove them."""
        return max(self.place.keep_snapshots, timedelta(milliseconds=KEPT_MS))

    def snapshot(self, table: Table, milliseconds: int) -> None:
        """Snapshot a table as of a moment."""
        expires = datetime.fromtimestamp(milliseconds / 1000).astimezone() + self._kept
        copy = {
            "sourceTable": self.bigquery.reference(table.dataset, f"{table.name}@{milliseconds}"),
            "destinationTable": self.bigquery.reference(self.place.snapshots_dataset, table.snapshot),
            "operationType": "SNAPSHOT",
            "destinationExpirationTime": expires.isoformat(),
            "writeDisposition": "WRITE_EMPTY",
        }
        name = job_name(self.place.name, str(milliseconds), table.key, "snapshot")
        self._snapshotted.append(table)
        try:
            self.bigquery.job({"copy": copy}, name, "bigquery.tables.createSnapshot")
        except RefusedError as error:
            error.message = f"{table.key}: {error.message}"
            raise

    def see(self, table: Table) -> int:
        """Look at a snapshot: how many rows it has. Raises SourceError for one that is made of other columns."""
        snapshot = self.bigquery.table(self.place.snapshots_dataset, table.snapshot)
        if documents.columns(snapshot["schema"]["fields"]) != documents.columns(table.definition["schema"]["fields"]):
            raise self.refused(
                f"{table.key} was altered while its snapshot was made",
                why="its columns are others than they were a moment before",
                todo="nothing of this attempt was kept; back up again",
            )
        return int(snapshot["numRows"])

    def done_with_table(self, table: Table) -> None:
        """All of a table was written into the bucket: its snapshot is needed no longer, unless the policy keeps it."""
        if self._drops:
            self.beside.submit(self._drop, table)

    def _drop(self, table: Table) -> None:
        self.bigquery.delete_table(self.place.snapshots_dataset, table.snapshot)

    # -- sums ---------------------------------------------------------------------------------------------------------

    def check_budget(self, wanted: Sequence[tuple[Table, State, State | None]], until: int) -> None:
        """Ask how much is to be scanned, where there is a budget. Raises SourceError when that is more."""
        budget = self.place.budget_bytes
        if budget is None:
            return
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="estimate") as pool:
            estimates = pool.map(lambda each: self.bigquery.estimate(self._summing(each[0], each[1])), wanted)
            # What has columns as text is read once more for that.
            twice = zip(wanted, estimates, strict=True)
            self.estimated_bytes = sum(bytes_ * (2 if table.has_texts else 1) for (table, _, _), bytes_ in twice)
            asked = [
                appends.telling(self.place.project, table, former.at, until)
                for table, known, former in wanted
                if former is not None and self._may_be_appended(table, former, until) and known.parts != former.parts
            ]
            self.estimated_bytes += sum(pool.map(self.bigquery.estimate, asked))
        if self.estimated_bytes > budget:
            raise self.refused(
                "a backup would have BigQuery scan more than its budget",
                why=f"{size(self.estimated_bytes)} are estimated, and `budget` is {size(budget)}",
                todo="raise `budget`; or leave tables out that need no protection: `leave_out`",
            )

    def _may_be_appended(self, table: Table, former: State | None, until: int) -> bool:
        return self.place.is_appended(table.key) and appends.may_be(table, former, until)

    def _summing(self, table: Table, known: State) -> str:
        path = f"{self.place.project}.{self.place.snapshots_dataset}.{table.snapshot}"
        return bigquery_sums.summing(path, table.definition["schema"]["fields"], table.partitioning, known.parts)

    def summed(self, table: Table, known: State) -> Mapping[str, PartitionSums]:
        """What each partition of a snapshot sums up to, but for those that are known. Raises SourceError."""
        there = self.see(table)
        found: dict[str, PartitionSums] = {}
        if WHOLE not in known.parts:
            name = job_name(self.place.snapshots_dataset, table.snapshot, table.key, "sums", *sorted(known.parts))
            answer = self.bigquery.query(self._summing(table, known), name)
            with self._lock:
                self.scanned_bytes += answer.scanned_bytes
            found = {part: sums for part, sums in bigquery_sums.read(answer).items() if part not in known.parts}
        rows = sum(sums.rows for sums in (*found.values(), *known.sums.values()))
        if rows != there:
            policies = table.definition.get("rowAccessPolicies") or ()
            why = f"a query finds {rows:,} rows in its snapshot, which holds {there:,}"
            if policies:
                names = ", ".join(each["rowAccessPolicyReference"]["policyId"] for each in policies)
                raise self.refused(
                    f"{table.key} has rows that this login does not see",
                    why=f"{why}: its row access policies let it see no others ({names})",
                    todo="CREATE ROW ACCESS POLICY … GRANT TO (this login) FILTER USING (TRUE) on the table",
                )
            raise self.refused(
                f"{table.key} is not what it was at its moment", why=why, todo="nothing was kept; back up again"
            )
        if not found and not known.parts:
            found = {WHOLE: bigquery_sums.NOTHING} if table.partitioning.column is None else {}
        return found

    def appended(
        self, table: Table, former: State | None, sums: Mapping[str, PartitionSums], until: int
    ) -> Appended | None:
        """The partitions of a table that have some rows more than before, and are else as they were. Raises as above.

        The rows are in a table beside the snapshots then.
        """
        if former is None or not self._may_be_appended(table, former, until):
            return None
        likely = appends.candidates(former, sums)
        if not likely:
            return None
        aside = f"{table.snapshot}_appended"
        try:
            self.select_into(aside, appends.telling(self.place.project, table, former.at, until), table, "appends")
        except RefusedError as error:
            if error.is_busy:
                raise
            self.notes.append(f"{table.key} was extracted whole: it was not told what was added to it ({error})")
            return None
        path = f"{self.place.project}.{self.place.staging_dataset}.{aside}"
        query = bigquery_sums.summing(path, table.definition["schema"]["fields"], table.partitioning)
        answer = self.bigquery.query(query, job_name(self.place.staging_dataset, aside, table.key, "sums"))
        with self._lock:
            self.scanned_bytes += answer.scanned_bytes
        found = appends.proven(likely, bigquery_sums.read(answer), sums)
        if other := sorted(likely.keys() - found.keys()):
            self.notes.append(
                f"{table.key} is `appended`, and rows of it were altered or deleted, or streamed in late"
                f" ({', '.join(other[:3])}): extracted whole"
            )
        return Appended(aside, found) if found else None

    # -- extracts -----------------------------------------------------------------------------------------------------

    def extracted(self, table: Table, part: str, appended: Appended | None = None) -> Sequence[StagedObject]:
        """Have a partition written into the bucket, or what was added to it; the files. Raises SourceError."""
        with self._lock:
            self._begun += 1
            below = f"{self.place.extracts}{table.snapshot}/{self._begun:08}/"
            aside = f"{table.snapshot}_{self._begun:08}"
        suffix = "" if part == WHOLE else f"${part}"
        if appended is not None and part in appended.former:
            source = self.bigquery.reference(self.place.staging_dataset, appended.aside + suffix)
            return self._written(table, source, below)
        if table.has_texts:
            self._write_texts(table, part, aside)
            try:
                return self._written(table, self.bigquery.reference(self.place.staging_dataset, aside), below)
            finally:
                with suppress(*FAILURES):  # it expires by itself, and the next capture removes what is left
                    self.bigquery.delete_table(self.place.staging_dataset, aside)
        return self._written(
            table, self.bigquery.reference(self.place.snapshots_dataset, table.snapshot + suffix), below
        )

    def _write_texts(self, table: Table, part: str, aside: str) -> None:
        """Have a partition written into a table beside its snapshot, as files have it."""
        listed = as_text.written(table.definition["schema"]["fields"])
        path = f"{self.place.project}.{self.place.snapshots_dataset}.{table.snapshot}"
        statement = f"SELECT {listed} FROM `{path}` WHERE {table.partitioning.only(part)}"
        self.select_into(aside, statement, table, "texts")

    def select_into(self, aside: str, statement: str, table: Table, why: str) -> None:
        """Have a query write a table beside the snapshots, cut as the table is where it has its columns."""
        cut = {} if why == "texts" else documents.cut(table.definition)
        done = self.bigquery.job(
            {
                "query": {
                    "query": statement,
                    "useLegacySql": False,
                    "useQueryCache": False,
                    "destinationTable": self.bigquery.reference(self.place.staging_dataset, aside),
                    "writeDisposition": "WRITE_TRUNCATE",
                    **cut,
                }
            },
            job_name(self.place.staging_dataset, table.key, aside, why),
            "bigquery.tables.getData and bigquery.tables.create",
        )
        with self._lock:
            self.scanned_bytes += scanned(done)

    def _written(self, table: Table, source: Document, below: str) -> Sequence[StagedObject]:
        extract = {
            "sourceTable": source,
            "destinationUris": [f"{self.bucket.url}{below}*.avro"],
            "destinationFormat": "AVRO",
            "compression": "SNAPPY",
            "useAvroLogicalTypes": True,
        }
        done = self.bigquery.job(
            {"extract": extract},
            job_name(source["datasetId"], source["tableId"], table.key, below),
            "bigquery.tables.export, or storage.objects.create and storage.objects.delete in the bucket",
        )
        told = sum(int(count) for count in done["statistics"]["extract"]["destinationUriFileCounts"])
        files = list(self.bucket.list(below))
        if len(files) != told:
            raise self.refused(
                f"{table.key} was not extracted whole",
                why=f"its job wrote {told} files, and the bucket has {len(files)}",
                todo="see that nobody else deletes what lies in the bucket on the way; then back up again",
            )
        self._read_ahead(files)
        return files

    def _read_ahead(self, files: Sequence[StagedObject]) -> None:
        size_bytes = sum(file.size for file in files)
        with self._lock:
            if size_bytes > _AHEAD_BYTES or self._ahead_bytes + size_bytes > _MOST_AHEAD_BYTES:
                return
            self._ahead_bytes += size_bytes
        for file in files:
            with suppress(DamagedObjectError, *FAILURES):  # it is read again, and told then
                self._ahead[file] = self.bucket.read(file)
                continue
            with self._lock:
                self._ahead_bytes -= file.size

    def open(self, staged: StagedObject) -> ObjectReader | ObjectInMemory:
        """Read a file from the bucket; small ones were read while others were waited for."""
        there = self._ahead.pop(staged, None)
        if there is None:
            return self.bucket.open(staged)
        with self._lock:
            self._ahead_bytes -= staged.size
        return there

    def done_with(self, staged: StagedObject) -> None:
        """A file was read: it is needed no longer. What cannot be removed now is removed in the end."""
        self.beside.submit(self.bucket.delete, staged)

    def close(self) -> None:
        """Wait for what is being removed."""
        self.beside.shutdown(wait=True)

    def refused(self, what: str, *, why: str, todo: str) -> SourceError:
        """An error of this source."""
        return SourceError(f"source {self.place.name}: {what}", why=why, todo=todo)


def size(number: int) -> str:
    """Bytes for people, as BigQuery counts what it bills."""
    value, units = float(number), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:,.1f} {units[0]}" if units[0] != "bytes" else f"{number} bytes"
