"""Escalate: see what is wrong, and tell people until somebody takes care of it.

What is told is noted before it is told, and that it was told afterwards: after a kill in between it is told once more.
"""

import logging
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cto_backups import clock
from cto_backups.core.alerts import DRILL_RULE, Alert, AlertPolicy, AlertRule, Happening, Message, Telling, Trouble
from cto_backups.core.conditions import Recovery, Scene, happenings
from cto_backups.core.duration import roughly
from cto_backups.core.escalation import Move, MoveKind, decide
from cto_backups.core.facts import Facts
from cto_backups.core.wording import listed
from cto_backups.errors import BackupsError, BusyError, NotFoundError, PolicyError
from cto_backups.flows.installation import Installation
from cto_backups.flows.troubles import Judging, troubles

log = logging.getLogger("cto_backups")

_EVENTS = {
    MoveKind.RAISE: "raised",
    MoveKind.TELL: "repeated",
    MoveKind.STEP_UP: "stepped-up",
    MoveKind.CLOSE: "closed",
}


@dataclass(frozen=True)
class Escalated:
    """What was done with one alert: `event` is raised, repeated, stepped-up or closed; `tellings` are the attempts."""

    event: str
    alert: Alert
    tellings: tuple[Telling, ...]

    @property
    def reached(self) -> tuple[str, ...]:
        """Who was told."""
        return tuple(dict.fromkeys(telling.person for telling in self.tellings if telling.problem is None))


# -- the whole of it ---------------------------------------------------------------------------------------------------


def escalate(installation: Installation, judged: Judging | None = None) -> tuple[Escalated, ...]:
    """Judge what is wrong now, and tell whoever is to be told. Raises BusyError while another run does the same.

    With `judged`, the sources and the vaults were looked at before.
    """
    with installation.exclusive_alerts():
        now = clock.now()
        open_alerts = installation.catalog.alerts.listed()
        found = troubles(installation, open_alerts, now, judged)
        moves = decide(installation.policy.alerts, found, open_alerts, now)
        done = (_make(installation, move, now) for move in moves)
        return tuple(each for each in done if each is not None)


def escalate_beside(installation: Installation, judged: Judging | None = None) -> str | None:
    """The same beside other work, which must go on: what went wrong in a sentence. Nothing where nobody is named."""
    if not installation.policy.alerts.people:
        return None
    try:
        done = escalate(installation, judged)
    except BusyError:
        return None  # whoever is at it tells the same
    except BackupsError as error:
        log.warning("escalation failed", extra={"fields": {"message": str(error)}})
        return f"Nobody could be told what is wrong: {error}"
    failed = {telling.channel: telling for each in done for telling in each.tellings if telling.problem is not None}
    if not failed:
        return None
    return f"Not everybody could be told what is wrong: {'; '.join(str(each.problem) for each in failed.values())}"


def _make(installation: Installation, move: Move, now: datetime) -> Escalated | None:
    """Make a move; None where somebody was faster: another worker, or who answered meanwhile."""
    book, signer = installation.catalog.alerts, installation.signer
    event = _EVENTS[move.kind]
    alert = _moved(move, now)
    if move.kind in (MoveKind.RAISE, MoveKind.STEP_UP) and not book.note(alert, event, signer, now):
        return None
    spare = _spare(installation.policy.alerts, move) if move.kind is not MoveKind.CLOSE else ()
    tellings = _tell(installation, _message(installation, alert, event, move.rule, now), move.people, spare)
    told = tuple(telling.person for telling in tellings if telling.problem is None)
    if move.kind is MoveKind.CLOSE:
        alert = replace(alert, closed_at=now, cause=move.cause)
        book.note(alert, event, signer, now)
        book.told(None, tellings, now)
    elif told:
        added = move.kind is MoveKind.STEP_UP or alert.stepped_at is None
        alert = replace(
            alert,
            told=tuple(dict.fromkeys((*alert.told, *told))),
            told_at=now,
            stepped_at=now if added else alert.stepped_at,
        )
        book.told(alert, tellings, now)
    else:
        book.told(None, tellings, now)
    return Escalated(event, alert, tellings)


def _moved(move: Move, now: datetime) -> Alert:
    """The alert as it is once the move is noted, and nobody is told yet."""
    if move.alert is None:
        assert move.happening is not None and move.rule is not None
        happening, rule = move.happening, move.rule
        return Alert(
            id=new_id("alert", now),
            rule=rule.name,
            trouble=rule.when,
            subject=happening.subject,
            detail=happening.detail,
            raised_at=now,
            category=happening.category,
            told=move.added,
        )
    alert = move.alert
    if move.happening is not None:
        alert = replace(alert, detail=move.happening.detail)
    if move.kind is MoveKind.STEP_UP:
        alert = replace(alert, told=(*alert.told, *move.added), told_at=None)
    return alert


