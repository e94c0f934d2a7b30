"""A queue that a store tells of changes is listened to: what concerns the source is a hint; what goes wrong is told."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from cto_backups.core.policy import Tls
from cto_backups.core.vaults import StoreAddress
from cto_backups.core.watched import Feed, Hint
from cto_backups.providers import google, google_sending
from cto_backups.sources.bucket import pubsub as pubsub_queues
from cto_backups.sources.bucket.feed import QueueFeed
from cto_backups.sources.bucket.pubsub import PubsubQueue
from cto_backups.sources.bucket.source import BucketSource
from cto_backups.sources.bucket.sqs import concerns
from servers.google_stores import GoogleStore
from servers.object_stores import REGION, ObjectStore
from servers.pubsub_queue import Pubsub
from servers.rough_way import Fault, RoughWay, rough_way

PATIENCE_SECONDS = 60


@dataclass
class Told:
    """A store, and how a new queue comes about that it tells of a bucket.

    `emptied`: whether so many messages about a bucket have come and are gone.
    """

    scheme: str
    store: ObjectStore | GoogleStore
    queue: Callable[[str], str]
    emptied: Callable[[str, int], bool]
    nowhere: tuple[str, str]
    """The URL of a queue that is not there, and what is said of it."""

    def source(self, place: str, feed: str, state: Path) -> BucketSource:
        """A source that is told."""
        where = {"url": f"{self.scheme}://{place}", "endpoint": self.store.endpoint, "tls": "none"}
        if isinstance(self.store, ObjectStore):
            logins = {"access_key": lambda: self.store.access_key, "secret_key": lambda: self.store.secret_key}
            return BucketSource("media", {**where, "region": REGION, "logins": logins, "feed": feed}, state=state)
        logins = {"credentials": lambda: self.store.logins.key_file}
        return BucketSource("media", {**where, "logins": logins, "feed": feed}, state=state)


@pytest.fixture
def sqs(moto: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """The store's queues, as their owner has them."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    login = {"aws_access_key_id": moto.access_key, "aws_secret_access_key": moto.secret_key}
    client = boto3.client("sqs", endpoint_url=moto.endpoint, region_name=REGION, **login)

    def queue(bucket: str) -> str:
        url = str(client.create_queue(QueueName=f"of-{bucket}")["QueueUrl"])
        arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": events}]}
        moto.client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
        return f"{moto.endpoint}{urlsplit(url).path}"

    def emptied(bucket: str, _: int) -> bool:  # the store writes before it answers
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = client.get_queue_url(QueueName=f"of-{bucket}")["QueueUrl"]
        told = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(map(int, told.values())) == 0

    nowhere = f"{moto.endpoint}/123456789012/nowhere"
    yield Told("s3", moto, queue, emptied, (nowhere, f"there is no queue {nowhere}"))
    client.close()


@pytest.fixture
def subscriptions(pubsub: Pubsub) -> Told:
    """Subscriptions to all that Google's store tells."""
    name = "projects/tests/subscriptions/nowhere"
    return Told(
        "gs",
        pubsub.store,
        lambda _: pubsub.subscription(),
        lambda bucket, sent: pubsub.acknowledged(bucket) == sent,
        (f"{pubsub.endpoint}/v1/{name}", f"there is no subscription {name}"),
    )


@pytest.fixture(params=["sqs", "subscriptions"])
def told(request: pytest.FixtureRequest) -> Told:
    """Each kind of queue, in turn."""
    made: Told = request.getfixturevalue(request.param)
    return made


def hint(feed: Feed) -> Hint:
    """The first thing that is told."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        told = feed.look()
        if told != Hint():
            return told
        time.sleep(0.05)
    raise AssertionError("nothing was told")


def emptied(told: Told, bucket: str, sent: int) -> bool:
    """Whether the queue comes to have no message left, of so many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not told.emptied(bucket, sent) and time.monotonic() < deadline:
        time.sleep(0.05)
    return told.emptied(bucket, sent)


def test_what_is_stored_below_the_place_is_told_once_and_what_is_not_is_passed_over(told: Told, tmp_path: Path) -> None:
    bucket = told.store.bucket()
    url = told.queue(bucket)
    feed = told.source(f"{bucket}/photos", url, tmp_path).feed()
    assert feed is not None
    try:
        told.store.put(bucket, "other/a.jpg", b"x")
        assert emptied(told, bucket, 1)
        assert feed.look() == Hint(), "it is not below the place"
        told.store.put(bucket, "photos/a b.jpg", b"x")
        assert hint(feed) == Hint(changed=True)
        assert feed.look() == Hint()
        assert emptied(told, bucket, 2), "what was noted is deleted"
        told.store.delete(bucket, "photos/a b.jpg")
        assert hint(feed) == Hint(changed=True)
    finally:
        feed.close()


def test_a_queue_that_is_not_there_is_told_and_nothing_more(told: Told, tmp_path: Path) -> None:
    url, said = told.nowhere
    feed = told.source(told.store.bucket(), url, tmp_path).feed()
    assert feed is not None
    first = hint(feed)
    assert not first.changed and first.lost == said


def test_without_a_queue_nothing_is_listened_to(told: Told, tmp_path: Path) -> None:
    assert told.source(told.store.bucket(), "", tmp_path).feed() is None


