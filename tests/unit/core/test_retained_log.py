"""What a server keeps of its log for a source: when it is too much, and that the audit says so in time."""

from dataclasses import replace

import pytest

from cto_backups.core.assurance import judge
from cto_backups.core.auditing import audit
from cto_backups.core.controls import Environment
from cto_backups.core.retained_log import LogRetainer, RetainedLog

GB = 10**9
LOG = RetainedLog("cto_backups_ledger_0a1b2c3d", retained_bytes=3 * GB, usual_bytes=GB)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (LOG, ""),
        (replace(LOG, retained_bytes=4 * GB), ""),
        (replace(LOG, retained_bytes=4 * GB + 1), "nothing bounds that"),
        (replace(LOG, left_bytes=3 * GB + 1), ""),
        (replace(LOG, left_bytes=3 * GB), "throws it away once 3.0 GB more are written"),
        (replace(LOG, left_bytes=-5), "throws it away once 0 MB more are written"),
        (replace(LOG, retained_bytes=9 * GB, left_bytes=20 * GB), ""),
        (replace(LOG, free_bytes=3 * GB + 1), ""),
        (replace(LOG, free_bytes=250 * 10**6), "250 MB are free on the server's disk"),
        (replace(LOG, retained_bytes=0, left_bytes=None, is_lost=True), "read all files again"),
    ],
)
def test_it_is_too_much_before_the_disk_is_full_or_the_log_is_lost(log: RetainedLog, why: str) -> None:
    assert why in log.peril
    assert bool(log.peril) is bool(why)


def test_a_slot_that_is_not_ours_is_told_as_such() -> None:
    assert LOG.told == "slot cto_backups_ledger_0a1b2c3d keeps 3.0 GB of the server's log"
    assert "of another installation or of this one before it moved" in replace(LOG, ours=False).told


def test_the_audit_has_a_finding_for_each_that_is_too_much(build) -> None:
    policy, facts = build.policy(build.source()), build.facts()
    other = replace(LOG, slot="other", ours=False, is_lost=True)
    environment = Environment(retained={"ledger": (LOG, other)})
    report = audit(policy, facts, judge(policy, facts, build.now), build.now, environment)
    (result,) = (each for each in report.results if each.control.id == "retained-log")
    assert [(check.subject, check.passed) for check in result.checks] == [("ledger", True), ("ledger", False)]
    (finding,) = result.findings
    assert finding.detail.startswith("slot other, which is of another installation")
    assert finding.detail.endswith(other.peril)


def test_a_source_whose_server_keeps_no_log_is_not_asked() -> None:
    assert not isinstance(object(), LogRetainer)
