"""What is asked of a database out of a point: which wishes are governed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cto_backups.core.database_restore import DatabaseSource, DatabaseWish
from cto_backups.core.ports import Existing

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wish", "is_governed"),
    [
        (DatabaseWish("ledger", NOW), False),
        (DatabaseWish("ledger", NOW, existing=Existing.OVERWRITE), False),
        (DatabaseWish("ledger", NOW, folder=Path("/dumps")), False),
        (DatabaseWish("ledger", NOW, folder=Path("/dumps"), existing=Existing.OVERWRITE), True),
        (DatabaseWish("ledger", NOW, in_place=True), True),
    ],
    ids=["beside", "beside, whatever is there", "a new dump", "over a dump", "in place"],
)
def test_only_what_takes_the_place_of_something_is_governed(wish: DatabaseWish, is_governed: bool) -> None:
    assert wish.replaces is is_governed


def test_a_source_without_databases_is_none_that_restores_them() -> None:
    assert not isinstance(object(), DatabaseSource)
