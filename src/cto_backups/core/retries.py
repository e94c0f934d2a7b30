"""Retries: when an action that did not end well is tried again. Pure."""

from datetime import datetime, timedelta

from cto_backups.core.model import Outcome, Run
from cto_backups.core.schedule import AT_ONCE

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=1)
CRASH = "crash"
"""The error code of a run whose process ended in the middle of it."""
QUARANTINE_AFTER = 3
"""After how many crashes an action is left alone: of failures in a row, others are none."""
QUARANTINE = timedelta(days=1)
"""For how long: it may harm the machine, or take all that others need; but what it met may be gone by then."""

BAD = (Outcome.FAILED, Outcome.INTERRUPTED)


def retry_at(run: Run | None, failures: int) -> datetime:
    """When an action may be tried (again): at once, or after a delay that doubles with each failure in a row.

    A run that was interrupted was no failure of its own: it is taken up again at once. One that is quarantined is tried
    once a day.
    """
    if run is None or run.outcome not in BAD or (run.outcome is Outcome.INTERRUPTED and not failures):
        return AT_ONCE
    delay = FIRST_RETRY * (1 << min(max(failures, 1) - 1, 16))
    ended = run.finished_at or run.started_at
    return ended + (QUARANTINE if is_quarantined(run) else min(delay, LAST_RETRY))


def is_quarantined(run: Run | None) -> bool:
    """Whether an action is left alone, since its process ended in the middle again and again."""
    if run is None or run.outcome is not Outcome.FAILED or run.error_code != CRASH:
        return False
    return run.crashes >= QUARANTINE_AFTER
