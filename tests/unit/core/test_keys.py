"""The port of keys tells stores that are opened with keys from those that are not."""

from cto_backups.core.keys import MOST_KEYS, Keyed, KeyFile


class Opened:
    keys = (KeyFile("ab", None, "user", "host"),)


def test_a_store_with_keys_is_told_from_one_without():
    assert isinstance(Opened(), Keyed)
    assert not isinstance(object(), Keyed)


def test_there_may_be_as_many_keys_as_stock_restic_looks_at():
    assert MOST_KEYS == 20
