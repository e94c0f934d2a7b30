from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.retention import Retention, decide, format_retention, keeps_at_least, parse_retention

UTC_ZONE = ZoneInfo("UTC")
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, 2, tzinfo=UTC)

small = st.integers(0, 4)
retentions = st.one_of(
    st.just(Retention(permanent=True)),
    st.builds(Retention, keep_for=st.integers(1, 400).map(lambda days: days * DAY)),
    st.builds(Retention, versions=st.integers(1, 5)),
    st.builds(
        Retention,
        keep_for=st.none() | st.integers(1, 60).map(lambda days: days * DAY),
        versions=st.none() | st.integers(1, 3),
        daily=st.integers(1, 4),
        weekly=small,
        monthly=small,
        yearly=small,
    ),
)
histories = st.lists(st.tuples(st.integers(0, 24 * 900), st.booleans()), max_size=25, unique_by=lambda made: made[0])


@st.composite
def cases(draw):
    """A retention, a history of (hours since the start, incomplete), the moment, and which points are special."""
    history = draw(histories)
    now = START + timedelta(hours=draw(st.integers(0, 24 * 1000)))
    chosen = st.sets(st.sampled_from(range(len(history)))) if history else st.just(set())
    return draw(retentions), history, now, draw(chosen), draw(chosen)


def made(build, history):
    return [
        build.point(START + timedelta(hours=hours), id=f"p{number}", incomplete=incomplete)
        for number, (hours, incomplete) in enumerate(history)
    ]


def run(build, case, *, now=None, points=None):
    retention, history, moment, held, proven = case
    return decide(
        retention,
        made(build, history) if points is None else points,
        now=now or moment,
        proven=f"p{min(proven)}" if proven else None,
        holds=[build.hold(f"p{number}") for number in held],
        zone=UTC_ZONE,
    )


def kept(decisions):
    return [decision.point for decision in decisions if decision.keep]


@given(cases())
def test_every_decision_has_reasons_and_every_point_one_decision(build, case):
    decisions = run(build, case)
    assert sorted(decision.point.id for decision in decisions) == sorted(point.id for point in made(build, case[1]))
    assert all(decision.reasons for decision in decisions)


@given(cases())
def test_the_newest_point_the_newest_complete_one_the_proven_and_the_held_are_never_removed(build, case):
    points = kept(run(build, case))
    _, history, _, held, proven = case
    everything = made(build, history)
    complete = [point for point in everything if point.complete]
    for group in (everything, complete):
        if group:
            assert max(group, key=lambda point: point.captured_at) in points
    ids = {point.id for point in points}
    assert {f"p{number}" for number in held} <= ids
    assert not proven or f"p{min(proven)}" in ids


@given(cases())
def test_applying_retention_twice_removes_nothing_more(build, case):
    first = kept(run(build, case))
    assert kept(run(build, case, points=first)) == first


@given(cases(), st.integers(0, 24 * 500))
def test_time_alone_never_brings_a_removed_point_back(build, case, hours):
    later = {decision.point.id for decision in run(build, case, now=case[2] + timedelta(hours=hours)) if decision.keep}
    assert later <= {decision.point.id for decision in run(build, case) if decision.keep}


@given(histories, st.integers(0, 24 * 1000))
def test_permanent_removes_nothing(build, history, hours):
    case = (Retention(permanent=True), history, START + timedelta(hours=hours), set(), set())
    assert all(decision.keep for decision in run(build, case))


@given(cases(), st.integers(1, 20))
def test_incomplete_points_never_push_a_complete_one_out(build, case, failures):
    retention, history, now, held, proven = case
    last = max((hours for hours, _ in history), default=0)
    failing = [*history, *((last + 24 * number, True) for number in range(1, failures + 1))]
    before = {point.id for point in kept(run(build, case)) if point.complete}
    after = {point.id for point in kept(run(build, (retention, failing, now, held, proven))) if point.complete}
    assert before == after


@given(st.integers(1, 3650), st.integers(0, 3650))
def test_the_only_point_of_an_idle_source_does_not_age_out(build, days, idle):
    point = build.point(START)
    decisions = decide(
        Retention(timedelta(days=days)), [point], now=START + timedelta(days=idle), proven=None, zone=UTC_ZONE
    )
    assert decisions[0].keep