RECORD = {"s3": {"bucket": {"name": "acme"}, "object": {"key": "photos/a+b%C3%A9.jpg"}}}


@pytest.mark.parametrize(
    ("body", "prefix", "expected"),
    [
        ({"Records": [RECORD]}, "", True),
        ({"Records": [RECORD]}, "photos/a b", True),
        ({"Records": [RECORD]}, "videos/", False),
        ({"Records": [{"s3": {"bucket": {"name": "other"}, "object": {"key": "photos/a"}}}, RECORD]}, "photos/", True),
        ({"Records": [{"s3": {"bucket": {"name": "other"}, "object": {"key": "photos/a"}}}]}, "photos/", False),
        ({"Type": "Notification", "Message": json.dumps({"Records": [RECORD]})}, "photos/", True),
        ({"Type": "Notification", "Message": json.dumps({"Records": [RECORD]})}, "videos/", False),
        ({"detail": {"bucket": {"name": "acme"}, "object": {"key": "photos/a"}}}, "photos/", True),
        ({"detail": {"bucket": {"name": "acme"}, "object": {"key": "photos/a"}}}, "videos/", False),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "acme"}, "", False),
        ({"Records": [{"other": 1}]}, "videos/", True),
        ({}, "videos/", True),
        ([1], "videos/", True),
        ("no JSON {", "videos/", True),
    ],
)
def test_a_message_concerns_what_it_names_and_one_that_is_not_understood_may(
    body: Any, prefix: str, expected: bool
) -> None:
    assert concerns(body if isinstance(body, str) else json.dumps(body), "acme", prefix) is expected


@pytest.fixture
def way(pubsub: Pubsub) -> Iterator[RoughWay]:
    """A way to Google's queues on which things go wrong."""
    with rough_way(replace(pubsub.store, endpoint=pubsub.endpoint)) as way:
        yield way


def of_google(pubsub: Pubsub, way: RoughWay) -> tuple[str, Feed]:
    """A new bucket of Google's, and a feed of it on the rough way."""
    bucket, url = pubsub.store.bucket(), pubsub.subscription()
    logins = {"credentials": lambda: pubsub.store.logins.key_file}
    address = StoreAddress(bucket, "", "", None, Tls.NONE, logins)
    queue = PubsubQueue("media", way.store.endpoint + urlsplit(url).path, address)
    return bucket, QueueFeed(queue, bucket)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "PERMISSION_DENIED", "this login has not pubsub.subscriptions.consume on projects/tests/"),
        (403, "SERVICE_DISABLED", "the service is not switched on in this project: no"),
        (400, "FAILED_PRECONDITION", "the queue says no (FAILED_PRECONDITION)"),
    ],
)
def test_what_google_refuses_is_told_by_its_name(
    pubsub: Pubsub, way: RoughWay, status: int, code: str, said: str
) -> None:
    way.plan(Fault("POST", ":pull", status=status, code=code, times=9))
    _, feed = of_google(pubsub, way)
    assert hint(feed).lost.startswith(said)


def test_messages_stay_where_they_cannot_be_acknowledged(pubsub: Pubsub, way: RoughWay) -> None:
    """Who tells them anew is asked again: a change that was noted twice is one."""
    way.plan(Fault("POST", ":acknowledge", status=403, code="PERMISSION_DENIED"))
    bucket, feed = of_google(pubsub, way)
    pubsub.store.put(bucket, "a", b"x")
    told = hint(feed)
    while not told.lost:
        told = hint(feed)
    assert told.lost.startswith("this login has not pubsub.subscriptions.consume")
    assert pubsub.acknowledged(bucket) == 0


def test_a_queue_that_waits_longer_than_an_answer_is_waited_for_is_a_quiet_one(
    pubsub: Pubsub, way: RoughWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google_sending, "_TIMEOUT_SECONDS", (15.0, 0.2))  # the fake waits for half a second
    monkeypatch.setattr(google, "_ATTEMPTS", 2)
    bucket, feed = of_google(pubsub, way)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(way.seen) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert feed.look() == Hint()
        monkeypatch.undo()  # on this way, requests that were given up take messages all the same
        pubsub.store.put(bucket, "a", b"x")
        assert hint(feed) == Hint(changed=True)
    finally:
        feed.close()


@pytest.mark.parametrize(
    ("attributes", "prefix", "expected"),
    [
        ({"bucketId": "acme", "objectId": "photos/a+b.jpg", "eventType": "OBJECT_FINALIZE"}, "", True),
        ({"bucketId": "acme", "objectId": "photos/a+b.jpg"}, "photos/a+b", True),
        ({"bucketId": "acme", "objectId": "photos/a"}, "videos/", False),
        ({"bucketId": "other", "objectId": "photos/a"}, "photos/", False),
        ({"bucketId": "acme"}, "videos/", True),
        ({"ce-type": "google.cloud.storage.object.v1.finalized"}, "videos/", True),
        ({}, "videos/", True),
    ],
)
def test_attributes_concern_what_they_name(attributes: dict[str, str], prefix: str, expected: bool) -> None:
    assert pubsub_queues.concerns(attributes, "acme", prefix) is expected
