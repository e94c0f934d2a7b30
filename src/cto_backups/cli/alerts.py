"""`alerts`: who was told what is wrong, who answers; tests and exercises of that."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted, listed
from cto_backups.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from datetime import timedelta

    from cto_backups.core.alerts import Alert, Telling
    from cto_backups.flows.escalate import Escalated
    from cto_backups.flows.installation import Installation

LOOK_SECONDS = 1.0
_Everything = Annotated[bool, typer.Option("--all", help="Also the alerts that are closed.")]


@command
def alerts(screen: Screen, everything: _Everything = False) -> None:
    """List the open alerts; it is 'alerts list'."""
    _list(screen, everything=everything)


@command
def list_alerts(screen: Screen, everything: _Everything = False) -> None:
    """List the alerts: of what, since when, who was told and who takes care of it."""
    _list(screen, everything=everything)


@command
def show(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="ID", help="The alert's id, or a unique beginning of it.")],
) -> None:
    """Show all of one alert: also every attempt to tell somebody, by which channel, and what came of it."""
    with opened(screen, write=False) as opening:
        book = opening.installation.catalog.alerts
        alert = book.one(name)
        tellings = book.tellings(alert.id)
        screen.document({"alert": _document(alert), "tellings": [_telling(telling) for telling in tellings]})
        _show(screen, alert)
        for telling in tellings:
            _tell(screen, telling)


@command
def ack(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="ID", help="The alert's id, or a unique beginning of it.")],
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What you do about it.")] = None,
) -> None:
    """Answer an alert: you take care of it. It is not repeated any more, and closed when its cause has ended.

    Who answered, when and what they said is signed and kept.
    """
    with opened(screen, progress=False) as opening:
        from cto_backups.flows.escalate import acknowledge

        answered = acknowledge(opening.installation, name, " ".join((note or "").split()) or None)
        screen.document({"alert": _document(answered)})
        screen.show(
            f"{answered.id}: {answered.acknowledged_by} takes care of it, {_after(answered)} after it was raised."
        )


@command
def test(
    screen: Screen,
    people: Annotated[list[str] | None, typer.Argument(metavar="PERSON", help="Only these people.")] = None,
) -> ExitStatus:
    """Send a test message to everybody, on each of their channels, and report which ones took it.

    Exits with 16 when one did not. The audit asks that each person was reached within 'tested_within' of the policy.
    """
    with opened(screen, progress=False) as opening:
        from cto_backups.flows.escalate import try_channels

        tellings = try_channels(opening.installation, tuple(people or ()))
        failed = [telling for telling in tellings if telling.problem is not None]
        status = ExitStatus.CHANNEL if failed else ExitStatus.SUCCESS
        screen.document({"status": int(status), "tellings": [_telling(telling) for telling in tellings]})
        for telling in tellings:
            _tell(screen, telling)
        if failed:
            screen.note(f"{counted(len(failed), 'message was', 'messages were')} not taken.")
        return status


@command
def drill(
    screen: Screen,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="TIME", help="Wait so long for an answer, and exit with 4 without.")
    ] = None,
) -> ExitStatus:
    """Begin an exercise: the gravest kind of alert, repeated and stepped up until somebody acknowledges it.

    The worker, or 'alerts run', repeats it and steps it up; with --wait, this command does as well. How long the answer
    took is signed and kept: see 'alerts --all'.
    """
    patience = _length(wait)
    with opened(screen, progress=False) as opening:
        from cto_backups.flows.escalate import drill as begin

        begun = begin(opening.installation)
        if patience is None or not begun.reached:
            answered = begun.alert
        else:
            screen.note(f"{begun.alert.id}: told {listed(begun.reached)}; waiting for an answer")
            answered = _answered(opening.installation, begun, patience)
        status = ExitStatus.SUCCESS
        if not begun.reached:
            status = ExitStatus.CHANNEL
        elif patience is not None and answered.acknowledged_at is None:
            status = ExitStatus.RED
        screen.document(
            {
                "status": int(status),
                "alert": _document(answered),
                "tellings": [_telling(telling) for telling in begun.tellings],
            }
        )
        for telling in begun.tellings:
            _tell(screen, telling)
        if answered.acknowledged_at is not None:
            screen.show(f"{answered.id}: {answered.acknowledged_by} answered after {_after(answered)}.")
        elif not begun.reached:
            screen.note("Nobody could be reached. It goes on with the next 'alerts run', or the worker.")
        elif patience is not None:
            screen.note(f"Nobody has answered within {wait}. It goes on until somebody does.")
        else:
            screen.show(f"{answered.id} goes on until somebody answers: cto.backups alerts ack {answered.id}")
        return status


@command
def run(screen: Screen) -> ExitStatus:
    """Tell people now what is wrong: raise, repeat, step up and close alerts, as the policy says.

    The worker does the same after each pass. Run it by a timer where no worker runs: then it also notices that.
    Exits with 16 when a message was not taken.
    """
    with opened(screen, progress=False) as opening:
        from cto_backups.flows.escalate import escalate

        done = escalate(opening.installation)
        failed = [telling for each in done for telling in each.tellings if telling.problem is not None]
        status = ExitStatus.CHANNEL if failed else ExitStatus.SUCCESS
        screen.document(
            {
                "status": int(status),
                "alerts": [
                    {
                        "event": each.event,
                        "alert": _document(each.alert),
                        "tellings": [_telling(telling) for telling in each.tellings],
                    }
                    for each in done
                ],
            }
        )
        for each in done:
            screen.show(f"{each.event}: {each.alert.detail}")
            screen.show(f"  {each.alert.id}; told {listed(each.reached) or 'nobody'}")
            for telling in each.tellings:
                if telling.problem is not None:
                    _tell(screen, telling)
        if not done:
            screen.show("Nobody needs to be told anything now.")
        return status


def _length(text: str | None) -> "timedelta | None":
    from cto_backups.core.duration import parse_duration

    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--wait: {error}", todo="Write how long to wait, such as '10 minutes'.") from None


def _answered(installation: "Installation", begun: "Escalated", patience: "timedelta") -> "Alert":
    """The alert as it is once somebody answered, or patience ended; repeated and stepped up meanwhile."""
    from cto_backups import clock
    from cto_backups.flows.escalate import escalate_beside

    until = clock.monotonic() + patience.total_seconds()
    while True:
        alert = installation.catalog.alerts.one(begun.alert.id)
        left = until - clock.monotonic()
        if alert.acknowledged_at is not None or left <= 0:
            return alert
        time.sleep(min(LOOK_SECONDS, left))
        escalate_beside(installation)


def _list(screen: Screen, *, everything: bool) -> None:
    with opened(screen, write=False) as opening:
        found = opening.installation.catalog.alerts.listed(closed=everything)
        screen.document({"alerts": [_document(alert) for alert in found]})
        if not found:
            screen.show("There was never an alert." if everything else "There is no open alert.")
        for alert in found:
            _show(screen, alert)


def _show(screen: Screen, alert: "Alert") -> None:
    screen.show(f"{alert.id}: {alert.detail}")
    told = f"told {listed(alert.told)}" if alert.told_at is not None else "nobody told yet"
    at = f" at {screen.moment(alert.told_at)}" if alert.told_at is not None else ""
    screen.show(f"  since {screen.moment(alert.raised_at)}, by rule {alert.rule}; {told}{at}")
    if alert.acknowledged_at is not None:
        note = f": {alert.note}" if alert.note else ""
        screen.show(f"  {alert.acknowledged_by} answered {_after(alert)} after it was raised{note}")
    elif alert.closed_at is None:
        screen.show(f"  nobody has answered: cto.backups alerts ack {alert.id}")
    if alert.closed_at is not None:
        screen.show(f"  closed {screen.moment(alert.closed_at)}: {alert.cause}")


def _tell(screen: Screen, telling: "Telling") -> None:
    where = f"{telling.person} by {telling.channel}"
    if telling.problem is None:
        screen.show(f"  {where}: taken")
    else:
        screen.show(f"  {where}: NOT taken: {telling.problem}")


def _after(alert: "Alert") -> str:
    from cto_backups.core.duration import roughly

    after = alert.answered_after
    assert after is not None
    return roughly(after)


def _document(alert: "Alert") -> documents.Document:
    after = alert.answered_after
    return {
        "id": alert.id,
        "rule": alert.rule,
        "trouble": alert.trouble.value,
        "subject": alert.subject,
        "detail": alert.detail,
        "category": alert.category,
        "raised_at": utc(alert.raised_at),
        "told": list(alert.told),
        "told_at": utc(alert.told_at),
        "acknowledged_at": utc(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "answered_after_seconds": None if after is None else round(after.total_seconds(), 3),
        "note": alert.note,
        "closed_at": utc(alert.closed_at),
        "cause": alert.cause,
    }


def _telling(telling: "Telling") -> documents.Document:
    return {
        "at": utc(telling.at),
        "person": telling.person,
        "channel": telling.channel,
        "alert": telling.alert,
        "problem": telling.problem,
    }
