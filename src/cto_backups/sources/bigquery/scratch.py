"""A restore test: the point's tables loaded into a dataset for this alone, summed up, compared; then it is dropped."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import RestoreError, VerificationError
from cto_backups.sources.bigquery import documents, sums
from cto_backups.sources.bigquery.bucket import DamagedObjectError
from cto_backups.sources.bigquery.client import BigQuery, job_name
from cto_backups.sources.bigquery.extract import size
from cto_backups.sources.bigquery.loading import Loader
from cto_backups.sources.bigquery.place import KEPT_MS, OURS, Place
from cto_backups.sources.bigquery.point import StoredPoint, StoredTable
from cto_backups.sources.bigquery.proof import PROJECT, fingerprint, rows_digest
from cto_backups.sources.bigquery.sums import ALGORITHM, PartitionSums
from cto_backups.sources.bigquery.words import FAILURES, telling


class Proof:
    """One test of what came back to a folder; `notes` say what was scanned for it."""

    def __init__(self, place: Place) -> None:
        self.notes: tuple[str, ...] = ()
        self._place = place

    def fingerprint(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """What BigQuery says of the tables once they are loaded. Raises VerificationError."""
        self.notes = ()
        name = self._place.name
        project = next((sample for sample in expected.samples if sample.key == PROJECT), None)
        if expected.algorithm != ALGORITHM or project is None:
            raise VerificationError(
                f"source {name}: the fingerprint is not one of a BigQuery project",
                why=f"it is {expected.algorithm}",
                todo="make a new recovery point",
            )
        with telling(f"source {name}: the restored tables could not be proven", VerificationError):
            try:
                return self._found(StoredPoint(restored), expected, project)
            except (RestoreError, DamagedObjectError) as error:
                raise VerificationError(
                    f"source {name}: the restored tables do not work",
                    why=str(error),
                    todo="verify the vault, and test an older recovery point",
                ) from error

    def _found(self, point: StoredPoint, expected: Fingerprint, project: Sample) -> Fingerprint:
        tables = point.tables()
        with self._place.opened() as (bigquery, bucket):
            bucket.clear(self._place.loads, clock.now() - timedelta(milliseconds=KEPT_MS))
            with dataset_of_ours(self._place, bigquery) as dataset:
                loader = Loader(self._place, bigquery, bucket)
                names = [f"t{number:05}" for number in range(len(tables))]
                with ThreadPoolExecutor(self._place.threads, thread_name_prefix="load") as pool:
                    for done in [
                        pool.submit(loader.load, table, dataset, name, bare=True)
                        for table, name in zip(tables, names, strict=True)
                    ]:
                        done.result()
                    self._check_budget(bigquery, dataset, tables, names)
                    found = list(
                        pool.map(lambda each: _summed(bigquery, dataset, *each), zip(tables, names, strict=True))
                    )
                scanned = sum(loader.scanned) + sum(bytes_read for _, _, bytes_read in found)
                self.notes = (*self.notes, f"BigQuery scanned {size(scanned)} for the fingerprint")
        summed = {table.key: parts for table, (parts, _, _) in zip(tables, found, strict=True)}
        definitions = {table.key: documents.digest(made) for table, (_, made, _) in zip(tables, found, strict=True)}
        differ = [
            f"{table.key}: {part}"
            for table in tables
            if rows_digest(expected, table.key) not in (None, sums.table_digest(summed[table.key]))
            for part in sums.differing(table.state.sums, summed[table.key])
        ]
        if differ:
            raise VerificationError(
                f"source {self._place.name}: {len(differ)} partitions do not hold what was captured",
                why="; ".join(differ[:5]),
                todo="verify the vault, and test an older recovery point",
            )
        return fingerprint(project, summed, definitions, point.files())

    def _check_budget(
        self, bigquery: BigQuery, dataset: str, tables: Sequence[StoredTable], names: Sequence[str]
    ) -> None:
        budget = self._place.budget_bytes
        if budget is None:
            return
        queries = [_summing(bigquery, dataset, table, name) for table, name in zip(tables, names, strict=True)]
        with ThreadPoolExecutor(self._place.jobs, thread_name_prefix="estimate") as pool:
            estimated = sum(pool.map(bigquery.estimate, queries))
        self.notes = (f"{size(estimated)} were estimated",)
        if estimated > budget:
            raise VerificationError(
                f"source {self._place.name}: a restore test would have BigQuery scan more than its budget",
                why=f"{size(estimated)} are estimated, and `budget` is {size(budget)}",
                todo="raise `budget`: a test that may not read its tables proves nothing",
            )


def _summing(bigquery: BigQuery, dataset: str, table: StoredTable, name: str) -> str:
    path = f"{bigquery.project}.{dataset}.{name}"
    return sums.summing(path, table.definition["schema"]["fields"], table.partitioning)


def _summed(
    bigquery: BigQuery, dataset: str, table: StoredTable, name: str
) -> tuple[Mapping[str, PartitionSums], Any, int]:
    """What a loaded table sums up to, what it is made of, and how many bytes were scanned."""
    answer = bigquery.query(_summing(bigquery, dataset, table, name), job_name(dataset, name, "sums"))
    made = documents.made_of(documents.lasting(bigquery.table(dataset, name)))
    return sums.read(answer), made, answer.scanned_bytes


@contextmanager
def dataset_of_ours(place: Place, bigquery: BigQuery) -> Iterator[str]:
    """A new dataset, dropped in the end whatever happens; those that killed tests left go first."""
    begins = f"{OURS}test_{place.own_name}_"
    too_old = int(clock.now().timestamp() * 1000) - KEPT_MS
    for each in bigquery.datasets():
        left = each["datasetReference"]["datasetId"]
        if left.startswith(begins) and int(bigquery.dataset(left).get("creationTime", 0)) < too_old:
            bigquery.delete_dataset(left)
    name = f"{begins}{secrets.token_hex(6)}"
    bigquery.make_dataset(place.scratch(name))
    try:
        yield name
    except BaseException:
        with suppress(*FAILURES):  # what went wrong first is told
            bigquery.delete_dataset(name)
        raise
    bigquery.delete_dataset(name)
