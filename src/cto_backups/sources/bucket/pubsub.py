"""The queue that Google Cloud Storage writes events to: a subscription of Pub/Sub.

https://cloud.google.com/storage/docs/pubsub-notifications and https://cloud.google.com/pubsub/docs/reference/rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from google.auth.exceptions import GoogleAuthError

from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import KeyProblemError, SourceError
from cto_backups.providers.google import FAILED, GoogleClient, RefusedError
from cto_backups.providers.google_words import GoogleWords
from cto_backups.sources.bucket.feed import LostError, Message

_SCOPE: Final = "https://www.googleapis.com/auth/pubsub"
_WORDS: Final = GoogleWords("source", "the queue", "pubsub.googleapis.com", "pubsub")
_AT_ONCE: Final = 100


class PubsubQueue:
    """Implements `feed.Queue` for the subscription at `url`, which tells of the place of `address`.

    The URL ends in /v1/projects/PROJECT/subscriptions/NAME. Raises SourceError.
    """

    def __init__(self, source: str, url: str, address: StoreAddress) -> None:
        self._bucket, self._prefix = address.bucket, address.key("")
        place = urlsplit(url)
        self._path = place.path
        self._name = place.path.removeprefix("/v1/")
        try:
            self._client = GoogleClient(
                f"source {source}",
                SourceError,
                [_SCOPE],
                address.logins.get("credentials"),
                base=f"{place.scheme}://{place.netloc}",
                tls=address.tls,
            )
        except (KeyProblemError, GoogleAuthError, ValueError) as error:
            why, todo = _WORDS.unreached(error)
            raise SourceError(f"source {source}: its queue cannot be listened to", why=why, todo=todo) from error

    def take(self) -> Sequence[Message]:
        """Up to a hundred; none as well when the queue waits for one longer than an answer is waited for."""
        with self._told():
            try:
                answer = self._client.told("POST", f"{self._path}:pull", sent={"maxMessages": _AT_ONCE}, waits=True)
            except requests.exceptions.ReadTimeout:
                return ()
        return [
            Message(concerns(each["message"].get("attributes", {}), self._bucket, self._prefix), each["ackId"])
            for each in answer.get("receivedMessages", ())
        ]

    def delete(self, messages: Sequence[Message]) -> None:
        """Acknowledge them: the same twice does no harm."""
        sent = {"ackIds": [each.receipt for each in messages]}
        with self._told():
            self._client.told("POST", f"{self._path}:acknowledge", sent=sent)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except RefusedError as error:
            raise LostError(self._refused(error)) from error
        except SourceError as error:  # it has not proved the TLS that policy asks for
            raise LostError(error.why or str(error)) from error
        except FAILED as error:
            raise LostError(_WORDS.unreached(error)[0]) from error

    def _refused(self, error: RefusedError) -> str:
        if error.status == 404:
            return f"there is no subscription {self._name}"
        told = _WORDS.refused(error)
        if told is None and error.status == 403:
            return f"this login has not pubsub.subscriptions.consume on {self._name}"
        return told[0] if told else f"the queue says {error}"


def concerns(attributes: Mapping[str, Any], bucket: str, prefix: str) -> bool:
    """Whether a message with these attributes may be of an object below this place; what is not understood may be."""
    name, key = attributes.get("bucketId"), attributes.get("objectId")
    if not isinstance(name, str) or not isinstance(key, str):
        return True
    return name == bucket and key.startswith(prefix)
