"""Payload stores pass their contract in buckets of real stores, too: one that speaks S3, and one of Google's API."""

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from fakes.memory import MemoryVault
from payload_store_contract import NewStore, PayloadStoreContract
from test_payload_store import CHEAP, exports, factory

from cto_backups.core.payloads import PayloadStore
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import StoredFile
from cto_backups.repository.options import MIB, RepositoryOptions
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.marker import MARKER
from cto_backups.vaults.s3 import s3_vault
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore

SMALL = RepositoryOptions(scrypt=CHEAP, pack_bytes=MIB // 4, workers=2, far=True)


class Objects(MutableMapping[str, bytes]):
    """The objects in a bucket by their keys in a vault at "v", as its owner sees and changes them."""

    def __init__(self, store: ObjectStore | GoogleStore, bucket: str) -> None:
        self._store, self._bucket = store, bucket

    def __getitem__(self, key: str) -> bytes:
        if isinstance(self._store, ObjectStore):
            content: bytes = self._store.client.get_object(Bucket=self._bucket, Key=f"v/{key}")["Body"].read()
            return content
        at = f"{self._store.endpoint}/storage/v1/b/{self._bucket}/o/{quote(f'v/{key}', safe='')}?alt=media"
        with urlopen(at, timeout=60) as answer:
            return bytes(answer.read())

    def __setitem__(self, key: str, content: bytes) -> None:
        self._store.put(self._bucket, f"v/{key}", content)

    def __delitem__(self, key: str) -> None:
        self._store.delete(self._bucket, f"v/{key}")

    def __iter__(self) -> Iterator[str]:
        if isinstance(self._store, ObjectStore):
            pages = self._store.client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
            found = [each["Key"] for page in pages for each in page.get("Contents", ())]
        else:
            told = self._store.ask("GET", f"/storage/v1/b/{self._bucket}/o?maxResults=1000")
            found = [each["name"] for each in told.get("items", ())]
        return iter([key.removeprefix("v/") for key in found if key != f"v/{MARKER}"])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __eq__(self, other: object) -> bool:
        return dict(self) == other


class InBucket(MemoryVault):
    """A vault in a bucket; `files` are its objects."""

    def __init__(self, vault: BucketVault, objects: Objects) -> None:
        super().__init__(vault.name)
        self.location, self.requests_at_once = vault.location, vault.requests_at_once
        self.files = objects  # type: ignore[assignment]
        self._vault = vault

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        self._vault.put(key, parts, overwrite=overwrite)

    def put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        self._vault.put_stream(key, pieces, overwrite=overwrite)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        self.reads.append(key)
        return self._vault.read(key, offset, length)

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        self.reads.append(key)
        self._vault.read_into(key, offset, buffer)

    def size(self, key: str) -> int:
        return self._vault.size(key)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        return self._vault.list(prefix)

    def delete(self, key: str) -> None:
        self._vault.delete(key)


@pytest.fixture(params=["versitygw", "fake_gcs_server"])
def place(request: pytest.FixtureRequest) -> Any:
    """Each store, in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def vaults(place: ObjectStore | GoogleStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[InBucket, InBucket]]:
    """Two vaults, each in a bucket of its own."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    buckets = place.bucket(), place.bucket()
    make: Any = s3_vault if isinstance(place, ObjectStore) else gcs_vault
    with (
        closing(make("one", place.address(buckets[0], "v"))) as one,
        closing(make("two", place.address(buckets[1], "v"))) as two,
    ):
        one.create()
        two.create()
        yield InBucket(one, Objects(place, buckets[0])), InBucket(two, Objects(place, buckets[1]))


class InBuckets(PayloadStoreContract):
    """The contract over such vaults."""

    damages = 2  # each costs a request for all that is read

    @pytest.fixture
    def store(self, new_store: NewStore, vaults: tuple[InBucket, InBucket]) -> PayloadStore:
        return new_store(vaults[0])

    @pytest.fixture
    def other(self, new_store: NewStore, vaults: tuple[InBucket, InBucket]) -> PayloadStore:
        return new_store(vaults[1])


class TestRepositoryInBuckets(InBuckets):
    @pytest.fixture
    def new_store(self) -> NewStore:
        return factory(SMALL)


class TestExportsInBuckets(InBuckets):
    @pytest.fixture
    def new_store(self) -> NewStore:
        return exports(SMALL)
