"""Bringing tables back: their schema first, then their rows by load jobs, from Avro files by way of the bucket.

https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-avro. A table is made before it is loaded: a load that
makes it would not know what was required, described, or partitioned.
"""

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cto_backups.errors import RestoreError
from cto_backups.sources.bigquery import as_text
from cto_backups.sources.bigquery.bucket import Bucket
from cto_backups.sources.bigquery.client import BigQuery, Document, scanned
from cto_backups.sources.bigquery.documents import made_of
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.point import StoredTable

_KEPT: Final = (
    *("schema", "timePartitioning", "rangePartitioning", "clustering", "description", "friendlyName", "labels"),
    *("tableConstraints", "defaultCollation", "defaultRoundingMode", "encryptionConfiguration", "maxStaleness"),
    *("requirePartitionFilter", "resourceTags"),
)


class Loads(Protocol):
    """Makes the tables of a point again, in a dataset."""

    def load(self, table: StoredTable, dataset: str, name: str, *, bare: bool = False) -> list[str]:
        """Make a table with its rows; what a person should know. `bare`: without what belongs to its former place."""


@dataclass(frozen=True)
class Loader:
    """Implements `Loads`: makes tables of files, in datasets of one project.

    `scanned` are the bytes that BigQuery read for each query of it.
    """

    place: Place
    bigquery: BigQuery
    bucket: Bucket
    scanned: list[int] = field(default_factory=list)

    def load(self, table: StoredTable, dataset: str, name: str, *, bare: bool = False) -> list[str]:
        """Make a table, and load its rows; what a person should know. `bare`: without what belongs to its former place.

        Raises RestoreError, and what `words.FAILURES` has.
        """
        document, notes = made_anew(table, bare=bare)
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
                    loaded += self._part(f"{below}{number:06}/", files[part], table, dataset, name, part)
            elif parts:
                every = [file for part in parts for file in files[part]]
                loaded = self._part(below, every, table, dataset, name)
        finally:
            self.bucket.clear(below)
        if loaded != table.rows:
            raise RestoreError(
                f"source {self.place.name}: {table.key} came back with {loaded:,} rows, and not {table.rows:,}",
                why="its load job says so",
                todo="verify the vault, and restore again; or take another point",
            )
        return notes

    def _part(
        self, below: str, files: Sequence[Path], table: StoredTable, dataset: str, name: str, part: str = ""
    ) -> int:
        """Have files loaded into a table, or into the `part` of one that is cut by when rows came; how many rows."""
        if not table.state.has_texts:
            return self._loaded(below, files, dataset, f"{name}${part}" if part else name)
        fields = table.definition["schema"]["fields"]
        aside = f"cto_backups_texts_{secrets.token_hex(8)}"
        reference = self.bigquery.reference(dataset, aside)
        self.bigquery.make_table(dataset, {"tableReference": reference, "schema": {"fields": as_text.columns(fields)}})
        try:
            loaded = self._loaded(below, files, dataset, aside)
            read = self._read_texts(
                fields, f"{dataset}.{aside}", f"{dataset}.{name}", part and table.partitioning.arrival(part)
            )
        finally:
            self.bigquery.delete_table(dataset, aside)
        return min(loaded, read)

    def _read_texts(self, fields: Sequence[as_text.Field], source: str, target: str, arrival: str) -> int:
        """Move rows out of a table that has columns as text; how many there were."""
        names = ", ".join([*(["_PARTITIONTIME"] if arrival else []), *(f"`{each['name']}`" for each in fields)])
        listed = f"{arrival}, {as_text.read(fields)}" if arrival else as_text.read(fields)
        project = self.place.project
        statement = f"INSERT INTO `{project}.{target}` ({names}) SELECT {listed} FROM `{project}.{source}`"
        done = self.bigquery.job(
            {"query": {"query": statement, "useLegacySql": False}},
            f"cto_backups_texts_{secrets.token_hex(16)}",
            "bigquery.tables.updateData and bigquery.tables.getData",
        )
        self.scanned.append(scanned(done))
        return int(done["statistics"]["query"]["numDmlAffectedRows"])

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


def made_anew(table: StoredTable, *, bare: bool) -> tuple[Document, list[str]]:
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
