"""The rows of each database of a server, told apart from the sum of all."""

import pytest

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.rows import lost_most, lost_nearly_all, rows_in, rows_of, rows_samples


def test_each_of_several_databases_is_told() -> None:
    rows = {"shop": 12, "ledger": 0, "odd: name": 7}
    assert rows_in(Fingerprint("x", {}, {}, tuple(rows_samples(rows)))) == rows


def test_of_one_the_count_of_all_says_it() -> None:
    assert rows_samples({"shop": 12}) == ()
    assert rows_in(Fingerprint("x", {}, {})) == {}


def test_a_table_whose_name_looks_like_it_is_no_database() -> None:
    table = Sample("rows of shop: orders", {"rows": "12", "sum_1": "a"})
    assert rows_in(Fingerprint("x", {}, {}, (table,))) == {}


def test_who_did_not_count_tells_no_number() -> None:
    assert rows_of(Fingerprint("x", {}, {"rows": 0})) == 0
    assert rows_of(Fingerprint("x", {}, {"files": 3})) is None


@pytest.mark.parametrize(
    ("before", "now", "most", "nearly_all"),
    [
        (1, 0, False, True),
        (0, 0, False, False),
        (999, 1, False, False),
        (1000, 0, True, True),
        (1100, 100, True, True),
        (1999, 1000, False, False),
        (2000, 1000, True, False),
        (10_000, 1_001, True, False),
        (10_000, 1_000, True, True),
        (10_000, 5_001, False, False),
        (5, 5_000, False, False),
    ],
)
def test_a_loss_is_large_by_its_share_and_by_its_number(before: int, now: int, most: bool, nearly_all: bool) -> None:
    assert (lost_most(before, now), lost_nearly_all(before, now)) == (most, nearly_all)
