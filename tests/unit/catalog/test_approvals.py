"""Approvals in the catalog: asked for once, decided, used once, and each step signed with it."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from cto_backups.core.governance import Approval, Governed, Identity, Standing, Who
from cto_backups.core.keeping import RetentionSeen
from cto_backups.core.retention import Retention, parse_retention
from cto_backups.errors import CatalogError, GovernanceError, NotFoundError, RefusedError
from cto_backups.evidence.approvals import Authorization, ReadDocument, action_digest
from cto_backups.evidence.records import SigningKey, verify_chain

ADA, BO = Identity("ada", 1001, "root"), Identity("bo \udce9", 1002)
HOUR = timedelta(hours=1)
PARAMETERS = {"vault": "near", "packs": ["a", "b"]}


@pytest.fixture
def wanted(build):
    return Approval(
        id="approval-1",
        action=Governed.PRUNE,
        parameters=PARAMETERS,
        digest=action_digest(Governed.PRUNE, PARAMETERS),
        summary="Pruning near",
        who=Who.SECOND_PERSON,
        requested_at=build.now,
        requested_by=ADA,
        expires_at=build.now + 72 * HOUR,
    )


def decide(catalog, build, name="approval-1", *, granted=True, documents=(), later=HOUR):
    def decided(asked):
        now = build.now + later
        return replace(asked, decided_at=now, decided_by=BO, granted=granted, reason="agreed")

    return catalog.approvals.decide(name, decided, documents, build.key)


def authorization(build, approval="approval-1", later=2 * HOUR, **changes):
    made = Authorization(Governed.PRUNE, PARAMETERS, ADA, "host", build.now + later, approval)
    return replace(made, **changes)


def kinds(catalog, build):
    records = list(catalog.records_after(build.key.signer, 0))
    assert verify_chain(records).intact
    return [record.kind for record in records]


def test_what_is_asked_for_is_kept_and_signed_once(catalog, build, wanted):
    assert catalog.approvals.ask(wanted, build.key) == wanted
    again = replace(wanted, id="approval-2", requested_at=build.now + HOUR)
    assert catalog.approvals.ask(again, build.key) == wanted, "the same is not asked for twice"
    for other in (
        replace(again, id="approval-3", digest="other"),
        replace(again, id="approval-4", who=Who.ANYONE),
        replace(again, id="approval-5", requested_at=wanted.expires_at, expires_at=wanted.expires_at + HOUR),
    ):
        assert catalog.approvals.ask(other, build.key) == other
    assert [each.id for each in catalog.approvals.listed()] == ["approval-1", "approval-3", "approval-4", "approval-5"]
    assert kinds(catalog, build) == ["approval-request"] * 4


def test_it_comes_back_as_it_was(catalog, build, wanted):
    catalog.approvals.ask(wanted, build.key)
    assert catalog.approvals.named("approval-1") == wanted
    decided = decide(catalog, build)
    assert decided.standing(build.now + 2 * HOUR) is Standing.GIVEN
    catalog.approvals.authorize(authorization(build), build.key)
    found = catalog.approvals.named("approval-")
    assert (found.used_at, found.used_by) == (build.now + 2 * HOUR, ADA)
    assert found.decided_by.uid == BO.uid
    assert kinds(catalog, build) == ["approval-request", "approval", "authorization"]


def test_names_are_found_by_a_unique_beginning(catalog, build, wanted):
    for id in ("approval-1", "approval-12"):
        catalog.approvals.ask(replace(wanted, id=id, digest=id), build.key)
    assert catalog.approvals.named("approval-1").id == "approval-1"
    assert catalog.approvals.named("approval-12").id == "approval-12"
    for name, told in (("approval", "more than one"), ("", "more than one"), ("approval-2", "There is no approval")):
        with pytest.raises(NotFoundError, match=told):
            catalog.approvals.named(name)


def test_it_is_used_once_and_only_for_what_it_is_for(catalog, build, wanted):
    catalog.approvals.ask(wanted, build.key)
    with pytest.raises(GovernanceError, match="open"):
        catalog.approvals.authorize(authorization(build), build.key)
    decide(catalog, build)
    other = {"vault": "near", "packs": ["c"]}
    for wrong in (authorization(build, parameters=other), authorization(build, action=Governed.EXPIRE)):
        with pytest.raises(GovernanceError, match="something else"):
            catalog.approvals.authorize(wrong, build.key)
    with pytest.raises(GovernanceError, match="expired"):
        catalog.approvals.authorize(authorization(build, later=72 * HOUR), build.key)
    catalog.approvals.authorize(authorization(build), build.key)
    with pytest.raises(GovernanceError, match="used"):
        catalog.approvals.authorize(authorization(build), build.key)
    assert kinds(catalog, build).count("authorization") == 1


def test_of_many_that_use_it_at_once_one_succeeds(open_catalog, catalog, build, wanted):
    catalog.approvals.ask(wanted, build.key)
    decide(catalog, build)

    def use(number):
        try:
            open_catalog().approvals.authorize(authorization(build), build.key)
        except GovernanceError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(use, range(8))) == 1
    assert kinds(catalog, build).count("authorization") == 1


def test_a_decision_that_is_objected_to_changes_nothing(catalog, build, wanted):
    catalog.approvals.ask(wanted, build.key)

    def object_to(_asked):
        raise RefusedError("no")

    with pytest.raises(RefusedError):
        catalog.approvals.decide("approval-1", object_to, (), build.key)
    with pytest.raises(ValueError, match="not decided"):
        catalog.approvals.decide("approval-1", lambda asked: asked, (), build.key)
    assert catalog.approvals.named("approval-1") == wanted
    assert kinds(catalog, build) == ["approval-request"]


@pytest.mark.parametrize(
    "change",
    [
        "granted = 1, decided_at = requested_at, decided_by = requested_by",
        'parameters = \'{"vault": "near", "packs": ["a", "b", "c"]}\'',
        "expires_at = '2999-01-01T00:00:00.000000Z'",
        "decided_by = requested_by",
    ],
)
def test_a_row_that_was_changed_by_hand_does_not_count(catalog, build, wanted, change):
    """Neither one that was never given, nor one that was given for something else, for longer, or by another."""
    catalog.approvals.ask(wanted, build.key)
    if not change.startswith("granted"):
        decide(catalog, build)
    with catalog._writing() as connection:
        connection.execute(f"UPDATE approvals SET {change}")
    with pytest.raises(GovernanceError, match="no signed record"):
        catalog.approvals.authorize(authorization(build), build.key)


def test_what_counts_is_the_last_decision_by_this_signer(catalog, build, wanted):
    catalog.approvals.ask(wanted, build.key)
    given = decide(catalog, build)
    decide(catalog, build, granted=False)
    with pytest.raises(GovernanceError, match="denied"):
        catalog.approvals.authorize(authorization(build), build.key)
    with catalog._writing() as connection:
        connection.execute("UPDATE approvals SET granted = 1")
    assert catalog.approvals.named(given.id).granted
    with pytest.raises(GovernanceError, match="no signed record"):
        catalog.approvals.authorize(authorization(build), build.key)
    decide(catalog, build)
    with pytest.raises(GovernanceError, match="no signed record"):
        catalog.approvals.authorize(authorization(build), SigningKey(bytes([1] * 32)))
    catalog.approvals.authorize(authorization(build), build.key)


def test_a_damaged_row_is_told(catalog, build, wanted):
    catalog.approvals.ask(wanted, build.key)
    for change in ("requested_by = '{}'", "action = 'dance'", "requested_by = NULL", "expires_at = 'soon'"):
        try:
            with catalog._writing() as connection:
                connection.execute(f"UPDATE approvals SET {change}")
        except (sqlite3.IntegrityError, psycopg.IntegrityError):
            continue
        with pytest.raises(CatalogError, match="damaged"):
            catalog.approvals.listed()


def test_documents_are_accepted_when_first_read_and_then_by_approval(catalog, build, wanted):
    assert catalog.approvals.accepted("ethics.md") is None
    catalog.approvals.accept(ReadDocument("ethics.md", "aa"), build.now)
    catalog.approvals.accept(ReadDocument("ethics.md", "bb"), build.now)
    assert catalog.approvals.accepted("ethics.md") == "aa"
    parameters = {"document": "ethics.md", "was": "aa", "becomes": "bb"}
    digest = action_digest(Governed.DOCUMENT_CHANGE, parameters)
    action = {"action": Governed.DOCUMENT_CHANGE, "parameters": parameters}
    catalog.approvals.ask(replace(wanted, digest=digest, **action), build.key)
    decide(catalog, build)
    catalog.approvals.authorize(authorization(build, **action), build.key)
    assert catalog.approvals.accepted("ethics.md") == "bb"


def test_long_lists_are_signed_by_number_and_digest(catalog, build, wanted):
    parameters = {"vault": "near", "packs": [f"{number:064x}" for number in range(5000)]}
    digest = action_digest(Governed.PRUNE, parameters)
    catalog.approvals.ask(replace(wanted, parameters=parameters, digest=digest), build.key)
    (record,) = catalog.records_after(build.key.signer, 0)
    assert record.payload["parameters"]["packs"]["count"] == 5000
    assert len(record.to_bytes()) < 2000
    assert catalog.approvals.named("approval-1").parameters == parameters


# -- retentions


def noted(catalog, build, retention, later, **policy):
    source = build.source(retention=parse_retention(retention))
    governed = replace(build.policy(source, digest=retention), **policy)
    return catalog.retentions.note(governed, build.key, "ada", build.now + later)["ledger"]


def test_a_retention_is_noted_when_it_is_first_seen_and_signed_when_it_changes(catalog, build):
    assert noted(catalog, build, "90 days", 0 * HOUR) == (RetentionSeen("90 days", build.now, settled=True),)
    assert kinds(catalog, build) == []
    first = noted(catalog, build, "90 days", HOUR)
    assert first[0].since == build.now
    short = RetentionSeen("30 days", build.now + 2 * HOUR, settled=False)
    assert noted(catalog, build, "30 days", 2 * HOUR) == (*first, short)
    assert noted(catalog, build, "30 days", 3 * HOUR) == (*first, short)
    (record,) = catalog.records_after(build.key.signer, 0)
    said = {name: record.payload[name] for name in ("source", "retention_before", "retention_after", "shorter", "by")}
    assert said == {
        "source": "ledger",
        "retention_before": "90 days",
        "retention_after": "30 days",
        "shorter": True,
        "by": "ada",
    }
    assert catalog.facts(build.now, ["ledger"], kept_points=True).retentions == {"ledger": (*first, short)}
    assert catalog.facts(build.now, ["ledger"]).retentions == {}


def test_it_settles_after_72_hours_or_at_once_where_nothing_is_shortened(catalog, build):
    noted(catalog, build, "90 days", 0 * HOUR)
    noted(catalog, build, "30 days", 2 * HOUR)
    assert len(noted(catalog, build, "30 days", 73 * HOUR)) == 2
    assert noted(catalog, build, "30 days", 74 * HOUR) == (
        RetentionSeen("30 days", build.now + 2 * HOUR, settled=True),
    )
    assert [each.text for each in noted(catalog, build, "1 year", 75 * HOUR)] == ["1 year"]


def test_what_waited_long_enough_settles_before_the_next_one_comes(catalog, build):
    noted(catalog, build, "90 days", 0 * HOUR)
    noted(catalog, build, "30 days", 2 * HOUR)
    assert [each.text for each in noted(catalog, build, "10 days", 80 * HOUR)] == ["30 days", "10 days"]


def test_with_an_approval_to_come_it_settles_when_that_is_given_and_it_has_waited(catalog, build, wanted):
    from cto_backups.core.governance import Governance

    governed = {"governance": Governance(approvals={Governed.SHORTER_RETENTION: Who.ANYONE})}
    noted(catalog, build, "90 days", 0 * HOUR, **governed)
    noted(catalog, build, "30 days", 0 * HOUR + HOUR, **governed)
    assert len(noted(catalog, build, "30 days", 500 * HOUR, **governed)) == 2

    def ask(id, becomes):
        parameters = {"source": "ledger", "becomes": becomes}
        action = Governed.SHORTER_RETENTION
        digest = action_digest(action, parameters)
        catalog.approvals.ask(replace(wanted, id=id, action=action, parameters=parameters, digest=digest), build.key)
        return decide(catalog, build, id)

    with pytest.raises(RefusedError, match="is not '20 days' now"):
        ask("approval-2", "20 days")
    assert ask("approval-3", "30 days").used_at == build.now + HOUR
    waits = noted(catalog, build, "30 days", 72 * HOUR, **governed)
    assert [(each.settled, each.approved) for each in waits] == [(True, False), (False, True)]
    assert [each.settled for each in noted(catalog, build, "30 days", 73 * HOUR, **governed)] == [True]


def test_a_source_that_is_not_asked_for_is_not_told(catalog, build):
    noted(catalog, build, "90 days", 0 * HOUR)
    assert build.source().retention == Retention(keep_for=timedelta(days=90))
    assert catalog.facts(build.now, ["other"], kept_points=True).retentions == {}


def test_a_retention_settles_by_hand_only_where_it_is_the_newest(catalog, build):
    noted(catalog, build, "90 days", 0 * HOUR)
    noted(catalog, build, "30 days", HOUR)
    catalog.retentions.settle("ledger", "90 days")
    assert len(noted(catalog, build, "30 days", 2 * HOUR)) == 2
    catalog.retentions.settle("ledger", "30 days")
    assert len(noted(catalog, build, "30 days", 3 * HOUR)) == 1


def test_sources_that_are_kept_stay_active_when_the_policy_names_them_no_longer(catalog, build):
    other = build.policy(build.source("other"), digest="d2")
    catalog.sync_policy(other, b"", build.now, keep=["ledger"])
    assert catalog.active_sources() == ("ledger", "other")
    catalog.sync_policy(other, b"", build.now, keep=["ledger"])
    catalog.sync_policy(other, b"", build.now)
    assert catalog.active_sources() == ("other",)
