"""`prune`: reclaim the bytes that no recovery point needs any more."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cto_backups.core.policy import Prices
    from cto_backups.core.pruning import PackUse, UnlistedPack
    from cto_backups.flows.prune import PruneResult


@command
def prune(
    screen: Screen,
    vaults: Annotated[
        list[str] | None, typer.Argument(metavar="VAULT", help="Vaults of the policy; all when left out.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be reclaimed; change nothing.")
    ] = False,
) -> ExitStatus:
    """Reclaim the bytes that no recovery point needs any more.

    What is not needed leaves the index now, and is deleted by a prune at least a day later. Nothing is removed from a
    vault in which anything that is needed cannot be read.
    """
    with opened(screen, write=not dry_run) as opening:
        from cto_backups.flows import prune as flow

        installation = opening.installation
        do = flow.plan if dry_run else flow.prune

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            result = do(installation, name)
            prices = installation.policy.vaults[name].prices
            _tell(screen, result, prices)
            return _document(result, prices), ExitStatus.SUCCESS

        answers, status = in_each(screen, chosen_vaults(installation.policy.vaults, vaults), one)
        screen.document(
            {"status": int(status), "dry_run": dry_run, "recovered": list(opening.recovered), "vaults": answers}
        )
        return status


def _tell(screen: Screen, result: "PruneResult", prices: "Prices | None") -> None:
    """The plan, a line for each thing that is done, and the result."""
    plan, done = result.pruned.plan, result.pruned.done
    size = figures.size
    gone, again = counted(len(plan.gone), "pack"), counted(len(plan.relisted), "pack")
    head = f"pruned in {figures.duration(result.seconds)}" if done else "would be pruned"
    screen.show(f"{result.vault}: {head}; recovery points need {size(plan.used_bytes)}")
    if plan.overdue:
        packs = counted(len(plan.overdue), "pack")
        screen.show(f"  {'deleted' if done else 'delete'}  {packs}, {size(plan.deleted_bytes)}: unused for a day")
    if plan.drop:
        packs, freed = counted(len(plan.drop), "pack"), sum(use.size_bytes for use in plan.drop)
        screen.show(f"  {'dropped' if done else 'drop'}  {packs}, {size(freed)}: nothing needs them")
    if plan.repack:
        packs = counted(len(plan.repack), "pack")
        rewritten = size(plan.rewritten_bytes)
        screen.show(f"  {'rewrote' if done else 'rewrite'}  {packs}, of which {rewritten} are needed")
    if plan.gone:
        screen.show(f"  {'forgot' if done else 'forget'}  {gone}: not there, nothing needs them")
    if plan.relisted:
        screen.show(f"  {'listed' if done else 'list'} again  {again}: no index listed them")
    if plan.taken_over:
        packs = counted(len(plan.taken_over), "pack")
        screen.show(f"  {'took' if done else 'take'} over  {packs} that rustic means to delete")
    pieces = result.pieces
    if pieces.deleted:
        gone = f"{counted(pieces.deleted, 'piece')} of logs, {size(pieces.deleted_bytes)}"
        screen.show(f"  {'deleted' if done else 'delete'}  {gone}: points hold what is in them, or none leads to them")
    if pieces.joined:
        screen.show(f"  joined  {counted(pieces.joined, 'piece')} of logs to {pieces.larger}")
    for source in pieces.kept:
        screen.show(f"  kept  the log of {source}: its points are not in this catalog ('cto.backups catalog rebuild')")
    if plan.freed_bytes:
        screen.show(f"  {size(plan.freed_bytes)} will be deleted by a prune in a day or later")
    if plan.waiting:
        screen.show(f"  {size(plan.waiting_bytes)} in {counted(len(plan.waiting), 'pack')} wait for that already")
    _tell_locked(screen, result, prices)
    if plan.unused_bytes:
        screen.show(f"  {size(plan.unused_bytes)} stay unused: too little to be worth writing packs anew")


def _tell_locked(screen: Screen, result: "PruneResult", prices: "Prices | None") -> None:
    """What would be deleted, were it not locked: when it will be, and what is paid for it until then."""
    plan, pieces = result.pruned.plan, result.pieces
    for what, bytes_, until in (
        (counted(len(plan.locked), "pack"), plan.locked_bytes, plan.locked_until),
        (f"{counted(pieces.locked, 'piece')} of logs", pieces.locked_bytes, pieces.locked_until),
    ):
        if until is not None:
            end = screen.moment(until)
            screen.show(f"  {figures.size(bytes_)} in {what} are locked, the last until {end}: deleted after that")
    cost = _locked_cost(result, prices)
    if cost is not None and prices is not None and (plan.locked or pieces.locked):
        screen.show(f"  until their locks end they cost {cost:,.2f} {prices.currency}, at the prices in the policy")


def _locked_cost(result: "PruneResult", prices: "Prices | None") -> float | None:
    """What it costs that what is locked stays; of pieces of logs at most. None where policy states no prices."""
    from cto_backups.core.traffic import storage_cost

    if prices is None:
        return None
    plan, pieces = result.pruned.plan, result.pieces
    cost = sum(storage_cost(each.pack.size_bytes, each.until - plan.made_at, prices) for each in plan.locked)
    if pieces.locked_until is not None:
        cost += storage_cost(pieces.locked_bytes, pieces.locked_until - plan.made_at, prices)
    return cost


def _document(result: "PruneResult", prices: "Prices | None") -> documents.Document:
    plan = result.pruned.plan
    return {
        "vault": result.vault,
        "done": result.pruned.done,
        "made_at": utc(plan.made_at),
        "seconds": result.seconds,
        "used_bytes": plan.used_bytes,
        "unused_bytes": plan.unused_bytes,
        "freed_bytes": plan.freed_bytes,
        "rewritten_bytes": plan.rewritten_bytes,
        "added_bytes": result.pruned.added_bytes,
        "deleted_bytes": plan.deleted_bytes,
        "waiting_bytes": plan.waiting_bytes,
        "locked_bytes": plan.locked_bytes,
        "locked_cost": _locked_cost(result, prices),
        "duplicate_blobs": plan.duplicate_blobs,
        "kept_packs": len(plan.keep),
        "dropped": _uses(plan.drop),
        "rewritten": _uses(plan.repack),
        "deleted": _unlisted(plan.overdue),
        "waiting": _unlisted(plan.waiting),
        "locked": [{**_unlisted([each.pack])[0], "until": utc(each.until)} for each in plan.locked],
        "gone": list(plan.gone),
        "listed_again": list(plan.relisted),
        "taken_over": list(plan.taken_over),
        "pieces": {
            "deleted": result.pieces.deleted,
            "deleted_bytes": result.pieces.deleted_bytes,
            "joined": result.pieces.joined,
            "larger": result.pieces.larger,
            "kept_for": list(result.pieces.kept),
            "locked": result.pieces.locked,
            "locked_bytes": result.pieces.locked_bytes,
            "locked_until": utc(result.pieces.locked_until) if result.pieces.locked_until else None,
        },
    }


def _uses(uses: "Sequence[PackUse]") -> list[documents.Document]:
    return [
        {
            "pack": use.name,
            "kind": use.kind,
            "size_bytes": use.size_bytes,
            "used_bytes": use.used_bytes,
            "used_blobs": use.used_blobs,
        }
        for use in uses
    ]


def _unlisted(packs: "Sequence[UnlistedPack]") -> list[documents.Document]:
    return [{"pack": pack.name, "size_bytes": pack.size_bytes, "since": utc(pack.since)} for pack in packs]
