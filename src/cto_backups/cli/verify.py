"""`verify`: re-read what vaults store."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import chosen, chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.errors import DamageError, ExitStatus, UsageError

if TYPE_CHECKING:
    from cto_backups.core.verification import Part
    from cto_backups.flows.verify import VerifyResult

_MOST_REMARKS = 20


@command
def verify(
    screen: Screen,
    vaults: Annotated[
        list[str] | None, typer.Argument(metavar="VAULT", help="Vaults of the policy; all when left out.")
    ] = None,
    structure_only: Annotated[
        bool,
        typer.Option(
            "--structure-only", help="Check that everything is there, without reading it: quick, proves less."
        ),
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="SHARE|SIZE",
            help="Read only this much, such as 10%, 1/7 or 50G: what was read longest ago, and what is new.",
        ),
    ] = None,
) -> ExitStatus:
    """Re-read every stored byte of each vault, and say what is damaged and which recovery points it hurts."""
    portion = understood(part, structure_only=structure_only)
    with opened(screen, ahead=lambda policy: next(iter(chosen(policy.vaults, vaults)), None)) as installation:
        from cto_backups.flows.verify import verify as verify_vault

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            result = verify_vault(installation.installation, name, read_data=not structure_only, part=portion)
            tell(screen, result)
            return as_json(result), ExitStatus.SUCCESS if result.passed else ExitStatus.DAMAGE

        names = chosen_vaults(installation.configuration.policy.vaults, vaults)
        answers, status = in_each(screen, names, one, failed={"passed": False})
        screen.document({"status": int(status), "recovered": list(installation.recovered), "vaults": answers})
        return status


def understood(text: str | None, *, structure_only: bool = False) -> "Part | None":
    """The part that `--part` names. Raises UsageError."""
    from cto_backups.core.verification import parse_part

    if text is None:
        return None
    if structure_only:
        raise UsageError("--part and --structure-only contradict each other", todo="Give one of the two.")
    try:
        return parse_part(text)
    except ValueError as error:
        raise UsageError(f"--part: {error}") from None


def tell(screen: Screen, result: "VerifyResult", *, indent: str = "") -> None:
    """Say what was read in a vault, and what is damaged."""
    verified, evidence = result.verified, result.evidence
    took = (evidence.finished_at - evidence.started_at).total_seconds()
    points = len(verified.references)
    what = f"{figures.count(points)} recovery point{'' if points == 1 else 's'}"
    speed = figures.rate(verified.bytes_read, took)
    read = f"{figures.size(verified.bytes_read)} in {figures.duration(took)}" + (f" ({speed})" if speed else "")
    if verified.readings is None:
        what = f"structure of {what} checked in {figures.duration(took)}"
    elif verified.packs_read >= verified.packs:
        what = f"every byte of {what} read: {read}"
    else:
        packs = f"{figures.count(verified.packs_read)} of {figures.count(verified.packs)} packs"
        since = f"every byte was read since {screen.moment(evidence.read_since)}" if evidence.read_since else ""
        what = f"structure of {what} checked, {packs} read: {read}; {since or 'not every byte was read yet'}"
    if result.passed:
        screen.show(f"{indent}{result.vault}: intact; {what}")
    else:
        screen.show(f"{indent}{result.vault}: DAMAGED; {what}")
    for remark in verified.remarks[:_MOST_REMARKS]:
        screen.show(f"{indent}  {remark}")
    if len(verified.remarks) > _MOST_REMARKS:
        screen.show(f"{indent}  … and {len(verified.remarks) - _MOST_REMARKS} more")
    if not result.passed:
        screen.problem(damaged(result))


def damaged(result: "VerifyResult") -> DamageError:
    """The error that a verification which found damage stands for."""
    lines = [f"{damage.what}: {damage.detail}" for damage in result.verified.damages[:20]]
    more = len(result.verified.damages) - 20
    lines += [f"… and {more} more"] if more > 0 else []
    for point, paths in list(result.hurt.items())[:20]:
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        lines.append(f"hurts {point}: {shown}")
    return DamageError(
        f"Vault '{result.vault}' holds damaged data",
        why="\n" + "\n".join(lines),
        todo=f"Look for the cause (disk, memory, foreign writers), then run 'cto.backups repair {result.vault}'. "
        "Until then restores take what is damaged here from another vault.",
    )


def as_json(result: "VerifyResult") -> documents.Document:
    """A verification in JSON."""
    verified = result.verified
    return {
        "vault": result.vault,
        "passed": result.passed,
        "files_read": verified.files_read,
        "bytes_read": verified.bytes_read,
        "bytes_stored": verified.pack_bytes,
        "packs_read": verified.packs_read,
        "packs_stored": verified.packs,
        "blobs_read": verified.blobs_read,
        "snapshots": len(verified.references),
        "damages": documents.damages(verified.damages),
        "remarks": list(verified.remarks),
        "hurt_points": {point: list(paths) for point, paths in result.hurt.items()},
        "evidence": documents.evidence(result.evidence),
    }
