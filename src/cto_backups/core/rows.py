"""How many rows a source holds, and each database of a server, as fingerprints say; and which loss of them is large.

A sum of all may hide that one database was emptied.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from cto_backups.core.model import Fingerprint, Sample

_OF: Final = "rows of "
_ROWS: Final = "rows"
LEAST_LOSS_ROWS: Final = 1000
"""Fewer than so many that went are no large loss, whatever their share."""
MOST_SHARE: Final = 0.5
NEARLY_ALL_SHARE: Final = 0.9


def rows_of(fingerprint: Fingerprint) -> int | None:
    """How many rows a source counted in all; None where it has none, or did not count."""
    return fingerprint.counts.get(_ROWS)


def lost_most(before: int, now: int) -> bool:
    """Whether at least half of the rows went, and many."""
    return _lost(before, now, MOST_SHARE)


def lost_nearly_all(before: int, now: int) -> bool:
    """Whether all rows went, or nine tenths of them, and many."""
    return now == 0 < before or _lost(before, now, NEARLY_ALL_SHARE)


def _lost(before: int, now: int, share: float) -> bool:
    return before - now >= max(LEAST_LOSS_ROWS, share * before)


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
