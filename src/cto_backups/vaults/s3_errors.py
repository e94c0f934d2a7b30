"""What a store that speaks S3 refuses, and the ways to it that fail, told to people.

AWS's names for what went wrong are in https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; stores that
speak the same protocol use the same names, and a few of their own.
"""

import shlex
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as client_side

from cto_backups.config.redaction import redact
from cto_backups.errors import VaultError, VaultFullError, VaultReadOnlyError
from cto_backups.vaults.wording import Wording, shown

# What a call needs a right to, where it is not called as the right is. What only looks at a bucket lists it.
_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
}
_OF_BUCKETS = (
    "ListBucket",
    "ListBucketVersions",
    "ListBucketMultipartUploads",
    "GetBucketObjectLockConfiguration",
)
_WRITES = ("PutObject", "DeleteObject", "AbortMultipartUpload")

_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess", "403", "Forbidden"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired"}
_WRONG_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp"}
_WRONG_REGION = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
    "307",
}
_BUSY = {
    "SlowDown",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "InsufficientStorage", "EntityTooLarge", "507"}
_GARBLED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_UNLOCKED = {"ObjectLockConfigurationNotFoundError", "InvalidBucketState"}
_ARCHIVED = {"InvalidObjectState"}


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
        code = str(told.get("Code", ""))
        answer: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
        said = redact(str(told.get("Message") or code or "the store gave no reason"))
        what = self._cannot(doing, key)
        status = answer.get("HTTPStatusCode")
        if code == "NoSuchBucket":
            return self.no_bucket()
        if code in _DENIED:
            operation = "DeleteObjectVersion" if doing == "undelete" else error.operation_name
            return self._denied(operation, what, key, said)
        if code in _WRONG_REGION:
            headers: Mapping[str, str] = answer.get("HTTPHeaders", {})
            return self.elsewhere(headers.get("x-amz-bucket-region") or told.get("Region"), what)
        if code == "RequestTimeTooSkewed":
            return VaultError(what, why=_skew(answer), todo="Set the clock of this machine, then run again.")
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
        why, todo = _words(code, said, status)
        return VaultError(what, why=why, todo=todo)

    def unreached(self, error: client_side.BotoCoreError, doing: str, key: str) -> VaultError:
        """What failed on this side: no login, no network, no answer."""
        what = self._cannot(doing, key)
        said = redact(str(error))
        if isinstance(error, client_side.NoCredentialsError | client_side.PartialCredentialsError):
            return VaultError(
                what,
                why="no login to the store was found, or half of one: not in the policy, nor where AWS's programs look",
                todo="Name access_key and secret_key at the vault, by references; or run 'aws configure', or give this "
                "machine a role.",
            )
        if isinstance(error, _LOGINS):
            return VaultError(what, why=f"the login could not be had: {said}", todo="Log in anew, then run again.")
        if isinstance(error, client_side.SSLError):
            return VaultError(
                what,
                why=f"the connection could not be secured: {said}",
                todo="See that the server's certificate is valid; an authority of your own is named in SSL_CERT_FILE.",
            )
        if isinstance(error, client_side.ConnectionError | client_side.HTTPClientError):
            return VaultError(
                what,
                why=f"the store cannot be reached, or does not answer: {said}",
                todo="See to the network, its names and proxies; or correct the vault's endpoint or region.",
            )
        return VaultError(what, why=said, todo="Correct what it names, in the policy or in the settings of AWS.")

    def _denied(self, operation: str, what: str, key: str, said: str) -> VaultError:
        action = _ACTIONS.get(operation, operation)
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


_LOGINS = (
    client_side.CredentialRetrievalError,
    client_side.TokenRetrievalError,
    client_side.SSOError,
    client_side.MetadataRetrievalError,
)


def _words(code: str, said: str, status: object) -> tuple[str, str]:
    """Why, and what to do, for what is told by AWS's name alone."""
    if code in _EXPIRED:
        return f"the login has expired ({code}): {said}", "Log in anew, or give this machine a role, then run again."
    if code in _WRONG_KEY:
        return (
            f"the store does not take this key ({code})",
            "See that access_key and secret_key belong together and to this store, and are still valid.",
        )
    if code in _BUSY or status == 503:
        return (
            f"the store is busy and asks for fewer requests ({code or status}); it was tried again and again",
            "Run again later; what was stored before is intact.",
        )
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
    if code in _ARCHIVED:
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


def _skew(answer: Mapping[str, Any]) -> str:
    headers: Mapping[str, str] = answer.get("HTTPHeaders", {})
    why = "the clock of this machine and that of the store differ by more than the store allows"
    try:
        there = parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError):
        return why
    return f"{why}; there it was {shown(there)}"
