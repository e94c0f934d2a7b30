"""Retries: when an action that did not end well is tried again, and when one was last done. Pure.

What is dated in the future, since a clock was wrong, puts nothing off until then.
"""

from datetime import datetime, timedelta

from cto_backups.core.facts import Facts, VaultFacts
from cto_backups.core.model import Action, Outcome, Run
from cto_backups.core.schedule import AT_ONCE

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=1)
CRASH = "crash"
"""The error code of a run whose process ended in the middle of it."""
QUARANTINE_AFTER = 3
"""After how many crashes an action is left alone: of failures in a row, others are none."""
QUARANTINE = timedelta(days=1)
"""For how long: it may harm the machine, or take all that others need; but what it met may be gone by then."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far ahead of us another clock may be before what it dated is not believed."""

BAD = (Outcome.FAILED, Outcome.INTERRUPTED)


def believed(moment: datetime | None, now: datetime) -> datetime | None:
    """The moment; None for one too far ahead."""
    return moment if moment is not None and moment <= now + CLOCK_TOLERANCE else None


def last_done(at: datetime | None, run: Run | None, now: datetime) -> datetime | None:
    """When something was last done, by its evidence; by its last run, where the evidence is dated in the future.

    That stays the last one by its date until then, whatever is done meanwhile.
    """
    if at is None or at <= now + CLOCK_TOLERANCE:
        return at
    return believed(run.finished_at, now) if run is not None and run.outcome is Outcome.SUCCEEDED else None


def retry_at(run: Run | None, failures: int, now: datetime) -> datetime:
    """When an action may be tried (again): at once, or after a delay that doubles with each failure in a row.

    A run that was interrupted was no failure of its own: it is taken up again at once. One that is quarantined is tried
    once a day. A failure dated further ahead than any delay puts nothing off.
    """
    if run is None or run.outcome not in BAD or (run.outcome is Outcome.INTERRUPTED and not failures):
        return AT_ONCE
    longest = QUARANTINE if is_quarantined(run) else LAST_RETRY
    delay = longest if is_quarantined(run) else min(FIRST_RETRY * (1 << min(max(failures, 1) - 1, 16)), longest)
    ended = run.finished_at or run.started_at
    return AT_ONCE if ended > now + longest else ended + delay


def infrastructure_failure(facts: VaultFacts, read: datetime | None) -> Run | None:
    """The last run at a vault, unless it is the reading that found damage: that one was done, its next time is known.

    `read` is when the vault was last read.
    """
    run = facts.last_run
    found_damage = run is not None and read is not None and run.started_at <= read
    return None if found_damage else run


def broke_off(action: Action, facts: Facts) -> bool:
    """Whether the last run of the same ended with its process, or was stopped."""
    if action.source is not None:
        known = facts.sources.get(action.source)
        run = None if known is None else known.last_runs.get(action.kind)
    else:
        vault = facts.vaults.get(action.vault or "", VaultFacts(action.vault or ""))
        runs = (vault.last_run, vault.prune_run, vault.renew_run, vault.check_run)
        run = next((each for each in runs if each is not None and each.action is action.kind), None)
    return run is not None and run.outcome is Outcome.INTERRUPTED


def is_quarantined(run: Run | None) -> bool:
    """Whether an action is left alone, since its process ended in the middle again and again."""
    if run is None or run.outcome is not Outcome.FAILED or run.error_code != CRASH:
        return False
    return run.crashes >= QUARANTINE_AFTER
