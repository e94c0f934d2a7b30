from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.schedule import (
    At,
    Continuous,
    Every,
    OnChange,
    TriggerError,
    format_trigger,
    format_triggers,
    parse_triggers,
)
from cto_backups.core.trigger_text import EXAMPLES

months = st.sets(st.integers(1, 12), min_size=1).map(lambda names: tuple(sorted(names)))
calendar = st.builds(
    lambda hour, minute, day, months: At(hour, minute, **day, months=months),
    st.integers(0, 23),
    st.integers(0, 59),
    st.one_of(
        st.just({}),
        st.integers(0, 6).map(lambda weekday: {"weekday": weekday}),
        st.integers(1, 31).map(lambda day: {"day": day}),
    ),
    st.none() | months | st.sampled_from([(1, 4, 7, 10), (3, 6, 9, 12)]),
)
intervals = st.integers(60, 10**8).map(lambda seconds: Every(timedelta(seconds=seconds)))
triggers = st.lists(st.just(Continuous()) | st.just(OnChange()) | intervals | calendar, min_size=1, unique=True)


@given(triggers.map(tuple))
def test_every_set_of_triggers_reads_back_as_it_was(triggers):
    assert parse_triggers(format_triggers(triggers)) == triggers


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_in_messages_are_in_the_form_that_is_written(text):
    assert format_triggers(parse_triggers(text)) == text


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("continuous", Continuous()),
        ("on change", OnChange()),
        ("on_change", OnChange()),
        ("On-Change", OnChange()),
        ("hourly", Every(timedelta(hours=1))),
        ("every 15 minutes", Every(timedelta(minutes=15))),
        ("every hour", Every(timedelta(hours=1))),
        ("daily", At(2, 0)),
        ("daily  at 2:30", At(2, 30)),
        ("daily in june and july", At(2, 0, months=(6, 7))),
        ("weekly", At(2, 0, weekday=0)),
        ("weekly on fri at 23:59", At(23, 59, weekday=4)),
        ("monthly", At(2, 0, day=1)),
        ("monthly on 15", At(2, 0, day=15)),
        ("monthly on the 3rd", At(2, 0, day=3)),
        ("monthly on the last day at 04:00", At(4, 0, day=31)),
        ("quarterly", At(2, 0, day=1, months=(1, 4, 7, 10))),
        ("quarterly on the last day", At(2, 0, day=31, months=(3, 6, 9, 12))),
        ("yearly", At(2, 0, day=1, months=(1,))),
        ("yearly on 31 march", At(2, 0, day=31, months=(3,))),
        ("yearly on 1st of may", At(2, 0, day=1, months=(5,))),
        ("yearly on dec 24 at 06:00", At(6, 0, day=24, months=(12,))),
        ("yearly on 5", At(2, 0, day=5, months=(1,))),
        ("yearly on the last day", At(2, 0, day=31, months=(12,))),
    ],
)
def test_triggers_are_read_as_people_write_them(text, trigger):
    assert parse_triggers(text) == (trigger,)


def test_a_set_keeps_its_order_and_says_nothing_twice():
    assert parse_triggers("hourly, daily at 02:00, daily") == (Every(timedelta(hours=1)), At(2, 0))


@pytest.mark.parametrize(
    ("text", "part", "message"),
    [
        ("hourly, dialy at 02:00", "dialy at 02:00", "did you mean 'daily'?"),
        ("on chang", "on chang", "did you mean 'on change'?"),
        ("", "", "write one like 'continuous'"),
        ("hourly,", "", "write one like"),
        ("hourly at 5", "hourly at 5", "write one like"),
        ("every 3 parsecs", "every 3 parsecs", "'parsecs' is no unit"),
        ("every 10 seconds", "every 10 seconds", "at least 1 minute"),
        ("daily at 25:00", "daily at 25:00", "between 00:00 and 23:59"),
        ("daily at 10:60", "daily at 10:60", "between 00:00 and 23:59"),
        ("daily at noon", "daily at noon", "HH:MM"),
        ("daily on monday", "daily on monday", "'weekly on monday'"),
        ("weekly on munday", "weekly on munday", "did you mean 'monday'?"),
        ("monthly on 32", "monthly on 32", "between 1 and 31"),
        ("monthly on 0", "monthly on 0", "between 1 and 31"),
        ("yearly on 3 febuary", "yearly on 3 febuary", "did you mean 'february'?"),
        ("quarterly on 1 in may", "quarterly on 1 in may", "quarterly has its own"),
        ("daily in smarch", "daily in smarch", "did you mean 'march'?"),
    ],
)
def test_a_wrong_trigger_is_named_with_what_is_allowed(text, part, message):
    with pytest.raises(TriggerError) as caught:
        parse_triggers(text)
    assert caught.value.part == part
    assert message in str(caught.value)
    assert caught.value.allowed in str(caught.value)
    assert str(caught.value).endswith(caught.value.hint)


@given(st.text(alphabet="dailywekyonmthqurs0123456789: ,", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        parsed = parse_triggers(text)
    except TriggerError:
        return
    assert parse_triggers(format_triggers(parsed)) == parsed


@pytest.mark.parametrize(
    "arguments",
    [
        {"hour": 24, "minute": 0},
        {"hour": 0, "minute": 60},
        {"hour": 0, "minute": 0, "weekday": 7},
        {"hour": 0, "minute": 0, "day": 32},
        {"hour": 0, "minute": 0, "weekday": 1, "day": 1},
        {"hour": 0, "minute": 0, "months": ()},
        {"hour": 0, "minute": 0, "months": (2, 1)},
        {"hour": 0, "minute": 0, "months": (13,)},
    ],
)
def test_a_calendar_time_that_never_comes_cannot_be_made(arguments):
    with pytest.raises(ValueError, match=r"between|not both"):
        At(**arguments)


def test_one_trigger_is_written_alone():
    assert format_trigger(At(2, 0, day=31, months=(1, 4))) == "monthly on the last day in january and april at 02:00"
