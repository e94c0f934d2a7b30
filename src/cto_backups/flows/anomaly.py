"""Anomaly: judge what a new point changed by the history of its source, and let a person clear what was meant."""

from dataclasses import dataclass, replace

from cto_backups import clock
from cto_backups.core.anomaly import HISTORY, suspicions
from cto_backups.core.change import Change
from cto_backups.core.keeping import Mark
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.payloads import Draft
from cto_backups.errors import BackupsError
from cto_backups.flows import records
from cto_backups.flows.installation import Installation


@dataclass(frozen=True)
class Cleared:
    """The points that were cleared, and which vaults do not have the signed records of it yet, and why."""

    marks: tuple[Mark, ...]
    problems: dict[str, BackupsError]


def judged(
    installation: Installation, point: RecoveryPoint, draft: Draft, previous: RecoveryPoint | None
) -> RecoveryPoint:
    """The point with what it changed, and marked when that is suspect."""
    point = replace(point, change=change_of(draft, previous))
    history = installation.catalog.marks.history(point.source, HISTORY)
    return replace(point, suspicions=suspicions(point, history))


def change_of(draft: Draft, previous: RecoveryPoint | None) -> Change:
    """What a draft changed against the point before it."""
    compared = previous is not None and draft.parent is not None
    before = previous.entry_count if previous is not None else 0
    removed = max(0, before - draft.changed_entries - draft.unchanged_entries) if compared else 0
    return Change(
        parent_entries=before,
        parent_bytes=previous.size_bytes if previous is not None else 0,
        compared=compared,
        new_entries=draft.new_entries,
        changed_entries=draft.changed_entries,
        removed_entries=removed,
        renamed_entries=min(removed, draft.moved_entries),
        content=draft.content,
    )


def clear(installation: Installation, name: str, *, reason: str) -> Cleared:
    """Say that the change of a point under suspicion was meant, or of all such points of a source.

    The clean points before it are no longer kept because of it, and what changes as much is usual from then on.
    Raises NotFoundError, RefusedError.
    """
    marks = installation.catalog.marks.clear(
        name, by=installation.user, because=reason, signer=installation.signer, now=clock.now()
    )
    return Cleared(marks, records.deliver_everywhere(installation))
