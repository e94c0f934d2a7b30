"""When a restore test is next due, and of which copy; pure."""

from datetime import datetime, timedelta

from cto_backups.core.duration import format_duration
from cto_backups.core.elsewhere import comparable
from cto_backups.core.facts import CopyFacts, SourceFacts
from cto_backups.core.model import ActionKind, Rung
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.retries import believed, last_done
from cto_backups.core.schedule import AT_ONCE

EARLIEST_TEST_LEAD = timedelta(days=1)


def next_test(source: SourcePolicy, facts: SourceFacts, now: datetime) -> tuple[datetime, str] | None:
    """When a restore test is next due, and why; None when none is required, or there is nothing to test."""
    if source.test_every is None or facts.newest is None or not facts.copies:
        return None
    if facts.newest.taken_over:
        return None  # there is nothing to compare with: the next backup makes a point that can be tested
    last, why = facts.last_test, f"tested every {format_duration(source.test_every)}"
    # A little early, so that the next one is done before the last one is too old.
    interval = source.test_every - min(source.test_every / 10, EARLIEST_TEST_LEAD)
    if last is None:
        return facts.newest.finished_at, "never tested"
    if believed(last.finished_at, now) is None:  # from then on it counts, and may ask for one at once
        done = last_done(last.finished_at, facts.last_runs.get(ActionKind.RESTORE_TEST), now)
        if done is None:
            return min(facts.newest.finished_at, last.finished_at), "never tested"
        return min(done + interval, last.finished_at), why
    if not last.passed and not (comparable(facts.newest) or last.rung < Rung.RESTORED):
        return last.finished_at + source.test_every, "it came back, and there is nothing to compare it with"
    if not last.passed:
        return last.finished_at, f"the last restore test failed: {last.reason}"
    return last.finished_at + interval, why


def test_preference(source: SourcePolicy, known: CopyFacts) -> tuple[bool, bool, datetime, int]:
    """The copy that was tested longest ago goes first, so that every vault gets its turn."""
    vault = known.copy.vault
    known_place = vault in source.vaults
    place = source.vaults.index(vault) if known_place else len(source.vaults)
    return not known_place, known.read_passed is False, known.tested_at or AT_ONCE, place
