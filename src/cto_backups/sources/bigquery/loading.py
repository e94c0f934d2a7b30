"""Bringing tables back: their schema first, then their rows by load jobs, from Avro files by way of the bucket.

https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-avro. A table is made before it is loaded: a load that
makes it would not know what was required, described, or partitioned.
"""

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cto_backups.errors import RestoreError
from cto_backups.sources.bigquery.bucket import Bucket
from cto_backups.sources.bigquery.client import BigQuery, Document
from cto_backups.sources.bigquery.documents import made_of
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.point import StoredTable

_KEPT: Final = (
    *("schema", "timePartitioning", "rangePartitioning", "clustering", "description", "friendlyName", "labels"),
    *("tableConstraints", "defaultCollation", "defaultRoundingMode", "encryptionConfiguration", "maxStaleness"),
    *("requirePartitionFilter", "resourceTags"),
)


@dataclass(frozen=True)
class Loader:
    """Makes tables in datasets of one project."""

    place: Place
    bigquery: BigQuery
    bucket: Bucket

    def load(self, table: StoredTable, dataset: str, name: str, *, bare: bool = False) -> list[str]:
        """Make a table, and load its rows; what a person should know. `bare`: without what belongs to its former place.

        Raises RestoreError, and what `words.FAILURES` has.
        """
        document, notes = _made_anew(table, bare=bare)
        document["tableReference"] = self.bigquery.reference(dataset, name)
        self.bigquery.make_table(dataset, document)
        files = {part: table.files(part) for part in sorted(table.state.parts)}
        parts = [part for part in files if table.state.parts[part].sums.rows]
        token = secrets.token_hex(8)
        below = f"{self.place.loads}{token}/"
        try:
            loaded = 0
            if table.partitioning.is_by_arrival:
                for number, part in enumerate(parts):
                    loaded += self._loaded(f"{below}{number:06}/", files[part], dataset, f"{name}${part}")
            elif parts:
                loaded = self._loaded(below, [file for part in parts for file in files[part]], dataset, name)
        finally:
            self.bucket.clear(below)
        if loaded != table.rows:
            raise RestoreError(
                f"source {self.place.name}: {table.key} came back with {loaded:,} rows, and not {table.rows:,}",
                why="its load job says so",
                todo="verify the vault, and restore again; or take another point",
            )
        return notes

    def _loaded(self, below: str, files: Sequence[Path], dataset: str, name: str) -> int:
        """Put files into the bucket, and have them loaded; how many rows they held."""
        with ThreadPoolExecutor(self.place.jobs, thread_name_prefix="upload") as pool:
            puts = [pool.submit(self.bucket.put, f"{below}{n:06}.avro", file) for n, file in enumerate(files)]
            for put in puts:
                put.result()
        load = {
            "sourceUris": [f"{self.bucket.url}{below}*.avro"],
            "destinationTable": self.bigquery.reference(dataset, name),
            "sourceFormat": "AVRO",
            "useAvroLogicalTypes": True,
            "decimalTargetTypes": ["NUMERIC", "BIGNUMERIC"],
            "createDisposition": "CREATE_NEVER",
            "writeDisposition": "WRITE_APPEND",
        }
        done = self.bigquery.job(
            {"load": load},
            f"cto_backups_load_{secrets.token_hex(16)}",
            "bigquery.tables.updateData, or storage.objects.get in the bucket",
        )
        return int(done["statistics"]["load"]["outputRows"])


def _made_anew(table: StoredTable, *, bare: bool) -> tuple[Document, list[str]]:
    """How a table is made, and what a person has to do afterwards."""
    if bare:
        document = made_of(table.definition)
        if key := table.definition.get("encryptionConfiguration"):
            document["encryptionConfiguration"] = key
        return document, []
    document = {name: table.definition[name] for name in _KEPT if table.definition.get(name)}
    notes = []
    by_time = document.get("timePartitioning", {})
    if by_time.get("expirationMs"):
        # Partitions that are older than that would be gone as soon as they are loaded.
        document["timePartitioning"] = {name: value for name, value in by_time.items() if name != "expirationMs"}
        days = int(by_time["expirationMs"]) / 86_400_000
        notes.append(f"{table.key} keeps all of its partitions now: it had partition_expiration_days = {days:g}")
    if table.definition.get("expirationTime"):
        notes.append(f"{table.key} does not expire now, as it did before")
    return document, notes
