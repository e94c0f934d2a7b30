"""Work: plan what is due, do it, plan again. All that a worker knows is in the catalog: it may stop at any time."""

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta

from cto_backups import clock
from cto_backups.core.model import Action
from cto_backups.flows.desk import LONGEST_SLEEP, PLAN_FACTOR, Desk
from cto_backups.flows.fleet import Member
from cto_backups.flows.heartbeat import beat
from cto_backups.flows.installation import Installation
from cto_backups.flows.perform import Performed as Performed
from cto_backups.flows.perform import perform as perform
from cto_backups.flows.pool import InTurn, Pool
from cto_backups.flows.presence import note as note_presence
from cto_backups.flows.queue_port import Queue
from cto_backups.flows.stream import Streams
from cto_backups.flows.telling import Telling
from cto_backups.flows.telling import tell_people_and_switch as tell_people_and_switch
from cto_backups.flows.thinning import Thinning
from cto_backups.flows.watch import LOOK_SECONDS, Watching
from cto_backups.flows.watch import watching as beginning_to_watch

log = logging.getLogger("cto_backups")

BEAT_SECONDS = 20.0
"""How often a worker gives a sign of life at least, whatever its actions take."""
JUMP_SECONDS = 5.0
"""By how much a clock that is put, or a machine that slept, has the worker look at once for what is due now."""
TRY_AGAIN_SECONDS = 10.0
"""How long an action is left alone that ended without a trace in the catalog, since somebody else was at it."""


def run_due(
    installation: Installation,
    stop: threading.Event,
    *,
    expiry: bool = True,
    interval: timedelta | None = None,
    name: str = "",
    watching: Watching | None = None,
    sources: Collection[str] | None = None,
) -> Iterator[Performed]:
    """Do what is due now, one after the other, planning again after each pass until nothing is due or `stop` is set.

    With `expiry`, retention is applied too, for which every kept point is looked at. With `interval`, a sign of life is
    noted before each action and at the end, and the next is owed after twice as long; `name` tells this worker from
    others, this host's name when left out. What `watching` has noticed by now counts among the facts. With `sources`,
    only what is due for these is done.

    An action that has failed is not tried twice here: its next time is planned with a growing delay.
    """
    known = name or installation.host

    def before(action: Action) -> None:
        if interval is not None:
            beat(installation, interval, known, action.key)

    queue = installation.queue()
    desk = Desk(installation, InTurn(installation), queue, Member(installation, queue), watching)
    began = clock.now()
    while not stop.is_set():
        if not desk.waiting() or desk.outdated():
            # Not what comes while this goes on: who writes all the time would keep it from ever ending.
            desk.plan(expiry=expiry, until=began, sources=sources, alone=True)
        if not desk.waiting():
            break
        desk.begin(stop, before)
        yield from desk.ended(0.0)
    if interval is not None:
        beat(installation, interval, known)


def work(
    installation: Installation,
    stop: threading.Event,
    report: Callable[[Performed], None],
    warn: Callable[[str], None] = lambda _sentence: None,
    name: str = "",
    *,
    pool: Pool | None = None,
    queue: Queue | None = None,
    leave: Callable[[], bool] = lambda: False,
) -> None:
    """Do what is due, as much at once as `pool` can, until `stop` is set; actions in progress are finished then.

    The logs of sources that are protected continuously are followed meanwhile, where their kind can be. Now and then
    people are told what is wrong, where the policy names some. `warn` is told what went wrong beside the work: that a
    dead man's switch, or somebody, could not be reached. Where `leave` says so, this ends with actions in progress left
    to whoever goes on with the pool: the policy has changed.
    """
    doing, waiting = pool or InTurn(installation), queue or installation.queue()
    known = name or installation.host
    member = Member(installation, waiting)
    with (
        Streams(member.own(), known, warn) as streams,
        beginning_to_watch(member.own(), warn) as watching,
    ):
        desk = Desk(installation, doing, waiting, member, watching, TRY_AGAIN_SECONDS)
        _work(installation, stop, report, warn, known, desk, streams, leave)
        member.leave()
        while stop.is_set() and doing.running:
            _beat(installation, known, doing)
            for done in desk.ended(BEAT_SECONDS):
                report(done)
    if stop.is_set():
        _beat(installation, known, doing)


def _work(
    installation: Installation,
    stop: threading.Event,
    report: Callable[[Performed], None],
    warn: Callable[[str], None],
    name: str,
    desk: Desk,
    streams: Streams,
    leave: Callable[[], bool],
) -> None:
    thinning = Thinning(installation)
    watching, pool = desk.watching, desk.pool
    telling = Telling(installation, stop, warn)
    plan_due = beat_due = look_due = clock.monotonic()
    planned, apart = plan_due - 1, _apart()

    def before(action: Action) -> None:
        _beat(installation, name, pool, action.key)

    while not stop.is_set() and not leave():
        at, leads = clock.monotonic(), desk.leads()
        if abs(_apart() - apart) > JUMP_SECONDS:
            apart, plan_due = _apart(), at
        unserved = desk.unserved()
        is_due = at >= plan_due and (leads or unserved)
        if is_due or (leads and desk.outdated()) or (streams.need_point() and at - planned >= 1):
            desk.look(unserved)
            planned = clock.monotonic()
            plan_due = planned + desk.wait()
        desk.begin(stop, before)
        ended = desk.ended(LOOK_SECONDS) if pool.running else ()
        for done in ended:
            telling.note(done)
            report(done)
        if ended:
            plan_due = min(plan_due, planned + PLAN_FACTOR * desk.took)
        at = clock.monotonic()
        if at >= beat_due or ended:
            _beat(installation, name, pool)
            beat_due = at + BEAT_SECONDS
        desk.member.beat()
        is_idle = not pool.running and not desk.left and at < plan_due
        if telling.go_on(leads=leads, is_idle=is_idle, is_alone=desk.member.is_alone):
            thinning.go_on()
        if at >= look_due:
            look_due = at + LONGEST_SLEEP.total_seconds()
            note_presence(installation)
        if not pool.running and not desk.left:
            until = max(plan_due - clock.monotonic(), 0.0) if leads else LOOK_SECONDS
            stop.wait(min(LOOK_SECONDS, until))
        if watching is not None:
            watching.look()
            if changed := watching.due():
                desk.look(changed)


def _apart() -> float:
    """How far the clock is from the count of seconds: that changes when it is put, and when this machine slept."""
    return clock.now().timestamp() - clock.monotonic()


def _beat(installation: Installation, name: str, pool: Pool, busy_with: str = "") -> None:
    running = pool.running
    doing = busy_with or (running[0].key if running else "")
    beat(installation, LONGEST_SLEEP, name, doing, (len(running), pool.limits.actions))
