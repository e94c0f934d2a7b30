"""The bucket on the way: what BigQuery wrote there is read and removed, and what it is to load is put there.

Nothing of it is kept: a bucket for this alone, without versioning, retention or soft delete, whose lifecycle deletes
what is a day old. It lies in the location of the datasets.
"""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import requests

from cto_backups import _native
from cto_backups.core.objects import ObjectState
from cto_backups.providers.google import STORAGE, UNREACHED, GoogleClient, RefusedError
from cto_backups.sources.streams import Ready

_FIELDS: Final = "items(name,size,generation,crc32c,md5Hash,timeCreated),nextPageToken"
_TRIES: Final = 5
_AT_ONCE: Final = 8


class DamagedObjectError(Exception):
    """What came is not what the bucket says that it holds."""


@dataclass(frozen=True)
class StagedObject:
    """An object, and where it is; `crc32c` and `md5` as Google writes them, in base64; no `md5` of a composed one."""

    bucket: str
    key: str
    size: int
    generation: int
    crc32c: str
    md5: str
    made_at: datetime

    @property
    def uri(self) -> str:
        """As jobs name it."""
        return f"gs://{self.bucket}/{self.key}"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        told = {"bucket": self.bucket, "key": self.key, "generation": str(self.generation), "size": self.size}
        return {**told, "crc32c": self.crc32c, "md5": self.md5}


class Bucket:
    """The place below a prefix. Everything raises what `words.FAILURES` has."""

    def __init__(self, login: GoogleClient, url: str, endpoint: str = "") -> None:
        """`url` is gs://BUCKET or gs://BUCKET/PREFIX."""
        self.login = login
        self.name, _, prefix = url.removeprefix("gs://").strip("/").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._endpoint = endpoint or None
        self._base = endpoint or STORAGE

    @property
    def url(self) -> str:
        """Where it is, for people and jobs; it ends in a slash."""
        return f"gs://{self.name}/{self.prefix}"

    def list(self, below: str) -> Iterator[StagedObject]:
        """Every object below a place in it, in the order of keys."""
        token = None
        while True:
            page = self.login.told(
                "GET",
                f"{self._base}/storage/v1/b/{quote(self.name)}/o",
                needs="storage.objects.list",
                prefix=self.prefix + below,
                fields=_FIELDS,
                pageToken=token,
            )
            for each in page.get("items", ()):
                yield StagedObject(
                    self.name,
                    each["name"],
                    int(each["size"]),
                    int(each["generation"]),
                    each.get("crc32c", ""),
                    each.get("md5Hash", ""),
                    datetime.fromisoformat(each["timeCreated"]),
                )
            token = page.get("nextPageToken")
            if not token:
                return

    def open(self, staged: StagedObject) -> "ObjectReader":
        """Read an object from its beginning, in the generation that was listed."""
        return ObjectReader(self, staged)

    def state(self, staged: StagedObject) -> ObjectState:
        """What an object is called by a vault whose store may copy it."""
        return ObjectState("gs", self._endpoint, staged.bucket, staged.key, staged.size, str(staged.generation))

    def read(self, staged: StagedObject) -> "ObjectInMemory":
        """All of an object, which has to be a small one, compared with its checksums. Raises DamagedObjectError."""
        reader, content = self.open(staged), bytearray(staged.size)
        try:
            offset = 0
            with memoryview(content) as view:
                while count := reader.readinto(view[offset:]):
                    offset += count
        finally:
            reader.close()
        return ObjectInMemory(bytes(content), self.state(staged))

    def part(self, staged: StagedObject, offset: int) -> requests.Response:
        """The bytes from an offset on."""
        return self.login.ask(
            "GET",
            f"{self._base}/storage/v1/b/{quote(staged.bucket)}/o/{quote(staged.key, safe='')}",
            needs="storage.objects.get",
            headers={"Range": f"bytes={offset}-"} if offset else None,
            stream=True,
            alt="media",
            generation=staged.generation,
        )

    def put(self, key: str, file: Path) -> None:
        """Store a file; its checksum goes along, and is compared with the bucket's. Raises DamagedObjectError."""
        checksum = 0
        with file.open("rb") as content:
            while part := content.read(1 << 20):
                checksum = _native.crc32c(part, checksum)
            expected = base64.b64encode(checksum.to_bytes(4, "big")).decode()

            def anew() -> BinaryIO:
                content.seek(0)
                return content

            answer = self.login.told(
                "POST",
                f"{self._base}/upload/storage/v1/b/{quote(self.name)}/o",
                needs="storage.objects.create",
                body=anew,
                headers={"Content-Type": "application/octet-stream", "x-goog-hash": f"crc32c={expected}"},
                uploadType="media",
                name=self.prefix + key,
            )
        if answer.get("crc32c") != expected:
            raise DamagedObjectError(f"{self.url}{key} does not hold what was sent")

    def delete(self, staged: StagedObject) -> None:
        """Remove an object; fine when it is gone."""
        path = f"{self._base}/storage/v1/b/{quote(staged.bucket)}/o/{quote(staged.key, safe='')}"
        try:
            self.login.ask("DELETE", path, needs="storage.objects.delete")
        except RefusedError as error:
            if error.status != 404:
                raise

    def clear(self, below: str, before: datetime | None = None) -> int:
        """Remove what lies below a place, or of it what is older; how many objects."""
        left = [each for each in self.list(below) if before is None or each.made_at < before]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="remove") as pool:
            for _ in pool.map(self.delete, left):
                pass
        return len(left)


class ObjectInMemory:
    """Reads an object that was read before; `state` is as that of `ObjectReader`."""

    def __init__(self, content: bytes, state: ObjectState) -> None:
        self.state = state
        self._content = Ready(content)

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes; 0 at the end."""
        return self._content.readinto(buffer)

    def close(self) -> None:
        """There is nothing to let go of."""


class ObjectReader:
    """Reads one object in order; goes on where a connection broke off, and compares the whole with its checksums.

    `state` is the one that is read (`core.objects.FromObject`).
    """

    def __init__(self, bucket: Bucket, staged: StagedObject) -> None:
        self.staged = staged
        self.state = bucket.state(staged)
        self._bucket = bucket
        self._offset = 0
        self._crc32c = 0
        self._md5 = md5(usedforsecurity=False)
        self._tries = 0
        self._answer: requests.Response | None = None

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes; 0 at the end. Raises DamagedObjectError."""
        wanted = min(len(buffer), self.staged.size - self._offset)
        if not wanted:
            self._compare()
            return 0
        while True:
            try:
                if self._answer is None:
                    self._answer = self._bucket.part(self.staged, self._offset)
                got = self._answer.raw.read(wanted)
                if got:
                    break
                raise OSError("the connection ended before the object did")
            except UNREACHED:
                self.close()
                self._tries += 1
                if self._tries >= _TRIES:
                    raise
                self._bucket.login.pause(self._tries)
        count = len(got)
        buffer[:count] = got
        self._offset += count
        self._crc32c = _native.crc32c(got, self._crc32c)
        self._md5.update(got)
        return count

    def close(self) -> None:
        """Let go of the connection."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def _compare(self) -> None:
        told = base64.b64encode(self._crc32c.to_bytes(4, "big")).decode()
        if self.staged.crc32c and told != self.staged.crc32c:
            raise DamagedObjectError(f"its CRC32C is {told}, and {self.staged.crc32c} is said")
        found = base64.b64encode(self._md5.digest()).decode()
        if self.staged.md5 and found != self.staged.md5:
            raise DamagedObjectError(f"its MD5 is {found}, and {self.staged.md5} is said")
