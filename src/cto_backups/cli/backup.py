"""`backup`: a new recovery point of each source, and its copies in all vaults."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures, ways
from cto_backups.cli.anomaly import alarm
from cto_backups.cli.attempts import attempt, chosen
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.errors import BackupsError, ExitStatus

if TYPE_CHECKING:
    from cto_backups.core.model import RecoveryPoint
    from cto_backups.core.policy import Policy
    from cto_backups.flows.protect import Protected

SHOWN_PROBLEMS = 20


@command
def backup(
    screen: Screen,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Sources of the policy; all when left out.")
    ] = None,
    label: Annotated[
        str,
        typer.Option(
            "--label", "--before", metavar="TEXT", help="Why this point is made by hand; it is kept 90 days at least."
        ),
    ] = "",
) -> ExitStatus:
    """Back up now: make a recovery point of each source, and copy it to its vaults without a schedule of their own.

    A source that has not changed since its last point is confirmed as fresh instead. Every source is tried; what went
    wrong with one does not keep the others from being saved, and the worst exit status wins.
    """
    with opened(screen, ahead=partial(_first_vault, sources=sources)) as installation:
        from cto_backups.flows.protect import protect

        names = chosen(installation.configuration.policy.own_sources, sources)
        for name in names:
            installation.installation.source_policy(name)
        answers: list[documents.Document] = []
        statuses: list[ExitStatus] = []
        for name in names:
            done = attempt(screen, partial(protect, installation.installation, name, label=label or None))
            if isinstance(done, BackupsError):
                answers.append({"source": name, "outcome": "failed", "error": as_document(done)})
                statuses.append(done.exit_status)
                continue
            tell(screen, done)
            answers.append(as_json(done))
            statuses.append(exit_status(done))
        status = worst(statuses)
        screen.document({"status": int(status), "recovered": list(installation.recovered), "sources": answers})
        if len(names) > 1 and status is not ExitStatus.SUCCESS:
            bad = sum(1 for each in statuses if each is not ExitStatus.SUCCESS)
            screen.note(f"{len(names) - bad} of {len(names)} sources are well protected; see above for the others.")
        return status


def _first_vault(policy: "Policy", *, sources: list[str] | None) -> str | None:
    """The vault that the first backup goes to, unless it is away."""
    first = next((policy.sources[name] for name in chosen(policy.own_sources, sources) if name in policy.sources), None)
    return first.vaults[0] if first and first.vaults else None


def tell(screen: Screen, done: "Protected", *, indent: str = "") -> None:
    """Say what a backup and its copies did."""
    from cto_backups.core.elsewhere import elsewhere

    result, point = done.backup, done.backup.point
    took = figures.duration(result.seconds)
    if result.changed:
        screen.show(f"{indent}{result.source}: {point.id}")
        screen.show(
            f"{indent}  {_entries(point)}, {figures.size(point.size_bytes)}; "
            f"read {figures.size(result.draft.read_bytes)}, added {figures.size(result.draft.added_bytes)} "
            f"to {result.vault} in {took}"
        )
    else:
        screen.show(f"{indent}{result.source}: unchanged, {point.id} is confirmed as fresh")
        screen.show(f"{indent}  {_entries(point)} looked at, {figures.size(result.draft.read_bytes)} read in {took}")
    if (where := elsewhere(point)) is not None:
        screen.show(f"{indent}  {where}")
    if done.copies:
        made = ", ".join(f"{copy.vault} (+{figures.size(copy.added_bytes)})" for copy in done.copies)
        screen.show(f"{indent}  copied to {made}")
    told = [
        *ways.of_backup(result),
        *(f"{copy.vault}: {line}" for copy in done.copies for line in ways.lines(copy.ways)),
    ]
    for line in told:
        screen.show(f"{indent}  {line}")
    for note in result.notes:
        screen.show(f"{indent}  Note: {note}.")
    if result.changed and point.suspicions:
        screen.show(indent + alarm(point))
    tell_incomplete(screen, point)
    for name, error in done.vault_problems.items():
        screen.problem(error, prefix=f"No copy in {name}")
    if result.after_failed is not None:
        screen.problem(result.after_failed, prefix="Afterwards")


def tell_incomplete(screen: Screen, point: "RecoveryPoint") -> None:
    """List what is missing in an incomplete point: the first of it, and how to see all."""
    if point.complete:
        return
    error = incomplete(point)
    screen.problem(error, prefix="Incomplete")


def incomplete(point: "RecoveryPoint") -> BackupsError:
    """The error that a point with problems stands for."""
    from cto_backups.errors import IncompleteError

    missing = point.problems
    lines = [f"{problem.path} ({problem.kind}: {problem.detail})" for problem in missing[:SHOWN_PROBLEMS]]
    more = len(missing) - SHOWN_PROBLEMS
    if more > 0:
        lines.append(f"… and {more} more")
    see = f"See them all with: cto.backups points {point.id}" if more > 0 else ""
    return IncompleteError(
        f"{len(missing)} of {point.source} could not be captured in {point.id}",
        why="\n" + "\n".join(lines),
        todo=see or "The rest is saved. Make these readable, or exclude them in the policy with a reason.",
    )


def _entries(point: "RecoveryPoint") -> str:
    return f"{figures.count(point.entry_count)} {'entry' if point.entry_count == 1 else 'entries'}"


def exit_status(done: "Protected") -> ExitStatus:
    """INCOMPLETE or VAULT for a backup that did not do all it should; SOURCE where what comes after it failed."""
    statuses = [error.exit_status for error in done.vault_problems.values()]
    if not done.backup.point.complete:
        statuses.append(ExitStatus.INCOMPLETE)
    if done.backup.after_failed is not None:
        statuses.append(done.backup.after_failed.exit_status)
    return worst(statuses)


def as_json(done: "Protected") -> documents.Document:
    """A backup with its copies in JSON."""
    result, draft = done.backup, done.backup.draft
    outcome = "unchanged" if not result.changed else "saved" if result.point.complete else "incomplete"
    return {
        "source": result.source,
        "outcome": outcome,
        "point": documents.point(result.point),
        "vault": result.vault,
        "seconds": round(result.seconds, 3),
        "read_bytes": draft.read_bytes,
        "added_bytes": draft.added_bytes,
        "new_entries": draft.new_entries,
        "changed_entries": draft.changed_entries,
        "unchanged_entries": draft.unchanged_entries,
        "copies": [
            {
                "vault": copy.vault,
                "origin": copy.origin,
                "added_bytes": copy.added_bytes,
                "seconds": round(copy.seconds, 3),
                "ways": ways.as_json(copy.ways),
            }
            for copy in done.copies
        ],
        "ways": ways.as_json(draft.ways),
        "notes": list(result.notes),
        "vault_errors": documents.vault_errors(done.vault_problems),
        "after_failed": as_document(result.after_failed) if result.after_failed is not None else None,
    }
