"""How long to wait for something under a limit."""

from collections.abc import Callable

import pytest

from cto_backups.core.limits import UNLIMITED, at_most


class Left:
    """A limit with so many seconds left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def left(self) -> float | None:
        return self.seconds

    def then(self, end: Callable[[], object]) -> None:
        raise AssertionError("nothing is begun")


def test_without_a_limit_nothing_is_ended_and_each_wait_is_as_long_as_it_is() -> None:
    ended: list[str] = []
    UNLIMITED.then(lambda: ended.append("ended"))
    assert (UNLIMITED.left(), at_most(UNLIMITED, 30.0), ended) == (None, 30.0, [])


@pytest.mark.parametrize(("left", "wait"), [(5.0, 5.0), (50.0, 30.0), (0.0, 0.001)])
def test_nothing_is_waited_for_longer_than_the_limit(left: float, wait: float) -> None:
    assert at_most(Left(left), 30.0) == wait
