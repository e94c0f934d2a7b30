"""What a restore came to: what did not come back, and its JSON."""

from typing import TYPE_CHECKING

from cto_backups.cli import documents
from cto_backups.errors import DamageError, ExitStatus, RestoreError

if TYPE_CHECKING:
    from cto_backups.core.ports import Restored
    from cto_backups.flows.restore import RestoreResult


def came_back(restored: "Restored") -> bool:
    """Whether anything did; a point in which there is nothing counts as back."""
    return restored.entries > 0 or not restored.problems


def problem_of(result: "RestoreResult", only_from: str | None) -> RestoreError | DamageError | None:
    """What did not come back as it was; None: all of it did. `only_from` is the one vault that was asked for, if so."""
    missing = result.restored.problems
    if not missing:
        return None
    lines = [f"{problem.path} ({problem.kind}: {problem.detail})" for problem in missing[:20]]
    lines += [f"… and {len(missing) - 20} more"] if len(missing) > 20 else []
    why = "\n" + "\n".join(lines)
    if any(problem.kind == "altered" for problem in missing):
        return DamageError(
            f"{len(missing)} of {result.point.id} are not on the disk as the recovery point has them",
            why=why,
            todo="The disk that was restored to may be failing: look at the kernel's log, and restore to another one.",
        )
    if all(problem.kind == "extraneous" for problem in missing):
        return RestoreError(
            f"{result.point.id} is restored, but not all that it does not have could be removed",
            why=why,
            todo="Run this as a user who may remove them, or remove them by hand.",
        )
    if all(problem.kind in ("unwritable", "permission") for problem in missing):
        some = came_back(result.restored)
        refused = f"{len(missing)} of {result.point.id} could not be written"
        return RestoreError(
            refused if some else f"Nothing of {result.point.id} could be written",
            why=why,
            todo=("The rest is restored. " if some else "")
            + "The destination refused: let it be written to, or restore elsewhere with --to FOLDER.",
        )
    return RestoreError(
        f"{len(missing)} of {result.point.id} did not come back whole",
        why=why,
        todo="The rest is restored. "
        + (
            f"Leave out --vault, and add --overwrite: what is not whole in {only_from} comes from another vault then."
            if only_from
            else "See 'cto.backups points' for another point that may hold these whole."
        ),
    )


def as_document(result: "RestoreResult", status: ExitStatus) -> documents.Document:
    """What a restore came to, as JSON."""
    restored = result.restored
    return {
        "status": int(status),
        "dry_run": False,
        "point": documents.point(result.point),
        "vault": result.vault,
        "entries": restored.entries,
        "size_bytes": restored.size_bytes,
        "kept_entries": restored.kept_entries,
        "kept_bytes": restored.kept_bytes,
        "deleted_entries": restored.deleted_entries,
        "deleted_bytes": restored.deleted_bytes,
        "seconds": round(restored.seconds, 3),
        "places": list(restored.places),
        "healed": result.healed,
        "problems": documents.problems(restored.problems),
        "notes": list(restored.notes),
        "vault_problems": list(result.vault_problems),
    }
