"""`evidence`: what was tested and verified; for auditors an export of its records, and whether records are whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cto_backups import clock
from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import attempt, chosen_vaults
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, DamageError, ExitStatus, NotFoundError, UsageError

if TYPE_CHECKING:
    from cto_backups.core.model import Evidence
    from cto_backups.evidence.export import Head
    from cto_backups.flows.evidence import Checked

_MOST_FAULTS = 50


@command
def evidence(screen: Screen) -> None:
    """List the newest restore tests and verifications; 'evidence list' has more options."""
    _list(screen, "", failed=False, limit=20)


@command
def list_evidence(
    screen: Screen,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Only what concerns this source.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show the newest N.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Show all, however many.")] = False,
) -> None:
    """List restore tests and verifications, passed and failed, the newest first."""
    _list(screen, source, failed=failed, limit=None if everything else limit)


def _list(screen: Screen, source: str, *, failed: bool, limit: int | None) -> None:
    with opened(screen, write=False) as opening:
        installation = opening.installation
        found = installation.catalog.evidence_for(
            source or None, failed=failed, limit=None if limit is None else limit + 1
        )
        if source and not any(each.source == source for each in found):
            installation.source_policy(source)  # one that is gone from the policy still has its evidence
        shown = found if limit is None else found[:limit]
        screen.document({"evidence": [documents.evidence(each) for each in shown], "more": len(found) > len(shown)})
        if not screen.talks:
            return
        if not shown:
            screen.show("There is no evidence yet. Make some with: cto.backups test")
            return
        from cto_backups.cli.tables import row, table

        listing = table("evidence", "ended", "vault", "result", "rung", "took", flexible=("evidence",), right=("took",))
        for each in shown:
            row(
                listing,
                each.id,
                screen.moment(each.finished_at),
                each.vault,
                "ok" if each.passed else "failed",
                each.rung.name.lower(),
                figures.duration((each.finished_at - each.started_at).total_seconds()),
            )
        screen.show(listing)
        if len(found) > len(shown):
            screen.show("There are more: --limit N or --all shows them.")


@command
def show(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="ID", help="The id, or a unique beginning of it.")],
) -> None:
    """Show all of one restore test or verification: its steps and figures, and the signed record of it."""
    with opened(screen, write=False) as opening:
        catalog = opening.installation.catalog
        found = catalog.one_evidence(name)
        record = catalog.record_of_evidence(found.id)
        told = record and {
            "signer": record.signer,
            "sequence": record.sequence,
            "digest": record.digest,
            "written_at": record.body["written_at"],
            "place": record.key,
            "faults": list(record.faults()),
        }
        screen.document({**documents.evidence(found), "record": told})
        if screen.talks:
            _tell(screen, found)
            if record is None:
                screen.show("record: none; it was never signed here")
            else:
                faults = record.faults()
                screen.show(f"record: number {record.sequence} of signer {record.signer}, {record.key}")
                screen.show(f"digest: {record.digest}")
                screen.show("; ".join(faults) if faults else "The record is as it was signed.")


def _tell(screen: Screen, found: "Evidence") -> None:
    from cto_backups.evidence.index import WHAT

    took = figures.duration((found.finished_at - found.started_at).total_seconds())
    result = "passed" if found.passed else "FAILED"
    screen.show(f"{WHAT.get(found.kind, found.kind)} {found.id}: {result} after {took}, rung {found.rung.name.lower()}")
    if found.reason:
        screen.show(f"reason: {found.reason}")
    for label, text in {
        "source": found.source,
        "recovery point": found.point,
        "vault": found.vault,
        "began": f"{screen.moment(found.started_at)} ({screen.zone_name})",
        "ended": screen.moment(found.finished_at),
        "every byte read since": screen.moment(found.read_since) if found.read_since else None,
    }.items():
        if text:
            screen.show(f"{label}: {text}")
    for step in found.steps:
        state = "ok" if step.passed else "FAILED"
        screen.show(
            f"{step.name.replace('_', ' ')}: {state}, {figures.duration(step.seconds)}. {step.detail}".rstrip(". ")
        )
        for name, value in step.figures.items():
            screen.show(f"    {name.replace('_', ' ')}: {value}")


@command
def export(
    screen: Screen,
    to: Annotated[Path, typer.Option("--for", metavar="FILE", help="The zip to write, such as auditor.zip.")],
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="Where the period begins.")],
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="Where it ends; now when left out.")] = "now",
    source: Annotated[str, typer.Option("--source", metavar="SOURCE", help="List only what concerns it.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write the signed records and an index of a period, in a form that stock tools check, for somebody else.

    The records are all there, whatever the period: one that is left out could be a failed test.
    """
    with opened(screen, write=False) as opening:
        from zoneinfo import ZoneInfo

        from cto_backups.cli.moments import parse_moment
        from cto_backups.evidence.index import Scope
        from cto_backups.flows.evidence import write_export

        now, zone = clock.now(), ZoneInfo(opening.configuration.policy.timezone)
        scope = Scope(
            parse_moment(since, now=now, zone=zone, begin=True),
            parse_moment(until, now=now, zone=zone),
            source or None,
        )
        if scope.since > scope.until:
            raise UsageError(f"'{since}' is later than '{until}'", todo="Give --since the earlier of the two.")
        if source:
            opening.installation.source_policy(source)
        exported = write_export(opening.installation, to, scope, overwrite=overwrite)
        screen.document(
            {
                "file": str(to),
                "since": utc(scope.since),
                "until": utc(scope.until),
                "source": scope.source,
                "records": exported.records,
                "evidence": exported.evidence,
                "failed": exported.failed,
                "heads": _heads(exported.heads),
                "points_with_rows": exported.points_with_rows,
            }
        )
        if exported.points_with_rows:
            points = counted(exported.points_with_rows, "recovery point")
            screen.note(f"It has sampled rows of databases in clear, of {points}: give it only to who may see them.")
        screen.show(
            f"{to}: {counted(exported.records, 'record')}; in the period {exported.evidence} restore tests and "
            f"verifications, {exported.failed} of them failed"
        )
        screen.show("Hand these lines over another way than the file; they show whether its end was cut off:")
        for head in exported.heads:
            screen.show_whole(str(head))


