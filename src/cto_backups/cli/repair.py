"""`repair`: put right what is damaged in vaults."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import chosen, chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.cli.verify import as_json as verification_as_json
from cto_backups.core.wording import counted
from cto_backups.errors import DamageError, ExitStatus, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cto_backups.core.payloads import Damage
    from cto_backups.flows.repair import RepairResult

_SHOWN = 20


@command
def repair(
    screen: Screen,
    vaults: Annotated[
        list[str] | None, typer.Argument(metavar="VAULT", help="Vaults of the policy; all when left out.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "-n", help="Show what is damaged and what would come back; change nothing."),
    ] = False,
    structure_only: Annotated[
        bool,
        typer.Option("--structure-only", help="See that all is there and trees can be read; do not read all data."),
    ] = False,
    index_only: Annotated[
        bool,
        typer.Option("--index-only", help="Only make the index anew, from what the stored packs say of themselves."),
    ] = False,
) -> ExitStatus:
    """Put right what is damaged in each vault, and verify it again.

    The index is made anew from the packs. What damaged packs still hold is written anew; what they do not comes from
    the other vaults; what no vault has is read from its source again, as far as it is unchanged there. What is lost
    for good is named. Damaged packs are kept for a day, until a prune deletes them.
    """
    if structure_only and index_only:
        raise UsageError("--structure-only and --index-only exclude each other", todo="Give one of them.")
    with opened(screen, ahead=lambda policy: next(iter(chosen(policy.vaults, vaults)), None)) as opening:
        from cto_backups.core.payloads import RepairScope
        from cto_backups.flows import repair as flow

        scope = RepairScope.EVERYTHING
        if structure_only or index_only:
            scope = RepairScope.INDEX if index_only else RepairScope.STRUCTURE
        do = flow.plan if dry_run else flow.repair

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            result = do(opening.installation, name, scope=scope)
            _tell(screen, result)
            return _document(result), ExitStatus.SUCCESS if result.passed else ExitStatus.DAMAGE

        names = chosen_vaults(opening.configuration.policy.vaults, vaults)
        answers, status = in_each(screen, names, one, failed={"passed": False})
        screen.document(
            {
                "status": int(status),
                "dry_run": dry_run,
                "scope": scope.value,
                "recovered": list(opening.recovered),
                "vaults": answers,
            }
        )
        return status


def _tell(screen: Screen, result: "RepairResult") -> None:
    """What was damaged, what became of it, and what is lost."""
    repaired = result.repaired
    if result.clean:
        screen.show(f"{result.vault}: nothing is damaged; looked at in {figures.duration(result.seconds)}")
        return
    would = "" if repaired.done else "would be "
    head = "repaired" if result.passed else "still DAMAGED" if repaired.done else "DAMAGED"
    found = (
        counted(len(repaired.damages), "damage") + " found"
        if repaired.damages
        else "nothing that points need is damaged"
    )
    screen.show(f"{result.vault}: {head}; {found}")
    for damage in repaired.damages[:_SHOWN]:
        screen.show(f"  damaged  {damage.what}: {damage.detail}")
    if len(repaired.damages) > _SHOWN:
        screen.show(f"  … and {len(repaired.damages) - _SHOWN} more")
    if repaired.index_files or repaired.relisted or repaired.missing:
        screen.show(
            f"  index    {would}made anew: {counted(len(repaired.relisted), 'pack')} listed again, "
            f"{counted(len(repaired.missing), 'pack')} forgotten"
        )
    if repaired.salvaged_blobs:
        screen.show(f"  saved    {counted(repaired.salvaged_blobs, 'blob')} {would}written anew from damaged packs")
    for vault, blobs in repaired.fetched_blobs.items():
        screen.show(f"  fetched  {counted(blobs, 'blob')} {would}brought from {vault}")
    if result.copies:
        screen.show(f"  copied   snapshots {would}made again: {', '.join(result.copies)}")
    _tell_put_back(screen, result.records, f"records  {would}put back from the catalog:")
    _tell_put_back(screen, result.pieces, f"streamed {would}brought from another vault, or streamed once more:")
    if result.reread:
        screen.show(f"  read     backed up anew, for what no vault had: {', '.join(result.reread)}")
    if repaired.lost_blobs and not repaired.done:
        screen.show(f"  lost     {counted(repaired.lost_blobs, 'blob')}: in no vault; the sources would be read again")
    if repaired.unlisted:
        screen.show(f"  kept     {counted(len(repaired.unlisted), 'damaged pack')}, for a prune in a day or later")
    if repaired.done and not result.passed:
        screen.problem(_lost(result))


def _tell_put_back(screen: Screen, damages: "Sequence[Damage]", head: str) -> None:
    if damages:
        screen.show(f"  {head}")
    for damage in damages[:_SHOWN]:
        screen.show(f"           {damage.what}: {damage.detail}")
    if len(damages) > _SHOWN:
        screen.show(f"           … and {len(damages) - _SHOWN} more")


def _lost(result: "RepairResult") -> DamageError:
    """The error that a repair stands for after which something is damaged still."""
    lines = list(result.left)
    hurt = result.verified.hurt if result.verified is not None else {}
    for point, paths in list(hurt.items())[:_SHOWN]:
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        lines.append(f"hurts {point}: {shown}")
    if len(hurt) > _SHOWN:
        lines.append(f"… and {len(hurt) - _SHOWN} more")
    return DamageError(
        f"Vault '{result.vault}' could not be repaired whole",
        why="\n" + "\n".join(lines),
        todo="What is named here is in no vault that can be read now. If another vault is away, bring it back and "
        "repair again; else these paths of these points are lost, and the rest of the points still restores.",
    )


def _document(result: "RepairResult") -> documents.Document:
    repaired = result.repaired
    return {
        "vault": result.vault,
        "done": repaired.done,
        "clean": result.clean,
        "passed": result.passed,
        "seconds": result.seconds,
        "damages": documents.damages(repaired.damages),
        "damaged_index_files": list(repaired.index_files),
        "listed_again": list(repaired.relisted),
        "missing_packs": list(repaired.missing),
        "damaged_packs": [*repaired.unlisted, *repaired.left],
        "salvaged_blobs": repaired.salvaged_blobs,
        "fetched_blobs": dict(repaired.fetched_blobs),
        "lost_blobs": repaired.lost_blobs,
        "added_bytes": repaired.added_bytes,
        "copies": list(result.copies),
        "records": documents.damages(result.records),
        "pieces": documents.damages(result.pieces),
        "reread_sources": list(result.reread),
        "problems": [*result.problems],
        "left": list(result.left),
        "verification": verification_as_json(result.verified) if result.verified is not None else None,
    }
