"""The whole story of one source: what policy asks of it, what shows each rung of each copy, what ran, what is next."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cto_backups.cli import documents, figures
from cto_backups.cli.screen import Screen, seconds, utc

if TYPE_CHECKING:
    from cto_backups.core.facts import SourceFacts
    from cto_backups.core.forecast import CategoryForecast
    from cto_backups.core.ladder import CopyLadder, LadderStep
    from cto_backups.core.model import Run
    from cto_backups.core.timetable import ScheduleRow
    from cto_backups.flows.status import StatusReport

_PROBLEMS_SHOWN = 5
_RESOURCES_SHOWN = 5


def tell(screen: Screen, report: "StatusReport", scheduled: "ScheduleRow") -> None:
    """Show the story of one source to people."""
    from cto_backups.cli.tables import row, table
    from cto_backups.core.ladder import ladders

    name = scheduled.source
    listing = table("", "", flexible=("",))
    listing.show_header = False
    for label, text in _told(screen, report, scheduled):
        row(listing, label, text)
    screen.show("")
    screen.show(listing)
    facts = report.facts.sources.get(name)
    for ladder in ladders(report.policy, report.facts, name, report.now):
        _ladder(
            screen,
            report,
            ladder,
            newest=facts is not None and facts.newest is not None and ladder.point == facts.newest.id,
        )
    if facts is not None:
        _runs(screen, facts)
        _problems(screen, facts)
    _due(screen, report, name)


def _told(screen: Screen, report: "StatusReport", scheduled: "ScheduleRow") -> Iterator[tuple[str, str]]:
    from cto_backups.core.achieved import achieved, achieved_against_rpo
    from cto_backups.core.copies import told_lag
    from cto_backups.core.duration import format_cadence, format_duration
    from cto_backups.core.elsewhere import elsewhere
    from cto_backups.core.retention import format_retention
    from cto_backups.core.watching import watching_trigger

    policy = report.policy.sources[scheduled.source]
    facts = report.facts.sources.get(policy.name)
    verdict, category = report.verdicts[policy.name], policy.category
    yield "source", f"{policy.name} ({policy.kind}{', class ' + policy.data_class if policy.data_class else ''})"
    yield (
        "objectives",
        f"category {category.name}: RPO {format_duration(category.rpo)}, RTO {format_duration(category.rto)}, "
        f"{category.copies} copies, rung {category.rung.name.lower()}",
    )
    yield "stands on", f"rung {verdict.rung.name.lower()}; policy asks for {category.rung.name.lower()}"
    back = achieved(report.policy, report.facts, policy.name, report.now)
    told = achieved_against_rpo(back, category.rpo) if back else "all would be lost: there is nothing to return to"
    yield "achieved RPO", told
    if policy.expects_change:
        yield "expected", f"a change every {format_duration(policy.expects_change)}"
    rto = format_duration(category.rto)
    yield "forecast RTO", f"{verdict.forecast or 'unknown: no restore was ever measured'}; RTO is {rto}"
    yield from _in_turn(report, policy.name)
    # Where a worker watches, it comes as soon as something changes.
    by = "next by" if watching_trigger(policy.triggers) else "next"
    yield "triggers", f"{scheduled.triggers}; {by} {screen.moment(scheduled.next_run)} ({scheduled.why})"
    yield "kept", format_retention(policy.retention)
    yield "restore test", format_cadence(policy.test_every) + _by(screen, report, policy.name)
    yield "reading", f"every byte within {format_duration(category.read_within)}{_read_by(screen, report, policy.name)}"
    found = report.facts.resources.get(policy.name, ())
    if found:
        shown = ", ".join(f"{resource.kind} {resource.location}" for resource in found[:_RESOURCES_SHOWN])
        more = len(found) - _RESOURCES_SHOWN
        yield "holds", shown + (f" and {more} more" if more > 0 else "")
    newest = facts.newest if facts else None
    yield "points", str(facts.point_count) if facts else "0"
    if facts is not None:
        yield "vaults", "; ".join(f"{vault}: {told_lag(facts, vault)}" for vault in policy.vaults)
    told = (
        f"{newest.id}: {figures.entries(newest.entry_count)}, {figures.size(newest.size_bytes)}" if newest else "none"
    )
    yield "newest", told
    if (where := elsewhere(newest)) is not None:
        yield "the data", str(where)
    if newest and newest.newest_content_at:
        since = figures.relative(newest.newest_content_at, report.now)
        yield "its content", f"newest of {screen.moment(newest.newest_content_at)} ({since})"
    for mark in report.facts.marks.get(policy.name, ()):
        yield "suspicion", f"{mark.point}: {'; '.join(mark.suspicions)}; clear it, if this was meant: anomaly clear"
    if facts and facts.confirmed_at:
        yield "confirmed", screen.moment(facts.confirmed_at)
    if facts and facts.stream:
        from cto_backups.core.streams import going, standing

        yield "its log", standing(facts.stream, category.rpo, report.now) or going(facts.stream, report.now)


def _in_turn(report: "StatusReport", name: str) -> Iterator[tuple[str, str]]:
    """When it would be back if all of its category were lost."""
    queue = _queue(report, name)
    if name in queue.done_after and next(iter(queue.done_after)) != name:
        yield "", f"after {queue.done_after[name]} when all of category {queue.category} is restored in its order"


def _queue(report: "StatusReport", name: str) -> "CategoryForecast":
    from cto_backups.core.forecast import of_category

    return of_category(report.policy, report.facts, report.policy.sources[name].category.name)


def _by(screen: Screen, report: "StatusReport", name: str) -> str:
    from cto_backups.core.ladder import ladders
    from cto_backups.core.model import Rung

    for ladder in ladders(report.policy, report.facts, name, report.now):
        for step in ladder.steps:
            if step.rung is Rung.PROVEN and step.due_at:
                return f"; due by {screen.moment(step.due_at)} ({figures.relative(step.due_at, report.now)})"
    return ""


def _read_by(screen: Screen, report: "StatusReport", name: str) -> str:
    from cto_backups.core.ladder import ladders
    from cto_backups.core.model import Rung

    due = {
        ladder.vault: f"{ladder.vault} by {screen.moment(step.due_at)}"
        for ladder in ladders(report.policy, report.facts, name, report.now)
        for step in ladder.steps
        if step.rung is Rung.READ and step.due_at
    }
    return "; due: " + ", ".join(due.values()) if due else ""


def _ladder(screen: Screen, report: "StatusReport", ladder: "CopyLadder", *, newest: bool) -> None:
    from cto_backups.cli.tables import row, table

    screen.show("")
    rung = f"stands on {ladder.rung.name.lower()}" if ladder.stored else "not there"
    which = "Newest" if newest else "Last proven"
    screen.show(f"{which} point {ladder.point} in {ladder.vault}: {rung}")
    listing = table("rung", "state", "since", "age", "evidence", flexible=("evidence",))
    for step in ladder.steps:
        row(
            listing,
            step.rung.name.lower(),
            step.standing.value,
            screen.moment(step.at) if step.at else "",
            figures.age(report.now - step.at) if step.at else "",
            step.evidence or "",
        )
    screen.show(listing)


def _runs(screen: Screen, facts: "SourceFacts") -> None:
    from cto_backups.cli.tables import row, table

    if not facts.last_runs:
        return
    screen.show("")
    listing = table("last run", "began", "took", "outcome")
    runs = sorted(facts.last_runs.values(), key=lambda run: run.started_at, reverse=True)
    for run in runs:
        took = figures.duration((run.finished_at - run.started_at).total_seconds()) if run.finished_at else ""
        row(listing, _run_name(run), screen.moment(run.started_at), took, run.outcome.value)
    screen.show(listing)
    for run in runs:
        if run.message:
            screen.show(f"{_run_name(run)}: {run.message}")


def _run_name(run: "Run") -> str:
    return _words(run.action.value) + (f" to {run.vault}" if run.vault and run.action.value == "copy" else "")


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _problems(screen: Screen, facts: "SourceFacts") -> None:
    point = facts.newest_any
    if point is None or not point.problems:
        return
    screen.show("")
    screen.show(f"Open problems of {point.id}:")
    for problem in point.problems[:_PROBLEMS_SHOWN]:
        screen.show(f"  {problem.path}: {problem.kind} ({problem.detail})")
    if len(point.problems) > _PROBLEMS_SHOWN:
        screen.show(f"  and {len(point.problems) - _PROBLEMS_SHOWN} more: cto.backups points {point.id}")


def _due(screen: Screen, report: "StatusReport", name: str) -> None:
    from cto_backups.cli.tables import row, table
    from cto_backups.core.plan import upcoming

    actions = upcoming(report.policy, name, report.facts, report.now)
    if not actions:
        return
    screen.show("")
    listing = table("next", "due", "", "why", flexible=("why",))
    for action in actions:
        overdue = action.due_at <= report.now
        row(
            listing,
            " ".join(word for word in (_words(action.kind.value), action.vault or "") if word),
            "now" if overdue else screen.moment(action.due_at),
            "" if overdue else figures.relative(action.due_at, report.now),
            action.reason,
        )
    screen.show(listing)


def as_document(report: "StatusReport", name: str) -> documents.Document:
    """What the story adds to a source's row in the JSON of `status`."""
    from cto_backups.core.ladder import ladders
    from cto_backups.core.plan import upcoming

    facts = report.facts.sources.get(name)
    queue = _queue(report, name)
    after = queue.done_after.get(name)
    newest = facts.newest_any if facts else None
    return {
        "restored_in_turn": {
            "category": queue.category,
            "least_seconds": seconds(after.least) if after else None,
            "most_seconds": seconds(after.most) if after else None,
            "unknown": list(queue.unknown),
        },
        "ladders": [
            {
                "point": ladder.point,
                "vault": ladder.vault,
                "stored": ladder.stored,
                "rung": ladder.rung.name.lower(),
                "steps": [_step(step) for step in ladder.steps],
            }
            for ladder in ladders(report.policy, report.facts, name, report.now)
        ],
        "last_runs": [_run(run) for run in facts.last_runs.values()] if facts else [],
        "due": [
            {
                "action": action.kind.value,
                "vault": action.vault,
                "point": action.point,
                "due_at": utc(max(action.due_at, report.now)),
                "reason": action.reason,
            }
            for action in upcoming(report.policy, name, report.facts, report.now)
        ],
        "problems": documents.problems(newest.problems) if newest else [],
        "marks": [documents.mark(mark) for mark in report.facts.marks.get(name, ())],
    }


def _step(step: "LadderStep") -> documents.Document:
    return {
        "rung": step.rung.name.lower(),
        "standing": step.standing.value,
        "at": utc(step.at),
        "evidence": step.evidence,
        "due_at": utc(step.due_at),
    }


def _run(run: "Run") -> documents.Document:
    return {
        "action": run.action.value,
        "vault": run.vault,
        "point": run.point,
        "started_at": utc(run.started_at),
        "finished_at": utc(run.finished_at),
        "outcome": run.outcome.value,
        "error_code": run.error_code,
        "message": run.message,
    }
