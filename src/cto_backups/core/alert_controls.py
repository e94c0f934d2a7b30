"""The control on escalation: that what is wrong reaches a human."""

from collections.abc import Iterator

from cto_backups.core.alerts import AlertPolicy, AlertRule
from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.findings import Audited, Check
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.wording import listed


def check_escalation(audited: Audited) -> Iterator[Check]:
    """People are named, what is urgent rings somewhere, and each person was reached not long ago."""
    alerts = audited.policy.alerts
    if not audited.policy.sources:
        return
    if not alerts.people:
        yield Check("people", False, "the policy names nobody who is told when something is wrong")
        return
    for rule in alerts.rules:
        if rule.urgent:
            yield _ringing(alerts, rule)
    for name in alerts.people:
        yield _reached(audited, name)


def _ringing(alerts: AlertPolicy, rule: AlertRule) -> Check:
    people = alerts.first(rule)
    ringing = [
        name for name in people if any(alerts.channels[reach.channel].pages for reach in alerts.people[name].reach)
    ]
    subject = f"rule {rule.name}"
    if ringing:
        return Check(subject, True, f"it rings at {listed(ringing)}")
    return Check(
        subject,
        False,
        f"no channel of {listed(people)} rings until a human acknowledges, and what is urgent may lie unread",
    )


def _reached(audited: Audited, name: str) -> Check:
    last, within = audited.facts.reached.get(name), audited.policy.alerts.tested_within
    if last is None:
        return Check(name, False, f"no message has ever reached {name}")
    if last > audited.now + CLOCK_TOLERANCE:
        return Check(name, False, f"the last message to {name} is dated in the future: a clock is or was wrong")
    told = f"the last message reached {name} {roughly(audited.now - last)} ago"
    if audited.now - last > within:
        return Check(name, False, f"{told}; one is due every {format_duration(within)}")
    return Check(name, True, told)
