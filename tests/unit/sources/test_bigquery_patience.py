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
