"""A queue that S3 tells of changes is listened to: what concerns the source is a hint, and what goes wrong is told."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cto_backups.core.watched import Feed, Hint
from cto_backups.sources.bucket.feed import concerns
from cto_backups.sources.bucket.source import BucketSource
from servers.object_stores import REGION, ObjectStore

PATIENCE_SECONDS = 60


@pytest.fixture
def queues(moto: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The store's queues, as their owner has them."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    login = {"aws_access_key_id": moto.access_key, "aws_secret_access_key": moto.secret_key}
    client = boto3.client("sqs", endpoint_url=moto.endpoint, region_name=REGION, **login)
    yield client
    client.close()


def told_queue(moto: ObjectStore, queues: Any, bucket: str) -> str:
    """A new queue that the bucket tells of what is made and deleted; its URL."""
    url = str(queues.create_queue(QueueName=f"of-{bucket}")["QueueUrl"])
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
    configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": events}]}
    moto.client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    return f"{moto.endpoint}/{url.partition('://')[2].partition('/')[2]}"


def source(moto: ObjectStore, place: str, feed: str, state: Path) -> BucketSource:
    logins = {"access_key": lambda: moto.access_key, "secret_key": lambda: moto.secret_key}
    where = {"url": f"s3://{place}", "endpoint": moto.endpoint, "tls": "none", "region": REGION}
    return BucketSource("media", {**where, "logins": logins, "feed": feed}, state=state)


def hint(feed: Feed) -> Hint:
    """The first thing that is told."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        told = feed.look()
        if told != Hint():
            return told
        time.sleep(0.05)
    raise AssertionError("nothing was told")


def left(queues: Any, url: str) -> int:
    """How many messages the queue still has, whoever is at them."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(map(int, queues.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))


def test_what_is_stored_below_the_place_is_told_once_and_what_is_not_is_passed_over(
    moto: ObjectStore, queues: Any, tmp_path: Path
) -> None:
    bucket = moto.bucket()
    url = told_queue(moto, queues, bucket)
    feed = source(moto, f"{bucket}/photos", url, tmp_path).feed()
    assert feed is not None
    try:
        moto.put(bucket, "other/a.jpg", b"x")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left(queues, url) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert feed.look() == Hint(), "it is not below the place"
        moto.put(bucket, "photos/a b.jpg", b"x")
        assert hint(feed) == Hint(changed=True)
        assert feed.look() == Hint()
        while left(queues, url) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left(queues, url) == 0, "what was noted is deleted"
    finally:
        feed.close()


def test_a_queue_that_is_not_there_is_told_and_nothing_more(moto: ObjectStore, queues: Any, tmp_path: Path) -> None:
    url = f"{moto.endpoint}/123456789012/nowhere"
    feed = source(moto, moto.bucket(), url, tmp_path).feed()
    assert feed is not None
    told = hint(feed)
    assert not told.changed and told.lost == f"there is no queue {url}"


def test_without_a_queue_nothing_is_listened_to(moto: ObjectStore, tmp_path: Path) -> None:
    assert source(moto, moto.bucket(), "", tmp_path).feed() is None


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
