from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cto_backups.core.cron import SHORTHANDS, CronError, parse_cron
from cto_backups.core.schedule import (
    Cron,
    TriggerError,
    format_triggers,
    longest_gap,
    next_run,
    occurrences,
    parse_triggers,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
SANTIAGO = ZoneInfo("America/Santiago")  # puts clocks forward at midnight
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # by half an hour
ZONES = [ZoneInfo("UTC"), BERLIN, SANTIAGO, LORD_HOWE, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def fields(low, high, names=(), *, most=None):
    """Fields as people write them, with the values that they mean by a reading of their own."""
    spelled = st.integers(low, high).map(lambda value: ({value}, str(value)))
    if names:
        spelled |= st.sampled_from(range(len(names))).map(lambda place: ({place + low}, names[place]))
    ranges = st.tuples(st.integers(low, high), st.integers(low, high)).map(
        lambda two: (set(range(min(two), max(two) + 1)), f"{min(two)}-{max(two)}")
    )
    whole = range(low, (most or high) + 1)
    steps = st.integers(1, 5).map(lambda step: (set(whole[::step]), f"*/{step}"))
    one = spelled | ranges | steps
    lists = st.lists(one, min_size=1, max_size=3).map(
        lambda parts: (set().union(*(values for values, _ in parts)), ",".join(text for _, text in parts))
    )
    return st.just((set(whole), "*")) | lists


expressions = st.tuples(
    fields(0, 59), fields(0, 23), fields(1, 28, most=31), fields(1, 12, MONTHS), fields(0, 6, WEEKDAYS)
)
moments = st.integers(0, 10 * 365 * 1440).map(lambda minutes: datetime(2020, 1, 1, tzinfo=UTC) + minutes * HOUR / 60)
zones = st.sampled_from(ZONES)


def runs(expression, start, until, zone=ZONES[0]):
    return list(occurrences(Cron(expression), start, until, zone, rpo=DAY))


def local(zone, *parts, fold=0):
    return datetime(*parts, tzinfo=zone, fold=fold).astimezone(UTC)


@given(expressions, st.dates(date(2020, 1, 1), date(2030, 1, 1)))
def test_an_expression_means_the_minutes_that_its_fields_say(written, day):
    (minutes, _), (hours, _), (days, day_text), (months, _), (weekdays, weekday_text) = written
    parsed = parse_cron(" ".join(text for _, text in written))
    assert set(parsed.times) == {(hour, minute) for hour in hours for minute in minutes}
    in_days, in_week = day.day in days, (day.weekday() + 1) % 7 in weekdays
    star = day_text.startswith("*") or weekday_text.startswith("*")
    assert parsed.falls_on(day) == (day.month in months and (in_days and in_week if star else in_days or in_week))


@given(expressions, moments, zones)
def test_the_next_run_is_at_a_time_that_the_expression_says(written, last, zone):
    trigger = Cron(" ".join(text for _, text in written))
    run = next_run((trigger,), last=last, zone=zone, rpo=DAY)
    assert run.at > last
    shown = run.at.astimezone(zone)
    before = (run.at - timedelta(minutes=1)).astimezone(zone)
    put_forward = shown.replace(tzinfo=None) - before.replace(tzinfo=None) > timedelta(minutes=1)
    said = (shown.hour, shown.minute) in trigger.means.times and trigger.means.falls_on(shown.date())
    assert said or put_forward


@settings(max_examples=30)
@given(expressions, moments, zones)
def test_no_gap_is_longer_than_the_longest(written, last, zone):
    trigger = Cron(" ".join(text for _, text in written))
    assert next_run((trigger,), last=last, zone=zone, rpo=DAY).at - last <= longest_gap((trigger,), DAY) + 2 * HOUR


@settings(max_examples=30)
@given(expressions, moments)
def test_nothing_is_left_out_and_nothing_comes_twice(written, start):
    """Against the plainest way there is: to look at every minute."""
    trigger = Cron(" ".join(text for _, text in written))
    minutes = (start + number * HOUR / 60 for number in range(1, 2 * 1440))
    expected = [
        minute
        for minute in minutes
        if trigger.means.falls_on(minute.date()) and (minute.hour, minute.minute) in trigger.means.times
    ]
    assert runs(trigger.expression, start, start + 2 * DAY - HOUR / 60) == expected


@given(expressions.map(lambda written: " ".join(text for _, text in written)), st.booleans())
def test_a_set_with_an_expression_reads_back_as_it_was(expression, first):
    text = f"{expression}, hourly" if first else f"hourly, {expression}"
    assert format_triggers(parse_triggers(text)) == text


@given(st.text(alphabet="0123456789*/-,@ monfrijanl?#", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        parsed = parse_triggers(text)
    except TriggerError:
        return
    assert parse_triggers(format_triggers(parsed)) == parsed


def test_what_was_written_is_what_is_shown():
    assert (
        format_triggers(parse_triggers("  30  2 * * MON-FRI,  @Daily,on change"))
        == "30 2 * * mon-fri, @daily, on change"
    )
    assert parse_triggers("0,30 8-18 * * *, 5 4 1,15 * *") == (Cron("0,30 8-18 * * *"), Cron("5 4 1,15 * *"))


@pytest.mark.parametrize(("short", "long"), SHORTHANDS.items())
def test_a_shorthand_means_its_fields(short, long):
    assert Cron(short).means == Cron(long).means


def test_sunday_has_two_numbers_and_ends_a_week():
    assert parse_cron("0 0 * * 0") == parse_cron("0 0 * * 7") == parse_cron("0 0 * * sun")
    assert parse_cron("0 0 * * fri-sun").weekdays == parse_cron("0 0 * * 5-7").weekdays == {4, 5, 6}
    assert parse_cron("0 0 * * 0-6") == parse_cron("0 0 * * *")


def test_a_day_of_the_month_or_of_the_week_is_enough_where_both_are_said():
    fridays_and_the_13th = runs("0 0 13 * fri", datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))
    assert [run.day for run in fridays_and_the_13th] == [6, 13, 20, 27]
    both = runs("0 0 13 * fri", datetime(2026, 4, 9, 12, tzinfo=UTC), datetime(2026, 4, 15, tzinfo=UTC))
    assert [run.day for run in both] == [10, 13]  # a Friday, and a Monday
    odd_mondays = runs("0 0 */2 * mon", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 31, tzinfo=UTC))
    assert [run.day for run in odd_mondays] == [5, 19]


def test_a_time_that_clocks_skip_comes_at_the_next_moment_that_exists():
    start, end = local(BERLIN, 2026, 3, 28, 12), local(BERLIN, 2026, 3, 29, 12)
    assert runs("30 2 * * *", start, end, BERLIN) == [local(BERLIN, 2026, 3, 29, 3)]
    assert runs("0,30 2 * * *", start, end, BERLIN) == [local(BERLIN, 2026, 3, 29, 3)]  # once, not twice
    assert runs("0 0 * * *", local(SANTIAGO, 2026, 9, 5, 12), local(SANTIAGO, 2026, 9, 6, 12), SANTIAGO) == [
        local(SANTIAGO, 2026, 9, 6, 1)
    ]


def test_hours_pass_evenly_where_clocks_are_put_forward():
    found = runs("0 * * * *", local(BERLIN, 2026, 3, 28, 23), local(BERLIN, 2026, 3, 29, 5), BERLIN)
    assert found == [local(BERLIN, 2026, 3, 29, 0) + number * HOUR for number in range(5)]


def test_a_time_that_clocks_show_twice_comes_once():
    start, end = local(BERLIN, 2026, 10, 24, 12), local(BERLIN, 2026, 10, 25, 12)
    first = local(BERLIN, 2026, 10, 25, 2, 30)
    assert runs("30 2 * * *", start, end, BERLIN) == [first]
    assert runs("30 2 * * *", first, end, BERLIN) == []


def test_hours_pass_evenly_where_clocks_are_put_back():
    found = runs("0,30 * * * *", local(BERLIN, 2026, 10, 25, 0), local(BERLIN, 2026, 10, 25, 4), BERLIN)
    assert found == [local(BERLIN, 2026, 10, 25, 0) + number * HOUR / 2 for number in range(1, 11)]
    found = runs("45 * * * *", local(LORD_HOWE, 2026, 4, 5, 1), local(LORD_HOWE, 2026, 4, 5, 3), LORD_HOWE)
    # From 02:00 back to 01:30: 01:45 is shown twice.
    assert [(run - local(LORD_HOWE, 2026, 4, 5, 1)) for run in found] == [HOUR * 3 / 4, HOUR * 5 / 4, HOUR * 9 / 4]


def test_a_leap_day_comes_every_fourth_year():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert next_run((Cron("0 0 29 2 *"),), last=start, zone=ZONES[0], rpo=DAY).at == datetime(2028, 2, 29, tzinfo=UTC)
    assert longest_gap((Cron("0 0 29 2 *"),), DAY) == 1461 * DAY


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("*/15 * * * *", HOUR / 4),
        ("0 8-18 * * *", 14 * HOUR),
        ("0 2 * * 1-5", 3 * DAY),
        ("0 2 * * 1-5, 0 2 * * 6", 2 * DAY),
        ("0 0 1 * *, daily at 12:00", DAY),
        ("0 0 13 * fri", 7 * DAY),
        ("@monthly, every 10 days", 10 * DAY),
    ],
)
def test_the_longest_gap_is_what_the_whole_set_leaves(text, gap):
    assert longest_gap(parse_triggers(text), HOUR) == gap


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 2 * *", "five fields"),
        ("0 0 2 * * *", "and not 6"),
        ("0 2 * * *,0 3 * * *", "a comma and a space stand between two triggers"),
        ("60 2 * * *", "for the minute numbers from 0 to 59"),
        ("0 24 * * *", "for the hour numbers from 0 to 23"),
        ("0 2 0 * *", "for the day of the month numbers from 1 to 31"),
        ("0 2 * 13 *", "or jan feb mar"),
        ("0 2 * * 8", "or sun mon tue"),
        ("0 2 * * monday", "and not 'monday'"),
        ("0 2 * jan,foo *", "and not 'foo'"),
        ("0 2 L * *", "the last day is 'monthly on the last day at 02:00'"),
        ("0 2 ? * *", "write '*'"),
        ("0 2 * * 5#2", "and not '5#2'"),
        ("0 2 * * *-5", "and not '*-5'"),
        ("0 2,,3 * * *", "and not ''"),
        ("0 22-2 * * *", "a range that goes up"),
        ("*/0 * * * *", "a step of 1 to 59"),
        ("*/60 * * * *", "a step of 1 to 59"),
        ("0 */24 * * *", "a step of 1 to 23"),
        ("5/15 * * * *", "'5-59/15'"),
        ("0 0 30 2 *", "no month of '2' has a day 30"),
        ("0 0 31 4,6,sep,11 *", "has a day 31"),
        ("@reboot", "@hourly, @daily"),
        ("@", "@hourly, @daily"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(text, message):
    with pytest.raises(TriggerError) as caught:
        parse_triggers(text)
    assert message in str(caught.value)
    with pytest.raises(CronError):
        Cron(text.lower())


def test_a_day_that_no_month_has_is_no_mistake_where_a_weekday_is_enough():
    assert Cron("0 0 30 2 mon").means.either
