from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.comparison import BEYOND_SAMPLES, compare
from cto_backups.core.model import Fingerprint, Sample

names = st.text("abc", min_size=1, max_size=3)
samples = st.lists(
    st.builds(Sample, names, st.dictionaries(names, names, min_size=1)), min_size=1, unique_by=lambda sample: sample.key
)
fingerprints = st.builds(
    Fingerprint,
    st.just("files/1"),
    st.dictionaries(names, names, min_size=1),
    st.dictionaries(names, st.integers(0, 9), min_size=1),
    samples.map(tuple),
)
CAPTURED = Fingerprint(
    "files/1", {"content": "ab", "owners": "cd"}, {"files": 2}, (Sample("a", {"size": "1", "owner": "ada"}),)
)


@given(fingerprints)
def test_equal_fingerprints_with_evidence_in_every_part_match(fingerprint):
    comparison = compare(fingerprint, fingerprint)
    assert comparison.passed
    assert comparison.differences == ()


@given(fingerprints, fingerprints)
def test_different_fingerprints_never_match_and_every_failure_has_a_difference(expected, actual):
    comparison = compare(expected, actual)
    by_key = {sample.key: sample for sample in actual.samples}
    same = (
        expected.checksums == actual.checksums
        and expected.counts == actual.counts
        and all(by_key.get(sample.key) == sample for sample in expected.samples)
    )
    assert comparison.passed == same
    assert bool(comparison.differences) != comparison.passed


@pytest.mark.parametrize(
    ("restored", "parts", "difference"),
    [
        (
            replace(CAPTURED, checksums={"content": "xx", "owners": "cd"}),
            (False, True, True),
            "captured ab, restored xx",
        ),
        (replace(CAPTURED, checksums={"content": "ab"}), (False, True, True), "checksum owners is missing"),
        (
            replace(CAPTURED, checksums={**CAPTURED.checksums, "new": "1"}),
            (False, True, True),
            "checksum new was not there at capture",
        ),
        (replace(CAPTURED, algorithm="files/2"), (False, True, True), "captured as files/1, restored as files/2"),
        (replace(CAPTURED, counts={"files": 1}), (True, False, True), "count files differs: captured 2, restored 1"),
        (replace(CAPTURED, counts={}), (True, False, True), "count files is missing"),
        (replace(CAPTURED, samples=()), (True, True, False), "sample a is missing"),
        (
            replace(CAPTURED, samples=(Sample("a", {"size": "1", "owner": "bob"}),)),
            (True, True, False),
            "sample a, field owner differs: captured ada, restored bob",
        ),
        (replace(CAPTURED, samples=(Sample("a", {"size": "1"}),)), (True, True, False), "field owner is missing"),
    ],
)
def test_each_part_is_judged_by_itself_and_the_difference_is_named(restored, parts, difference):
    comparison = compare(CAPTURED, restored)
    assert (comparison.checksums_match, comparison.row_counts_match, comparison.sample_data_valid) == parts
    assert len(comparison.differences) == 1
    assert difference in comparison.differences[0]


def test_what_cannot_be_compared_here_is_left_out_and_reported():
    restored = replace(CAPTURED, checksums={"content": "ab"}, samples=(Sample("a", {"size": "1", "owner": "root"}),))
    ignore = {"owners": "not root", "owner": "not root", "unknown": "of no concern"}
    comparison = compare(CAPTURED, restored, ignore=ignore)
    assert comparison.passed
    assert comparison.ignored == {"owners": "not root", "owner": "not root"}


def test_rows_beyond_samples_are_told():
    sampled = replace(CAPTURED, counts={**CAPTURED.counts, BEYOND_SAMPLES: 7})
    assert compare(sampled, sampled).beyond_samples == 7
    assert compare(CAPTURED, CAPTURED).beyond_samples == 0
    assert compare(sampled, sampled).is_of_a_part and not compare(CAPTURED, CAPTURED).is_of_a_part


def test_that_a_log_leads_on_from_what_was_summed_up_is_told():
    log = Sample("log", {"until": "2026-11-01T02:00:00+00:00", "summed_until": "2026-11-01T01:00:00+00:00"})
    earlier = replace(CAPTURED, samples=(*CAPTURED.samples, log))
    comparison = compare(earlier, earlier)
    assert comparison.passed and comparison.is_of_a_part
    assert comparison.summed_until == "2026-11-01T01:00:00+00:00"
    now = replace(CAPTURED, samples=(*CAPTURED.samples, Sample("log", {"until": "2026-11-01T02:00:00+00:00"})))
    assert not compare(now, now).is_of_a_part


def test_ignoring_everything_proves_nothing():
    ignore = dict.fromkeys(["content", "owners", "size", "owner"], "not here")
    comparison = compare(CAPTURED, CAPTURED, ignore=ignore)
    assert not comparison.checksums_match
    assert not comparison.sample_data_valid


def test_an_empty_fingerprint_never_matches():
    empty = Fingerprint("files/1", {}, {})
    comparison = compare(empty, empty)
    assert not comparison.checksums_match
    assert not comparison.row_counts_match
    assert not comparison.passed
    assert all("nothing is proven" in difference for difference in comparison.differences)


def test_data_without_samples_fails_but_nothing_to_sample_does_not():
    unsampled = replace(CAPTURED, samples=())
    assert not compare(unsampled, unsampled).sample_data_valid
    empty_folder = Fingerprint("files/1", {"content": "ab"}, {"files": 0})
    assert compare(empty_folder, empty_folder).passed
    assert not compare(empty_folder, replace(empty_folder, samples=CAPTURED.samples)).sample_data_valid
