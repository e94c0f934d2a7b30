"""What Google Cloud Storage refuses, and the ways to it that fail, told to people.

Google's statuses and reasons are in https://cloud.google.com/storage/docs/json_api/v1/status-codes; its permissions in
https://cloud.google.com/storage/docs/access-control/iam-permissions.
"""

import shlex

import requests
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from cto_backups.config.redaction import redact
from cto_backups.errors import VaultError, VaultFullError, VaultReadOnlyError
from cto_backups.vaults.gcs_client import RefusedError
from cto_backups.vaults.wording import Wording

_PERMISSIONS = {
    "store": "storage.objects.create",
    "replace": "storage.objects.create and storage.objects.delete",
    "read": "storage.objects.get",
    "look up": "storage.objects.get",
    "look for": "storage.objects.get",
    "lock": "storage.objects.setRetention and storage.objects.update",
    "list": "storage.objects.list",
    "delete": "storage.objects.delete",
}
_WRITES = ("store", "replace", "delete")
_KEPT = ("retentionPolicyNotMet", "objectUnderActiveHold")
_FULL = ("quotaExceeded", "dailyLimitExceeded")
_SKEWED = ("short-lived token", "reasonable timeframe", "iat and exp")  # of a token from the past or the future
_CLOSED = ("accountDisabled", "userProjectMissing", "projectDisabled", "billingDisabled")


class GcsWording(Wording):
    """Words for what fails in one vault on Google Cloud Storage; no secret in any of them."""

    def making_the_bucket(self) -> str:
        """The command that makes the bucket; nobody can open it to the public, nor give rights on single objects."""
        words = ["gcloud", "storage", "buckets", "create", f"gs://{self._address.bucket}"]
        words += [f"--location={self._address.region}", "--uniform-bucket-level-access", "--public-access-prevention"]
        words += ["--enable-per-object-retention"] if self._address.locking is not None else []
        return shlex.join(words)

    def refused(self, error: RefusedError, doing: str, key: str) -> VaultError:
        """What the store said no to. `doing` and `key` say what was wanted, as in "store" and "data/ab"."""
        what = self._cannot(doing, key)
        said = redact(error.message)
        if error.reason in _KEPT:
            return VaultReadOnlyError(
                what,
                why=f"the bucket keeps what it stores: {said} ({error.reason})",
                todo="Wait until its retention or the hold has ended; what was stored before is intact.",
            )
        if error.reason in _FULL or error.status == 507:
            return VaultFullError(
                f"Vault {self._name} at {self._location} is full",
                why=f"{said} ({error.reason or error.status}) while it was to {doing} {key}",
                todo="Have the quota raised, then run again; what was stored before is intact.",
            )
        if doing in ("store", "replace") and error.status in (400, 412) and "retention" in said.lower():
            return VaultError(
                what,
                why=f"{said}: the policy has vault {self._name} lock what it stores",
                todo=f"Let bucket {self._address.bucket} keep objects: make it with --enable-per-object-retention. "
                "Or take 'lock' out of the policy.",
            )
        why, todo = self._words(error, said)
        if error.status == 403 and not todo:
            permission = _PERMISSIONS[doing]
            if doing in ("store", "replace") and self._address.locking is not None:
                permission += " and storage.objects.setRetention"
            why = f"{said}: this login has not {permission} on {self._resource(doing, key)}"
            todo = f"Give it {permission} there; docs/how-to/add-a-vault.md has the whole role."
            if doing in _WRITES:
                return VaultReadOnlyError(what, why=why, todo=todo)
            if doing != "list":
                todo += (
                    f" Without storage.objects.list on bucket {self._address.bucket}, what is not there looks so, too."
                )
        return VaultError(what, why=why, todo=todo)

    def unreached(self, error: Exception, doing: str, key: str) -> VaultError:
        """What failed on this side: no login, no network, no answer."""
        what = self._cannot(doing, key)
        said = redact(str(error).partition("\n")[0][:300])
        if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
            return VaultError(
                what,
                why="what 'credentials' names, or GOOGLE_APPLICATION_CREDENTIALS, is not the key file of a service "
                "account",
                todo="Make one, 'gcloud iam service-accounts keys create', and name it at the vault.",
            )
        if isinstance(error, DefaultCredentialsError):
            return VaultError(
                what,
                why=f"no login to Google Cloud was found, neither in the policy nor where its programs look: {said}",
                todo="Name credentials at the vault, by a reference; or run 'gcloud auth application-default login', "
                "or give this machine a service account.",
            )
        if isinstance(error, RefreshError) and any(words in said for words in _SKEWED):
            return VaultError(
                what,
                why=f"the clock of this machine and Google's differ by more than it allows: {said}",
                todo="Set the clock of this machine, then run again.",
            )
        if isinstance(error, RefreshError):
            return VaultError(
                what,
                why=f"the login has expired, or was taken back: {said}",
                todo="Log in anew, or see whether the service account and its key are still there; then run again.",
            )
        if isinstance(error, requests.exceptions.SSLError):
            return VaultError(
                what,
                why=f"the connection could not be secured: {said}",
                todo="See that the server's certificate is valid; an authority of your own is named in SSL_CERT_FILE.",
            )
        return VaultError(
            what,
            why=f"the store cannot be reached, or does not answer: {said}",
            todo="See to the network, its names and proxies; or correct the vault's endpoint.",
        )

    def _resource(self, doing: str, key: str) -> str:
        bucket = f"bucket {self._address.bucket}"
        return bucket if doing == "list" else f"object {self._address.key(key)} in {bucket}"

    def _words(self, error: RefusedError, said: str) -> tuple[str, str]:
        """Why, and what to do, for what is told by a status alone; nothing to do where a right is missing."""
        if error.status == 401:
            return (
                f"Google does not take this login: {said}",
                "Log in anew, or see whether the service account and its key are still there; then run again.",
            )
        if error.status == 429 or "ateLimitExceeded" in error.reason or error.status in (408, 503):
            return (
                f"the store is busy and asks for fewer requests ({error.reason or error.status}); it was tried again "
                "and again",
                "Run again later; what was stored before is intact.",
            )
        if error.reason in _CLOSED:
            return (
                f"the project does not pay for it, or is closed: {said} ({error.reason})",
                "See to the billing of the bucket's project.",
            )
        if error.reason == "insufficientPermissions":
            return (
                f"the login has too narrow a scope: {said}",
                "Let this machine have the scope devstorage.read_write, or name credentials at the vault.",
            )
        if error.status == 403:
            return said, ""
        if 300 <= error.status < 400:
            return (
                f"the store sends elsewhere ({error.status}), which is not followed",
                "Correct the vault's endpoint in the policy.",
            )
        return (
            f"{said} ({error.reason or error.status})",
            "See what the bucket's audit log says of this, then run again.",
        )
