"""What the adapter of buckets is given, made from what the file says."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from cto_backups.config.bucket_models import BucketSource
from cto_backups.config.secrets import SecretReference
from cto_backups.config.vaults import LOGINS, half_a_login, on_the_way

Place = tuple[str | int, ...]
_SUBSCRIPTION = re.compile(r"/v1/projects/[^/:]+/subscriptions/[^/:]+")


def bucket_options(name: str, source: BucketSource, refuse: Callable[[Place, str, str], None]) -> dict[str, object]:
    """The options of the source `name`; `refuse` notes a place, what is wrong there, and what to do about it."""
    scheme = source.url.partition(":")[0]
    for setting, message, todo in _objections(name, source, scheme):
        refuse(("sources", name, setting), message, todo)
    given = {setting: getattr(source, setting) for setting in LOGINS[scheme]}
    return {
        "url": source.url.rstrip("/"),
        "region": source.region or "",
        "endpoint": source.endpoint.rstrip("/") if source.endpoint else "",
        "tls": source.tls,
        "logins": {setting: SecretReference.parse(written) for setting, written in given.items() if written},
        "test_in": (source.test_in or "").rstrip("/"),
        "feed": source.feed or "",
        "versioning": source.versioning,
        "noncurrent_days": source.noncurrent_days,
        "public": source.public,
        "replicated": source.replicated,
    }


def _objections(name: str, source: BucketSource, scheme: str) -> Iterator[tuple[str, str, str]]:
    """What does not fit together: at which setting, what, and what to do."""
    for setting in (setting for settings in LOGINS.values() for setting in settings):
        if getattr(source, setting) is not None and setting not in LOGINS[scheme]:
            fitting = next(kind for kind, settings in LOGINS.items() if setting in settings)
            yield setting, f"source {name} is no {fitting}:// bucket, and has {setting}", f"Leave {setting} out."
    if source.test_in and source.test_in.partition(":")[0] != scheme:
        yield (
            "test_in",
            f"source {name} is a {scheme}:// bucket, and test_in is none",
            f"Write {scheme}://BUCKET/PLACE.",
        )
    if source.feed is not None:
        yield from _of_the_feed(name, source.feed, source, scheme)
    yield from half_a_login(f"source {name}", source.access_key, source.secret_key)
    yield from on_the_way(f"source {name}", source.endpoint, source.tls)


def _of_the_feed(name: str, feed: str, source: BucketSource, scheme: str) -> Iterator[tuple[str, str, str]]:
    place = urlsplit(feed)
    if scheme == "gs" and not _SUBSCRIPTION.fullmatch(place.path):
        todo = "Write https://pubsub.googleapis.com/v1/projects/PROJECT/subscriptions/NAME."
        yield "feed", f"the feed of source {name} is no subscription of Pub/Sub", todo
    elif not place.path.strip("/"):
        yield "feed", f"the feed of source {name} is a server, and no queue", "Write the queue's whole URL."
    for _, message, todo in on_the_way(f"the feed of source {name}", f"{place.scheme}://{place.netloc}", source.tls):
        yield "feed", message, todo
