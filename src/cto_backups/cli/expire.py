"""`expire`: drop the recovery points that retention no longer keeps."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.attempts import attempt, chosen
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, ExitStatus

if TYPE_CHECKING:
    from cto_backups.core.retention import Decision
    from cto_backups.flows.expire import ExpirePlan


@command
def expire(
    screen: Screen,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Sources of the policy; all when left out.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be dropped and kept, and why; change nothing.")
    ] = False,
) -> ExitStatus:
    """Drop the recovery points that no retention rule keeps.

    The newest, the last proven and the held points always stay. The catalog changes first, then the vaults.
    """
    with opened(screen, write=not dry_run) as opening:
        from cto_backups.flows.expire import expire as carry_out
        from cto_backups.flows.expire import plan

        installation = opening.installation
        plans = [plan(installation, name) for name in chosen(installation.policy.sources, sources)]
        answers: list[documents.Document] = []
        statuses: list[ExitStatus] = []
        for planned in plans:
            each = planned
            problems: dict[str, BackupsError] = {}
            locked: dict[str, dict[str, datetime]] = {}
            failure: BackupsError | None = None
            if each.removed and not dry_run:
                done = attempt(screen, partial(carry_out, installation, each))
                if isinstance(done, BackupsError):
                    failure = done
                else:
                    each, problems, locked = done.plan, done.problems, done.locked
            _tell(screen, each, dry_run=dry_run, failure=failure, every=dry_run or bool(sources))
            for vault, ends in locked.items():
                copies, until = counted(len(ends), "copy is", "copies are"), screen.moment(max(ends.values()))
                screen.show(f"  {vault}: {copies} locked, the last until {until}; a prune after that drops them")
            for vault, problem in problems.items():
                screen.problem(problem, prefix=f"Not dropped in {vault} yet")
            answers.append(_document(each, problems, failure) | {"locked": _locked(locked)})
            statuses += [problem.exit_status for problem in problems.values()]
            statuses += [failure.exit_status] if failure else []
        status = worst(statuses)
        screen.document(
            {"status": int(status), "dry_run": dry_run, "recovered": list(opening.recovered), "sources": answers}
        )
        return status


def _tell(screen: Screen, plan: "ExpirePlan", *, dry_run: bool, failure: BackupsError | None, every: bool) -> None:
    if failure:
        return
    removed, kept = len(plan.removed), len(plan.decisions) - len(plan.removed)
    verb = "would drop" if dry_run else "dropped"
    screen.show(f"{plan.source}: {verb} {removed}, {'would keep' if dry_run else 'kept'} {kept}")
    for decision in plan.decisions:
        if every or not decision.keep:
            word = "keep" if decision.keep else "drop"
            screen.show(f"  {word}  {decision.point.id}: {'; '.join(decision.reasons)}")


def _document(
    plan: "ExpirePlan", problems: dict[str, BackupsError], failure: BackupsError | None
) -> documents.Document:
    document: documents.Document = {
        "source": plan.source,
        "dropped": [_decision(decision) for decision in plan.removed],
        "kept": [_decision(decision) for decision in plan.decisions if decision.keep],
        "vault_errors": documents.vault_errors(problems),
    }
    if failure:
        document["error"] = as_document(failure)
    return document


def _locked(locked: dict[str, dict[str, datetime]]) -> list[documents.Document]:
    return [{"vault": vault, "copies": len(ends), "until": utc(max(ends.values()))} for vault, ends in locked.items()]


def _decision(decision: "Decision") -> documents.Document:
    return {
        "point": decision.point.id,
        "captured_at": utc(decision.point.captured_at),
        "reasons": list(decision.reasons),
    }
