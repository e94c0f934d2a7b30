"""The fingerprint of a point, put together from what was found of each table; and the same of tables loaded anew."""

from collections.abc import Mapping
from typing import Final

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.rows import rows_samples
from cto_backups.sources.bigquery.sums import ALGORITHM, PartitionSums, samples, table_digest

PROJECT: Final = "project"
"""The sample that says of which project and location a point is."""
_ROWS, _DEFINITION, _FILE = ": rows", ": definition", "file "


def fingerprint(
    project: Sample,
    sums: Mapping[str, Mapping[str, PartitionSums]],
    definitions: Mapping[str, str],
    files: Mapping[str, str],
) -> Fingerprint:
    """`sums` are of tables by DATASET.TABLE.

    `definitions` are digests of what those are made of, `files` those of the JSON beside them, by paths.
    """
    checksums = {f"{key}{_ROWS}": table_digest(parts) for key, parts in sums.items()}
    checksums |= {f"{key}{_DEFINITION}": found for key, found in definitions.items()}
    checksums |= {f"{_FILE}{path}": found for path, found in files.items()}
    rows = {key: sum(part.rows for part in parts.values()) for key, parts in sums.items()}
    of_datasets: dict[str, int] = {}
    for key, count in sorted(rows.items()):
        dataset = key.partition(".")[0]
        of_datasets[dataset] = of_datasets.get(dataset, 0) + count
    taken = [project, *rows_samples(of_datasets)]
    for key in sorted(sums):
        taken += samples(key, sums[key])
    counts = {"tables": len(sums), "rows": sum(rows.values()), "files": len(files)}
    return Fingerprint(ALGORITHM, checksums, counts, tuple(taken))


def tables_of(told: Fingerprint, dataset: str) -> list[str]:
    """The tables of a dataset that a fingerprint tells of, by their names."""
    begins = f"{dataset}."
    keys = (key.removesuffix(_ROWS) for key in told.checksums if key.endswith(_ROWS) and key.startswith(begins))
    return sorted(key.removeprefix(begins) for key in keys)


def rows_digest(told: Fingerprint, key: str) -> str | None:
    """What a fingerprint says of the rows of a table; None where it does not."""
    return told.checksums.get(f"{key}{_ROWS}")
