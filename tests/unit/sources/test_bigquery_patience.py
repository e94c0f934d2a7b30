"""When jobs of BigQuery are looked at again."""

from hypothesis import given
from hypothesis import strategies as st

from cto_backups.sources.bigquery.patience import Patience


def looks(patience: Patience, took: float) -> tuple[int, float]:
    """How often a job is looked at that takes so long, and how much later than it was done."""
    waited, number = 0.0, 0
    while waited < took:
        waited += patience.pause("copy", waited)
        number += 1
    patience.done("copy", waited, number)
    return number, waited - took


@given(st.floats(0.5, 100))
def test_jobs_that_take_as_long_as_others_are_looked_at_a_few_times_and_in_time(took: float) -> None:
    patience = Patience()
    for _ in range(40):
        number, late = looks(patience, took)
    assert number <= 5 + took / 10
    assert late <= max(0.15 * took, 0.1)


@given(st.floats(0.01, 3000))
def test_the_first_of_a_kind_is_looked_at_soon_and_then_ever_less(took: float) -> None:
    number, late = looks(Patience(), took)
    assert number <= 20 + took / 10
    assert late <= max(took, 0.1)


@given(st.lists(st.floats(0.01, 500), min_size=1, max_size=30))
def test_no_pause_is_longer_than_ten_seconds_whatever_was_before(jobs: list[float]) -> None:
    patience = Patience()
    for took in jobs:
        looks(patience, took)
        for waited in (0.0, 1.0, 10_000.0):
            assert 0.05 <= patience.pause("copy", waited) <= 10.0


def test_kinds_are_told_apart() -> None:
    patience = Patience()
    patience.done("query", 8.0, 3)
    assert patience.pause("copy", 0.0) == 0.1
    assert patience.pause("query", 0.0) > 7.0


def test_lists_begin_shortly_before_the_shortest_of_a_kind_and_leave_stragglers_out() -> None:
    patience = Patience()
    assert patience.ripe("copy")[0] == 0.0, "nobody knows"
    for _ in range(60):
        for took in (2.0, 4.0, 9.0):
            patience.done("copy", took + 0.3, 2, took)
    begins, ends = patience.ripe("copy")
    assert 1.5 <= begins <= 3.0
    assert ends > 9.0
    assert patience.ripe("query")[0] == 0.0


@given(st.floats(0.2, 600))
def test_between_lists_passes_a_small_share_of_what_jobs_take_and_no_more_than_25_are_asked_a_second(
    took: float,
) -> None:
    patience = Patience()
    for _ in range(10):
        patience.done("copy", 2 * took, 2, took)
    gap = patience.gap("copy", 0.0)
    assert gap >= 0.04
    assert gap <= max(0.03 * took, 0.04)
    assert patience.gap("query", took) >= 0.04, "nobody knows: by how long it has been waited for"


@given(st.floats(0.2, 600), st.floats(0, 1000))
def test_what_lists_should_tell_of_is_looked_at_when_it_is_overdue(took: float, waited: float) -> None:
    patience = Patience()
    patience.done("copy", took, 2, took)
    assert 2.0 <= patience.overdue("copy", waited) <= 60.0
    assert waited + patience.overdue("copy", waited) >= min(took + 2.0, waited + 60.0) - 0.001
    assert patience.overdue("query", waited) >= 2.0
