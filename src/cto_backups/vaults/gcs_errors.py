"""What Google Cloud Storage refuses, and the ways to it that fail, told to people.

Google's statuses and reasons are in https://cloud.google.com/storage/docs/json_api/v1/status-codes; its permissions in
https://cloud.google.com/storage/docs/access-control/iam-permissions.
"""

import shlex

from cto_backups.config.redaction import redact
from cto_backups.core.objects import ObjectState
from cto_backups.errors import NotCopiedError, VaultError, VaultFullError, VaultReadOnlyError
from cto_backups.providers.google import RefusedError
from cto_backups.providers.google_words import GoogleWords
from cto_backups.vaults.wording import Wording

_PERMISSIONS = {
    "store": "storage.objects.create",
    "replace": "storage.objects.create and storage.objects.delete",
    "read": "storage.objects.get",
    "look up": "storage.objects.get",
    "look for": "storage.objects.get",
    "lock": "storage.objects.setRetention and storage.objects.update",
    "put a legal hold on": "storage.objects.update",
    "take the legal hold off": "storage.objects.update",
    "list": "storage.objects.list",
    "delete": "storage.objects.delete",
}
_WRITES = ("store", "replace", "delete")
_KEPT = ("retentionPolicyNotMet", "objectUnderActiveHold")
_FULL = ("quotaExceeded", "dailyLimitExceeded")
_WORDS = GoogleWords("vault", "the store", "storage.googleapis.com", "devstorage.read_write")


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
        told = _WORDS.refused(error)
        if told is not None:
            why, todo = told
            return VaultError(what, why=redact(why), todo=self.calmed(todo))
        why, todo = (
            f"{said} ({error.reason or error.status})",
            "See what the bucket's audit log says of this, then run again.",
        )
        if error.status == 403:
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

    def not_copied_by(self, error: Exception, state: ObjectState) -> NotCopiedError:
        """The store, or the way to it, did not have it copied. It writes here as ever: what lacks is a right there."""
        if not isinstance(error, RefusedError):
            return self.not_copied(state, str(error))
        right = f"storage.objects.get on bucket {state.bucket}" if error.status in (401, 403) else ""
        return self.not_copied(state, f"{error.message} ({error.reason or error.status})", right)

    def unreached(self, error: Exception, doing: str, key: str) -> VaultError:
        """What failed on this side: no login, no network, no answer."""
        why, todo = _WORDS.unreached(error)
        return VaultError(self._cannot(doing, key), why=redact(why), todo=todo)

    def _resource(self, doing: str, key: str) -> str:
        bucket = f"bucket {self._address.bucket}"
        return bucket if doing == "list" else f"object {self._address.key(key)} in {bucket}"
