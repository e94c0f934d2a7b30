"""`schedule`: when everything runs; `schedule set` changes it."""

from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, utc
from cto_backups.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from cto_backups.core.copies import CopyRow
    from cto_backups.core.model import Action


@command
def schedule(
    screen: Screen,
    ahead: Annotated[
        str | None,
        typer.Option("--ahead", metavar="TIME", help="Show what would run within so much time from now, and why."),
    ] = None,
) -> None:
    """Show when everything last ran and next runs, and why; 'schedule set' changes it."""
    if ahead is not None:
        _show_agenda(screen, ahead)
        return
    with opened(screen, write=False) as opening:
        from cto_backups import clock
        from cto_backups.core.copies import copy_timetable
        from cto_backups.core.heavy_work import next_opening, notes
        from cto_backups.core.timetable import timetable, upkeep_of_vaults
        from cto_backups.core.watching import watching_trigger

        policy = opening.configuration.policy
        now = clock.now()
        facts = opening.installation.catalog.facts(now)
        rows = timetable(policy, facts, now, ZoneInfo(policy.timezone))
        copies = copy_timetable(policy, facts, now)
        upkeep = tuple(upkeep_of_vaults(policy, facts, now))
        opening_at, warnings = next_opening(policy, now), notes(policy, facts)
        screen.document(
            {
                "timezone": policy.timezone,
                "sources": [
                    {
                        "source": row.source,
                        "triggers": row.triggers,
                        "last_run": utc(row.last_run),
                        "next_run": utc(row.next_run),
                        "why": row.why,
                        "test_last": utc(row.test_last),
                        "test_next": utc(row.test_next),
                        "test_why": row.test_why,
                    }
                    for row in rows
                ],
                "copies": [
                    {
                        "vault": each.vault,
                        "triggers": each.triggers or None,
                        "last_copy": utc(each.last_copy),
                        "next_run": utc(each.next_run),
                        "why": each.why,
                    }
                    for each in copies
                ],
                "vaults": [
                    {
                        "action": each.kind.value,
                        "vault": each.vault,
                        "next_run": utc(max(each.due_at, now)),
                        "why": each.reason,
                    }
                    for each in upkeep
                ],
                "heavy_work": {"opens": utc(opening_at), "notes": list(warnings)},
            }
        )
        if not screen.talks:
            return
        from cto_backups.cli.tables import name as spelled
        from cto_backups.cli.tables import row as add
        from cto_backups.cli.tables import table

        listing = table(
            "source", "triggers", "last backup", "next backup", flexible=("source", "triggers", "next backup")
        )
        for row in rows:
            last = f"{screen.moment(row.last_run)}\n{figures.relative(row.last_run, now)}" if row.last_run else "never"
            # What is due runs as soon as a worker does; when it was meant to is told in `why`.
            at = f"{screen.moment(row.next_run)}\n{figures.relative(row.next_run, now)}"
            coming = f"{at if row.next_run > now else 'now'}\n{row.why}"
            add(listing, spelled(row.source, screen.out, 20), row.triggers, last, coming)
        screen.show(listing)
        screen.show("")
        tests = table("restore test of", "last", "next", flexible=("restore test of", "next"))
        for row in rows:
            tested = (
                f"{screen.moment(row.test_last)} ({figures.relative(row.test_last, now)})" if row.test_last else "never"
            )
            again = "none required" if policy.sources[row.source].test_every is None else "once there is a point"
            if row.test_next:
                again = f"{_coming(screen, row.test_next, now)}\n{row.test_why}"
            add(tests, spelled(row.source, screen.out, 20), tested, again)
        screen.show(tests)
        screen.show("")
        if copies:
            _show_copies(screen, copies, now)
        if upkeep:
            _show_upkeep(screen, upkeep, now)
        if opening_at is not None:
            stands = "open now" if opening_at <= now else f"closed until {screen.moment(opening_at)}"
            screen.show(f"The windows of heavy work (restore tests, verifications, prunes) are {stands}.")
        for warning in warnings:
            screen.show(f"Note: {warning}.")
        screen.show(f"Times are in {policy.timezone}. A running 'cto.backups worker' does all this by itself.")
        if any(watching_trigger(source.triggers) for source in policy.sources.values()):
            screen.show("With 'on change' and 'continuous' that is the latest: it comes sooner when it sees a change.")


