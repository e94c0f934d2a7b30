"""`catalog`: what the catalog holds; `catalog rebuild` brings in what signed records in vaults say and it lacks."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted
from cto_backups.errors import DamageError, ExitStatus

if TYPE_CHECKING:
    from cto_backups.app.rebuilding import Outcome


@command
def catalog(screen: Screen) -> ExitStatus:
    """Show what the catalog holds, and whether its file is sound. 'rebuild' makes it anew from records in vaults."""
    with opened(screen, write=False) as opening:
        from cto_backups.catalog.database import place_of

        held = opening.installation.catalog
        place = place_of(opening.configuration.settings.catalog_url)
        points, evidence = len(held.points()), len(held.takeover.known("evidence"))
        signers = {signer: held.takeover.last_record(signer)[0] for signer in held.signers()}
        own = opening.installation.signer.signer
        screen.document({"catalog": place, "points": points, "evidence": evidence, "records": signers})
        screen.show(f"{place}: {counted(points, 'recovery point')}, {counted(evidence, 'result')} of evidence")
        for signer, number in signers.items():
            screen.show(f"  {counted(number, 'record')} of signer {signer}{' (this one)' if signer == own else ''}")
        return ExitStatus.SUCCESS


@command
def rebuild(
    screen: Screen,
    vault: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="VAULT", help="Read this vault; may be repeated. All when left out."),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            "--trust", metavar="SIGNER", help="Let this signer's evidence and expiries count too: a key that was lost."
        ),
    ] = None,
) -> ExitStatus:
    """Bring into the catalog what signed records in vaults say and it lacks; make it anew where it is missing.

    Nothing is written to a vault, and nothing that the catalog holds is taken away.
    """
    from cto_backups import app
    from cto_backups.app import rebuilding
    from cto_backups.cli.logs import configure

    configure(screen.options)
    policy = app.find_policy(screen.options.policy)
    done = rebuilding.rebuild(policy, vault or (), trusted=frozenset(trust or ()), progress=screen.progress)
    status = _tell(screen, done)
    screen.document(_document(done, status))
    return status


@command
def move(
    screen: Screen,
    origin: Annotated[
        str, typer.Option("--from", metavar="URL", help="Where it was before, as the policy had it under 'catalog:'.")
    ],
) -> ExitStatus:
    """Move the catalog to the place that the policy names now, with all that it holds.

    First stop every worker, and write the new place as 'catalog:' into the policy. There must be no catalog yet. A file
    is put aside afterwards, under another name.
    """
    from cto_backups import app
    from cto_backups.app import moving
    from cto_backups.cli.logs import configure

    configure(screen.options)
    moved = moving.move(app.find_policy(screen.options.policy), origin)
    aside = None if moved.aside is None else str(moved.aside)
    screen.document({"from": moved.origin, "catalog": moved.place, "rows": moved.rows, "aside": aside})
    screen.show(f"{moved.origin} is now {moved.place}: {counted(moved.rows, 'row')}")
    if aside is None:
        screen.note("The old one is still there. Nobody uses it any more, unless a policy elsewhere still names it.")
    else:
        screen.note(f"The old file is {aside}. Remove it when everything runs.")
    return ExitStatus.SUCCESS


def _tell(screen: Screen, done: "Outcome") -> ExitStatus:
    rebuilt, statuses = done.rebuilt, [ExitStatus.SUCCESS]
    for sentence in done.recovered:
        screen.note(sentence)
    if done.new_key is not None:
        screen.note(f"The evidence key was not there: a new one is in {done.new_key}, and starts a chain of its own.")
    records = sum(rebuilt.records.values())
    made = "The catalog was made anew" if done.new_catalog else "The catalog was there"
    screen.show(f"{made}: {counted(records, 'record')} taken over from {', '.join(rebuilt.vaults)}")
    held = ", ".join(f"{number} in {name}" for name, number in sorted(rebuilt.copies.items())) or "none"
    screen.show(f"  new recovery points: {len(rebuilt.points)}; expired ones: {len(rebuilt.expired)}")
    screen.show(f"  new copies: {held}; new evidence: {rebuilt.evidence}; legal holds: {rebuilt.holds}")
    if rebuilt.approvals or rebuilt.alerts or rebuilt.audits:
        told = f"approvals: {rebuilt.approvals}; alerts: {rebuilt.alerts}; past audits: {rebuilt.audits}"
        screen.show(f"  {told}")
    for remark in rebuilt.remarks:
        screen.note(remark)
    for name in rebuilt.vaults:
        if name in rebuilt.away:
            screen.problem(rebuilt.away[name])
            statuses.append(rebuilt.away[name].exit_status)
    if rebuilt.damages:
        screen.problem(_damage(done))
        statuses.append(ExitStatus.DAMAGE)
    return worst(statuses)


def _damage(done: "Outcome") -> DamageError:
    found = "; ".join(f"{damage.what}: {damage.detail}" for damage in done.rebuilt.damages[:5])
    todo = "What is sound was taken over. Where another vault has these records whole, name that one with --from."
    if done.rebuilt.parted:
        todo += (
            " They are of this installation's own chain, which cannot go on after them: move its evidence key away "
            "and run this again, with --trust and the name of its signer, so that a new key starts a new chain."
        )
    return DamageError("Some records cannot be trusted", why=found, todo=todo)


def _document(done: "Outcome", status: ExitStatus) -> documents.Document:
    rebuilt = done.rebuilt
    return {
        "status": int(status),
        "vaults": list(rebuilt.vaults),
        "new_catalog": done.new_catalog,
        "new_evidence_key": None if done.new_key is None else str(done.new_key),
        "records": rebuilt.records,
        "points": rebuilt.points,
        "expired": rebuilt.expired,
        "copies": rebuilt.copies,
        "evidence": rebuilt.evidence,
        "holds": rebuilt.holds,
        "clearances": rebuilt.clearances,
        "approvals": rebuilt.approvals,
        "alerts": rebuilt.alerts,
        "audits": rebuilt.audits,
        "retentions": rebuilt.retentions,
        "damages": [{"what": damage.what, "detail": damage.detail} for damage in rebuilt.damages],
        "remarks": rebuilt.remarks,
        "away": [{"vault": name, "error": as_document(error)} for name, error in rebuilt.away.items()],
    }
