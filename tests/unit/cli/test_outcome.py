"""Which exit status wins."""

from itertools import permutations

from cto_backups.cli.outcome import ORDER, worst
from cto_backups.errors import ExitStatus


def test_every_exit_status_has_exactly_one_place_in_the_order() -> None:
    assert sorted(ORDER) == sorted(ExitStatus)


def test_nothing_done_is_success() -> None:
    assert worst([]) is ExitStatus.SUCCESS


def test_the_worst_wins_wherever_it_stands() -> None:
    three = (ExitStatus.SUCCESS, ExitStatus.VAULT, ExitStatus.INCOMPLETE)
    assert {worst(order) for order in permutations(three)} == {ExitStatus.INCOMPLETE}


def test_data_that_no_vault_has_is_worse_than_a_vault_without_its_copy() -> None:
    assert worst([ExitStatus.SOURCE, ExitStatus.VAULT]) is ExitStatus.SOURCE
    assert worst([ExitStatus.INCOMPLETE, ExitStatus.VAULT]) is ExitStatus.INCOMPLETE
