"""A bucket of Google Cloud Storage, for the source: listed, read by generation, written back.

Objects are described in https://cloud.google.com/storage/docs/json_api/v1/objects, buckets in …/v1/buckets.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import requests
from urllib3.exceptions import HTTPError

from cto_backups.buckets import gcs as gcs_settings
from cto_backups.buckets.gcs import NotToldError
from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.objects import ObjectState
from cto_backups.core.vaults import StoreAddress
from cto_backups.providers import google_copies
from cto_backups.providers.google import FAILED, RefusedError
from cto_backups.sources.bucket import checksums, gcs_client, gcs_upload
from cto_backups.sources.bucket.gcs_client import GcsWording
from cto_backups.sources.bucket.stores import (
    Found,
    OtherStateError,
    Properties,
    TornError,
    UncopiedError,
    UnreadableError,
)
from cto_backups.sources.moments import nanoseconds

_TOLD: Final = {
    "generation": "generation",
    "metageneration": "metageneration",
    "updated": "updated",
    "contentType": "content_type",
    "contentEncoding": "content_encoding",
    "contentLanguage": "content_language",
    "contentDisposition": "content_disposition",
    "cacheControl": "cache_control",
    "customTime": "custom_time",
    "metadata": "metadata",
    "storageClass": "storage_class",
    "temporaryHold": "temporary_hold",
    "eventBasedHold": "event_based_hold",
    "kmsKeyName": "encryption_key",
    "md5Hash": "md5",
    "crc32c": "crc32c",
    "componentCount": "components",
}
_FIELDS: Final = ",".join(["name", "size", "timeCreated", *_TOLD])
_TORN: Final = (requests.RequestException, HTTPError, OSError)


class GcsStore:
    """Implements `stores.ObjectStore`."""

    def __init__(self, source: str, address: StoreAddress, project: str = "") -> None:
        self._address = address
        self._say = GcsWording(source, address)
        self._client = gcs_client.connected(source, address, self._say)
        self._project = project or self._client.project

    def listing(self) -> Iterator[Found]:
        """Every object below the prefix, a page of a thousand at a time."""
        token: str | None = None
        while True:
            page = self._page(token)
            for each in page.get("items", ()):
                yield self._found(each)
            before, token = token, page.get("nextPageToken")
            if not token:
                return
            if token == before:
                raise self._say.endless()

    def look_up(self, name: bytes) -> Found | None:
        """The object as it is now."""
        try:
            answer = self._client.ask("GET", self._object(name), fine=(404,), fields=_FIELDS)
        except RefusedError as error:
            raise self._say.of_object(error, "storage.objects.get") from error
        except FAILED as error:
            raise self._say.unreached(error) from error
        return None if answer.status_code == 404 else self._found(answer.json())

    def open(self, found: Found, offset: int = 0) -> "_GcsBody":
        """The content of a generation, as it is stored: what is compressed there comes so."""
        headers = {"Accept-Encoding": "gzip"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            answer = self._client.ask(
                "GET", self._object(found.name), headers=headers, stream=True, alt="media", generation=found.state
            )
        except RefusedError as error:
            if error.status in (404, 412):
                raise OtherStateError(error.message) from error
            raise self._say.of_object(error, "storage.objects.get") from error
        except FAILED as error:
            raise self._say.unreached(error) from error
        told = answer.headers.get("x-goog-generation") or found.state
        if told != found.state:  # a store that knows no generations gives the newest
            answer.close()
            raise OtherStateError(told)
        if offset and not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            answer.close()
            raise UnreadableError("unreadable", "the store answers with another part than it was asked for")
        return _GcsBody(found, answer)

    def state(self, found: Found) -> ObjectState:
        """By its generation."""
        place = self._address.bucket, self._key(found.name)
        return ObjectState("gs", self._address.endpoint, *place, found.size, found.state)

    def others(self) -> tuple[str, ...]:
        """The other buckets of the project; none at a login that may not list them."""
        if not self._project:
            return ()
        found: list[str] = []
        token: str | None = None
        try:
            while True:
                path = "/storage/v1/b"
                page = self._client.ask("GET", path, project=self._project, pageToken=token).json()
                found += [each["name"] for each in page.get("items", ())]
                token = page.get("nextPageToken")
                if not token:
                    break
        except (RefusedError, *FAILED):
            return ()
        return tuple(f"gs://{name}" for name in found if name != self._address.bucket)

    def settings(self) -> BucketSettings:
        """What is set for the bucket, as far as this login may ask. Raises SourceError."""

        def ask(path: str) -> Any:
            try:
                return self._client.ask("GET", f"{self._bucket()}{path}").json()
            except RefusedError as error:
                raise NotToldError(str(error), denied=error.status == 403) from error
            except FAILED as error:
                raise self._say.unreached(error) from error

        return gcs_settings.settings(ask)

    def put(
        self, name: bytes, size: int, content: Callable[[], Any], properties: Properties, instead: Found | None
    ) -> None:
        """Write an object with its properties, in place of just the generation that was there."""
        told = gcs_upload.resource(self._key(name), properties)
        generation = "0" if instead is None else instead.state
        self._changed(
            "storage.objects.create, and storage.objects.delete where one is replaced,",
            lambda: gcs_upload.put(self._client, self._objects(), told, size, content, generation),
        )

    def copies(self, state: ObjectState) -> bool:
        """Whether it lies in Google Cloud Storage, too."""
        return state.is_at("gs", self._address.endpoint)

    def copy(self, name: bytes, state: ObjectState, properties: Properties, instead: Found | None) -> Mapping[str, str]:
        """Have an object rewritten in place of just the generation that was there."""
        told = gcs_upload.told_of(self._key(name), properties)
        now = self.look_up(name)  # not every store takes a condition for a copy
        if (now and now.state) != (instead and instead.state):
            raise OtherStateError("it was written since it was compared")
        generation = "0" if instead is None else instead.state
        try:
            made = google_copies.copy(self._client, self._objects(), told, state, generation)
        except RefusedError as error:
            denied = error.status in (401, 403)
            right = f"; this login may not storage.objects.get on bucket {state.bucket}" if denied else ""
            raise UncopiedError(f"{error.message} ({error.reason or error.status}){right}", lasting=denied) from error
        except FAILED as error:
            raise UncopiedError(str(error)) from error
        return google_copies.checksums(made)

    def delete(self, found: Found) -> None:
        """Delete an object; a bucket with versions keeps it as one of them."""
        path = self._object(found.name)
        self._changed("storage.objects.delete", lambda: self._client.ask("DELETE", path, ifGenerationMatch=found.state))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _bucket(self) -> str:
        return f"/storage/v1/b/{quote(self._address.bucket, safe='')}"

    def _objects(self) -> str:
        return f"{self._bucket()}/o"

    def _object(self, name: bytes) -> str:
        return f"{self._objects()}/{quote(self._key(name), safe='')}"

    def _key(self, name: bytes) -> str:
        return self._address.key(name.decode("utf-8", "surrogateescape"))

    def _page(self, token: str | None) -> Any:
        try:
            return self._client.told(
                "GET",
                self._objects(),
                prefix=self._address.key("") or None,
                pageToken=token,
                maxResults=1000,
                fields=f"nextPageToken,items({_FIELDS})",
            )
        except RefusedError as error:
            raise self._say.of_listing(error) from error
        except FAILED as error:
            raise self._say.unreached(error) from error

    def _found(self, each: Mapping[str, Any]) -> Found:
        name = each["name"][len(self._address.key("")) :].encode("utf-8", "surrogateescape")
        told = {ours: value for theirs, ours in _TOLD.items() if (value := each.get(theirs)) not in (None, "", {})}
        made = nanoseconds(datetime.fromisoformat(each["timeCreated"]))
        return Found(name, int(each["size"]), made, str(each["generation"]), told)

    def _changed(self, right: str, change: Callable[[], Any]) -> None:
        try:
            change()
        except RefusedError as error:
            if error.status in (404, 412):
                raise OtherStateError(error.message) from error
            raise self._say.of_object(error, right) from error
        except FAILED as error:
            raise self._say.unreached(error) from error


class _GcsBody:
    """Implements `stores.Body`."""

    def __init__(self, found: Found, answer: requests.Response) -> None:
        self.found = found
        told = found.told
        self.claims = {name: checksums.as_hex(told[name]) for name in ("crc32c", "md5") if told.get(name)}
        self._answer = answer

    def readinto(self, buffer: memoryview) -> int:
        """Some of the bytes."""
        try:
            data: bytes = self._answer.raw.read(len(buffer), decode_content=False)
        except _TORN as error:
            raise TornError(str(error)) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let go of the connection."""
        self._answer.close()
