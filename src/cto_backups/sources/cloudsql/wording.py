"""What Cloud SQL refuses, and the ways to it that fail, told to people.

The permissions are in https://cloud.google.com/sql/docs/postgres/iam-permissions.
"""

from typing import Final

from cto_backups.errors import SourceError
from cto_backups.providers.google import OutOfTimeError, RefusedError
from cto_backups.providers.google_words import GoogleWords

_WORDS: Final = GoogleWords("source", "the API", "sqladmin.googleapis.com", "sqlservice.admin")
GUIDE: Final = "docs/how-to/protect-cloud-sql.md has the whole role"

_PERMISSIONS: Final = {
    "look at the instance": "cloudsql.instances.get",
    "list the project's instances": "cloudsql.instances.list",
    "list its databases": "cloudsql.databases.list",
    "list its backups": "cloudsql.backupRuns.list",
    "begin a backup": "cloudsql.backupRuns.create",
    "look at a backup": "cloudsql.backupRuns.get",
    "delete a backup": "cloudsql.backupRuns.delete",
    "clone the instance": "cloudsql.instances.clone",
    "make an instance": "cloudsql.instances.create",
    "restore a backup": "cloudsql.instances.restoreBackup",
    "delete a clone": "cloudsql.instances.delete",
    "change a clone": "cloudsql.instances.update",
    "follow an operation": "cloudsql.instances.get",
    "see how far its log goes": "cloudsql.instances.get",
}
"""What we do, and the permission that it takes."""


def refused(source: str, error: RefusedError, doing: str, path: str) -> SourceError:
    """What the API said no to."""
    what = f"source {source}: Cloud SQL does not let us {doing}"
    said = error.message
    told = _WORDS.refused(error)
    if told is not None:
        return SourceError(what, why=told[0], todo=told[1])
    if error.status == 403:
        permission = _PERMISSIONS[doing]
        return SourceError(
            what,
            why=f"{said}: this login has not {permission}, or there is no such instance",
            todo=f"Give it {permission} in the project, or correct `project` and `instance`; {GUIDE}.",
        )
    if error.status == 404:
        return SourceError(
            what,
            why=f"there is none at {path}: it was deleted, or never was ({said})",
            todo="Correct `project` and `instance` of the source. Of an instance that is gone, the exports in the "
            "vaults come back: 'cto.backups points', then 'cto.backups restore'.",
        )
    if error.status == 409:
        return SourceError(
            what, why=f"another operation is under way, or the name is taken: {said}", todo="Run again later."
        )
    return SourceError(
        what,
        why=f"{said} ({error.reason or error.status})",
        todo="See the instance's operations: 'gcloud sql operations list --instance=NAME'.",
    )


def unreached(source: str, error: Exception, doing: str) -> SourceError:
    """What failed on this side: no login, no network, no answer."""
    what = f"source {source}: it was not possible to {doing} at Cloud SQL"
    if isinstance(error, OutOfTimeError):
        return SourceError(
            what, why="it took longer than `backup_timeout` allows", todo="Raise it, or run again later."
        )
    why, todo = _WORDS.unreached(error)
    return SourceError(what, why=why, todo=todo)


def failed(source: str, doing: str, why: str) -> SourceError:
    """An operation that came to a bad end."""
    return SourceError(
        f"source {source}: Cloud SQL could not {doing}",
        why=why,
        todo="See the instance's operations: 'gcloud sql operations list --instance=NAME'; then run again.",
    )
