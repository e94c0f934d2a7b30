"""When what goes on beside the triggers asks for a backup: a change that a watch noticed, or a stream that is stuck.

A noticed change asks for one soon, at a quiet moment, and within bounds.

Who writes all the time must not be read all the time: a source is left alone for nine times as long as its last backup
took with its copies, so that backups take a tenth of the time at most; and there is a shortest pause between two, so
that points do not pile up. The ordinary rescans know nothing of this: since events get lost, they come in any case.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cto_backups.core.model import ActionKind, Outcome, Run
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.schedule import NextRun
from cto_backups.core.triggers import Continuous, OnChange, Triggers
from cto_backups.core.watched import Noticed

if TYPE_CHECKING:
    from cto_backups.core.facts import SourceFacts

REST_FACTOR = 9
"""For how many times as long as its last backup took a source is left alone."""
MOST_WITHIN_RPO = 240
"""How many backups for noticed changes there are at most within one RPO; of a long one, more are no harm."""
LONGEST_PAUSE = timedelta(minutes=5)
MOST_KEPT = 100_000
"""How many points a retention by age may come to keep of a source that changes all the time, before they get rarer."""
CONTINUOUS_QUIET = timedelta(seconds=1)
ON_CHANGE_QUIET = timedelta(seconds=10)
_ON_CHANGE_PARTS = 24
_SHORTEST = timedelta(seconds=1)


def watching_trigger(triggers: Triggers) -> Continuous | OnChange | None:
    """The trigger of a set for which its source is watched: the more urgent one of the two there are, if any."""
    watching = [trigger for trigger in triggers if isinstance(trigger, Continuous | OnChange)]
    return next((trigger for trigger in watching if isinstance(trigger, Continuous)), next(iter(watching), None))


def shortest_pause(source: SourcePolicy) -> timedelta:
    """The least time between the beginnings of two backups for noticed changes; longer where points are kept longer."""
    retention = source.retention
    pause = max(source.category.rpo / MOST_WITHIN_RPO, (retention.keep_for or timedelta()) / MOST_KEPT, _SHORTEST)
    return LONGEST_PAUSE if retention.permanent else min(pause, LONGEST_PAUSE)


def sooner(asked: NextRun, source: SourcePolicy, facts: "SourceFacts", served: datetime | None) -> NextRun:
    """When a backup is asked for, given when that is without any watch: never later than that.

    `served` is the moment up to which backups have the source.
    """
    trigger = watching_trigger(source.triggers)
    if trigger is None or facts.noticed is None or served is None or facts.noticed.last <= served:
        return asked
    at = _settled(facts.noticed, trigger, source, served)
    run = facts.last_runs.get(ActionKind.BACKUP)
    if run is not None and run.finished_at is not None:
        rested = run.finished_at + REST_FACTOR * _took(source, facts)
        at = max(at, rested, run.started_at + shortest_pause(source))
    return NextRun(at, trigger, changed=True) if at < asked.at else asked


def for_stream(asked: NextRun, source: SourcePolicy, facts: "SourceFacts") -> NextRun:
    """When a backup is asked for, given when that is without a stream: at once where that needs a new point to go on.

    Once for each time: a backup that began since, and made no other point, could not help it.
    """
    stream, run, newest = facts.stream, facts.last_runs.get(ActionKind.BACKUP), facts.newest
    trigger = next((trigger for trigger in source.triggers if isinstance(trigger, Continuous)), None)
    if trigger is None or stream is None or stream.stuck_since is None:
        return asked
    if newest is None or newest.id != stream.stuck_at or stream.stuck_since >= asked.at:
        return asked
    helpless = run is not None and run.outcome is Outcome.UNCHANGED and run.started_at > stream.stuck_since
    return (
        asked if helpless else NextRun(stream.stuck_since, trigger, because="its log needs a new point to go on from")
    )


def _settled(noticed: Noticed, trigger: Continuous | OnChange, source: SourcePolicy, served: datetime) -> datetime:
    """When to look at these changes, since others may follow at once.

    `continuous` waits for a quiet second, and no longer than the shortest pause; `on change` for ten quiet seconds, and
    no longer than a 24th of the RPO.
    """
    if isinstance(trigger, Continuous):
        quiet, longest = CONTINUOUS_QUIET, shortest_pause(source)
    else:
        longest = max(source.category.rpo / _ON_CHANGE_PARTS, _SHORTEST)
        quiet = min(ON_CHANGE_QUIET, longest)
    return min(noticed.last + quiet, max(noticed.first, served) + longest)


def _took(source: SourcePolicy, facts: "SourceFacts") -> timedelta:
    """How long the last backup took, with a copy for each of the other vaults."""
    backup, copy = (_length(facts.last_runs.get(kind)) for kind in (ActionKind.BACKUP, ActionKind.COPY))
    return backup + (len(source.vaults) - 1) * copy


def _length(run: Run | None) -> timedelta:
    if run is None or run.finished_at is None:
        return timedelta()
    return max(run.finished_at - run.started_at, timedelta())
