"""`source`: what the policy protects, and `source check`: try a source's service out in the user's own account."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures, tables
from cto_backups.cli.attempts import attempt, chosen
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, ExitStatus

if TYPE_CHECKING:
    from cto_backups.flows.check_source import SourceChecked
    from cto_backups.flows.installation import Installation


@command
def source(screen: Screen) -> None:
    """Show the sources of the policy: of which kind each is, which class, and where its copies are to be."""
    with opened(screen, write=False) as opening:
        found = opening.configuration.policy.sources
        rows = tables.table("source", "kind", "class", "category", "vaults", flexible=("vaults",))
        for name, each in found.items():
            tables.row(rows, name, each.kind, each.data_class or "", each.category.name, ", ".join(each.vaults))
        screen.show(rows)
        told = [
            {
                "source": name,
                "kind": each.kind,
                "class": each.data_class,
                "category": each.category.name,
                "vaults": list(each.vaults),
            }
            for name, each in found.items()
        ]
        screen.document({"sources": told})


@command
def check(
    screen: Screen,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Sources of kind bigquery; all when left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what it would cost.")] = False,
) -> ExitStatus:
    """Try out what backups rely on of a source's service, in the user's own account.

    Of BigQuery: tables of every type are made in a dataset for this alone, snapshotted, extracted, loaded again,
    brought back by time travel, and compared. All of it is removed in the end, and expires should that fail. What it
    costs is told first. Ends with 11 where something that backups rely on was not seen to work.
    """
    with opened(screen) as opening:
        installation = opening.installation
        known = [name for name, each in installation.policy.sources.items() if each.kind == "bigquery"]
        answers: list[documents.Document] = []
        statuses: list[ExitStatus] = []
        for name in chosen(known, sources):
            result = attempt(screen, partial(_one, screen, installation, name, dry_run=dry_run))
            if isinstance(result, BackupsError):
                answers.append({"source": name, "passed": False, "error": as_document(result)})
                statuses.append(result.exit_status)
            else:
                answers.append(result[0])
                statuses.append(result[1])
        if not answers:
            screen.show("No source of the policy has a service to try out: BigQuery's is the one that can be.")
        status = worst(statuses)
        screen.document({"status": int(status), "sources": answers})
        return status


def _one(
    screen: Screen, installation: "Installation", name: str, *, dry_run: bool
) -> tuple[documents.Document, ExitStatus]:
    """Check one source, once what it costs was told."""
    from cto_backups.flows.check_source import check_source, checkable

    trying = checkable(installation, name)
    cost = trying.check_cost()
    screen.note(f"{name}: {cost}")
    if dry_run:
        return {"source": name, "cost": cost, "rules": dict(trying.rules())}, ExitStatus.SUCCESS
    checked = check_source(installation, name)
    tell(screen, checked)
    return {**as_json(checked), "cost": cost}, ExitStatus.VERIFICATION if checked.failure else ExitStatus.SUCCESS


def tell(screen: Screen, checked: "SourceChecked") -> None:
    """One line for each thing that was tried."""
    tried, took = checked.tried, figures.duration(checked.seconds)
    passed = "NOT all that backups rely on works" if checked.failure else "all that backups rely on works"
    read = f"{figures.size(checked.scanned_bytes)} scanned"
    screen.show(f"{checked.source}: {counted(len(tried), 'thing')} tried in {took}, {read}; {passed}")
    rows = tables.table("", "answer", "what", flexible=("what",))
    for each in tried:
        mark = " " if each.passed else "!"
        tables.row(rows, mark, str(each.outcome), ": ".join(filter(None, (checked.rules[each.name], each.detail))))
    screen.show(rows)
    if checked.failure is not None:
        screen.problem(checked.failure)


def as_json(checked: "SourceChecked") -> documents.Document:
    """A check in JSON."""
    return {
        "source": checked.source,
        "passed": checked.failure is None,
        "scanned_bytes": checked.scanned_bytes,
        "rules": [
            {
                "rule": each.name,
                "title": checked.rules[each.name],
                "answer": str(each.outcome),
                "wanted": each.wanted,
                "passed": each.passed,
                "detail": each.detail,
                "seconds": round(each.seconds, 3),
            }
            for each in checked.tried
        ],
    }
