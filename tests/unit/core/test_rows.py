"""The rows of each database of a server, told apart from the sum of all."""

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.rows import rows_in, rows_samples


def test_each_of_several_databases_is_told() -> None:
    rows = {"shop": 12, "ledger": 0, "odd: name": 7}
    assert rows_in(Fingerprint("x", {}, {}, tuple(rows_samples(rows)))) == rows


def test_of_one_the_count_of_all_says_it() -> None:
    assert rows_samples({"shop": 12}) == ()
    assert rows_in(Fingerprint("x", {}, {})) == {}


def test_a_table_whose_name_looks_like_it_is_no_database() -> None:
    table = Sample("rows of shop: orders", {"rows": "12", "sum_1": "a"})
    assert rows_in(Fingerprint("x", {}, {}, (table,))) == {}
