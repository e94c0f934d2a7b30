"""How far each vault is behind, as the facts have it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.catalog import lags
from cto_backups.core.facts import Lag
from cto_backups.core.triggers import Every


@pytest.fixture
def lag_of(catalog, build):
    """The lag of a vault behind the source, as the facts say now."""
    return lambda vault: catalog.facts(build.now).sources["ledger"].lags[vault]


def test_a_vault_is_behind_by_the_kept_complete_points_after_the_newest_that_is_there(catalog, build, lag_of):
    for hours in (5, 4, 3, 2, 1):
        point = build.point(f"p{hours}", build.ago(hours=hours), incomplete=hours == 2)
        catalog.add_point_with_copy(point, build.copy(point.id, "near"))
    catalog.add_copy(build.copy("p4", "far", build.ago(hours=3)))
    catalog.add_copy(build.copy("p2", "far"))
    newest = catalog.point("p1")
    assert lag_of("near") == Lag("near", "p1", newest.captured_at, build.now)
    waiting = catalog.point("p3").finished_at
    assert lag_of("far") == Lag("far", "p4", build.ago(hours=4), build.ago(hours=3), 2, waiting)
    catalog.expire_point("p3", build.now, [], build.key)
    assert (lag_of("far").behind, lag_of("far").waiting_since) == (1, newest.finished_at)


def test_a_vault_without_a_copy_is_behind_by_all(catalog, build, lag_of):
    assert lag_of("far") == Lag("far")
    for hours in (2, 1):
        point = build.point(f"p{hours}", build.ago(hours=hours))
        catalog.add_point_with_copy(point, build.copy(point.id))
    assert lag_of("far") == Lag("far", behind=2, waiting_since=catalog.point("p2").finished_at)


def test_only_so_many_points_are_counted(catalog, build, lag_of, monkeypatch):
    monkeypatch.setattr(lags, "MOST_COUNTED", 3)
    for hours in range(9, 0, -1):
        point = build.point(f"p{hours}", build.ago(hours=hours))
        catalog.add_point_with_copy(point, build.copy(point.id))
    catalog.add_copy(build.copy("p8", "far"))
    assert (lag_of("far").point, lag_of("far").behind) == ("p8", 3)
    assert lag_of("far").waiting_since == catalog.point("p7").finished_at


def test_a_schedule_that_is_new_in_the_policy_is_brought_into_the_catalog(catalog, build):
    """It changes nothing of the sources themselves."""
    policy = build.policy()
    policy.vaults["far"] = replace(policy.vaults["far"], copies=(Every(timedelta(hours=8)),))
    catalog.sync_policy(policy, b"", build.now)
    with catalog.reading() as connection:
        rows = connection.execute("SELECT vault, lag_seconds FROM source_vaults ORDER BY vault").fetchall()
    assert [tuple(row) for row in rows] == [("far", 36000), ("near", None)]
