"""The client of a bucket of Google Cloud Storage, and what it is told by: for the source.

Its API is https://cloud.google.com/storage/docs/json_api.
"""

from typing import Final

from google.auth.exceptions import GoogleAuthError

from cto_backups.core.vaults import StoreAddress
from cto_backups.core.wording import LISTING_GOES_ON, NO_SUCH_STORE
from cto_backups.errors import KeyProblemError, SourceError
from cto_backups.providers.google import STORAGE, GoogleClient, RefusedError
from cto_backups.providers.google_words import GoogleWords
from cto_backups.sources.bucket.stores import UnreadableError
from cto_backups.sources.names import readable

_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.full_control"
_WORDS: Final = GoogleWords("source", "the store", "storage.googleapis.com", "devstorage.full_control")
_KEPT: Final = ("retentionPolicyNotMet", "objectUnderActiveHold")
_GUIDE: Final = "docs/how-to/protect-a-bucket.md has the whole role"


def connected(source: str, address: StoreAddress, say: "GcsWording") -> GoogleClient:
    """Logged in; paths are asked for at the source's store, once that has proved the TLS that the policy asks for.

    Raises SourceError.
    """
    try:
        return GoogleClient(
            f"source {source}",
            SourceError,
            [_SCOPE],
            address.logins.get("credentials"),
            base=address.endpoint or STORAGE,
            tls=address.tls,
        )
    except (KeyProblemError, GoogleAuthError, ValueError) as error:
        raise say.unreached(error) from error


class GcsWording:
    """Words for what fails at one bucket."""

    def __init__(self, source: str, address: StoreAddress) -> None:
        self._source = source
        self._address = address

    def of_listing(self, error: RefusedError) -> SourceError:
        """What keeps the whole bucket from being read."""
        bucket = self._address.bucket
        if error.status == 404:
            return self._cannot(
                f"there is no bucket {bucket}",
                "Correct `url` or `endpoint` of this source in the policy, or see who deleted the bucket.",
            )
        told = _WORDS.refused(error)
        if told is None and error.status == 403:
            told = (
                f"{error.message}: this login has not storage.objects.list on bucket {bucket}",
                f"Give it storage.objects.list there; {_GUIDE}.",
            )
        return self._cannot(*(told or (str(error), "See what the bucket's audit log says of this, then run again.")))

    def of_object(self, error: RefusedError, right: str) -> SourceError | UnreadableError:
        """What keeps one object from being read or written; or all of them."""
        if error.reason in _KEPT:
            return UnreadableError("permission", f"the bucket keeps what it stores ({error.reason})")
        told = _WORDS.refused(error)
        if told is not None:
            return self._cannot(*told)
        if error.status == 403:
            return UnreadableError("permission", f"this login has not {right} on it; {_GUIDE}")
        return UnreadableError("unreadable", str(error))

    def unreached(self, error: Exception) -> SourceError:
        """What failed on this side: no login, no network, no answer."""
        return self._cannot(*_WORDS.unreached(error))

    def endless(self) -> SourceError:
        """A listing goes on, and not beyond what came of it."""
        return self._cannot(LISTING_GOES_ON, NO_SUCH_STORE)

    def _cannot(self, why: str, todo: str) -> SourceError:
        place = "/".join(filter(None, ("gs:/", self._address.bucket, readable(self._address.prefix.encode()))))
        return SourceError(f"source {self._source}: {place} cannot be used", why=why, todo=todo)
