"""What a check of a vault says, and what of it counts."""

from cto_backups.core.model import Evidence, Rung
from cto_backups.core.object_locks import is_lockable
from cto_backups.core.vault_check import CHECK, Answer, Told, failing, told_in

HELD = Told("ranges", Answer.ENFORCED)
BROKEN = Told("overwrite", Answer.NOT_ENFORCED, "a second writer replaced it", seconds=1.5)
UNASKED = Told("lock-delete", Answer.NOT_ASKED, "this login may not s3:DeleteObject")
UNWANTED = Told("checksum", Answer.NOT_OFFERED, wanted=False)


def test_what_was_relied_on_and_not_seen_to_hold_fails() -> None:
    assert [each.passed for each in (HELD, BROKEN, UNASKED, UNWANTED)] == [True, False, False, True]
    assert failing((HELD, UNWANTED)) == ""
    assert failing((HELD, BROKEN, UNASKED)) == "overwrite: not enforced; lock-delete: could not be asked"


def test_evidence_tells_of_each_rule_what_the_check_did(build) -> None:
    told = (HELD, BROKEN, UNASKED, UNWANTED)
    steps = tuple(each.step(build.now) for each in told)
    evidence = Evidence("c", CHECK, None, None, "far", build.now, build.now, False, Rung.DECLARED, steps)
    assert told_in(evidence) == told
    assert [step.passed for step in steps] == [True, False, False, True]


def test_what_a_check_stores_is_locked_by_nobody_else() -> None:
    assert not is_lockable("check/20260318T120000Z-abcdef/locked")
    assert is_lockable("records/check/1")
