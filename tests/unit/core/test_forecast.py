"""How long a restore would take, from what restore tests took."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.assurance import judge
from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.forecast import LONGEST, Forecast, forecast, of_category
from cto_backups.core.model import Status

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def test_nothing_is_forecast_without_a_point_or_a_measured_restore(build):
    assert forecast(SourceFacts("ledger")) is None
    assert forecast(build.healthy(restores=())) is None
    assert forecast(replace(build.healthy(), newest=None)) is None


def test_three_tests_give_the_range_of_their_own_times(build):
    assert forecast(build.healthy()) == Forecast(50 * SECOND, 70 * SECOND, 3)


@pytest.mark.parametrize("tests", [1, 2])
def test_with_fewer_than_three_tests_the_range_is_wide_and_says_so(build, tests):
    found = forecast(build.healthy(restores=(build.restore(60),) * tests))
    assert found == Forecast(30 * SECOND, 120 * SECOND, tests)
    assert found.wide
    assert str(found).endswith(f"(wide: measured by {tests} restore test{'s' if tests > 1 else ''})")
    assert "wide" not in str(forecast(build.healthy()))


def test_times_grow_with_the_bytes_and_with_the_entries_of_the_newest_point(build):
    newest = build.point(build.ago(hours=1), size_bytes=1000, entry_count=30)
    restores = (build.restore(60, size_bytes=100, entries=10),) * 3
    assert forecast(build.healthy(newest=newest, restores=restores)) == Forecast(180 * SECOND, 600 * SECOND, 3)


def test_a_test_of_nothing_is_not_scaled(build):
    newest = build.point(build.ago(hours=1), size_bytes=0, entry_count=5)
    of_empty_files = (build.restore(60, size_bytes=0, entries=10),) * 3
    assert forecast(build.healthy(newest=newest, restores=of_empty_files)).most == 30 * SECOND
    of_nothing = (build.restore(60, size_bytes=0, entries=0),) * 3
    assert forecast(build.healthy(newest=newest, restores=of_nothing)).most == 60 * SECOND


def test_no_forecast_is_longer_than_a_length_of_time_can_be(build):
    newest = build.point(build.ago(hours=1), size_bytes=10**18)
    assert forecast(build.healthy(newest=newest)).most == LONGEST


def test_a_range_reads_as_one_figure_when_both_ends_read_alike(build):
    assert str(Forecast(60 * SECOND, 60 * SECOND, 4)) == "1 minute (measured by 4 restore tests)"
    assert str(Forecast(SECOND / 9, SECOND / 2, 3)) == "under 1 second (measured by 3 restore tests)"
    assert str(Forecast(SECOND / 9, 3 * HOUR, 3)).startswith("under 1 second to 3 h")


def test_a_category_is_restored_one_source_after_the_other(build):
    names = ("first", "never", "second")
    sources = [build.source(name) for name in names] + [build.source("elsewhere", category="A")]
    known = {name: build.healthy(source=name) for name in ("first", "elsewhere")}
    known["second"] = build.healthy(source="second", restores=(build.restore(10),))
    queue = of_category(build.policy(*sources), Facts(sources=known), "B")
    assert queue.unknown == ("never",)
    assert queue.done_after == {
        "first": Forecast(50 * SECOND, 70 * SECOND, 3),
        "second": Forecast(55 * SECOND, 90 * SECOND, 1),
    }
    assert queue.forecast == queue.done_after["second"]
    assert of_category(build.policy(*sources), Facts(), "A").forecast is None


def test_a_verdict_carries_its_forecast_and_says_when_it_is_over_the_rto(build):
    policy = build.policy(build.source())
    rto = policy.sources["ledger"].category.rto
    within = judge(policy, build.facts(), build.now)["ledger"]
    assert within.forecast == Forecast(50 * SECOND, 70 * SECOND, 3)
    assert not any("forecast" in reason for reason in within.reasons)
    slow = build.healthy(restores=(build.restore(rto.total_seconds() + 60),) * 3)
    beyond = judge(policy, build.facts(slow), build.now)["ledger"]
    assert beyond.status is Status.HEALTHY
    assert any("a restore is forecast to take" in reason and "RTO is" in reason for reason in beyond.reasons)
