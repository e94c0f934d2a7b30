"""Alerts in the catalog: signed with each change, once open for each rule and subject, and found again by their ids."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cto_backups.catalog.alerts import TELLINGS_KEPT
from cto_backups.core.alerts import Alert, Telling, Trouble
from cto_backups.errors import NotFoundError, RefusedError
from cto_backups.evidence.records import SigningKey, verify_chain

from .conftest import NOW

KEY = SigningKey.generate()
ALERT = Alert("alert-1", "r", Trouble.NO_BACKUP, "ledger", "no backup of \udc80 for 26 h", NOW, "A", ("ops",))


def test_what_happens_to_an_alert_is_signed_and_kept(catalog: Any) -> None:
    book = catalog.alerts
    book.note(ALERT, "raised", KEY, NOW)
    assert [alert.id for alert in book.listed()] == ["alert-1"]
    told = replace(ALERT, told=("ops", "cto"), told_at=NOW, stepped_at=NOW)
    book.told(told, [Telling(NOW, "ops", "mail", "alert-1", "refused"), Telling(NOW, "cto", "mail", "alert-1")], NOW)
    answered = book.acknowledge("alert-1", by="ada", note="on it", signer=KEY, now=NOW + timedelta(minutes=5))
    assert answered.answered_after == timedelta(minutes=5) and answered.told == ("ops", "cto")
    book.note(replace(answered, closed_at=NOW + timedelta(hours=1), cause="over"), "closed", KEY, NOW)
    assert book.listed() == () and [alert.cause for alert in book.listed(closed=True)] == ["over"]
    assert [(telling.person, telling.problem) for telling in book.tellings("alert-1")] == [
        ("ops", "refused"),
        ("cto", None),
    ]
    records = list(catalog.records_after(KEY.signer, 0))
    assert [record.payload["event"] for record in records] == ["raised", "acknowledged", "closed"]
    assert verify_chain(records).intact and records[1].payload["acknowledged_by"] == "ada"
    assert book.one("alert").detail == "no backup of \\udc80 for 26 h"


def test_the_same_thing_is_open_once(catalog: Any) -> None:
    """Who would raise it a second time, since he looked before somebody else did, is told so."""
    assert catalog.alerts.note(ALERT, "raised", KEY, NOW)
    assert not catalog.alerts.note(replace(ALERT, id="alert-2"), "raised", KEY, NOW)
    catalog.alerts.note(replace(ALERT, closed_at=NOW, cause="over"), "closed", KEY, NOW)
    catalog.alerts.note(replace(ALERT, id="alert-2"), "raised", KEY, NOW)
    assert [record.payload["id"] for record in catalog.records_after(KEY.signer, 0)] == [
        "alert-1",
        "alert-1",
        "alert-2",
    ]


def test_an_answer_given_while_others_are_told_stays(catalog: Any) -> None:
    """Whoever tells has seen the alert before, and goes through many."""
    book = catalog.alerts
    book.note(ALERT, "raised", KEY, NOW)
    answered = book.acknowledge("alert-1", by="ada", note="on it", signer=KEY, now=NOW)
    assert not book.note(replace(ALERT, told=("ops", "cto")), "stepped-up", KEY, NOW), "nobody else is to be told"
    assert book.one("alert-1") == answered
    assert book.note(replace(ALERT, closed_at=NOW, cause="over"), "closed", KEY, NOW)
    assert book.one("alert-1") == replace(answered, closed_at=NOW, cause="over")
    for event in ("closed", "stepped-up"):
        assert not book.note(replace(ALERT, closed_at=NOW, cause="over"), event, KEY, NOW), "it is closed already"
    records = list(catalog.records_after(KEY.signer, 0))
    assert [record.payload["event"] for record in records] == ["raised", "acknowledged", "closed"]
    assert records[-1].payload["acknowledged_by"] == "ada"


def test_it_is_answered_once_and_by_its_name(catalog: Any) -> None:
    book = catalog.alerts
    for number in (1, 2):
        book.note(replace(ALERT, id=f"alert-{number}", subject=f"s{number}"), "raised", KEY, NOW)
    for name, words in (("alert", "more than one"), ("nothing", "There is no alert"), ("", "more than one")):
        with pytest.raises(NotFoundError, match=words):
            book.acknowledge(name, by="ada", note=None, signer=KEY, now=NOW)
    book.acknowledge("alert-1", by="ada", note=None, signer=KEY, now=NOW)
    with pytest.raises(RefusedError, match="acknowledged before"):
        book.acknowledge("alert-1", by="bo", note=None, signer=KEY, now=NOW)
    book.note(replace(ALERT, id="alert-2", subject="s2", closed_at=NOW, cause="over"), "closed", KEY, NOW)
    with pytest.raises(RefusedError, match="is closed"):
        book.acknowledge("alert-2", by="bo", note=None, signer=KEY, now=NOW)


def test_facts_tell_who_was_reached_and_which_channel_failed_last(catalog: Any) -> None:
    later = NOW + timedelta(minutes=1)
    catalog.alerts.told(None, [Telling(NOW, "cto", "mail"), Telling(NOW, "cto", "pager", problem="x")], NOW)
    catalog.alerts.told(None, [Telling(later, "cto", "mail", problem="full"), Telling(later, "ceo", "pager")], later)
    facts = catalog.facts(later)
    assert facts.reached == {"cto": NOW, "ceo": later}
    assert {name: telling.problem for name, telling in facts.last_tellings.items()} == {"mail": "full", "pager": None}
    long_after = later + TELLINGS_KEPT + timedelta(days=1)
    catalog.alerts.told(None, [Telling(long_after, "cto", "mail")], long_after)
    assert catalog.facts(long_after).reached == {"cto": long_after, "ceo": later}
    with catalog.reading() as connection:
        assert connection.scalar("SELECT count(*) FROM tellings") == 1, (
            "old attempts are forgotten, not who was reached"
        )
