"""How many rows each database of a server holds, as a fingerprint says: a sum of all may hide that one was emptied."""

from collections.abc import Mapping, Sequence
from typing import Final

from cto_backups.core.model import Fingerprint, Sample

_OF: Final = "rows of "
_ROWS: Final = "rows"


def rows_samples(rows: Mapping[str, int]) -> Sequence[Sample]:
    """A sample for each of several databases; of one alone, the count of all rows says it already."""
    if len(rows) < 2:
        return ()
    return [Sample(f"{_OF}{name}", {_ROWS: str(count)}) for name, count in rows.items()]


def rows_in(fingerprint: Fingerprint) -> Mapping[str, int]:
    """The rows of each database by its name; nothing where a fingerprint does not tell."""
    return {
        sample.key.removeprefix(_OF): int(sample.fields[_ROWS])
        for sample in fingerprint.samples
        if sample.key.startswith(_OF) and set(sample.fields) == {_ROWS}
    }
