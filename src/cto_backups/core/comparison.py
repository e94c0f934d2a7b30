"""Whether restored data is what was captured: two fingerprints, compared part by part, with every difference named."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from cto_backups.core.log_range import summed_until
from cto_backups.core.model import Fingerprint, Sample

NOTHING_IGNORED: Mapping[str, str] = MappingProxyType({})
BEYOND_SAMPLES: Final = "rows_beyond_samples"
"""The count by which a fingerprint says of how many rows it tells only that they are there, and not what is in them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on each part of a fingerprint, and every difference in a sentence.

    `ignored` maps what could not be compared here (checksums, sample fields) to the reason. `beyond_samples` is how
    many rows were counted only, since just samples of large tables are compared, and `summed_until` is set where
    the log of a point leads on from the moment of which it tells: such a comparison proves less.
    """

    checksums_match: bool
    row_counts_match: bool
    sample_data_valid: bool
    differences: tuple[str, ...]
    ignored: Mapping[str, str] = field(default_factory=dict)
    beyond_samples: int = 0
    summed_until: str = ""

    @property
    def is_of_a_part(self) -> bool:
        """Whether there is more than what was compared."""
        return self.beyond_samples > 0 or self.summed_until != ""

    @property
    def passed(self) -> bool:
        """Whether every part agrees."""
        return self.checksums_match and self.row_counts_match and self.sample_data_valid


def compare(expected: Fingerprint, actual: Fingerprint, *, ignore: Mapping[str, str] = NOTHING_IGNORED) -> Comparison:
    """Compare what was captured with what came back.

    `ignore` maps names of checksums and of sample fields that cannot be compared in this place to the reason. No
    evidence is no proof: a part with nothing to compare fails, unless every count says that there was nothing to
    sample.
    """
    checksums = _compare_checksums(expected, actual, ignore)
    counts = _compare_counts(expected, actual)
    samples = _compare_samples(expected, actual, ignore)
    known = {*expected.checksums, *(name for sample in expected.samples for name in sample.fields)}
    return Comparison(
        checksums_match=not checksums,
        row_counts_match=not counts,
        sample_data_valid=not samples,
        differences=(*checksums, *counts, *samples),
        ignored={name: reason for name, reason in ignore.items() if name in known},
        beyond_samples=expected.counts.get(BEYOND_SAMPLES, 0),
        summed_until=summed_until(expected),
    )


def _compare_checksums(expected: Fingerprint, actual: Fingerprint, ignore: Mapping[str, str]) -> tuple[str, ...]:
    if expected.algorithm != actual.algorithm:
        return (f"fingerprints of two kinds: captured as {expected.algorithm}, restored as {actual.algorithm}",)
    if not set(expected.checksums) - set(ignore):
        return ("no checksum was captured that could be compared, so nothing is proven",)
    return tuple(_unequal("checksum", expected.checksums, actual.checksums, ignore))


def _compare_counts(expected: Fingerprint, actual: Fingerprint) -> tuple[str, ...]:
    if not expected.counts:
        return ("no count was captured, so nothing is proven",)
    return tuple(_unequal("count", expected.counts, actual.counts, NOTHING_IGNORED))


def _compare_samples(expected: Fingerprint, actual: Fingerprint, ignore: Mapping[str, str]) -> tuple[str, ...]:
    if not expected.samples:
        if any(expected.counts.values()):
            return ("no sample was captured although there was data, so nothing is proven",)
        return tuple(f"sample {sample.key} was restored, but there was nothing to sample" for sample in actual.samples)
    if not any(set(sample.fields) - set(ignore) for sample in expected.samples):
        return ("no field of any sample could be compared, so nothing is proven",)
    restored = {sample.key: sample for sample in actual.samples}
    return tuple(difference for sample in expected.samples for difference in _unequal_sample(sample, restored, ignore))


def _unequal_sample(sample: Sample, restored: Mapping[str, Sample], ignore: Mapping[str, str]) -> Iterable[str]:
    if sample.key not in restored:
        return (f"sample {sample.key} is missing",)
    return _unequal(f"sample {sample.key}, field", sample.fields, restored[sample.key].fields, ignore)


def _unequal(
    what: str, expected: Mapping[str, object], actual: Mapping[str, object], ignore: Mapping[str, str]
) -> Iterable[str]:
    for name in sorted({*expected, *actual} - set(ignore)):
        if name not in actual:
            yield f"{what} {name} is missing"
        elif name not in expected:
            yield f"{what} {name} was not there at capture"
        elif expected[name] != actual[name]:
            yield f"{what} {name} differs: captured {expected[name]}, restored {actual[name]}"
