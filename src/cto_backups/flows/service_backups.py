"""Backups that a source's own service keeps: listed, and brought back by the service itself."""

from collections.abc import Sequence

from cto_backups.core.cloud_sql import BackupRun, BroughtBack, ServiceBackups
from cto_backups.core.governance import Governed
from cto_backups.errors import NotFoundError, RefusedError, UsageError
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation


def listed(installation: Installation, source: str) -> Sequence[BackupRun]:
    """Those of a source, the newest first. Raises NotFoundError, UsageError, SourceError."""
    return _of(installation, source).service_backups()


def chosen(installation: Installation, source: str, number: str) -> BackupRun:
    """A good one, by its number or as "latest". Raises NotFoundError, RefusedError, UsageError, SourceError."""
    there = listed(installation, source)
    found = next((each for each in there if number == each.number or (number == "latest" and each.is_good)), None)
    if found is None:
        raise NotFoundError(
            f"Source '{source}' has no backup {number} at its service",
            why=f"there are: {', '.join(each.number for each in there) or 'none'}",
            todo=f"See 'cto.backups cloudsql backups {source}' for those there are.",
        )
    if not found.is_good:
        raise RefusedError(
            f"Backup {number} of source '{source}' is not restored",
            why=f"its service says that it is {found.status}{f': {found.error}' if found.error else ''}",
            todo=f"Choose another: 'cto.backups cloudsql backups {source}'.",
        )
    return found


def restore(
    installation: Installation, source: str, backup: BackupRun, into: str | None, *, save_first: bool = True
) -> BroughtBack:
    """Bring a backup back into a new instance; or with None in place, where policy may ask for an approval.

    What the instance holds before that is backed up first, if `save_first`. Raises GovernanceError, SourceError.
    """
    keeper = _of(installation, source)
    if into is None:
        parameters = {"source": source, "service_backup": backup.number, "destination": None, "save_first": save_first}
        summary = f"Restoring backup {backup.number} of source '{source}' in place"
        admit(installation, Governed.RESTORE, parameters, summary=summary)
    return keeper.restore_service_backup(backup.number, into, save_first=save_first)


def _of(installation: Installation, source: str) -> ServiceBackups:
    kind = installation.source_policy(source).kind
    found = installation.source(source)
    if not isinstance(found, ServiceBackups):
        raise UsageError(
            f"Source '{source}' has no service that keeps backups of it",
            why=f"it is of kind {kind}; only instances of Cloud SQL have one",
            todo="See 'cto.backups points' for what was backed up of it.",
        )
    return found
