"""The worker's sign of life, and what its absence means; pure."""

from datetime import datetime

from cto_backups.core.assurance import CLOCK_TOLERANCE
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import roughly
from cto_backups.core.model import Facts
from cto_backups.core.policy import Policy


def silence(policy: Policy, facts: Facts, now: datetime) -> str | None:
    """Why the worker is to be taken for dead, in a sentence; None when it is alive, never worked, or has nothing to do.

    Raises ValueError when `now` is naive.
    """
    require_aware(now)
    last = facts.heartbeat
    if last is None or not policy.sources:
        return None
    if last.at > now + CLOCK_TOLERANCE:
        return (
            f"the worker's last sign of life is dated {roughly(last.at - now)} in the future: a clock is or was wrong, "
            "so nobody knows whether it is running"
        )
    if now <= last.next_by:
        return None
    doing = f" while it was busy with '{last.busy_with}'" if last.busy_with else ""
    return (
        f"the worker is dead: its last sign of life, from process {last.pid} on {last.host}, was "
        f"{roughly(now - last.at)} ago{doing}; nothing that is scheduled gets done"
    )
