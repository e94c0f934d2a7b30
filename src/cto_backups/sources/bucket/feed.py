"""What a queue tells of a bucket's changes: S3 writes an event to it for each object that is made or deleted.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html. It is a hint alone: events
come late, twice, out of order, and now and then not. What the bucket holds is what its listing says.
"""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote_plus

from botocore import exceptions as client_side

from cto_backups.core.watched import Hint
from cto_backups.providers.aws_words import DENIED, code_of, said_in, unreached

_WAIT_SECONDS: Final = 20  # as long as the queue lets a request wait for a message
_AT_ONCE: Final = 10
_NO_QUEUE: Final = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")


class QueueFeed:
    """Implements `core.watched.Feed` by a thread that asks the queue at `url` for what concerns a place in a bucket.

    A message is deleted once it is noted here: if this process then ends, nothing is lost, since who begins to listen
    takes the source for changed. So a queue is for one source of one installation alone.
    """

    def __init__(self, connect: Callable[[], Any], url: str, bucket: str, prefix: str) -> None:
        self._connect = connect
        self._url = url
        self._bucket = bucket
        self._prefix = prefix
        self._lock = threading.Lock()
        self._hint = Hint()
        self._ended = threading.Event()
        self._client = connect()
        self._thread = threading.Thread(target=self._listen, name=f"feed {bucket}", daemon=True)
        self._thread.start()

    def look(self) -> Hint:
        """What was told since the last call; returns at once."""
        with self._lock:
            told, self._hint = self._hint, Hint(lost=self._hint.lost)
            return told

    def close(self) -> None:
        """End listening; a request that waits is not waited for."""
        self._ended.set()

    def _listen(self) -> None:
        try:
            while not self._ended.is_set():
                self._take()
        except client_side.ClientError as error:
            self._note(lost=self._refused(error))
        except client_side.BotoCoreError as error:
            self._note(lost=unreached(error, "source")[0])
        except Exception as error:  # noqa: BLE001 - a thread that ends without a word would be taken for a quiet bucket
            self._note(lost=f"what the queue told was not understood ({type(error).__name__})")
        finally:
            self._client.close()

    def _take(self) -> None:
        """Wait for messages, note what they tell, and only then delete them."""
        answer = self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=_AT_ONCE, WaitTimeSeconds=_WAIT_SECONDS
        )
        messages = answer.get("Messages", ())
        if self._ended.is_set() or not messages:
            return
        if any(concerns(str(message.get("Body", "")), self._bucket, self._prefix) for message in messages):
            self._note(changed=True)
        entries = [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(messages)]
        self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _note(self, *, changed: bool = False, lost: str = "") -> None:
        with self._lock:
            self._hint = Hint(self._hint.changed or changed, lost or self._hint.lost)

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
