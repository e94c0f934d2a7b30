"""What somebody is to be told of: each rule's condition, and what is none."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.alerts import DRILL_RULE, Alert, AlertPolicy, AlertRule, Happening, Telling, Trouble
from cto_backups.core.assurance import judge
from cto_backups.core.conditions import JUDGED_WITHIN, Recovery, Scene, happenings, well_until
from cto_backups.core.facts import Heartbeat, SourceFacts, VaultFacts
from cto_backups.core.keeping import Mark
from cto_backups.core.model import ActionKind, Outcome

HOUR = timedelta(hours=1)


@pytest.fixture
def scene(build):
    """All as it should be, of a source of category B, under the given rules alone; `changes` are of the facts."""

    def scene(*rules, source=None, policy=None, **changes):
        policy = policy or build.policy(build.source("ledger", category="B"))
        policy = replace(policy, alerts=AlertPolicy(rules=rules) if rules else AlertPolicy())
        facts = build.facts(source, **changes)
        return Scene(policy, facts, judge(policy, facts, build.now), build.now)

    return scene


def told(scene):
    return [(happening.rule, happening.subject) for happening in happenings(scene)]


def test_nothing_happens_where_all_is_well(scene):
    assert told(scene()) == []


@pytest.mark.parametrize(
    ("age", "rules"),
    [(23, []), (25, ["rpo-missed"]), (47, ["rpo-missed"]), (49, ["no-backup-b", "rpo-missed"])],
)
def test_the_defaults_warn_at_the_rpo_and_again_after_two_days_in_category_b(build, scene, age, rules):
    old = build.point(build.ago(hours=age))
    found = scene(source=build.healthy(newest=old, newest_any=old))
    assert [rule for rule, _ in told(found)] == rules
    assert all(
        (happening.category == "B" and f"{age} h" in happening.detail) or age > 47 for happening in happenings(found)
    )


def test_a_rule_of_another_category_does_not_concern_it(build, scene):
    old = build.point(build.ago(days=9))
    rule = AlertRule("a", Trouble.NO_BACKUP, ("cto",), category="A", after=HOUR)
    assert told(scene(rule, source=build.healthy(newest=old, newest_any=old))) == []


def test_a_source_that_never_had_a_backup_has_as_long_as_one_whose_backups_stopped(build, scene):
    rule = AlertRule("r", Trouble.NO_BACKUP, ("cto",), after=48 * HOUR)
    for first_seen, expected in (
        (build.ago(hours=47), []),
        (build.ago(hours=49), [("r", "ledger")]),
        (None, [("r", "ledger")]),
    ):
        none = SourceFacts("ledger", first_seen=first_seen)
        found = scene(rule, source=none)
        assert told(found) == expected
        assert all("no complete backup at all" in each.detail for each in happenings(found))
    assert told(scene(rule, sources={})) == [("r", "ledger")], "of which nothing at all is known"


def test_a_backup_from_the_future_is_no_comfort(build, scene):
    ahead = build.point(build.ago(hours=-5))
    found = scene(AlertRule("r", Trouble.NO_BACKUP, ("cto",)), source=build.healthy(newest=ahead, newest_any=ahead))
    (happening,) = happenings(found)
    assert "clock" in happening.detail


def test_a_failed_restore_test_is_told_with_its_reason(build, scene):
    failed = build.healthy(last_test=build.test(build.ago(hours=1), passed=False))
    (happening,) = happenings(scene(source=failed))
    assert (happening.rule, happening.subject) == ("test-failed", "ledger")
    assert "checksum content differs" in happening.detail


def test_a_recovery_is_late_while_it_still_runs(build, scene):
    rule = AlertRule("late", Trouble.RECOVERY_LATE, ("ceo",))
    for hours, late in ((23, False), (25, True)):
        found = replace(
            scene(rule), recoveries=(Recovery("ledger", build.ago(hours=hours)), Recovery("gone", build.ago(days=9)))
        )
        assert [each.subject for each in happenings(found)] == (["ledger"] if late else [])
    sooner = replace(rule, after=2 * HOUR)
    assert told(replace(scene(sooner), recoveries=(Recovery("ledger", build.ago(hours=3)),))) == [("late", "ledger")]


def test_damage_in_a_vault_is_told_once_for_the_vault(build, scene):
    vaults = build.read_vaults()
    vaults["near"] = replace(vaults["near"], read_passed=False)
    rule = AlertRule("v", Trouble.VAULT_DAMAGED, ("cto",))
    assert told(scene(rule, vaults=vaults)) == [("v", "near")]
    assert told(scene(rule, vaults={})) == []


def test_a_vault_that_cannot_be_read_is_told_once_it_held_a_copy(build, scene):
    vaults = build.read_vaults()
    vaults["near"] = replace(vaults["near"], copy_count=3)
    rule = AlertRule("v", Trouble.VAULT_DAMAGED, ("cto",))
    away = {"near": "its disk is not mounted", "far": "the same"}
    (happening,) = happenings(scene(rule, vaults=vaults, vaults_away=away))
    assert (happening.subject, happening.detail) == ("near", "vault near cannot be read now: its disk is not mounted")
    assert told(scene(rule, vaults=vaults, vaults_away={})) == []


def test_a_change_under_suspicion_is_told_until_it_is_cleared(build, scene):
    rule = AlertRule("s", Trouble.SUSPICION, ("cto",))
    old, new = (
        Mark(point, "ledger", build.ago(hours=hours), (f"mass deletion at {hours}",))
        for point, hours in (("p1", 9), ("p2", 1))
    )
    (happening,) = happenings(scene(rule, marks={"ledger": (old, new)}))
    assert (happening.subject, happening.category) == ("ledger", "B")
    assert "mass deletion at 1 (p2)" in happening.detail
    assert told(scene(rule)) == []
    assert told(scene(replace(rule, category="A"), marks={"ledger": (old,)})) == []


def test_a_silent_worker_is_told(build, scene):
    rule = AlertRule("w", Trouble.WORKER_SILENT, ("cto",))
    dead = Heartbeat(build.ago(days=1), build.ago(hours=23), "here", 77, name="here")
    assert told(scene(rule, heartbeats=(dead,))) == [("w", "here")]
    assert told(scene(rule)) == []


def test_what_is_quarantined_is_told_of_sources_and_vaults(build, scene):
    crashed = build.run(ActionKind.BACKUP, build.ago(hours=1), Outcome.FAILED, error_code="crash", message="it ended")
    for crashes, expected in ((2, []), (3, [("quarantined", "ledger backup")])):
        last = replace(crashed, crashes=crashes)
        source = replace(build.healthy(), last_runs=build.runs(last), failures={ActionKind.BACKUP: 7})
        assert told(scene(source=source)) == expected
    pruned = replace(crashed, action=ActionKind.PRUNE, crashes=3)
    vaults = {"near": VaultFacts("near", prune_run=pruned, prune_failures=3)}
    rule = AlertRule("q", Trouble.QUARANTINED, ("cto",))
    (happening,) = happenings(scene(rule, vaults=vaults))
    assert happening.detail == "prune of vault near is quarantined, and tried once a day: it ended"
    assert told(scene(replace(rule, category="B"), vaults=vaults)) == []


def test_a_channel_whose_last_attempt_failed_is_told_and_one_of_the_future_is_not(build, scene):
    rule = AlertRule("c", Trouble.CHANNEL_FAILED, ("cto",))
    channels = dict.fromkeys(("mail", "pager", "sms", "new"))
    policy = replace(scene(rule).policy, alerts=AlertPolicy(channels=channels, rules=(rule,)))
    tellings = {
        "mail": Telling(build.ago(hours=1), "cto", "mail", problem="connection refused"),
        "pager": Telling(build.ago(hours=1), "cto", "pager"),
        "sms": Telling(build.ago(hours=-1), "cto", "sms", problem="x"),
        "gone": Telling(build.ago(hours=1), "cto", "gone", problem="x"),
    }
    found = replace(scene(rule, last_tellings=tellings), policy=policy)
    (happening,) = happenings(found)
    assert (happening.subject, happening.detail) == ("mail", "channel mail did not reach cto: connection refused")


def test_a_drill_goes_on_until_somebody_answers(build, scene):
    drill = Alert("d", DRILL_RULE.name, Trouble.DRILL, "drill-1", "an exercise", build.ago(hours=1))
    other = Alert("o", "test-failed", Trouble.TEST_FAILED, "ledger", "x", build.ago(hours=1))
    assert told(replace(scene(), open_alerts=(drill, other))) == [("drill", "drill-1")]
    answered = replace(drill, acknowledged_at=build.now)
    assert told(replace(scene(), open_alerts=(answered,))) == []
    assert told(scene(DRILL_RULE)) == [], "no policy can raise one"


def test_naive_moments_are_refused(build, scene):
    with pytest.raises(ValueError, match="no time zone"):
        happenings(replace(scene(), now=build.now.replace(tzinfo=None)))


# -- what is well for a while


def until(scene, found=()):
    return well_until(scene, "ledger", found)


def test_a_source_that_is_well_is_so_until_its_backup_may_be_too_old(build, scene):
    rules = [AlertRule("a", Trouble.NO_BACKUP, ("cto",), after=HOUR), AlertRule("b", Trouble.NO_BACKUP, ("cto",))]
    made = build.point(build.ago(minutes=55))
    known = build.healthy(newest=made, newest_any=made)
    assert until(scene(*rules, source=known)) == build.now + timedelta(minutes=5)
    assert until(scene(replace(rules[0], category="A"), source=known)) > build.now + HOUR / 2 - timedelta(seconds=1)


def test_a_source_that_is_well_is_judged_again_within_an_hour_and_others_at_another_moment(build, scene):
    books = build.policy(build.source("ledger"), build.source("books"))
    found = scene(policy=books, sources={name: build.healthy(source=name) for name in books.sources})
    moments = {well_until(found, name, ()) for name in books.sources}
    assert len(moments) == 2
    assert all(JUDGED_WITHIN / 2 <= moment - build.now <= JUDGED_WITHIN for moment in moments)


def test_what_is_wrong_or_unprotected_is_judged_each_time(build, scene):
    well = scene()
    assert until(well) is not None
    assert until(well, (Happening("r", "ledger", "it is wrong"),)) is None
    assert until(scene(source=SourceFacts("ledger", first_seen=build.ago(hours=1)))) is None


def test_what_is_of_no_known_age_is_judged_each_time(build, scene):
    ahead = build.point(build.ago(hours=-5))
    rule = AlertRule("r", Trouble.TEST_FAILED, ("cto",))
    assert until(scene(rule, source=build.healthy(newest=ahead, newest_any=ahead))) is None