def test_age_counts_from_when_a_point_was_superseded(build):
    old, new = build.point(START, id="old"), build.point(START + 100 * DAY, id="new")
    rule = Retention(30 * DAY)
    at_limit = decide(rule, [old, new], now=START + 130 * DAY, proven=None, zone=UTC_ZONE)
    assert [decision.keep for decision in at_limit] == [True, True]
    assert at_limit[1].reasons == ("superseded 30 days ago; kept for 30 days",)
    beyond = decide(rule, [old, new], now=START + 130 * DAY + timedelta(seconds=1), proven=None, zone=UTC_ZONE)
    assert [decision.keep for decision in beyond] == [True, False]
    assert beyond[0].reasons == ("newest complete point", "current content; kept for 30 days once it is superseded")


def test_a_point_made_by_a_clock_that_ran_ahead_removes_nothing(build):
    old, future = build.point(START), build.point(START + 5000 * DAY)
    decisions = decide(Retention(DAY), [old, future], now=START + DAY, proven=None, zone=UTC_ZONE)
    assert [decision.keep for decision in decisions] == [True, True]
    assert "yet to come" in decisions[1].reasons[0]


def test_versions_keep_the_newest_so_many(build):
    points = [build.point(START + number * DAY, id=str(number)) for number in range(5)]
    decisions = decide(Retention(versions=2), points, now=START + 9 * DAY, proven=None, zone=UTC_ZONE)
    assert [decision.point.id for decision in decisions if decision.keep] == ["4", "3"]
    assert decisions[2].reasons == ("version 3; the newest 2 are kept",)


def test_grandfather_father_son_keeps_the_last_of_each_period(build):
    points = [build.point(START + timedelta(hours=6 * number), id=str(number)) for number in range(4 * 90)]
    rule = Retention(daily=3, weekly=2, monthly=3)
    decisions = decide(rule, points, now=START + 90 * DAY, proven=None, zone=UTC_ZONE)
    days = [point.captured_at.date().isoformat() for point in kept(decisions)]
    # The last point is of Tuesday 31 March; weeks end on Sunday.
    assert days == ["2026-03-31", "2026-03-30", "2026-03-29", "2026-02-28", "2026-01-31"]
    assert all(point.captured_at.hour == 20 for point in kept(decisions))
    reasons = {decision.point.id: decision.reasons for decision in decisions}
    assert reasons["357"] == (
        "daily: not the last point of its day",
        "weekly: not the last point of its week",
        "monthly: not the last point of its month",
    )
    last_of_march_28 = next(point.id for point in points if f"{point.captured_at:%m-%d %H}" == "03-28 20")
    assert reasons[last_of_march_28][0] == "daily: last point of its day, number 4; 3 kept"


def test_days_begin_at_midnight_in_the_policys_zone(build):
    evening = [build.point(datetime(2026, 1, 1, hour, 30, tzinfo=UTC), id=str(hour)) for hour in (22, 23)]
    now = START + 9 * DAY
    assert len(kept(decide(Retention(daily=9), evening, now=now, proven=None, zone=UTC_ZONE))) == 1
    assert len(kept(decide(Retention(daily=9), evening, now=now, proven=None, zone=ZoneInfo("Europe/Berlin")))) == 2


def test_a_point_with_a_date_of_its_own_is_kept_until_then(build):
    made_by_hand = build.point(START, keep_until=START + 90 * DAY)
    points = [made_by_hand, build.point(START + DAY)]
    before = decide(Retention(versions=1), points, now=START + 89 * DAY, proven=None, zone=UTC_ZONE)
    assert before[1].reasons[0] == "kept until 2026-04-01 02:00"
    after = decide(Retention(versions=1), points, now=START + 90 * DAY, proven=None, zone=UTC_ZONE)
    assert not after[1].keep


def test_gates_are_named(build):
    points = [build.point(START + number * DAY, id=str(number), incomplete=number == 4) for number in range(5)]
    holds = [build.hold("0", approver="Ada"), build.hold("2", released_at=START, released_by="bo")]
    decisions = decide(Retention(versions=1), points, now=START + 9 * DAY, proven="1", holds=holds, zone=UTC_ZONE)
    assert {decision.point.id: decision.reasons[0] for decision in decisions} == {
        "4": "newest point",
        "3": "newest complete point",
        "2": "version 2; the newest 1 is kept",
        "1": "last proven point",
        "0": "under legal hold h since 2026-03-18 by bo, approved by Ada: case 4711",
    }


