"""The rules of governance: that they ask for less is noticed, and until it is approved both bind."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.governance import DESTRUCTIVE, Governance, Governed, GoverningDocument, Who
from cto_backups.core.governing_rules import in_force, loosened

ETHICS = GoverningDocument("ethics.md", "/srv/ethics.md", frozenset({Governed.PRUNE, Governed.EXPIRE}))
RULES = Governance(
    documents=(ETHICS,),
    approvals={Governed.PRUNE: Who.ANYONE, Governed.RESTORE: Who.SECOND_PERSON},
    approvers=("ada", "bo"),
)


def less(**changes):
    after = replace(RULES, **changes)
    return loosened(RULES, after)


def test_what_asks_for_less_is_told():
    assert loosened(RULES, RULES) == ()
    assert loosened(None, RULES) == ()
    assert loosened(None, None) == ()
    assert loosened(RULES, None) == ("the section 'governance' is gone",)
    assert less(approvals={Governed.RESTORE: Who.SECOND_PERSON}) == ("'prune' needs no approval",)
    assert less(approvals={Governed.PRUNE: Who.ANYONE, Governed.RESTORE: Who.ANYONE}) == (
        "'restore' needs no second person",
        "'governance-change' needs no second person",
    )
    assert less(documents=()) == ("ethics.md governs nothing",)
    narrow = replace(ETHICS, governs=frozenset({Governed.PRUNE}))
    assert less(documents=(narrow,)) == ("ethics.md does not govern expire",)
    assert less(approvers=("ada", "cy")) == ("cy may approve",)
    assert less(approvers=()) == ("everybody may approve",)
    assert less(valid_for=timedelta(hours=73)) == ("approvals are valid for longer",)


def test_what_asks_for_as_much_or_more_is_not_told():
    assert less(approvers=("ada",)) == ()
    assert less(valid_for=timedelta(hours=1)) == ()
    assert less(documents=(replace(ETHICS, path="/moved/ethics.md"),)) == ()
    assert less(approvals={**RULES.approvals, Governed.EXPIRE: Who.ANYONE}) == ()


def test_until_it_is_approved_both_bind():
    assert in_force(RULES, None) == RULES
    assert in_force(None, RULES) == RULES
    assert in_force(None, None) is None
    more = replace(RULES, approvers=("bo",))
    assert in_force(RULES, more) == more
    after = Governance(approvals={Governed.EXPIRE: Who.ANYONE}, valid_for=timedelta(hours=99), approvers=("cy",))
    both = in_force(RULES, after)
    assert both.approvals == {
        Governed.EXPIRE: Who.ANYONE,
        Governed.PRUNE: Who.ANYONE,
        Governed.RESTORE: Who.SECOND_PERSON,
    }
    assert (both.documents, both.valid_for, both.approvers) == ((ETHICS,), RULES.valid_for, ("ada", "bo"))


actions = st.sampled_from(list(Governed))
documents = st.builds(
    lambda name, governs: GoverningDocument(name, f"/srv/{name}", frozenset(governs)),
    st.sampled_from(["one.md", "two.md"]),
    st.sets(st.sampled_from(DESTRUCTIVE), min_size=1),
)
rules = st.builds(
    Governance,
    documents=st.lists(documents, max_size=2, unique_by=lambda each: each.name).map(tuple),
    approvals=st.dictionaries(actions, st.sampled_from(list(Who)), max_size=4),
    approvers=st.lists(st.sampled_from(["ada", "bo", "cy"]), max_size=3, unique=True).map(tuple),
    valid_for=st.integers(1, 99).map(lambda hours: timedelta(hours=hours)),
)


@given(rules, rules)
def test_what_binds_asks_for_no_less_than_what_was_accepted(before, after):
    bound = in_force(before, after)
    assert loosened(before, bound) == ()
    if not loosened(before, after):
        assert bound == after
