"""Heavy work: when it begins where policy has windows for it, and what makes it begin outside them; pure.

Who sets windows wants quiet days, and whoever audits wants no proof to be late. So heavy work waits for the next window
unless that would make it late. Then it begins in the window before; and if that has passed, outside all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.duration import roughly
from cto_backups.core.facts import Facts, SourceFacts, VaultFacts
from cto_backups.core.model import Action, ActionKind, Run
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.windows import closed_since, is_open, longest_opening, opens

HELD = "waits for its window"
AHEAD = "ahead of time, since in its next window it would be late"
OUTSIDE = "outside its window, since in the next one it would be late"

TIME_FACTOR = 2
"""How much of the time that an action last took is left for it before it would be late."""
LEAST_AHEAD = timedelta(hours=1)
"""How long before its window ends an action begins at least that begins ahead of time: others may be at work."""


@dataclass(frozen=True, slots=True)
class Spare:
    """How far an action may be moved: not before `earliest`, and so that it is done before it is `late`.

    `takes` is the time to allow for it.
    """

    earliest: datetime
    late: datetime
    takes: timedelta


def spare(last: datetime, asked: datetime, late: datetime, run: Run | None) -> Spare:
    """How far an action may be moved that was done `last`, is `asked` for, and has to be done before it is `late`.

    `run`, the last one, tells how long it takes.
    """
    # A tenth of the time between two, or a window that stays open would see one right after the other.
    return Spare(last + (asked - last) / 10, late, TIME_FACTOR * took(run))


def took(run: Run | None) -> timedelta:
    """How long a run took; no time for one that has not ended, or while which a clock was put back."""
    if run is None or run.finished_at is None:
        return timedelta()
    return max(run.finished_at - run.started_at, timedelta())


def begins(policy: Policy, asked: datetime, now: datetime, room: Spare | None = None) -> tuple[datetime, str]:
    """When heavy work begins that is asked for at a moment, and what windows have to do with it ("": nothing).

    Without `room` it is never late. Raises ValueError for naive moments.
    """
    windows, zone = policy.worker.heavy_work, ZoneInfo(policy.timezone)
    at = max(asked, now)
    if not windows or (closed := closed_since(windows, at, zone)) is None:
        return asked, ""
    opening = opens(windows, at, zone)
    if room is None or opening + room.takes <= room.late:
        return opening, HELD
    ahead = max(closed - max(room.takes, LEAST_AHEAD), room.earliest, now)
    return (opens(windows, ahead, zone), AHEAD) if ahead < closed else (asked, OUTSIDE)


def heavy_work_begins(policy: Policy, now: datetime) -> bool:
    """Whether heavy work begins now that can wait: in a window, or where there are none."""
    windows = policy.worker.heavy_work
    return not windows or is_open(windows, now, ZoneInfo(policy.timezone))


def next_opening(policy: Policy, now: datetime) -> datetime | None:
    """When the next window opens, or `now` while one is open; None where there are none."""
    windows = policy.worker.heavy_work
    return opens(windows, now, ZoneInfo(policy.timezone)) if windows else None


def held(policy: Policy, action: Action, now: datetime, room: Spare | None = None) -> Action:
    """The action as windows let it begin; its reason says what they have to do with it."""
    at, because = begins(policy, action.due_at, now, room)
    return replace(action, due_at=at, reason=f"{action.reason}; {because}") if because else action


def spare_of_test(source: SourcePolicy, facts: SourceFacts, asked: datetime, now: datetime) -> Spare:
    """How far the restore test of a source may be moved that has a point and requires one.

    The first one has as long as policy leaves between two. One that failed is told of already: its repetition as well.
    """
    assert source.test_every is not None and facts.newest is not None  # or no test would be asked for
    done = facts.last_test.finished_at if facts.last_test is not None else None
    moments = [moment for moment in (facts.proven_at, done) if moment is not None and moment <= now]
    last = max(moments, default=facts.first_seen or facts.newest.finished_at)
    return spare(last, asked, last + source.test_every, facts.last_runs.get(ActionKind.RESTORE_TEST))


def notes(policy: Policy, facts: Facts) -> tuple[str, ...]:
    """What does not fit into any window, by how long it last took, in sentences for people."""
    if not policy.worker.heavy_work:
        return ()
    longest = longest_opening(policy.worker.heavy_work)
    return tuple(
        f"{what} last took {roughly(time)}, longer than heavy work's windows are ever open ({roughly(longest)}): "
        "it goes on after its window has closed"
        for what, time in _times(policy, facts)
        if time > longest
    )


def _times(policy: Policy, facts: Facts) -> Iterator[tuple[str, timedelta]]:
    for name in policy.sources:
        known = facts.sources.get(name, SourceFacts(name))
        yield f"the restore test of {name}", took(known.last_runs.get(ActionKind.RESTORE_TEST))
    for name in policy.vaults:
        vault = facts.vaults.get(name, VaultFacts(name))
        yield f"the verification of vault {name}", took(vault.last_run)
        yield f"the prune of vault {name}", took(vault.prune_run)
