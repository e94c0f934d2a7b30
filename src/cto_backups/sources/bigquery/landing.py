"""A dataset of a point, brought into the project: under a name that is free, or in the place of what stands there."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cto_backups import clock
from cto_backups.errors import RestoreError
from cto_backups.sources.bigquery import beside, sums
from cto_backups.sources.bigquery.client import BigQuery, Document, job_name
from cto_backups.sources.bigquery.loading import Loads
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.point import StoredPoint, StoredTable, dataset_in
from cto_backups.sources.bigquery.words import FAILURES

T = TypeVar("T")
R = TypeVar("R")
_DATASET: Final = (
    *("description", "friendlyName", "labels", "isCaseInsensitive", "defaultCollation", "defaultRoundingMode"),
    *("maxTimeTravelHours", "storageBillingModel", "defaultEncryptionConfiguration", "resourceTags"),
)
"""What a dataset that comes back has of the former; not what would let its tables expire, nor who may do what."""


@dataclass(frozen=True)
class Landing:
    """Brings datasets back by one login."""

    place: Place
    bigquery: BigQuery
    loader: Loads

    def anew(
        self, folder: Path, former: str, name: str, *, chosen: Sequence[str] = (), verify: bool = False
    ) -> list[str]:
        """Make the dataset `name` from the folder of one that was called `former`; what a person should know.

        `chosen` are tables, all when there are none: then all that is beside them is made as well. With `verify` what
        its tables sum up to is compared with the point. Whatever fails, nothing of it stays. Raises RestoreError.
        """
        document = dataset_in(folder)
        with self._made(name, document):
            tables = [table for table in StoredPoint(folder).tables(folder) if not chosen or table.name in chosen]
            notes = self._loaded(tables, name)
            if verify:
                self._compare(tables, name)
            if not chosen:
                notes += beside.make_beside(self.bigquery, folder, former, name, tables)
                notes += beside.access_note(document)
        return notes

    def in_place(self, folder: Path, name: str, *, verify: bool = False) -> tuple[str, list[str]]:
        """Put a dataset's tables in the place of those that stand there; where those are kept, and what to know.

        The point is loaded under another name first; what stands there is copied to a dataset of its own, and only then
        replaced, table by table, each at once.
        """
        token = f"{clock.now():%Y%m%dT%H%M%S}_{secrets.token_hex(2)}"
        kept, fresh = f"{name}_replaced_{token}", f"{name}_restored_{token}"
        notes = self.anew(folder, name, fresh, verify=verify)
        document = dataset_in(folder)
        tables = StoredPoint(folder).tables(folder)
        try:
            standing = {each["tableReference"]["tableId"]: each["type"] for each in self.bigquery.tables(name)}
            replaced = [table.name for table in tables if standing.get(table.name) == "TABLE"]
            with self._made(kept, document):
                self._each(lambda table: self._copy(name, kept, table, "WRITE_EMPTY"), replaced)
            self._each(lambda table: self._copy(fresh, name, table, "WRITE_TRUNCATE"), [table.name for table in tables])
        finally:
            with suppress(*FAILURES):
                self.bigquery.delete_dataset(fresh)
        lacking = sorted(standing.keys() - {table.name for table in tables})
        if lacking:
            notes.append(f"left as they are, since they are no tables of the point: {', '.join(lacking[:10])}")
        return kept, notes

    def _each(self, do: Callable[[T], R], each: Sequence[T]) -> list[R]:
        """Do the same for each, as many at once as jobs may be."""
        with ThreadPoolExecutor(self.place.threads, thread_name_prefix="land") as pool:
            return list(pool.map(do, each))

    def _loaded(self, tables: Sequence[StoredTable], name: str) -> list[str]:
        loads = self._each(lambda table: self.loader.load(table, name, table.name), tables)
        return [note for notes in loads for note in notes]

    def _compare(self, tables: Sequence[StoredTable], name: str) -> None:
        def differing(table: StoredTable) -> list[str]:
            path = f"{self.place.project}.{name}.{table.name}"
            query = sums.summing(path, table.definition["schema"]["fields"], table.partitioning)
            found = sums.read(self.bigquery.query(query, job_name(name, table.name, "verify")))
            return sums.differing(table.state.sums, found)

        for table, differ in zip(tables, self._each(differing, tables), strict=True):
            if differ:
                raise RestoreError(
                    f"source {self.place.name}: {table.key} does not hold what was captured",
                    why="; ".join(differ[:5]),
                    todo="nothing of it was kept; verify the vault, and take another point",
                )

    def _copy(self, source: str, target: str, table: str, disposition: str) -> None:
        copy = {
            "sourceTable": self.bigquery.reference(source, table),
            "destinationTable": self.bigquery.reference(target, table),
            "operationType": "COPY",
            "writeDisposition": disposition,
        }
        name = f"cto_backups_copy_{secrets.token_hex(16)}"
        self.bigquery.job({"copy": copy}, name, "bigquery.tables.getData and bigquery.tables.create")

    @contextmanager
    def _made(self, name: str, document: Document) -> Iterator[None]:
        """A new dataset, which is dropped should what is done in it fail."""
        made: Document = {each: document[each] for each in _DATASET if document.get(each)}
        made["datasetReference"] = {"projectId": self.place.project, "datasetId": name}
        self.bigquery.make_dataset({**made, "location": self.place.location})
        try:
            yield
        except BaseException:
            with suppress(*FAILURES):
                self.bigquery.delete_dataset(name)
            raise
