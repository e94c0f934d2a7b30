"""A vault in a bucket of Amazon S3, or of a store that speaks its protocol.

Each stored file is one object, written by one PUT that carries its SHA-256 and refuses to replace another. S3 shows an
object whole or not at all, and keeps it once it has said so. A marker object at the vault's root tells an empty vault
from a wrong bucket. What fails is told in `s3_errors`; how one logs in and connects is in `s3_client`.
"""

import base64
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import StoreAddress, StoredFile
from cto_backups.errors import KeyProblemError, VaultError, VaultExistsError, VaultMissingError
from cto_backups.vaults import s3_client
from cto_backups.vaults.joined import Joined
from cto_backups.vaults.marker import MARKER, check_key, identity_in, is_key, new_marker
from cto_backups.vaults.s3_errors import S3Wording

_ATTEMPTS = 4  # at what the client does not try again by itself: answers that end early, conflicts of writers
_NO_RANGE = ("InvalidRange", "416")
_PIECE = 1 << 20  # read into memory that is there, at a time
# A body is read from the connection itself: what goes wrong there is not always told as the client's own error.
_TORN = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, ConnectionClosedError, HTTPError, OSError)

_Answer = TypeVar("_Answer")


class S3Vault:
    """A vault below a prefix of a bucket; implements `core.vaults.Vault`. Thread-safe: one client serves all."""

    def __init__(self, name: str, address: StoreAddress) -> None:
        self._name = name
        self._address = address
        self._say = S3Wording(name, self.location, address)
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self._name

    @property
    def location(self) -> str:
        """The place in the bucket; where the store has an endpoint of its own, as restic writes it."""
        place = "/".join(filter(None, (self._address.bucket, self._address.prefix)))
        return f"s3:{self._address.endpoint}/{place}" if self._address.endpoint else f"s3://{place}"

    @property
    def address(self) -> StoreAddress:
        """Where it is, for those who ask the store for more than a vault gives."""
        return self._address

    @property
    def identity(self) -> str:
        """The id that the vault was given when it was made, to tell it from another. Raises VaultMissingError."""
        try:
            marker = self._read(MARKER, 0, None)
        except ClientError as error:
            if _code(error) in ("NoSuchKey", "404"):
                raise self._say.absent(
                    f"there is no marker object {self._address.key(MARKER)} in the bucket"
                ) from error
            raise self._say.refused(error, "look for", MARKER) from error
        return identity_in(marker, f"Vault {self._name} at {self.location}")

    def check(self) -> None:
        """Raise VaultMissingError when the bucket or the marker in it is not there; VaultError when nobody answers."""
        _ = self.identity

    def create(self) -> None:
        """Make the marker in a bucket that is there; fine when it is there already.

        Raises VaultMissingError with the command that makes the bucket, and VaultError for a store that would let two
        writers replace each other's files.
        """
        bucket = self._address.bucket
        try:
            seen = self._asked("look at", "the bucket", lambda: self._client.head_bucket(Bucket=bucket))
        except VaultMissingError:
            raise self._say.no_bucket() from None
        # The client follows a bucket to another region; what the policy says of it would be wrong all the same.
        if (region := seen.get("BucketRegion")) and self._address.region not in (region, "auto"):
            raise self._say.elsewhere(region)
        marker = [new_marker()]
        try:
            self._put(MARKER, marker, overwrite=False)
        except VaultExistsError:
            self.check()
            return
        try:
            self._put(MARKER, marker, overwrite=False, anew=True)
        except VaultExistsError:
            return
        raise self._say.heedless("If-None-Match")

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts, whole or not at all, durable on return; proven by the checksum that the store tells.

        Raises VaultExistsError when the key is there and `overwrite` is false; VaultFullError; VaultReadOnlyError.
        """
        check_key(key, self._name)
        self._put(key, parts, overwrite=overwrite)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all. Raises VaultMissingError; VaultError when there are fewer."""
        check_key(key, self._name)
        try:
            return self._read(key, offset, length)
        except ClientError as error:
            if length is None and _code(error) in _NO_RANGE and self.size(key) == offset:
                return b""  # all that comes after its end: nothing, which is no range to S3
            raise self._failed_to_read(error, key, offset, length) from error

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes from `offset`. Raises VaultMissingError; VaultError when there are fewer."""
        check_key(key, self._name)
        if not buffer.nbytes:
            self.size(key)
            return
        filled = 0

        def fill() -> None:
            nonlocal filled
            body = self._body(key, offset + filled, buffer.nbytes - filled)
            with body:
                while filled < buffer.nbytes:
                    more = body.readinto(buffer[filled : filled + _PIECE])
                    if not more:
                        raise IncompleteReadError(actual_bytes=filled, expected_bytes=buffer.nbytes)
                    filled += more

        try:
            self._untorn(key, fill)
        except ClientError as error:
            raise self._failed_to_read(error, key, offset, buffer.nbytes) from error

    def size(self, key: str) -> int:
        """Size in bytes. Raises VaultMissingError."""
        check_key(key, self._name)
        return int(self._head(key)["ContentLength"])

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix` ("" for all), a page of a thousand at a time."""
        prefix = prefix.rstrip("/")
        begins = self._address.key(f"{prefix}/" if prefix else "")
        own = len(self._address.key(""))
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._address.bucket, Prefix=begins)
        pages = iter(pages)
        found = False
        while (page := self._asked("list", prefix, lambda: next(pages, None))) is not None:
            for entry in page.get("Contents", ()):
                key = entry["Key"][own:]
                found = True
                # A key that we would not write is not ours; such as the "folders" that people make in browsers.
                if is_key(key):
                    yield StoredFile(key, int(entry["Size"]))
        if not found:
            _ = self.identity  # an empty answer must not be given for a wrong bucket

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already. Raises VaultReadOnlyError, VaultMissingError."""
        check_key(key, self._name)
        self._asked("delete", key, lambda: self._client.delete_object(**self._object(key)))

    def close(self) -> None:
        """Close the connections; they are made anew when needed."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                try:
                    self._made = s3_client.connected(self._name, self._address)
                except KeyProblemError as error:
                    raise self._say.no_key(error) from error
                except BotoCoreError as error:
                    raise self._say.unreached(error, "log in", "") from error
            return self._made

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._address.key(key)}

    def _asked(self, doing: str, key: str, ask: Callable[[], _Answer]) -> _Answer:
        """The store's answer. Raises VaultError in plain words."""
        try:
            return ask()
        except ClientError as error:
            raise self._say.refused(error, doing, key) from error
        except BotoCoreError as error:
            raise self._say.unreached(error, doing, key) from error

    def _put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool, anew: bool = False) -> None:
        """Store it; with `anew`, what is there already is another's even if it is the same."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        checksum = base64.b64encode(digest.digest()).decode()
        body = Joined(parts)
        condition = {} if overwrite else {"IfNoneMatch": "*"}
        again = False
        for attempt in range(_ATTEMPTS):
            body.seek(0)
            try:
                answer = self._client.put_object(
                    **self._object(key), Body=body, ContentLength=body.size, ChecksumSHA256=checksum, **condition
                )
            except ClientError as error:
                again = again or _retried(error)
                if _code(error) == "ConditionalRequestConflict" and attempt + 1 < _ATTEMPTS:
                    _wait(attempt)  # another writer is at it: whether it wins will be seen
                    continue
                if _code(error) not in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                    raise self._say.refused(error, "store", key) from error
                # An earlier try of this call may have come through, and only its answer got lost.
                if again and not anew and self._proven(self._head(key), parts, checksum, body.size):
                    return
                raise self._say.exists(key) from error
            except BotoCoreError as error:
                raise self._say.unreached(error, "store", key) from error
            if not self._proven({"ContentLength": body.size, **answer}, parts, checksum, body.size):
                raise self._say.otherwise(key, "its checksum there is not that of what was sent, or is not told")
            return

    def _proven(self, answer: Any, parts: Sequence[Buffer], checksum: str, size: int) -> bool:
        """Whether what a store says of an object shows that it is this content."""
        if int(answer["ContentLength"]) != size:
            return False
        if (told := answer.get("ChecksumSHA256")) is not None:
            return bool(told == checksum)
        # Older stores know no checksums; their entity tag is the content's MD5. Against accidents it does.
        digest = hashlib.md5(usedforsecurity=False)
        for part in parts:
            digest.update(part)
        return str(answer.get("ETag", "")).strip('"') == digest.hexdigest()

    def _head(self, key: str) -> Any:
        def ask() -> Any:
            return self._client.head_object(**self._object(key), ChecksumMode="ENABLED")

        try:
            return self._asked("look up", key, ask)
        except VaultMissingError:
            _ = self.identity  # HEAD has no words for whether it is the bucket that is missing
            raise

    def _read(self, key: str, offset: int, length: int | None) -> bytes:
        """What is asked for. Raises ClientError for what the store refuses."""
        if length == 0:
            self.size(key)
            return b""

        def read() -> bytes:
            with self._body(key, offset, length) as body:
                content: bytes = body.read()
            return content

        return self._untorn(key, read)

    def _body(self, key: str, offset: int, length: int | None) -> Any:
        """The stream of a range, whose length was compared with what was asked for. Raises ClientError."""
        last = "" if length is None else offset + length - 1
        part = {"Range": f"bytes={offset}-{last}"} if offset or length is not None else {}
        answer = self._client.get_object(**self._object(key), **part)
        there = int(answer["ContentLength"])
        if part and not str(answer.get("ContentRange", "")).startswith(f"bytes {offset}-"):
            answer["Body"].close()
            raise self._say.other_range(key)
        if length is not None and there != length:
            answer["Body"].close()
            raise self._say.short(key, offset, length, there)
        return answer["Body"]

    def _untorn(self, key: str, read: Callable[[], _Answer]) -> _Answer:
        """Read until an answer comes whole. Raises ClientError, VaultError."""
        for attempt in range(_ATTEMPTS):
            try:
                return read()
            except _TORN as error:
                if attempt + 1 == _ATTEMPTS:
                    raise self._say.torn(key, str(error)) from error
                _wait(attempt)
            except BotoCoreError as error:
                raise self._say.unreached(error, "read", key) from error
        raise AssertionError("the last attempt returns or raises")

    def _failed_to_read(self, error: ClientError, key: str, offset: int, length: int | None) -> VaultError:
        if _code(error) in _NO_RANGE:
            there = max(self.size(key) - offset, 0)
            return self._say.short(key, offset, 1 if length is None else length, there)
        if _code(error) in ("NoSuchKey", "404"):
            try:
                _ = self.identity
            except VaultError as absent:
                return absent
        return self._say.refused(error, "read", key)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _retried(error: ClientError) -> bool:
    """Whether the client tried more than once before it got this answer."""
    return bool(error.response.get("ResponseMetadata", {}).get("RetryAttempts"))


def _wait(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.2 * 4**attempt))
