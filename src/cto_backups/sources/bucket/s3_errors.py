"""What a store that speaks S3 refuses, told to people; its codes are in
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from typing import Final

from botocore import exceptions as client_side

from cto_backups.core.vaults import StoreAddress
from cto_backups.core.wording import LISTING_GOES_ON, NO_SUCH_STORE
from cto_backups.errors import SourceError
from cto_backups.providers import aws_words
from cto_backups.providers.aws_words import ARCHIVED, DENIED, WRONG_REGION, action, code_of, said_in
from cto_backups.sources.bucket.stores import UnreadableError
from cto_backups.sources.names import readable

_GUIDE: Final = "docs/how-to/protect-a-bucket.md has the whole role"


class S3Wording:
    """Words for what fails at one bucket."""

    def __init__(self, source: str, address: StoreAddress) -> None:
        self._source = source
        self._address = address

    def refused(self, error: client_side.ClientError, operation: str, name: bytes) -> SourceError:
        """What keeps the whole bucket from being read."""
        code, said = code_of(error), said_in(error)
        bucket = self._address.bucket
        if code == "NoSuchBucket":
            return self._cannot(
                f"there is no bucket {bucket}",
                "Correct `url` or `endpoint` of this source in the policy, or see who deleted the bucket.",
            )
        if code in DENIED:
            right = f"s3:{action(operation)}"
            arn = f"arn:aws:s3:::{bucket}" + (f"/{self._address.key(readable(name))}" if name else "")
            return self._cannot(f"{said}: this login may not {right} on {arn}", f"Allow {right} there; {_GUIDE}.")
        if code in WRONG_REGION:
            return self._cannot(f"the bucket is in another region: {said}", "Correct `region` of this source.")
        told = aws_words.refused(error) or (f"{said} ({code})", "See what the store's own records say of this request.")
        return self._cannot(*told)

    def of_object(self, error: client_side.ClientError, name: bytes) -> SourceError | UnreadableError:
        """What keeps one object from being read or written; or all of them."""
        code, operation = code_of(error), error.operation_name
        if code in DENIED:
            right = f"s3:{action(operation)}"
            return UnreadableError("permission", f"this login may not {right} on it ({code}); {_GUIDE}")
        if code in ARCHIVED:
            return UnreadableError("unreadable", f"it lies in an archive, and has to be restored there first ({code})")
        if code == "NoSuchBucket" or code in WRONG_REGION or aws_words.refused(error) is not None:
            return self.refused(error, operation, name)
        return UnreadableError("unreadable", f"{said_in(error)} ({code})")

    def unreached(self, error: Exception) -> SourceError:
        """What failed on this side: no login, no network, no answer."""
        return self._cannot(*aws_words.unreached(error, "source"))

    def endless(self) -> SourceError:
        """A listing goes on, and not beyond what came of it."""
        return self._cannot(LISTING_GOES_ON, NO_SUCH_STORE)

    def _cannot(self, why: str, todo: str) -> SourceError:
        place = "/".join(filter(None, ("s3:/", self._address.bucket, self._address.prefix)))
        return SourceError(f"source {self._source}: {place} cannot be used", why=why, todo=todo)
