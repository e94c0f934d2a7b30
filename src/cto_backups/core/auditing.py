"""The audit: every control, over all that is known."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from cto_backups.core.assurance import Verdict
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.controls import CONTROLS
from cto_backups.core.elsewhere import elsewhere
from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.findings import Audited, AuditReport, Check, ControlResult, Environment, PointsOf
from cto_backups.core.model import Fingerprint
from cto_backups.core.policy import Policy


def audit(
    policy: Policy,
    facts: Facts,
    verdicts: Mapping[str, Verdict],
    now: datetime,
    environment: Environment,
    points_of: PointsOf | None = None,
) -> AuditReport:
    """Run every control. `verdicts` has one for each source of the policy. Raises ValueError when `now` is naive.

    `points_of` gives the facts of a source with its kept points where `facts` have none.
    """
    auditing = Auditing(policy, now, environment, points_of)
    auditing.add(facts, verdicts)
    return auditing.report(facts)


class Auditing:
    """An audit whose sources come in parts, in the policy's order: the facts of all need not be in memory at once."""

    def __init__(
        self, policy: Policy, now: datetime, environment: Environment, points_of: PointsOf | None = None
    ) -> None:
        self._policy, self._now = policy, require_aware(now)
        self._environment, self._points_of = environment, points_of
        self._checks: dict[str, list[Check]] = defaultdict(list)
        self._verdicts: dict[str, Verdict] = {}

    def add(self, facts: Facts, verdicts: Mapping[str, Verdict]) -> None:
        """Judge the sources that have a verdict here."""
        some = {name: self._policy.sources[name] for name in verdicts}
        audited = self._audited(replace(self._policy, sources=some), facts, verdicts)
        for control in CONTROLS:
            if control.by_source:
                self._checks[control.id] += control.check(audited)
        self._verdicts.update(verdicts)

    def report(self, facts: Facts) -> AuditReport:
        """What was found once all are added. `facts` are those of all, as far as `remembered` leaves them."""
        audited = self._audited(self._policy, facts, self._verdicts)
        checks = [self._checks[each.id] if each.by_source else each.check(audited) for each in CONTROLS]
        return AuditReport(self._now, tuple(map(ControlResult, CONTROLS, map(tuple, checks))))

    def _audited(self, policy: Policy, facts: Facts, verdicts: Mapping[str, Verdict]) -> Audited:
        return Audited(policy, facts, verdicts, self._now, self._environment, self._points_of)


def remembered(facts: SourceFacts) -> SourceFacts:
    """What is needed of a source once it is judged: by controls that look at all of them together, and by reports."""
    newest = facts.newest
    if newest is not None:
        said = newest.fingerprint
        samples = said.samples if elsewhere(newest) is not None else ()
        said = Fingerprint(said.algorithm, {}, {}, samples)
        newest = replace(newest, fingerprint=said, change=None, paths=(), problems=())
    return SourceFacts(
        facts.source,
        newest=newest,
        copies=facts.copies,
        restores=facts.restores,
        discovered_at=facts.discovered_at,
        stream=facts.stream,
    )
