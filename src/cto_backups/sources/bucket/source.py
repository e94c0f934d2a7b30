"""Buckets of object stores: every object in its newest version, by listing and reading them as ordinary files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from cto_backups import clock
from cto_backups.core.bucket_settings import SeenBucket, WantedSettings
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Problem, Resource
from cto_backups.core.objects import ObjectState
from cto_backups.core.policy import Tls
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.trees import CaptureTree
from cto_backups.core.vaults import StoreAddress
from cto_backups.core.watched import Feed
from cto_backups.core.wording import counted
from cto_backups.errors import PolicyError, RefusedError, SourceError
from cto_backups.sources.bucket import in_place
from cto_backups.sources.bucket.inventory import Inventory
from cto_backups.sources.bucket.probing import probed
from cto_backups.sources.bucket.reading import GoneError, opened
from cto_backups.sources.bucket.stores import ObjectStore, TornError, UnreadableError
from cto_backups.sources.bucket.sums import Sums
from cto_backups.sources.bucket.testing import TestPlace, is_tested_in_a_bucket
from cto_backups.sources.bucket.tree import BucketTree
from cto_backups.sources.ledger import sample_key
from cto_backups.sources.options import text, texts
from cto_backups.sources.staging import staging

_STORES = {"gs": ("gcs", "GcsStore"), "s3": ("s3", "S3Store")}
_QUEUES = {"gs": ("pubsub", "PubsubQueue"), "s3": ("sqs", "SqsQueue")}


class BucketSource:
    """Implements `core.ports.Source` for what lies below a prefix of a bucket, or in all of it.

    Options: `url` (``gs://BUCKET/PREFIX``, ``s3://BUCKET/PREFIX``); `region`, `endpoint`, `tls` and `logins` as
    `core.vaults.StoreAddress` has them; `test_in`, a place of a bucket that restore tests restore into; `own`, the URLs
    of buckets that are this installation's vaults; `versioning`, `noncurrent_days`, `public` and `replicated`, as
    `core.bucket_settings.WantedSettings` has them; `feed`, the URL of the queue that the store tells of changes.
    A bucket has no common moment: each object is whole and of one version, the newest when it was listed or read.
    """

    kind = "bucket"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._url = text(options, "url")
        self._scheme, _, place = self._url.partition("://")
        if self._scheme not in _STORES or not place:
            raise PolicyError(
                f"source {name}: `url` is {self._url!r}",
                why="it must be gs://BUCKET/PREFIX or s3://BUCKET/PREFIX",
                todo="correct the policy",
            )
        bucket, _, prefix = place.partition("/")
        endpoint = options.get("endpoint") or None
        self._address = StoreAddress(
            bucket,
            prefix.rstrip("/"),
            str(options.get("region") or ""),
            None if endpoint is None else str(endpoint),
            Tls(text(options, "tls", "1.3")),
            _logins(options),
        )
        self._test_in = str(options.get("test_in") or "").rstrip("/")
        self._own = frozenset(texts(options, "own"))
        self._wanted = WantedSettings(
            bool(options.get("versioning", True)),
            int(str(options.get("noncurrent_days", 365))),
            bool(options.get("public", False)),
            bool(options.get("replicated", False)),
            self._address.tls,
        )
        self._feed = str(options.get("feed") or "")
        self._state = state / "sources" / name

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The place, once it has answered; and the other buckets that the login can list. Raises SourceError."""
        with self._store() as store:
            limit.then(store.close)
            next(iter(store.listing()), None)
            beside = sorted(url for url in store.others() if url not in self._own)
        whole = f"{self._scheme}://{self._address.bucket}"
        found = [Resource(f"bucket:{self._url.rstrip('/')}", "bucket", self._url.rstrip("/"))]
        if self._address.prefix and whole not in self._own:
            beside.insert(0, whole)
        return found + [Resource(f"bucket:{url}", "bucket", url, covered=False) for url in beside]

    def seen(self) -> SeenBucket:
        """How the bucket is set now, and what policy asks for. Raises SourceError."""
        with self._store() as store:
            return SeenBucket(f"{self._scheme}://{self._address.bucket}", store.settings(), self._wanted)

    def sample(self) -> ObjectState | None:
        """The smallest of the first thousand objects, as it is now; None where there is none. Raises SourceError."""
        with self._store() as store:
            found = min(islice(store.listing(), 1000), key=lambda each: each.size, default=None)
            if found is None:
                return None
            try:
                body = opened(store, found)
            except (GoneError, TornError, UnreadableError):
                return None
            body.close()
            return store.state(body.found)

    def feed(self) -> Feed | None:
        """Begin to listen to the queue that the store tells of changes, where policy names one. Raises SourceError."""
        if not self._feed:
            return None
        from cto_backups.sources.bucket.feed import QueueFeed

        module, name = _QUEUES[self._scheme]
        queue = getattr(import_module(f"cto_backups.sources.bucket.{module}"), name)
        return QueueFeed(queue(self.name, self._feed, self._address), self._address.bucket)

    @contextmanager
    def capture(self, limit: Limit = UNLIMITED) -> Iterator[Capture]:
        """The objects as they are now. Raises SourceError, also for a bucket in which there is none."""
        with self._store() as store, staging(self._state) as place:
            limit.then(store.close)
            captured_at = clock.now()
            inventory = Inventory(place / "inventory.db")
            tree = None
            try:
                if not inventory.fill(store.listing()):
                    raise SourceError(
                        f"source {self.name}: there is no object at {self._url}",
                        why="an emptied bucket, or a wrong prefix, looks just like this",
                        todo="correct `url` in the policy; if it was emptied, restore it. If it is meant to be empty, "
                        "take it out of the policy",
                    )
                inventory.remember(self._state / "inventory.db")
                sums = Sums(sample_key(self.name))
                tree = BucketTree(store, inventory, sums, f"source {self.name}", captured_at)
                yield _BucketCapture(tree, sums, inventory, self._state / "inventory.db", captured_at)
            finally:
                if tree is not None:
                    tree.close()
                inventory.discard()

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do."""
        if destination is not None:
            return reader.plan(destination, only=only, existing=existing, options=options)
        with self._store(options) as store, staging(self._state) as place:
            return in_place.plan(store, reader, place, self._wish(only, existing, options))

    def restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the objects as files below `destination`, or back into the bucket, or into another one.

        Raises RefusedError, SourceError.
        """
        if destination is not None and self._test_in and options is not None and options.one_copy:
            with staging(self._state) as place:
                return self._test_place().restore(reader, destination, place, options, progress)
        if destination is not None:
            return reader.restore(destination, only=only, existing=existing, options=options, progress=progress)
        with self._store(options) as store, staging(self._state) as place:
            return in_place.restore(store, reader, place, self._wish(only, existing, options), progress)

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Read every restored file, or object, and the manifest, and fingerprint what is there."""
        if is_tested_in_a_bucket(restored):
            return self._test_place().probe(restored, expected)
        return probed(self.name, restored, expected)

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _wish(self, only: Sequence[str], existing: Existing, options: RestoreOptions | None) -> in_place.Wish:
        options = options or RestoreOptions()
        return in_place.Wish(options.into or self._url.rstrip("/"), only, existing, options)

    def check_into(self, url: str) -> None:
        """Raise RefusedError for a place that is none, is the source's own, or is of one of the vaults."""
        scheme, _, place = url.partition("://")
        bucket, _, prefix = place.partition("/")
        own = self._address.prefix
        why = todo = ""
        if scheme != self._scheme or not bucket:
            why = f"source {self.name} is reached as {self._scheme}://, and by the same login and server it goes back"
            todo = f"Name {self._scheme}://BUCKET/PREFIX; or restore --to FOLDER, and bring it there by other means."
        elif f"{scheme}://{bucket}" in self._own:
            why, todo = "a vault of this installation lies in that bucket", "Name another bucket."
        elif bucket == self._address.bucket and _overlap(prefix.rstrip("/"), own):
            why = f"that is in the place of the source itself, {self._url.rstrip('/')}, or holds it"
            todo = "Name a place beside it; or restore --in-place, if that is meant."
        if why:
            raise RefusedError(f"Nothing is restored into {url}", why=why, todo=todo)

    def _test_place(self) -> TestPlace:
        return TestPlace(self.name, self._test_in, lambda url: self._store(RestoreOptions(into=url)))

    @contextmanager
    def _store(self, options: RestoreOptions | None = None) -> Iterator[ObjectStore]:
        address = self._address
        if options is not None and options.into:
            self.check_into(options.into)
            bucket, _, prefix = options.into.partition("://")[2].partition("/")
            address = replace(address, bucket=bucket, prefix=prefix.rstrip("/"))
        module, name = _STORES[self._scheme]
        store: ObjectStore = getattr(import_module(f"cto_backups.sources.bucket.{module}"), name)(self.name, address)
        try:
            yield store
        finally:
            store.close()


def _overlap(one: str, other: str) -> bool:
    """Whether one place in a bucket is in the other, or holds it; "" is the whole bucket."""
    first, second = (f"{place}/" if place else "" for place in (one, other))
    return first.startswith(second) or second.startswith(first)


class _BucketCapture:
    """Implements `core.ports.Capture`: objects have no common moment, `captured_at` is when listing began."""

    staged = False
    paths = ("/objects",)

    def __init__(self, tree: BucketTree, sums: Sums, inventory: Inventory, place: Path, captured_at: datetime) -> None:
        self.captured_at = captured_at
        self._bucket = tree
        self.tree: CaptureTree = tree
        self._sums = sums
        self._inventory = inventory
        self._place = place

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._bucket.problems

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know, though nothing is missing."""
        gone = self._bucket.gone
        return (f"{counted(gone, 'object')} deleted while the bucket was read",) if gone else ()

    @property
    def newest_content_at(self) -> datetime | None:
        return self._bucket.newest_content.by(self.captured_at)

    def fingerprint(self) -> Fingerprint:
        return self._sums.fingerprint()

    def stored(self) -> None:
        self._inventory.keep(self._place)


def _logins(options: Mapping[str, object]) -> Mapping[str, Callable[[], str]]:
    value: Any = options.get("logins") or {}
    if isinstance(value, Mapping) and all(callable(reveal) for reveal in value.values()):
        return dict(value)
    raise PolicyError(
        "option `logins` of a source is wrong", why="it must say where each value is", todo="correct the policy"
    )