def new_id(what: str, now: datetime) -> str:
    """A name that no other has, and that sorts by time."""
    return f"{what}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


# -- telling -----------------------------------------------------------------------------------------------------------


def _spare(policy: AlertPolicy, move: Move) -> tuple[str, ...]:
    """Who is told in the place of somebody who cannot be reached: who comes next by the rule, then anybody."""
    following = tuple(name for name in move.rule.then if name in policy.people) if move.rule else ()
    return tuple(name for name in dict.fromkeys((*following, *policy.people)) if name not in move.people)


def _tell(
    installation: Installation, message: Message, people: Sequence[str], spare: Sequence[str]
) -> tuple[Telling, ...]:
    """Tell each of these by the first of their channels that takes it; for whoever is not reached, a spare one."""
    tellings: list[Telling] = []
    waiting = list(spare)
    for person in people:
        tried = person
        while not _reach(installation, message, tried, tellings) and waiting:
            tried = waiting.pop(0)
    return tuple(tellings)


def _reach(installation: Installation, message: Message, name: str, tellings: list[Telling]) -> bool:
    policy = installation.policy.alerts
    for reach in policy.people[name].reach:
        if message.event == "closed" and policy.channels[reach.channel].pages:
            continue  # nobody wants a call that says that all is well
        telling = _try(installation, message, name, reach.channel, reach.address)
        tellings.append(telling)
        if telling.problem is None:
            return True
    return False


def _try(installation: Installation, message: Message, person: str, channel: str, address: str | None) -> Telling:
    problem = None
    try:
        installation.channel(channel).send(message, address)
    except BackupsError as error:
        problem = str(error)
        log.warning("not told", extra={"fields": {"person": person, "channel": channel, "message": problem}})
    return Telling(clock.now(), person, channel, message.alert, problem)


def _message(installation: Installation, alert: Alert, event: str, rule: AlertRule | None, now: datetime) -> Message:
    policy = installation.policy
    business, host = policy.business, installation.host
    if event == "closed":
        title = f"[{business}] over: {alert.detail}"
        lines = [f"This has ended: {alert.detail}.", f"It was raised {roughly(now - alert.raised_at)} ago."]
    else:
        again = {"repeated": "still: ", "stepped-up": "nobody has answered: "}.get(event, "")
        drill = "EXERCISE: " if alert.trouble is Trouble.DRILL else ""
        title = f"[{business}] {drill}{again}{alert.detail}"
        lines = [f"{alert.detail[:1].upper()}{alert.detail[1:]}."]
        if event != "raised":
            lines.append(f"It was raised {roughly(now - alert.raised_at)} ago, and nobody has acknowledged it.")
        others = [name for name in alert.told if name in policy.alerts.people]
        lines += [f"Told: {listed(others)}."] if others else []
        if alert.trouble is Trouble.RECOVERY_LATE:
            lines.append("It is repeated until the recovery is done.")
        else:
            lines += ["", f"On {host}, answer that you take care of it:", ""]
            lines.append(f"    cto.backups alerts ack {alert.id} --note 'what you do'")
        if alert.trouble is not Trouble.DRILL:
            lines += ["", "What is known:", "", f"    cto.backups status {_about(alert)}".rstrip()]
    lines += ["", f"Alert {alert.id}, rule {alert.rule}, on {host}, {now:%Y-%m-%d %H:%M} UTC."]
    return Message(
        event=event,
        at=now,
        business=business,
        title=" ".join(title.split())[:200],
        text="\n".join(lines) + "\n",
        alert=alert.id,
        rule=alert.rule,
        subject=alert.subject,
        urgent=rule is not None and rule.urgent and event != "closed",
    )


def _about(alert: Alert) -> str:
    of_sources = (Trouble.NO_BACKUP, Trouble.TEST_FAILED, Trouble.RECOVERY_LATE, Trouble.SUSPICION)
    return alert.subject if alert.trouble in of_sources else ""


# -- by hand -----------------------------------------------------------------------------------------------------------


def acknowledge(installation: Installation, name: str, note: str | None) -> Alert:
    """Answer an alert: it is not repeated any more, and closed when what it is about has ended.

    Raises NotFoundError, RefusedError.
    """
    answered = installation.catalog.alerts.acknowledge(
        name, by=installation.user, note=note, signer=installation.signer, now=clock.now()
    )
    if answered.trouble is Trouble.DRILL:
        # An exercise ends with the answer, and says at once how long it took.
        escalate_beside(installation)
        return installation.catalog.alerts.one(answered.id)
    return answered


