"""A point that was restored to a folder: which datasets and tables are in it, and what they are made of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cto_backups.errors import RestoreError
from cto_backups.sources.bigquery.client import Document
from cto_backups.sources.bigquery.documents import file_name
from cto_backups.sources.bigquery.partitions import Partitioning
from cto_backups.sources.bigquery.state import FILE, State
from cto_backups.sources.bigquery.tree import DATA, TABLE

DATASET: Final = "dataset.json"


@dataclass(frozen=True)
class StoredTable:
    """A table of a point, in the folder that it came back to."""

    place: Path

    @cached_property
    def definition(self) -> Document:
        """As it was described. Raises RestoreError."""
        found: Document = _read(self.place / TABLE)
        return found

    @property
    def dataset(self) -> str:
        """The dataset that it was in."""
        return str(self.definition["tableReference"]["datasetId"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.definition["tableReference"]["tableId"])

    @property
    def key(self) -> str:
        """How it is called: DATASET.TABLE."""
        return f"{self.dataset}.{self.name}"

    @cached_property
    def state(self) -> State:
        """What was found of its partitions. Raises RestoreError."""
        try:
            found = State.read((self.place / FILE).read_bytes())
        except OSError as error:
            raise _lacking(self.place / FILE, error.strerror or "it cannot be read") from error
        if found is None:
            raise _lacking(self.place / FILE, "it is not what a backup writes")
        return found

    @property
    def partitioning(self) -> Partitioning:
        """How it is cut."""
        return Partitioning.of(self.definition)

    def files(self, part: str) -> Sequence[Path]:
        """The Avro files of a partition, in their order. Raises RestoreError when one is lacking."""
        folder = self.place / DATA / file_name(part)
        found = sorted(folder.glob("*.avro"))
        if len(found) != len(self.state.parts[part].files):
            raise _lacking(folder, f"{len(found)} files are there, and {len(self.state.parts[part].files)} were")
        return found

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(part.sums.rows for part in self.state.parts.values())


@dataclass(frozen=True)
class StoredPoint:
    """What lies in a folder."""

    place: Path

    def datasets(self) -> Iterator[tuple[str, Path]]:
        """Each dataset, and where it lies."""
        for file in sorted(self.place.glob(f"*/{DATASET}")):
            yield str(_read(file)["datasetReference"]["datasetId"]), file.parent

    def tables(self, dataset: Path | None = None) -> list[StoredTable]:
        """Every table, or those of a dataset, in the order of their folders."""
        pattern = f"tables/*/{TABLE}" if dataset is not None else f"*/tables/*/{TABLE}"
        return [StoredTable(file.parent) for file in sorted((dataset or self.place).glob(pattern))]

    def files(self) -> Mapping[str, str]:
        """The SHA-256 of each description, by its path."""
        return {
            f"/{file.relative_to(self.place)}": sha256(file.read_bytes()).hexdigest()
            for file in sorted(self.place.rglob("*.json"))
            if file.name != FILE
        }


def dataset_in(folder: Path) -> Document:
    """The description of the dataset in a folder. Raises RestoreError."""
    found: Document = _read(folder / DATASET)
    return found


def described(folder: Path) -> list[Any]:
    """What the JSON files in a folder describe, in the order of their names. Raises RestoreError."""
    return [_read(file) for file in sorted(folder.glob("*.json"))]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _lacking(file, str(error)) from error


def _lacking(file: Path, why: str) -> RestoreError:
    return RestoreError(
        f"{file} is lacking, or damaged", why=why, todo="restore it anew; or verify the vault, and take another point"
    )
