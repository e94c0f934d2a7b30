"""What Cloud SQL refuses, and the ways to it that fail, told to people.

The permissions are in https://cloud.google.com/sql/docs/postgres/iam-permissions.
"""

from typing import Final

import requests
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from cto_backups.errors import SourceError

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
    "restore a backup": "cloudsql.instances.restoreBackup",
    "delete a clone": "cloudsql.instances.delete",
    "change a clone": "cloudsql.instances.update",
    "follow an operation": "cloudsql.instances.get",
    "see how far its log goes": "cloudsql.instances.get",
}
"""What we do, and the permission that it takes."""


class ApiError(Exception):
    """What the API said no to: its status (0: no answer came), Google's word for the reason, and its message.

    `again`: whether an earlier try of the same request may have come through.
    """

    def __init__(self, status: int, reason: str, message: str, *, again: bool) -> None:
        super().__init__(f"{message} ({reason or status})")
        self.status = status
        self.reason = reason
        self.message = message
        self.again = again


def refused(source: str, error: ApiError, doing: str, path: str) -> SourceError:
    """What the API said no to."""
    what = f"source {source}: Cloud SQL does not let us {doing}"
    said = error.message
    if error.status == 401:
        todo = "Log in anew, or see whether the service account and its key are still there; then run again."
        return SourceError(what, why=f"Google does not take this login: {said}", todo=todo)
    if error.status == 403 and error.reason in ("accessNotConfigured", "SERVICE_DISABLED"):
        return SourceError(what, why=said, todo="gcloud services enable sqladmin.googleapis.com")
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
    if error.status == 429 or "ateLimitExceeded" in error.reason or error.status >= 500 or not error.status:
        return SourceError(
            what,
            why=f"the API is busy or down ({said}); it was tried again and again",
            todo="Run again later.",
        )
    return SourceError(
        what,
        why=f"{said} ({error.reason or error.status})",
        todo="See the instance's operations: 'gcloud sql operations list --instance=NAME'.",
    )


def unreached(source: str, error: Exception, doing: str) -> SourceError:
    """What failed on this side: no login, no network, no answer."""
    what = f"source {source}: it was not possible to {doing} at Cloud SQL"
    said = str(error).partition("\n")[0][:300]
    if isinstance(error, DefaultCredentialsError):
        return SourceError(
            what,
            why=f"no login to Google Cloud was found, neither in the policy nor where its programs look: {said}",
            todo="Name `credentials` at the source, by a reference; or run 'gcloud auth application-default login', "
            "or give this machine a service account.",
        )
    if isinstance(error, RefreshError):
        return SourceError(
            what,
            why=f"the login has expired, or was taken back: {said}",
            todo="Log in anew, or see whether the service account and its key are still there; then run again.",
        )
    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return SourceError(
            what,
            why="what `credentials` names, or GOOGLE_APPLICATION_CREDENTIALS, is not the key file of a service account",
            todo="Make one, 'gcloud iam service-accounts keys create', and name it at the source.",
        )
    return SourceError(
        what,
        why=f"the API cannot be reached, or does not answer: {said}",
        todo="See to the network, its names and proxies; or correct the source's endpoint.",
    )


def failed(source: str, doing: str, why: str) -> SourceError:
    """An operation that came to a bad end."""
    return SourceError(
        f"source {source}: Cloud SQL could not {doing}",
        why=why,
        todo="See the instance's operations: 'gcloud sql operations list --instance=NAME'; then run again.",
    )
