"""What a store that speaks S3 refuses whoever asks, and the ways to it that fail, told to people: why, and what to do.

AWS's names for what went wrong are in https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; stores that
speak the same protocol use the same names, and a few of their own. Who asks adds what is its own: what the right is
needed on, and where the guide to its role is.
"""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore import exceptions as client_side

from cto_backups.errors import KeyProblemError

DENIED: Final = frozenset(
    {"AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess", "403", "Forbidden"}
)
WRONG_REGION: Final = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "301",
        "307",
    }
)
ARCHIVED: Final = frozenset({"InvalidObjectState"})

_EXPIRED: Final = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired"}
_WRONG_KEY: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp"}
_BUSY: Final = {
    "503",
    "SlowDown",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
}
_DOWN: Final = {"500", "InternalError", "RequestTimeout"}
_LOGINS: Final = (
    client_side.CredentialRetrievalError,
    client_side.TokenRetrievalError,
    client_side.SSOError,
    client_side.MetadataRetrievalError,
)
# What a call needs a right to, where it is not called as the right is. What only looks at a bucket lists it.
_ACTIONS: Final = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
}


def action(operation: str) -> str:
    """What a login needs the right to for an operation, without the "s3:" before it."""
    return _ACTIONS.get(operation, operation)


def code_of(error: client_side.ClientError) -> str:
    """The store's word for what is wrong."""
    return str(error.response.get("Error", {}).get("Code", ""))


def said_in(error: client_side.ClientError) -> str:
    """What the store says of it, in one line."""
    told = error.response.get("Error", {})
    return " ".join(str(told.get("Message") or told.get("Code") or "the store gave no reason").split())[:300]


def refused(error: client_side.ClientError) -> tuple[str, str] | None:
    """What means the same whoever asks; None for what does not, such as a right that is missing."""
    code, said = code_of(error), said_in(error)
    answer: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    if code == "RequestTimeTooSkewed":
        return _skew(answer), "Set the clock of this machine, then run again."
    if code in _EXPIRED:
        return f"the login has expired ({code}): {said}", "Log in anew, or give this machine a role, then run again."
    if code in _WRONG_KEY:
        return (
            f"the store does not take this key ({code})",
            "See that access_key and secret_key belong together and to this store, and are still valid.",
        )
    if code in _BUSY or answer.get("HTTPStatusCode") == 503:
        return (
            f"the store is busy and asks for fewer requests ({code or 503}); it was tried again and again",
            "Run again later.",
        )
    if code in _DOWN:
        return f"the store fails ({code}); it was tried again and again: {said}", "Run again later."
    return None


def unreached(error: Exception, whose: str) -> tuple[str, str]:
    """What failed on this side: no login, no network, no answer.

    `whose` is what the policy calls the one that asks, "vault" or "source".
    """
    if isinstance(error, KeyProblemError):
        return str(error), error.todo
    said = str(error)
    if isinstance(error, client_side.NoCredentialsError | client_side.PartialCredentialsError):
        return (
            "no login to the store was found, or half of one: not in the policy, nor where AWS's programs look",
            f"Name access_key and secret_key at the {whose}, by references; or run 'aws configure', or give this "
            "machine a role.",
        )
    if isinstance(error, _LOGINS):
        return f"the login could not be had: {said}", "Log in anew, then run again."
    if isinstance(error, client_side.SSLError):
        return (
            f"the connection could not be secured: {said}",
            "See that the server's certificate is valid; an authority of your own is named in SSL_CERT_FILE.",
        )
    if isinstance(error, client_side.ConnectionError | client_side.HTTPClientError):
        return (
            f"the store cannot be reached, or does not answer: {said}",
            f"See to the network, its names and proxies; or correct the {whose}'s endpoint or region.",
        )
    return said, "Correct what it names, in the policy or in the settings of AWS."


def _skew(answer: Mapping[str, Any]) -> str:
    headers: Mapping[str, str] = answer.get("HTTPHeaders", {})
    why = "the clock of this machine and that of the store differ by more than the store allows"
    try:
        there = parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError):
        return why
    return f"{why}; there it was {there:%Y-%m-%d %H:%M:%S} UTC"
