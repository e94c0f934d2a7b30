"""How content gets into an object of Google Cloud Storage: in one request, or where it is large, in a session."""

import json
import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from cto_backups.providers import google
from cto_backups.providers.google import GoogleClient, RefusedError
from cto_backups.sources.bucket.stores import Properties

_SINGLE_BYTES: Final = 16 << 20
_CHUNK_BYTES: Final = 16 << 20  # a multiple of 256 KiB, as Google wants it
_ATTEMPTS: Final = 6  # without a byte that came through
_RESTORED: Final = {
    "content_type": "contentType",
    "content_encoding": "contentEncoding",
    "content_language": "contentLanguage",
    "content_disposition": "contentDisposition",
    "cache_control": "cacheControl",
    "custom_time": "customTime",
    "metadata": "metadata",
    "storage_class": "storageClass",
    "md5": "md5Hash",
    "crc32c": "crc32c",
}


def resource(key: str, properties: Properties) -> dict[str, Any]:
    """What the store is told of an object; it compares the checksums among it before it shows the object."""
    return {"name": key, **{theirs: properties[ours] for ours, theirs in _RESTORED.items() if properties.get(ours)}}


def told_of(key: str, properties: Properties) -> dict[str, Any]:
    """The same of an object that the store copies: its checksums are the store's own."""
    return {name: value for name, value in resource(key, properties).items() if name not in ("md5Hash", "crc32c")}


def put(
    client: GoogleClient, objects: str, told: dict[str, Any], size: int, content: Callable[[], Any], generation: str
) -> None:
    """Write an object, while the generation that is there is still this one ("0": none).

    Raises RefusedError, requests.RequestException and its kin, GoogleAuthError.
    """
    query = {"name": told["name"], "ifGenerationMatch": generation, "fields": "generation"}
    if size <= _SINGLE_BYTES:
        boundary = uuid.uuid4().hex
        kind = told.get("contentType", "application/octet-stream")
        with content() as body:
            sent = b"".join(
                (
                    f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                    json.dumps(told).encode(),
                    f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode(),
                    body.read(),
                    f"\r\n--{boundary}--\r\n".encode(),
                )
            )
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        client.ask("POST", f"/upload{objects}", headers=headers, body=lambda: sent, uploadType="multipart", **query)
        return
    opened = client.ask(
        "POST",
        f"/upload{objects}",
        headers={"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Length": str(size)},
        body=json.dumps(told).encode,
        uploadType="resumable",
        **query,
    )
    # Only the path of the session: data goes to where the policy says, whatever an answer names.
    place = urlsplit(opened.headers.get("Location", ""))
    with content() as body:
        _in_chunks(client, f"{place.path}?{place.query}", body, size)


def _in_chunks(client: GoogleClient, session: str, body: Any, size: int) -> None:
    """A session: https://cloud.google.com/storage/docs/performing-resumable-uploads."""
    sent = failures = 0
    while True:
        body.seek(sent)
        chunk = body.read(min(_CHUNK_BYTES, size - sent))
        headers = {"Content-Range": f"bytes {sent}-{sent + len(chunk) - 1}/{size}"}
        try:
            answer = client.ask("PUT", session, headers=headers, body=lambda: chunk, fine=(308,), attempts=1)  # noqa: B023
        except (RefusedError, *google.UNREACHED) as error:
            failures += 1
            if failures == _ATTEMPTS or (isinstance(error, RefusedError) and error.status not in google.BUSY):
                raise
            client.pause(failures)
            answer = client.ask("PUT", session, headers={"Content-Range": f"bytes */{size}"}, fine=(308,))
        if answer.status_code != 308:
            return
        # What the store has is what it says, which may be less than what was sent.
        last = answer.headers.get("Range", "").rpartition("-")[2]
        there = int(last) + 1 if last.isdigit() else 0
        failures = 0 if there > sent else failures
        sent = there
