"""Who may approve what, for which action an approval counts, and how long."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.governance import (
    DESTRUCTIVE,
    Approval,
    Governance,
    Governed,
    GoverningDocument,
    Identity,
    Standing,
    Who,
    doubts,
    flaws,
    objections,
)

ADA, BO, CY = Identity("ada", 1001), Identity("bo", 1002), Identity("cy", 1003)
HOUR = timedelta(hours=1)
RULES = Governance(approvals={Governed.PRUNE: Who.SECOND_PERSON, Governed.EXPIRE: Who.ANYONE})


@pytest.fixture
def asked(build):
    return Approval(
        id="approval-1",
        action=Governed.PRUNE,
        parameters={"vault": "near", "packs": ["a", "b"]},
        digest="d",
        summary="prune near",
        who=Who.SECOND_PERSON,
        requested_at=build.now,
        requested_by=ADA,
        expires_at=build.now + 72 * HOUR,
    )


def given(approval, by=BO):
    return replace(approval, decided_at=approval.requested_at + HOUR, decided_by=by, granted=True)


@pytest.mark.parametrize(
    ("changes", "later", "standing"),
    [
        ({}, timedelta(), Standing.OPEN),
        ({}, 72 * HOUR - timedelta(microseconds=1), Standing.OPEN),
        ({}, 72 * HOUR, Standing.EXPIRED),
        ({"granted": True, "decided": True}, 2 * HOUR, Standing.GIVEN),
        ({"granted": True, "decided": True}, 72 * HOUR, Standing.EXPIRED),
        ({"decided": True}, 2 * HOUR, Standing.DENIED),
        ({"decided": True}, 99 * HOUR, Standing.DENIED),
        ({"granted": True, "decided": True, "used": True}, 2 * HOUR, Standing.USED),
        ({"granted": True, "decided": True, "used": True}, 99 * HOUR, Standing.USED),
    ],
)
def test_what_becomes_of_a_request(build, asked, changes, later, standing):
    approval = replace(
        asked,
        granted=changes.get("granted", False),
        decided_at=build.now if changes.get("decided") else None,
        used_at=build.now if changes.get("used") else None,
    )
    assert approval.standing(build.now + later) is standing


@pytest.mark.parametrize(
    ("action", "parameters", "covered"),
    [
        (Governed.PRUNE, {"vault": "near", "packs": ["a", "b"]}, True),
        (Governed.PRUNE, {"vault": "near", "packs": ["b"]}, True),
        (Governed.PRUNE, {"vault": "near", "packs": []}, True),
        (Governed.PRUNE, {"vault": "near", "packs": ["a", "c"]}, False),
        (Governed.PRUNE, {"vault": "near", "packs": "a"}, False),
        (Governed.PRUNE, {"vault": "far", "packs": ["a"]}, False),
        (Governed.PRUNE, {"vault": "near"}, False),
        (Governed.PRUNE, {"vault": "near", "packs": ["a"], "more": True}, False),
        (Governed.EXPIRE, {"vault": "near", "packs": ["a", "b"]}, False),
    ],
)
def test_an_approval_is_for_one_action_and_no_more_packs_than_it_names(asked, action, parameters, covered):
    assert asked.covers(action, parameters) is covered


def test_other_lists_must_be_equal_and_texts_are_no_lists(asked):
    approval = replace(asked, parameters={"points": ["a", "b"], "packs": "ab"})
    assert approval.covers(Governed.PRUNE, {"points": ["a", "b"], "packs": "ab"})
    assert not approval.covers(Governed.PRUNE, {"points": ["a"], "packs": "ab"})
    assert not approval.covers(Governed.PRUNE, {"points": ["a", "b"], "packs": ["a"]})


def test_a_second_person_may_approve_and_who_asked_may_not(build, asked):
    assert objections(RULES, asked, BO, build.now, grant=True) == []
    assert objections(RULES, asked, ADA, build.now, grant=True) == [
        "a second person is needed, and ada (user 1001) asked for it"
    ]


@pytest.mark.parametrize(
    "alias", [Identity("ada", 7), Identity("root", 1001), Identity("ada", 1001, "bo"), Identity("root", 0, "ada")]
)
def test_one_person_is_one_by_name_or_number_and_what_sudo_says_never_helps(build, asked, alias):
    assert objections(RULES, asked, alias, build.now, grant=True)


def test_where_anyone_may_approve_who_asked_may(build, asked):
    approval = replace(asked, action=Governed.EXPIRE, who=Who.ANYONE)
    assert objections(RULES, approval, ADA, build.now, grant=True) == []


def test_what_was_asked_under_a_stricter_policy_stays_as_strict(build, asked):
    """Neither a policy that was loosened nor one that was tightened since lets the requester approve."""
    loosened = Governance(approvals={Governed.PRUNE: Who.ANYONE})
    assert objections(loosened, asked, ADA, build.now, grant=True)
    assert objections(Governance(), asked, ADA, build.now, grant=True)
    assert objections(RULES, replace(asked, who=Who.ANYONE), ADA, build.now, grant=True)
    assert objections(Governance(), replace(asked, who=Who.ANYONE), ADA, build.now, grant=True) == []


def test_only_approvers_decide_but_who_asked_may_take_it_back(build, asked):
    rules = replace(RULES, approvers=("bo", "1003"))
    assert objections(rules, asked, BO, build.now, grant=True) == []
    assert objections(rules, asked, CY, build.now, grant=True) == []
    stranger = Identity("di", 1004)
    for grant in (True, False):
        assert objections(rules, asked, stranger, build.now, grant=grant) == [
            "di (user 1004) is none of the policy's approvers, bo, 1003"
        ]
    assert objections(rules, asked, ADA, build.now, grant=False) == []
    assert len(objections(rules, asked, ADA, build.now, grant=True)) == 2


def test_a_decision_is_turned_round_until_it_is_used_or_has_expired(build, asked):
    denied = replace(given(asked), granted=False)
    assert objections(RULES, given(asked), CY, build.now, grant=True) == ["it is given already"]
    assert objections(RULES, given(asked), CY, build.now, grant=False) == []
    assert objections(RULES, denied, CY, build.now, grant=False) == ["it is denied already"]
    assert objections(RULES, denied, CY, build.now, grant=True) == []
    late = build.now + 72 * HOUR
    for approval in (asked, given(asked), denied):
        assert objections(RULES, approval, CY, late, grant=True) == ["it has expired"]
    assert objections(RULES, given(asked), CY, late, grant=False) == ["it has expired"]
    used = replace(given(asked), used_at=build.now)
    for grant in (True, False):
        assert objections(RULES, used, CY, build.now, grant=grant) == ["it is used already"]


def test_an_approval_counts_by_the_policy_of_today(build, asked):
    now = build.now + 2 * HOUR
    assert doubts(RULES, given(asked), now) == []
    assert doubts(RULES, asked, now) == ["it is open"]
    assert doubts(RULES, replace(given(asked), decided_by=None), now) == ["it is given"]
    assert doubts(RULES, given(asked), build.now + 72 * HOUR) == ["it is expired"]
    own = replace(given(asked, ADA), who=Who.ANYONE)
    assert doubts(Governance(), own, now) == []
    assert len(doubts(RULES, own, now)) == 1, "a second person is needed since"
    (told,) = doubts(replace(RULES, approvers=("cy",)), given(asked), now)
    assert told == "bo (user 1002), who gave it, is none of the policy's approvers"
    assert doubts(replace(RULES, approvers=("cy", "1002")), given(asked), now) == []


def test_documents_govern_everything_that_destroys_unless_they_say_what(build):
    every, one = GoverningDocument("ethics", "/e"), GoverningDocument("keys", "/k", frozenset({Governed.KEY_REMOVAL}))
    rules = Governance(documents=(every, one))
    assert rules.governing(Governed.KEY_REMOVAL) == (every, one)
    assert all(rules.governing(action) == (every,) for action in DESTRUCTIVE if action is not Governed.KEY_REMOVAL)
    assert rules.governing(Governed.DOCUMENT_CHANGE) == ()


def test_only_the_change_of_a_document_needs_an_approval_unasked(build):
    assert Governance().approved_by(Governed.DOCUMENT_CHANGE) is Who.ANYONE
    strict = Governance(approvals={Governed.DOCUMENT_CHANGE: Who.SECOND_PERSON})
    assert strict.approved_by(Governed.DOCUMENT_CHANGE) is Who.SECOND_PERSON
    assert Governance().approved_by(Governed.PRUNE) is None
    assert RULES.approved_by(Governed.PRUNE) is Who.SECOND_PERSON


def test_an_approval_by_who_asked_is_a_flaw_where_a_second_person_was_needed(asked):
    assert flaws(asked) == []
    assert flaws(given(asked)) == []
    assert flaws(replace(given(asked), decided_by=None)) == []
    assert flaws(replace(given(asked, ADA), who=Who.ANYONE)) == []
    (told,) = flaws(given(asked, ADA))
    assert told == "it was asked for and given by ada (user 1001), where a second person is needed"


def test_an_identity_tells_what_sudo_said():
    assert str(Identity("root", 0, "ada")) == "root (user 0, by sudo from ada)"