def test_a_hold_on_a_source_holds_all_of_it_and_nothing_else(build):
    points = [build.point(START + number * DAY, id=str(number)) for number in range(5)]

    def removed(*holds):
        decided = decide(Retention(DAY), points, now=START + 99 * DAY, proven=None, holds=holds, zone=UTC_ZONE)
        return {decision.point.id for decision in decided if not decision.keep}

    assert removed(build.hold(None)) == set()
    assert removed(build.hold(None, source="another")) == removed() == {"0", "1", "2", "3"}
    assert removed(build.hold("3", source="another")) == removed()
    assert removed(build.hold(None, released_at=START)) == removed()


def test_a_naive_moment_is_refused(build):
    with pytest.raises(ValueError, match="no time zone"):
        decide(Retention(DAY), [], now=START.replace(tzinfo=None), proven=None, zone=UTC_ZONE)


@given(retentions)
def test_every_retention_reads_back_as_it_was(retention):
    assert parse_retention(format_retention(retention)) == retention


@pytest.mark.parametrize(
    ("text", "retention"),
    [
        ("7 years", Retention(timedelta(days=7 * 365))),
        ("Permanent", Retention(permanent=True)),
        ("30 versions", Retention(versions=30)),
        ("1 version", Retention(versions=1)),
        (
            "90 days, 7 daily, 5 weekly, 12 monthly, 7 yearly",
            Retention(timedelta(days=90), daily=7, weekly=5, monthly=12, yearly=7),
        ),
    ],
)
def test_retention_is_read_as_people_write_it(text, retention):
    assert parse_retention(text) == retention


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write 'permanent'"),
        ("for ever", "is no retention"),
        ("permanant", "did you mean 'permanent'?"),
        ("7 dialy", "did you mean 'daily'?"),
        ("90 days, permanent", "stands alone"),
        ("7 daily, 5 daily", "say it once"),
        ("7 days, 5 weeks", "how long points are kept"),
        ("0 versions", "between 1 and"),
        ("1000001 daily", "between 1 and"),
        ("0 days", "is no retention"),
    ],
)
def test_a_wrong_retention_is_refused_and_the_message_helps(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_retention(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "rules",
    [{}, {"daily": -1}, {"versions": 0}, {"keep_for": timedelta()}, {"keep_for": timedelta(days=999_999)}],
)
def test_a_retention_that_keeps_nothing_cannot_be_made(rules):
    with pytest.raises(ValueError, match="retention"):
        Retention(**rules)


@pytest.mark.parametrize(
    ("after", "before", "longer"),
    [
        ("permanent", "7 years", True),
        ("permanent", "permanent", True),
        ("7 years", "permanent", False),
        ("90 days", "90 days", True),
        ("91 days", "90 days", True),
        ("89 days", "90 days", False),
        ("90 days, 3 versions", "90 days", True),
        ("90 days", "90 days, 3 versions", False),
        ("3 versions", "90 days", False),
        ("90 days", "3 versions", False),
        ("7 daily, 4 weekly", "7 daily", True),
        ("7 daily", "7 daily, 4 weekly", False),
    ],
)
def test_a_retention_is_no_shorter_where_each_of_its_rules_keeps_as_much(after, before, longer):
    assert keeps_at_least(parse_retention(after), parse_retention(before)) is longer


rules = st.builds(
    lambda days, versions, daily, weekly: Retention(
        keep_for=timedelta(days=days) if days else None, versions=versions, daily=daily, weekly=weekly
    ),
    st.sampled_from((0, 2, 9)),
    st.sampled_from((1, 3)),
    st.sampled_from((0, 2, 4)),
    st.sampled_from((0, 1, 3)),
)


@given(rules, rules, st.lists(st.integers(0, 400), min_size=1, max_size=12, unique=True), st.integers(0, 600))
def test_a_retention_that_is_no_shorter_drops_nothing_that_the_other_keeps(build, after, before, hours, later):
    points = [build.point(build.now + timedelta(hours=each)) for each in hours]
    now = build.now + timedelta(hours=later)
    zone = ZoneInfo("UTC")
    kept = [
        {each.point.id for each in decide(rule, points, now=now, proven=None, zone=zone) if each.keep}
        for rule in (after, before)
    ]
    assert not keeps_at_least(after, before) or kept[0] >= kept[1]
