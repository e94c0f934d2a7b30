"""How content gets into an object of Google Cloud Storage: in one request, or where it is large, in chunks.

What the store is told of an object beside its content, such as how long it has to be kept, has its place in `told`, the
object resource of https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from cto_backups.core.trees import Buffer
from cto_backups.providers import google, pauses
from cto_backups.providers.google import GoogleClient, RefusedError
from cto_backups.vaults.joined import Joined
from cto_backups.vaults.passing import Passing

FIELDS = "size,crc32c,kmsKeyName"
"""What is to be answered of an object."""

_ATTEMPTS = 6  # without a byte that came through
_SESSIONS = 3
_LOST = (404, 410)  # the session is not there any more
_SINGLE_BYTES = 32 << 20  # what is larger is sent in chunks, so that only the last of them has to be sent again
_CHUNK_BYTES = 16 << 20  # a multiple of 256 KiB, as Google wants it


@dataclass(frozen=True, slots=True)
class _Held:
    """What is still there of an object's bytes to be sent again: the content of it from byte `first` on."""

    content: Joined
    first: int

    def part(self, begin: int, end: int) -> Joined:
        """The bytes from `begin` to `end`, sent from where they lie."""
        return self.content.part(begin - self.first, end - self.first)


def upload(
    client: GoogleClient,
    objects: str,
    told: Mapping[str, Any],
    parts: Sequence[Buffer],
    size: int,
    generation: int | None,
    kms_key: str | None = None,
) -> Any:
    """Store the parts, of so many bytes, as what `told` says; what the store answers of it (FIELDS).

    `objects` is the path of the bucket's objects. `generation` is the one that is there now, 0 for none, None for
    whichever. The store is to encrypt it under `kms_key`.

    Raises RefusedError, requests.RequestException and its kin, GoogleAuthError.
    """
    send = _whole if size <= _SINGLE_BYTES else _in_chunks
    query = {"name": told["name"], "ifGenerationMatch": generation, "fields": FIELDS, "kmsKeyName": kms_key}
    return send(client, f"/upload{objects}", json.dumps(told), parts, size, query)


def stream(
    client: GoogleClient,
    objects: str,
    told: Mapping[str, Any],
    passing: Passing,
    generation: int | None,
    kms_key: str | None = None,
) -> Any:
    """Store parts as they come; what the store answers of it (FIELDS). See `upload`.

    Each part is 256 KiB or a multiple of it. Nothing is seen before the last has come; what they raise is raised. There
    is one session: what went there cannot be sent again.
    """
    opened = client.ask(
        "POST",
        f"/upload{objects}",
        headers={"Content-Type": "application/json; charset=UTF-8"},
        body=json.dumps(told).encode,
        uploadType="resumable",
        name=told["name"],
        ifGenerationMatch=generation,
        fields=FIELDS,
        kmsKeyName=kms_key,
    )
    session = _path(opened)
    parts = iter(passing)
    begin, part = 0, next(parts, bytearray())
    while True:
        following = next(parts, None)
        held, end = _Held(Joined([part]), begin), begin + len(part)
        if following is None:
            return _send(client, session, held, begin, end, total=end, checksum=written(passing.crc32c)).json()
        _send(client, session, held, begin, end, total=None)
        begin, part = end, following


def _send(
    client: GoogleClient,
    session: str,
    held: _Held,
    sent: int,
    end: int,
    *,
    total: int | None,
    checksum: str | None = None,
) -> Any:
    """Send the bytes from `sent` to `end`, what the store did not take of them again; what it answers in the end.

    With the last byte of `total`, which is None while nobody knows it, goes the checksum of the whole, if there is one:
    https://cloud.google.com/storage/docs/performing-resumable-uploads.
    """
    failures, again = 0, False
    size = "*" if total is None else str(total)
    proof = {} if checksum is None else {"X-Goog-Hash": f"crc32c={checksum}"}
    while True:
        span = f"bytes {sent}-{end - 1}/{size}" if end > sent else f"bytes */{size}"
        headers = {"Content-Range": span, **proof}
        try:
            answer = client.ask(
                "PUT", session, headers=headers, body=partial(held.part, sent, end), fine=(308,), attempts=1
            )
        except (RefusedError, *google.UNREACHED) as error:
            failures += 1
            if isinstance(error, RefusedError):
                _see_session(error)
                error.again = error.again or again
                if error.status not in google.BUSY:
                    raise
            if failures == _ATTEMPTS:
                raise
            again = True
            pauses.pause(failures)
            try:
                answer = client.ask("PUT", session, headers={"Content-Range": f"bytes */{size}"}, fine=(308,))
            except RefusedError as refused:
                _see_session(refused)
                refused.again = True
                raise
        if answer.status_code != 308:
            return answer
        there = _taken(answer)
        if there == end and end != total:
            return answer
        failures = 0 if there > sent else failures + 1
        if failures == _ATTEMPTS or not held.first <= there <= end:
            raise RefusedError(504, "incomplete", f"the upload stands at {there} of {end} bytes", again=again)
        sent = there


def _see_session(error: RefusedError) -> None:
    """Raise another RefusedError if it is the session that is not there any more: what came may have been the whole."""
    if error.status in _LOST:
        raise RefusedError(
            410, "sessionLost", "the store knows nothing any more of what had come", again=True
        ) from error


def written(checksum: int) -> str:
    """CRC32C as Google writes it: base64 of its four bytes, the highest first."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def _path(opened: Any) -> str:
    """Only the path of the session: copies go to where the policy says, whatever an answer names."""
    place = urlsplit(opened.headers.get("Location", ""))
    return f"{place.path}?{place.query}"


def _taken(answer: Any) -> int:
    """How many bytes a session has: what it says, which may be less than what was sent."""
    last = answer.headers.get("Range", "").rpartition("-")[2]
    return int(last) + 1 if last.isdigit() else 0


def _whole(
    client: GoogleClient, path: str, told: str, parts: Sequence[Buffer], _size: int, query: Mapping[str, Any]
) -> Any:
    boundary = uuid.uuid4().hex
    begin = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{told}\r\n"
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    return client.ask(
        "POST",
        path,
        headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        body=lambda: Joined([begin, *parts, end]),
        uploadType="multipart",
        **query,
    ).json()


def _in_chunks(
    client: GoogleClient, path: str, told: str, parts: Sequence[Buffer], size: int, query: Mapping[str, Any]
) -> Any:
    """In a session, and in another one where the store has lost it, which Google says may happen (404, 410)."""
    again = False
    for session_number in range(1, _SESSIONS + 1):
        opened = client.ask(
            "POST",
            path,
            headers={"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Length": str(size)},
            body=told.encode,
            uploadType="resumable",
            **query,
        )
        try:
            return _session(client, _path(opened), Joined(parts), size)
        except RefusedError as error:
            error.again = error.again or again
            if error.status not in _LOST or session_number == _SESSIONS:
                raise
            again = True  # what came last may have been the whole of it
    raise AssertionError("the last session returns or raises")


def _session(client: GoogleClient, session: str, content: Joined, size: int) -> Any:
    """Send content that is there, chunk by chunk: one has to go in the connection's time, and not all."""
    held = _Held(content, 0)
    for begin in range(0, size, _CHUNK_BYTES):
        answer = _send(client, session, held, begin, min(begin + _CHUNK_BYTES, size), total=size)
        if answer.status_code != 308:
            return answer.json()
    raise AssertionError("the last chunk is answered or raises")
