from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cto_backups.core.duration import (
    LONGEST,
    format_cadence,
    format_duration,
    parse_cadence,
    parse_duration,
    roughly,
)

lengths = st.integers(1, LONGEST // timedelta(seconds=1)).map(lambda seconds: timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90 days", timedelta(days=90)),
        ("7 years", timedelta(days=7 * 365)),
        ("1 h", timedelta(hours=1)),
        ("15 minutes", timedelta(minutes=15)),
        ("72h", timedelta(hours=72)),
        ("12 Months", timedelta(days=360)),
        (" 1 week ", timedelta(days=7)),
        ("1 h 30 min", timedelta(minutes=90)),
        ("2hours10s", timedelta(hours=2, seconds=10)),
    ],
)
def test_lengths_are_read_as_people_write_them(text, length):
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(days=7 * 365), "7 years"),
        (timedelta(days=365), "1 year"),
        (timedelta(days=90), "90 days"),
        (timedelta(days=7), "7 days"),
        (timedelta(hours=72), "72 h"),
        (timedelta(hours=24), "24 h"),
        (timedelta(hours=1), "1 h"),
        (timedelta(minutes=15), "15 minutes"),
        (timedelta(minutes=61, seconds=1), "1 h 1 minute 1 second"),
        (timedelta(), "0 seconds"),
        (timedelta(milliseconds=1999), "1 second"),
    ],
)
def test_lengths_are_written_as_objectives_usually_are(length, text):
    assert format_duration(length) == text


@given(lengths)
@example(LONGEST)
def test_what_is_written_reads_back(length):
    assert parse_duration(format_duration(length)) == length


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_what_is_allowed(text):
    try:
        length = parse_duration(text)
    except ValueError as error:
        assert "years" in str(error)
    else:
        assert timedelta() < length <= LONGEST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write a whole number and a unit"),
        ("soon", "'soon' is no length of time"),
        ("1.5 h", "write a whole number"),
        ("-3 days", "write a whole number"),
        ("0 days", "between 1 second"),
        ("3 dayz", "did you mean 'days'?"),
        ("5 x", "'x' is no unit"),
        ("1001 years", "longer than 1000 years"),
        ("999 years 999 years", "between 1 second and 1000 years"),
        ("9" * 4400 + " days", "longer than 1000 years"),
    ],
)
def test_a_wrong_length_is_refused_and_the_message_helps(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_duration(text)
    assert message in str(caught.value)


def test_negative_lengths_are_not_written():
    with pytest.raises(ValueError, match="negative"):
        format_duration(timedelta(seconds=-1))


@given(st.timedeltas(timedelta(), timedelta(days=10_000)))
def test_an_age_is_never_told_as_more_than_it_is(length):
    told = roughly(length)
    assert told == "0 seconds" or parse_duration(told) <= length


def test_ages_are_told_in_their_leading_units():
    ages = [timedelta(days=9, hours=5), timedelta(hours=26, minutes=3), timedelta(minutes=63, seconds=9)]
    assert [roughly(age) for age in ages] == ["9 days", "26 h", "1 h 3 minutes"]
    assert roughly(timedelta(seconds=59)) == "59 seconds"
    assert roughly(timedelta(seconds=-5)) == "0 seconds"


@pytest.mark.parametrize("text", ["daily", "weekly", "monthly", "quarterly", "yearly", "none", "45 days"])
def test_cadences_read_back(text):
    assert format_cadence(parse_cadence(text)) == text


def test_cadences_are_lengths_of_time():
    assert parse_cadence("Monthly") == timedelta(days=30)
    assert parse_cadence("quarterly") == timedelta(days=90)
    assert parse_cadence("none") is None


def test_a_wrong_cadence_names_the_allowed_ones():
    with pytest.raises(ValueError, match=r"daily, weekly, monthly, quarterly, yearly, none.*did you mean 'monthly'"):
        parse_cadence("montly")