def _heads(heads: "tuple[Head, ...]") -> list[documents.Document]:
    return [{"fingerprint": head.fingerprint, "sequence": head.sequence, "digest": head.digest} for head in heads]


@command
def verify(
    screen: Screen,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="An export to check.")] = None,
    vault: Annotated[
        list[str] | None, typer.Option("--vault", metavar="NAME", help="Check what is in a vault.")
    ] = None,
    heads: Annotated[
        Path | None, typer.Option("--heads", metavar="FILE", help="Where the chains end, known another way.")
    ] = None,
) -> ExitStatus:
    """Find records that were removed, altered, reordered, repeated, cut off, or signed by a key that does not count.

    Without FILE and --vault it checks the catalog and every vault. An export is checked without a policy file too.
    """
    if file is not None and vault:
        raise UsageError("An export and --vault contradict each other", todo="Give one of the two.")
    if heads is not None and file is None:
        raise UsageError("--heads is for an export", todo="Name the export's file too.")
    return _verify_places(screen, vault) if file is None else _verify_file(screen, file, heads)


def _verify_places(screen: Screen, vaults: list[str] | None) -> ExitStatus:
    from functools import partial

    with opened(screen, write=False) as opening:
        from cto_backups.flows.evidence import check_catalog, check_vault

        installation, pinned = opening.installation, opening.configuration.settings.evidence_fingerprints
        names = chosen_vaults(installation.policy.vaults, vaults)
        answers: list[documents.Document] = []
        statuses: list[ExitStatus] = []
        if not vaults:
            answers.append(_answer(screen, check_catalog(installation, pinned), statuses))
        for name in names:
            result = attempt(screen, partial(check_vault, installation, name, pinned))
            if isinstance(result, BackupsError):
                answers.append({"place": name, "intact": False, "error": as_document(result)})
                statuses.append(result.exit_status)
            else:
                answers.append(_answer(screen, result, statuses))
        screen.document({"status": int(worst(statuses)), "checked": answers})
        return worst(statuses)


def _verify_file(screen: Screen, file: Path, heads: Path | None) -> ExitStatus:
    from cto_backups import app
    from cto_backups.evidence import bundle
    from cto_backups.flows.evidence import check_export

    found = bundle.check(file)
    if heads is not None:
        found.faults += bundle.beyond(found, _read_heads(heads), str(heads), whole=False)
    try:
        app.find_policy(screen.options.policy)
    except NotFoundError:
        if screen.options.policy is not None:
            raise
        result = check_export(None, found, file, ())
        if heads is None:
            screen.note("Its end and its keys were compared with nothing: there is no policy file here, nor --heads.")
    else:
        with opened(screen, write=False) as opening:
            pinned = opening.configuration.settings.evidence_fingerprints
            result = check_export(opening.installation, found, file, pinned)
    statuses: list[ExitStatus] = []
    answer: dict[str, Any] = {**_answer(screen, result, statuses), "evidence": found.evidence, "failed": found.failed}
    screen.document({"status": int(worst(statuses)), "checked": [answer]})
    return worst(statuses)


def _read_heads(path: Path) -> "tuple[Head, ...]":
    from cto_backups.evidence.bundle import parse_heads

    try:
        return parse_heads(path.read_bytes())
    except (OSError, ValueError) as error:
        todo = "Give the lines that 'cto.backups evidence export' printed."
        raise UsageError(f"{path} cannot be used as --heads", why=str(error), todo=todo) from None


def _answer(screen: Screen, checked: "Checked", statuses: list[ExitStatus]) -> documents.Document:
    state = "DAMAGED" if checked.faults else "intact"
    screen.show(f"{checked.place}: {state}; {counted(checked.records, 'record')}")
    for head in checked.heads:
        screen.show(f"  signer {head.fingerprint}: ends with number {head.sequence}, {head.digest}")
    for note in checked.notes:
        screen.show(f"  {note}")
    if checked.faults:
        statuses.append(ExitStatus.DAMAGE)
        more = len(checked.faults) - _MOST_FAULTS
        shown = [*checked.faults[:_MOST_FAULTS], *([f"… and {more} more"] if more > 0 else [])]
        screen.problem(
            DamageError(
                f"The records in {checked.place} are not what was signed",
                why="\n" + "\n".join(shown),
                todo="Keep it as it is. Compare with another vault or an earlier export, and find out who changed it.",
            )
        )
    return {
        "place": checked.place,
        "intact": not checked.faults,
        "records": checked.records,
        "heads": _heads(checked.heads),
        "faults": list(checked.faults),
        "notes": list(checked.notes),
    }
