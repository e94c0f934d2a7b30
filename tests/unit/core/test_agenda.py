"""What would run within a time from now."""

from datetime import UTC, datetime, timedelta

import pytest

from cto_backups.core.agenda import agenda
from cto_backups.core.facts import Facts
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.plan import due
from cto_backups.core.schedule import parse_triggers

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BACKUP = ActionKind.BACKUP


def of(found, kind, source=None, vault=None):
    return [each for each in found if (each.kind, each.source, each.vault) == (kind, source, vault)]


def test_every_backup_that_triggers_ask_for_is_counted(build):
    policy = build.policy(build.source(triggers=parse_triggers("hourly")))
    newest = build.point(build.ago(minutes=10))
    found = agenda(policy, build.facts(build.healthy(newest=newest)), build.now, DAY)
    (backup,) = of(found, BACKUP, "ledger")
    assert backup.first > build.now
    assert backup.times == 24
    assert backup.last == backup.first + 23 * HOUR
    assert "hourly" in backup.why


def test_what_is_due_is_now_and_comes_first(build):
    policy = build.policy(build.source(triggers=parse_triggers("every 6 h")))
    facts = build.facts(build.healthy(newest=build.point(build.ago(hours=8))))
    first, *_ = agenda(policy, facts, build.now, DAY)
    assert (first.kind, first.first, first.times) == (BACKUP, build.now, 5)
    assert first.last == build.now + DAY


def test_a_source_without_any_backup_begins_at_once(build):
    policy = build.policy(build.source(triggers=parse_triggers("daily at 02:00")))
    (backup,) = of(agenda(policy, Facts(), build.now, DAY), BACKUP, "ledger")
    assert (backup.first, backup.times, backup.why) == (build.now, 2, "no backup yet")


def test_nothing_after_the_time_is_told(build):
    policy = build.policy(build.source(triggers=parse_triggers("every 6 h")))
    newest = build.point(build.ago(hours=1))
    facts = build.facts(build.healthy(newest=newest))
    assert not of(agenda(policy, facts, build.now, HOUR), BACKUP, "ledger")
    everything = agenda(policy, facts, build.now, timedelta(days=31))
    assert everything == tuple(sorted(everything, key=lambda each: each.first))
    assert all(build.now <= each.first <= each.last <= build.now + timedelta(days=31) for each in everything)
    assert {each.kind for each in everything} >= {BACKUP, ActionKind.RESTORE_TEST, ActionKind.VERIFY}
    assert all(each.times == 1 for each in everything if each.kind is not BACKUP)


def test_all_that_is_due_is_on_the_agenda(build):
    policy = build.policy(build.source(), build.source("other"))
    facts = build.facts(build.healthy(newest=build.point(build.ago(days=9))))
    now = {
        (each.kind, each.source, each.vault)
        for each in agenda(policy, facts, build.now, HOUR)
        if each.first == build.now
    }
    assert now == {(action.kind, action.source, action.vault) for action in due(policy, facts, build.now)}


def test_the_backups_after_one_that_is_under_way(build):
    policy = build.policy(build.source(triggers=parse_triggers("hourly")))
    running = build.run(BACKUP, build.ago(minutes=5), Outcome.RUNNING)
    facts = build.facts(build.healthy(last_runs=build.runs(running)))
    (backup,) = of(agenda(policy, facts, build.now, 3 * HOUR), BACKUP, "ledger")
    assert (backup.times, backup.why) == (3, "after the one that is under way")
    assert not of(agenda(policy, facts, build.now, timedelta(minutes=1)), BACKUP, "ledger")


def test_one_that_takes_longer_than_its_interval_is_followed_by_one(build):
    policy = build.policy(build.source(triggers=parse_triggers("hourly")))
    running = build.run(BACKUP, build.ago(hours=9, minutes=30), Outcome.RUNNING)
    facts = build.facts(build.healthy(last_runs=build.runs(running)))
    (backup,) = of(agenda(policy, facts, build.now, HOUR), BACKUP, "ledger")
    assert (backup.first, backup.times) == (build.now, 2)


def test_a_time_that_clocks_show_twice_counts_once(build):
    policy = build.policy(build.source(triggers=parse_triggers("daily at 02:30")), timezone="Europe/Berlin")
    now = datetime(2026, 10, 24, 12, tzinfo=UTC)
    newest = build.point(now - timedelta(hours=11))
    (backup,) = of(agenda(policy, build.facts(build.healthy(newest=newest)), now, 2 * DAY), BACKUP, "ledger")
    assert (backup.first, backup.last, backup.times) == (
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC),
        2,
    )


@pytest.mark.parametrize("within", [timedelta(seconds=59), timedelta(days=32)])
def test_a_time_that_is_no_use_is_refused(build, within):
    with pytest.raises(ValueError, match="31 days"):
        agenda(build.policy(), build.facts(), build.now, within)