def try_channels(installation: Installation, people: Sequence[str] = ()) -> tuple[Telling, ...]:
    """Send a message to everybody (or these people) on each of their channels. Raises NotFoundError, PolicyError."""
    policy = installation.policy
    for name in people:
        if name not in policy.alerts.people:
            raise NotFoundError(
                f"There is nobody named '{name}' in the policy",
                why=f"there are: {listed(sorted(policy.alerts.people)) or 'none'}",
                todo="See alerts: people: in the policy.",
            )
    named = people or tuple(policy.alerts.people)
    if not named:
        raise PolicyError(
            "There is nobody to tell", why="the policy names no people", todo="Add them under alerts: people:."
        )
    now = clock.now()
    text = (
        f"This is a test: would you be reached if something were wrong with the backups of {policy.business}?\n\n"
        f"Nothing is wrong, and nothing is to be done.\n\nSent by {installation.user} on {installation.host}.\n"
    )
    message = Message("test", now, policy.business, f"[{policy.business}] test: alerts of cto.backups reach you", text)
    tellings = tuple(
        _try(installation, message, name, reach.channel, reach.address)
        for name in named
        for reach in policy.alerts.people[name].reach
    )
    installation.catalog.alerts.told(None, tellings, clock.now())
    return tellings


def drill(installation: Installation) -> Escalated:
    """Begin an exercise: what the gravest alert does, until somebody acknowledges. Raises BusyError, PolicyError."""
    if not installation.policy.alerts.people:
        raise PolicyError(
            "There is nobody to tell", why="the policy names no people", todo="Add them under alerts: people:."
        )
    with installation.exclusive_alerts():
        now = clock.now()
        subject = new_id("drill", now)
        happening = Happening(DRILL_RULE.name, subject, f"an exercise, begun by {installation.user}: answer it")
        first = installation.policy.alerts.first(DRILL_RULE)
        begun = _make(installation, Move(MoveKind.RAISE, first, DRILL_RULE, None, happening, first), now)
        assert begun is not None  # its name is its own
        return begun


# -- recoveries --------------------------------------------------------------------------------------------------------


@contextmanager
def watched_recovery(installation: Installation, source: str) -> Iterator[None]:
    """Tell people when the recovery inside takes longer than its rule allows, while it still runs.

    A thread of this process does so, from what it holds in memory: on the bad day the catalog may be read-only. It ends
    with the recovery, so there is nothing to acknowledge; it says when it is over to whoever was told.
    """
    alerts = installation.policy.alerts
    rules = tuple(rule for rule in alerts.rules if rule.when is Trouble.RECOVERY_LATE)
    if not rules or not alerts.people or source not in installation.policy.sources:
        yield
        return
    watch = _Watch(installation, Recovery(source, clock.now()), replace(alerts, rules=rules))
    thread = threading.Thread(target=watch.run, name="recovery watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.over.set()
        thread.join(timeout=60)


class _Watch:
    def __init__(self, installation: Installation, recovery: Recovery, alerts: AlertPolicy) -> None:
        self.over = threading.Event()
        self._installation = installation
        self._recovery = recovery
        self._policy = replace(installation.policy, alerts=alerts)
        self._alerts: dict[str, Alert] = {}

    def run(self) -> None:
        while not self.over.wait(self._pause().total_seconds()):
            self._look((self._recovery,))
        self._look(())

    def _pause(self) -> timedelta:
        category = self._policy.sources[self._recovery.source].category
        limits = [rule.after or category.rto for rule in self._policy.alerts.rules]
        return max(timedelta(seconds=0.1), min(timedelta(seconds=30), *(limit / 4 for limit in limits)))

    def _look(self, recoveries: Iterable[Recovery]) -> None:
        now = clock.now()
        scene = Scene(self._policy, Facts(), {}, now, (), tuple(recoveries))
        for move in decide(self._policy.alerts, happenings(scene), tuple(self._alerts.values()), now):
            alert = _moved(move, now)
            event = _EVENTS[move.kind]
            if move.kind is MoveKind.CLOSE:
                del self._alerts[alert.id]
            message = _message(self._installation, alert, event, move.rule, now)
            tellings = _tell(self._installation, message, move.people, _spare(self._policy.alerts, move))
            if move.kind is not MoveKind.CLOSE:
                reached = any(telling.problem is None for telling in tellings)
                stepped = now if move.kind is not MoveKind.TELL else alert.stepped_at
                self._alerts[alert.id] = replace(alert, told_at=now if reached else None, stepped_at=stepped)