def _show_copies(screen: Screen, copies: "tuple[CopyRow, ...]", now: "datetime") -> None:
    from cto_backups.cli.tables import name, row, table

    listing = table("copies to", "when", "last", "next", flexible=("copies to", "when", "next"))
    for each in copies:
        last = (
            f"{screen.moment(each.last_copy)}\n{figures.relative(each.last_copy, now)}" if each.last_copy else "never"
        )
        coming = each.why
        if each.next_run is not None:
            coming = f"{_coming(screen, each.next_run, now)}\n{each.why}"
        row(listing, name(each.vault, screen.out, 20), each.triggers or "with each backup", last, coming)
    screen.show(listing)
    screen.show("")


def _show_upkeep(screen: Screen, upkeep: "tuple[Action, ...]", now: "datetime") -> None:
    from cto_backups.cli.tables import row, table

    listing = table("in vaults", "next", "why", flexible=("in vaults", "why"))
    for each in upkeep:
        row(listing, f"{each.kind.value} {each.vault}", _coming(screen, each.due_at, now), each.reason)
    screen.show(listing)
    screen.show("")


def _coming(screen: Screen, at: "datetime", now: "datetime") -> str:
    return "now" if at <= now else f"{screen.moment(at)} ({figures.relative(at, now)})"


def _show_agenda(screen: Screen, ahead: str) -> None:
    from cto_backups import clock
    from cto_backups.core.agenda import agenda
    from cto_backups.core.duration import format_duration, parse_duration
    from cto_backups.core.wording import counted

    try:
        within = parse_duration(ahead)
    except ValueError as error:
        raise UsageError(f"--ahead: {error}", todo="Write a time, such as '1 day'.") from None
    with opened(screen, write=False) as opening:
        policy, now = opening.configuration.policy, clock.now()
        facts = opening.installation.catalog.facts(now, kept_points=True)
        try:
            coming = agenda(policy, facts, now, within)
        except ValueError:
            raise UsageError(f"--ahead: '{ahead}' is not between 1 minute and 31 days", todo="Write '1 day'.") from None
        screen.document(
            {
                "timezone": policy.timezone,
                "until": utc(now + within),
                "actions": [
                    {
                        "action": each.kind.value,
                        "source": each.source,
                        "vault": each.vault,
                        "first": utc(each.first),
                        "last": utc(each.last),
                        "times": each.times,
                        "why": each.why,
                    }
                    for each in coming
                ],
            }
        )
        if not screen.talks:
            return
        if not coming:
            screen.show(f"Nothing is due within {format_duration(within)}.")
            return
        from cto_backups.cli.tables import row, table

        listing = table("first", "what", "times", "why", flexible=("what", "why"), right=("times",))
        for each in coming:
            at = "now" if each.first <= now else screen.moment(each.first)
            place = " to ".join(name for name in (each.source, each.vault) if name)
            row(listing, at, f"{each.kind.value.replace('_', ' ')} {place}", f"{each.times:,}", each.why)
        screen.show(listing)
        screen.show("")
        total = counted(sum(each.times for each in coming), "action")
        screen.show(f"{total} within {format_duration(within)}, if all goes well. Times are in {policy.timezone}.")
        screen.show("Copies of points that are yet to come, and what follows a test or a reading, are not counted.")


@command
def set_triggers(
    screen: Screen,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A source of the policy.")],
    triggers: Annotated[
        str,
        typer.Argument(metavar="TRIGGERS", help="Such as 'hourly, daily at 02:00', 'on change' or 'every 15 minutes'."),
    ],
) -> None:
    """Change when a source runs: edits backups.yaml, keeps its comments, and records the change.

    Triggers that cannot meet the source's RPO are refused.
    """
    from cto_backups import app
    from cto_backups.cli.logs import configure
    from cto_backups.config import load
    from cto_backups.core.trigger_text import TriggerError, parse_triggers
    from cto_backups.core.wording import not_declared

    configure(screen.options)
    configuration = load(app.find_policy(screen.options.policy))
    known = configuration.policy.sources
    if source not in known:
        raise not_declared("source", source, known)
    try:
        parse_triggers(triggers)
    except TriggerError as error:
        raise UsageError(f"'{error.part}' is no trigger{error.hint}", todo=f"Write {error.allowed}.") from None
    change = app.set_triggers(configuration, source, triggers)
    answer: documents.Document = {"source": source, "before": change.before, "after": change.after}
    screen.document({**answer, "policy": str(configuration.path)})
    if change.before == change.after:
        screen.show(f"{source}: '{change.after}' is what {configuration.path} says already")
        return
    screen.show(f"{source}: '{change.before}' is now '{change.after}' in {configuration.path}")
