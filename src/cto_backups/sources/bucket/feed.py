"""What a queue tells of a bucket's changes: its store writes an event to it for each object that is made or deleted.

It is a hint alone: events come late, twice, out of order, and now and then not. What the bucket holds is what its
listing says. `sqs` and `pubsub` are the queues of S3 and of Google.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cto_backups import clock
from cto_backups.core.watched import Hint

_REST_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Message:
    """One event: whether it may be of an object of the source, and by what it is deleted."""

    concerns: bool
    receipt: str


class LostError(Exception):
    """The queue tells nothing more, and why."""


class Queue(Protocol):
    """Where events wait. Raises LostError."""

    def take(self) -> Sequence[Message]:
        """Some that are there; when there is none, the queue may wait for the next for as long as it likes to."""

    def delete(self, messages: Sequence[Message]) -> None:
        """Have them told no more."""

    def close(self) -> None:
        """Close the connections."""


class QueueFeed:
    """Implements `core.watched.Feed` by a thread that asks a queue; `bucket` names the thread.

    A message is deleted once it is noted here: if this process then ends, nothing is lost, since who begins to listen
    takes the source for changed. So a queue is for one source of one installation alone.
    """

    def __init__(self, queue: Queue, bucket: str) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._hint = Hint()
        self._ended = threading.Event()
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
        except LostError as error:
            self._note(lost=str(error))
        except Exception as error:  # noqa: BLE001 - a thread that ends without a word would be taken for a quiet bucket
            self._note(lost=f"what the queue told was not understood ({type(error).__name__})")
        finally:
            self._queue.close()

    def _take(self) -> None:
        """Wait for messages, note what they tell, and only then delete them."""
        began = clock.monotonic()
        messages = self._queue.take()
        if self._ended.is_set():
            return
        if not messages:  # one that does not wait is not asked without end
            self._ended.wait(max(0.0, _REST_SECONDS - (clock.monotonic() - began)))
            return
        if any(message.concerns for message in messages):
            self._note(changed=True)
        self._queue.delete(messages)

    def _note(self, *, changed: bool = False, lost: str = "") -> None:
        with self._lock:
            self._hint = Hint(self._hint.changed or changed, lost or self._hint.lost)
