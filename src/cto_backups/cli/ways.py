"""Which way contents came into a vault that holds them as they are: copied by its provider, or through this machine."""

from typing import TYPE_CHECKING

from cto_backups.cli import documents, figures
from cto_backups.core.wording import counted

if TYPE_CHECKING:
    from cto_backups.core.objects import Ways
    from cto_backups.flows.backup import BackupResult

_OF_OBJECTS = ("bucket", "bigquery")


def of_backup(result: "BackupResult") -> tuple[str, ...]:
    """Lines on a backup; none where nothing that a provider holds was to become an export."""
    from cto_backups.core.policy import Payload

    draft = result.draft
    if draft.payload is not Payload.EXPORT or result.point.kind not in _OF_OBJECTS or not draft.kept:
        return ()
    if draft.ways is None:
        return (f"Through this machine: {result.vault} seals exports itself.",) if draft.added_bytes else ()
    return lines(draft.ways)


def lines(ways: "Ways | None") -> tuple[str, ...]:
    """Lines on what came into one vault; none where nothing was, or could have been, copied by a provider."""
    if ways is None or not (ways.copied or ways.passed):
        return ()
    told = []
    if ways.copied:
        told.append(f"Copied by the provider: {counted(ways.copied, 'object')}, {figures.size(ways.copied_bytes)}.")
    if ways.passed:
        told.append(f"Through this machine: {counted(ways.passed, 'object')}, {figures.size(ways.passed_bytes)}.")
    return (*told, *(f"Note: {reason}." for reason in ways.reasons))


def as_json(ways: "Ways | None") -> documents.Document | None:
    """The same as a document."""
    if ways is None:
        return None
    return {
        "copied": ways.copied,
        "copied_bytes": ways.copied_bytes,
        "passed": ways.passed,
        "passed_bytes": ways.passed_bytes,
        "reasons": list(ways.reasons),
    }
