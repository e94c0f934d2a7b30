"""The page on exit statuses and the code say the same."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups import errors
from cto_backups.errors import BackupsError, ExitStatus


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "reference" / "exit-status.md").read_text("utf-8")


def kinds_of(kind: type[BackupsError]) -> Iterator[type[BackupsError]]:
    """Every kind of error below, in the order of the tree."""
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from kinds_of(below)


def test_the_table_lists_every_status_once_in_order(page: str) -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert [(int(number), name) for number, name, _, _ in rows] == [(int(each), each.name) for each in ExitStatus]
    assert all(means.strip() and todo.strip() for _, _, means, todo in rows)


def test_the_table_lists_every_kind_of_error(page: str) -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (yes|no) \|$", page, re.MULTILINE)
    assert rows == [
        (kind.code, str(int(kind.exit_status)), "yes" if kind.retryable else "no") for kind in kinds_of(BackupsError)
    ]


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\d+) ", errors.__doc__ or "")
    assert drawn == [(kind.__name__, str(int(kind.exit_status))) for kind in kinds_of(BackupsError)]


def test_codes_of_errors_are_unique() -> None:
    codes = [kind.code for kind in kinds_of(BackupsError)]
    assert len(codes) == len(set(codes))


def test_every_status_is_reached_by_an_error_or_is_one_of_three_others() -> None:
    reached = {kind.exit_status for kind in kinds_of(BackupsError)}
    others = {ExitStatus.SUCCESS, ExitStatus.RED, ExitStatus.INTERRUPTED}
    assert reached | others == set(ExitStatus)
    assert not reached & others
