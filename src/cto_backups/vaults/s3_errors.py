"""What a store that speaks S3 refuses, and the ways to it that fail, told to people.

AWS's names for what went wrong are in https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; stores that
speak the same protocol use the same names, and a few of their own.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from botocore import exceptions as client_side

from cto_backups.config.redaction import redact
from cto_backups.core.objects import ObjectState
from cto_backups.errors import NotCopiedError, VaultError, VaultFullError, VaultReadOnlyError
from cto_backups.providers import aws_words
from cto_backups.vaults.wording import Wording

_OF_BUCKETS = (
    "ListBucket",
    "ListBucketVersions",
    "ListBucketMultipartUploads",
    "GetBucketObjectLockConfiguration",
)
_WRITES = ("PutObject", "DeleteObject", "AbortMultipartUpload")

_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "InsufficientStorage", "EntityTooLarge", "507"}
_GARBLED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_UNLOCKED = {"ObjectLockConfigurationNotFoundError", "InvalidBucketState"}


class S3Wording(Wording):
    """Words for what fails in one vault on S3; no secret in any of them."""

    def making_the_bucket(self) -> str:
        """The command that makes the bucket, versioned by nobody and seen by nobody else."""
        words = ["aws", *(["--endpoint-url", self._address.endpoint] if self._address.endpoint else [])]
        words += ["s3api", "create-bucket", "--bucket", self._address.bucket, "--region", self._address.region]
        if self._address.region != "us-east-1":  # which AWS does not take as a constraint
            words += ["--create-bucket-configuration", f"LocationConstraint={self._address.region}"]
        return shlex.join(words)

    def elsewhere(self, right: str | None, what: str = "") -> VaultError:
        """The bucket is in another region than the policy says: `right`, where that was told."""
        return VaultError(
            what or f"Vault {self._name} at {self._location} is in another region than the policy says",
            why=f"the bucket is not in region {self._address.region}" + (f", but in {right}" if right else ""),
            todo=f"Write 'region: {right or 'REGION'}' at vault {self._name} in the policy.",
        )

    def refused(self, error: client_side.ClientError, doing: str, key: str) -> VaultError:
        """What the store said no to. `doing` and `key` say what was wanted, as in "store" and "data/ab"."""
        told: Mapping[str, Any] = error.response.get("Error", {})
        code = aws_words.code_of(error)
        answer: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
        said = redact(aws_words.said_in(error))
        what = self._cannot(doing, key)
        status = answer.get("HTTPStatusCode")
        if code == "NoSuchBucket":
            return self.no_bucket()
        if code in aws_words.DENIED:
            operation = "DeleteObjectVersion" if doing == "undelete" else error.operation_name
            return self._denied(operation, what, key, said)
        if code in aws_words.WRONG_REGION:
            headers: Mapping[str, str] = answer.get("HTTPHeaders", {})
            return self.elsewhere(headers.get("x-amz-bucket-region") or told.get("Region"), what)
        if code in _FULL:
            return VaultFullError(
                f"Vault {self._name} at {self._location} is full",
                why=f"{said} ({code}) while storing {key}",
                todo="Have more space or a higher quota given there, then run again; what was stored before is intact.",
            )
        if code in _UNLOCKED or (code == "InvalidRequest" and "lock" in said.lower()):
            bucket = self._address.bucket
            return VaultError(
                what,
                why=f"bucket {bucket} has no Object Lock, and the policy has vault {self._name} lock what it stores",
                todo="Turn it on (it needs versions, and cannot be turned off again): aws s3api "
                f"put-object-lock-configuration --bucket {bucket} "
                "--object-lock-configuration ObjectLockEnabled=Enabled. Or take 'lock' out of the policy.",
            )
        why, todo = aws_words.refused(error) or _words(code, said, status)
        return VaultError(what, why=redact(why), todo=self.calmed(todo))

    def not_copied_by(self, error: Exception, state: ObjectState) -> NotCopiedError:
        """The store, or the way to it, did not have it copied. It writes here as ever: what lacks is a right there."""
        if not isinstance(error, client_side.ClientError):
            return self.not_copied(state, str(error))
        code = aws_words.code_of(error)
        said = f"{aws_words.said_in(error)} ({code})"
        if code not in aws_words.DENIED:
            return self.not_copied(state, said)
        version = " and s3:GetObjectVersion" if state.generation not in ("", "null") else ""
        return self.not_copied(state, said, f"s3:GetObject{version} on arn:aws:s3:::{state.bucket}/*")

    def unreached(self, error: client_side.BotoCoreError, doing: str, key: str) -> VaultError:
        """What failed on this side: no login, no network, no answer."""
        why, todo = aws_words.unreached(error, "vault")
        return VaultError(self._cannot(doing, key), why=redact(why), todo=todo)

    def _denied(self, operation: str, what: str, key: str, said: str) -> VaultError:
        action = aws_words.action(operation)
        resource = f"arn:aws:s3:::{self._address.bucket}"
        if action not in _OF_BUCKETS:
            resource += f"/{self._address.key(key)}"
        why = f"{said}: this login may not s3:{action} on {resource}"
        if action == "PutObject" and self._address.locking is not None:
            action = "PutObject and s3:PutObjectRetention"
        todo = f"Allow s3:{action} there; docs/how-to/add-a-vault.md has the whole role."
        if action in _WRITES:
            todo += " If the bucket locks what it stores, wait until the lock ends."
            return VaultReadOnlyError(what, why=why, todo=todo)
        if action == "GetObject":
            todo += (
                f" Without s3:ListBucket on arn:aws:s3:::{self._address.bucket}, what is not there looks forbidden too."
            )
        return VaultError(what, why=why, todo=todo)


def _words(code: str, said: str, status: object) -> tuple[str, str]:
    """Why, and what to do, for what means something of its own at a vault."""
    if code in _GARBLED:
        return (
            f"what arrived there was not what was sent ({code}): {said}",
            "Run again; if it stays, see to the network.",
        )
    if code == "NoSuchUpload":
        return (
            f"the parts of it that had come were removed there: {said}",
            "Run again; and see that no rule ends incomplete uploads of this vault in less than a day.",
        )
    if code in aws_words.ARCHIVED:
        return (
            f"it lies in an archive, from which nothing can be read at once: {said}",
            "Restore the object there first; and keep lifecycle rules from moving what a vault stores to archives.",
        )
    if code in ("NotImplemented", "501"):
        return (
            f"the store does not know what is asked ({said})",
            "A vault needs conditional writes (If-None-Match), ranges and listings: take a store that has them.",
        )
    return f"{said} ({code or status})", "See what the store's own records say of this request, then run again."
