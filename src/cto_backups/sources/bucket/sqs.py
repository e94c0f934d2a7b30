"""The queue that S3 writes events to: SQS.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit

from botocore import exceptions as client_side

from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import KeyProblemError, SourceError
from cto_backups.providers import aws
from cto_backups.providers.aws_words import DENIED, code_of, said_in, unreached
from cto_backups.sources.bucket.feed import LostError, Message

_WAIT_SECONDS: Final = 20  # as long as the queue lets a request wait for a message
_AT_ONCE: Final = 10
_NO_QUEUE: Final = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")


class SqsQueue:
    """Implements `feed.Queue` for the queue at `url`, which tells of the place of `address`. Raises SourceError."""

    def __init__(self, source: str, url: str, address: StoreAddress) -> None:
        self._url = url
        self._bucket, self._prefix = address.bucket, address.key("")
        place = urlsplit(url)
        try:
            self._client = aws.sqs_client(f"source {source}", SourceError, address, f"{place.scheme}://{place.netloc}")
        except (KeyProblemError, client_side.BotoCoreError) as error:
            why, todo = unreached(error, "source")
            raise SourceError(f"source {source}: its queue cannot be listened to", why=why, todo=todo) from error

    def take(self) -> Sequence[Message]:
        """Up to ten; waits for one for some seconds."""
        with self._told():
            answer = self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=_AT_ONCE, WaitTimeSeconds=_WAIT_SECONDS
            )
        return [
            Message(concerns(str(each.get("Body", "")), self._bucket, self._prefix), each["ReceiptHandle"])
            for each in answer.get("Messages", ())
        ]

    def delete(self, messages: Sequence[Message]) -> None:
        """Take them off the queue."""
        entries = [{"Id": str(number), "ReceiptHandle": each.receipt} for number, each in enumerate(messages)]
        with self._told():
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except client_side.ClientError as error:
            raise LostError(self._refused(error)) from error
        except client_side.BotoCoreError as error:
            raise LostError(unreached(error, "source")[0]) from error

    def _refused(self, error: client_side.ClientError) -> str:
        code = code_of(error)
        if code in _NO_QUEUE:
            return f"there is no queue {self._url}"
        if code in DENIED:
            return f"this login may not sqs:ReceiveMessage and sqs:DeleteMessage on {self._url}"
        return f"the queue says {said_in(error)} ({code})"


def concerns(body: str, bucket: str, prefix: str) -> bool:
    """Whether a message may be of an object below this place; what is not understood may be.

    S3 writes to the queue itself, through a topic of SNS, or through EventBridge.
    """
    try:
        told = json.loads(body)
        if isinstance(told, dict) and isinstance(inner := told.get("Message"), str):
            told = json.loads(inner)
        if told.get("Event") == "s3:TestEvent":
            return False
        places = list(_places(told))
    except (ValueError, LookupError, TypeError, AttributeError):
        return True
    return not places or any(name == bucket and key.startswith(prefix) for name, key in places)


def _places(told: Any) -> Iterator[tuple[str, str]]:
    """The bucket and the name of each object that a message tells of."""
    if "detail" in told:
        yield told["detail"]["bucket"]["name"], told["detail"]["object"]["key"]
    for record in told.get("Records", ()):
        yield record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
