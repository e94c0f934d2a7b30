"""What a store that speaks S3 refuses, told to people; its codes are in
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from typing import Final

from botocore import exceptions as client_side

from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import SourceError
from cto_backups.sources.bucket.stores import UnreadableError
from cto_backups.sources.names import readable

_DENIED: Final = ("AccessDenied", "AllAccessDisabled", "403", "Forbidden")
_LOGIN: Final = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired")
_BUSY: Final = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "503", "500")
_ARCHIVED: Final = ("InvalidObjectState",)
_ELSEWHERE: Final = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
_RIGHTS: Final = {
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
}
_GUIDE: Final = "docs/how-to/protect-a-bucket.md has the whole role"


def code_of(error: client_side.ClientError) -> str:
    """The store's word for what is wrong."""
    return str(error.response.get("Error", {}).get("Code", ""))


class S3Wording:
    """Words for what fails at one bucket."""

    def __init__(self, source: str, address: StoreAddress) -> None:
        self._source = source
        self._address = address

    def refused(self, error: client_side.ClientError, operation: str, name: bytes) -> SourceError:
        """What keeps the whole bucket from being read."""
        code, said = code_of(error), _said(error)
        bucket = self._address.bucket
        if code == "NoSuchBucket":
            return self._cannot(
                f"there is no bucket {bucket}",
                "Correct `url` or `endpoint` of this source in the policy, or see who deleted the bucket.",
            )
        if code in _DENIED:
            right = _RIGHTS.get(operation, operation)
            arn = f"arn:aws:s3:::{bucket}" + (f"/{self._address.key(readable(name))}" if name else "")
            return self._cannot(f"{said}: this login may not {right} on {arn}", f"Allow {right} there; {_GUIDE}.")
        if code in _LOGIN:
            return self._cannot(
                f"the store does not take this login ({code}): {said}",
                "See that access_key and secret_key belong together and to this store, and are still valid.",
            )
        if code in _ELSEWHERE:
            return self._cannot(f"the bucket is in another region: {said}", "Correct `region` of this source.")
        if code in _BUSY:
            return self._cannot(
                f"the store is busy and asks for fewer requests ({code}); it was tried again and again",
                "Run again later.",
            )
        return self._cannot(f"{said} ({code})", "See what the store's own records say of this request.")

    def of_object(self, error: client_side.ClientError, name: bytes) -> SourceError | UnreadableError:
        """What keeps one object from being read or written; or all of them."""
        code, operation = code_of(error), error.operation_name
        if code in _DENIED:
            right = _RIGHTS.get(operation, operation)
            return UnreadableError("permission", f"this login may not {right} on it ({code}); {_GUIDE}")
        if code in _ARCHIVED:
            return UnreadableError("unreadable", f"it lies in an archive, and has to be restored there first ({code})")
        if code == "NoSuchBucket" or code in _LOGIN or code in _BUSY or code in _ELSEWHERE:
            return self.refused(error, operation, name)
        return UnreadableError("unreadable", f"{_said(error)} ({code})")

    def unreached(self, error: client_side.BotoCoreError) -> SourceError:
        """What failed on this side: no login, no network, no answer."""
        if isinstance(error, client_side.NoCredentialsError | client_side.PartialCredentialsError):
            return self._cannot(
                "no login to the store was found, or half of one: not in the policy, nor where AWS's programs look",
                "Name access_key and secret_key at the source, by references; or run 'aws configure', or give this "
                "machine a role.",
            )
        if isinstance(error, client_side.SSLError):
            return self._cannot(
                f"the connection could not be secured: {error}",
                "See that the server's certificate is valid; an authority of your own is named in SSL_CERT_FILE.",
            )
        if isinstance(error, client_side.HTTPClientError | client_side.ConnectionError):
            return self._cannot(
                f"the store cannot be reached, or does not answer: {error}",
                "See to the network, its names and proxies; or correct the source's endpoint or region.",
            )
        return self._cannot(str(error), "Correct what it names, in the policy or in the settings of AWS.")

    def _cannot(self, why: str, todo: str) -> SourceError:
        place = "/".join(filter(None, ("s3:/", self._address.bucket, self._address.prefix)))
        return SourceError(f"source {self._source}: {place} cannot be used", why=why, todo=todo)


def _said(error: client_side.ClientError) -> str:
    told = error.response.get("Error", {})
    return " ".join(str(told.get("Message") or told.get("Code") or "the store gave no reason").split())[:300]
