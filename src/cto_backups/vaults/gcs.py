"""A vault in a bucket of Google Cloud Storage.

Each stored file is one object. It is written with its CRC32C, which the store compares before it shows the object, and
under the condition that there is none of its name. Google shows an object whole or not at all, and keeps it once it
has said so. A marker object at the vault's root tells an empty vault from a wrong bucket. What fails is told in
`gcs_errors`; how one logs in, asks, and asks again is in `gcs_client`.
"""

import base64
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from google.auth.exceptions import GoogleAuthError
from urllib3.exceptions import HTTPError

from cto_backups import _native
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import StoreAddress, StoredFile
from cto_backups.errors import KeyProblemError, VaultError, VaultExistsError
from cto_backups.vaults import gcs_client
from cto_backups.vaults.gcs_client import GcsClient, RefusedError
from cto_backups.vaults.gcs_errors import GcsWording
from cto_backups.vaults.gcs_upload import FIELDS, upload
from cto_backups.vaults.marker import MARKER, check_key, identity_in, is_key, new_marker

_ATTEMPTS = 4  # at answers that end early, after the client has let go of them
_PIECE = 1 << 20  # read into memory that is there, at a time
_TORN = (requests.exceptions.ChunkedEncodingError, requests.ConnectionError, requests.Timeout, HTTPError, OSError)

_Answer = TypeVar("_Answer")


class GcsVault:
    """A vault below a prefix of a bucket; implements `core.vaults.Vault`. Thread-safe: one client serves all."""

    def __init__(self, name: str, address: StoreAddress) -> None:
        self._name = name
        self._address = address
        self._say = GcsWording(name, self.location, address)
        self._lock = threading.Lock()
        self._made: GcsClient | None = None

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self._name

    @property
    def location(self) -> str:
        """The place in the bucket, and the server where it is not Google's own."""
        place = "/".join(filter(None, ("gs:/", self._address.bucket, self._address.prefix)))
        return f"{place} on {self._address.endpoint}" if self._address.endpoint else place

    @property
    def address(self) -> StoreAddress:
        """Where it is, for those who ask the store for more than a vault gives."""
        return self._address

    @property
    def identity(self) -> str:
        """The id that the vault was given when it was made, to tell it from another. Raises VaultMissingError."""
        try:
            marker = self._read(MARKER, 0, None)
        except RefusedError as error:
            if error.status != 404:
                raise self._say.refused(error, "look for", MARKER) from error
            self._page("", None, 1)  # says so if it is the bucket that is not there
            raise self._say.absent(f"there is no marker object {self._address.key(MARKER)} in the bucket") from error
        return identity_in(marker, f"Vault {self._name} at {self.location}")

    def check(self) -> None:
        """Raise VaultMissingError when the bucket or the marker in it is not there; VaultError when nobody answers."""
        _ = self.identity

    def create(self) -> None:
        """Make the marker in a bucket that is there; fine when it is there already.

        Raises VaultMissingError with the command that makes the bucket, and VaultError for a store that would let two
        writers replace each other's files.
        """
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
        raise self._say.heedless("ifGenerationMatch")

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
        except RefusedError as error:
            if length is None and error.status == 416 and self.size(key) == offset:
                return b""  # all that comes after its end: nothing, which is no range here
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
            with self._body(key, offset + filled, buffer.nbytes - filled) as body:
                while filled < buffer.nbytes:
                    more = body.raw.readinto(buffer[filled : filled + _PIECE])
                    if not more:
                        raise OSError(f"it ended after {filled} bytes of {buffer.nbytes}")
                    filled += more

        try:
            self._untorn(key, fill)
        except RefusedError as error:
            raise self._failed_to_read(error, key, offset, buffer.nbytes) from error

    def size(self, key: str) -> int:
        """Size in bytes. Raises VaultMissingError."""
        check_key(key, self._name)
        return int(self._look_up(key)["size"])

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix` ("" for all), a page of a thousand at a time."""
        prefix = prefix.rstrip("/")
        own = len(self._address.key(""))
        page, found = self._page(prefix, None), False
        while True:
            for entry in page.get("items", ()):
                key = entry["name"][own:]
                found = True
                # A key that we would not write is not ours; such as the "folders" that people make in browsers.
                if is_key(key):
                    yield StoredFile(key, int(entry["size"]))
            if not page.get("nextPageToken"):
                break
            page = self._page(prefix, page["nextPageToken"])
        if not found:
            _ = self.identity  # an empty answer must not be given for a wrong bucket

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already. Raises VaultReadOnlyError, VaultMissingError."""
        check_key(key, self._name)
        answer = self._asked("delete", key, lambda: self._client.ask("DELETE", self._object(key), fine=(404,)))
        if answer.status_code == 404:
            _ = self.identity  # which has no words for whether it is the bucket that is missing

    def close(self) -> None:
        """Close the connections; they are made anew when needed."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> GcsClient:
        with self._lock:
            if self._made is None:
                try:
                    self._made = gcs_client.connected(self._name, self._address)
                except KeyProblemError as error:
                    raise self._say.no_key(error) from error
                except (GoogleAuthError, ValueError) as error:
                    raise self._say.unreached(error, "log in", "") from error
            return self._made

    def _objects(self) -> str:
        return f"/storage/v1/b/{quote(self._address.bucket, safe='')}/o"

    def _object(self, key: str) -> str:
        return f"{self._objects()}/{quote(self._address.key(key), safe='')}"

    def _asked(self, doing: str, key: str, ask: Callable[[], _Answer]) -> _Answer:
        """The store's answer. Raises VaultError in plain words."""
        try:
            return ask()
        except RefusedError as error:
            raise self._say.refused(error, doing, key) from error
        except (requests.RequestException, HTTPError, OSError, GoogleAuthError) as error:
            raise self._say.unreached(error, doing, key) from error

    def _page(self, prefix: str, token: str | None, most: int = 1000) -> Any:
        def ask() -> Any:
            return self._client.ask(
                "GET",
                self._objects(),
                prefix=self._address.key(f"{prefix}/" if prefix else "") or None,
                pageToken=token,
                maxResults=most,
                fields="nextPageToken,items(name,size)",
            ).json()

        try:
            return self._asked("list", prefix, ask)
        except VaultError as error:
            if isinstance(error.__cause__, RefusedError) and error.__cause__.status == 404:
                raise self._say.no_bucket() from error
            raise

    def _put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool, anew: bool = False) -> None:
        """Store it; with `anew`, what is there already is another's even if it is the same."""
        size = sum(memoryview(part).nbytes for part in parts)
        checksum = _checksum(parts)
        doing = "replace" if overwrite else "store"
        try:
            told = {"name": self._address.key(key), "crc32c": checksum}
            stored = upload(self._client, self._objects(), told, parts, size, None if overwrite else 0)
        except RefusedError as error:
            if error.status == 404:
                raise self._say.no_bucket() from error
            if error.status != 412:
                raise self._say.refused(error, doing, key) from error
            # An earlier try of this call may have come through, and only its answer got lost.
            if error.again and not anew and _proven(self._look_up(key), checksum, size):
                return
            raise self._say.exists(key) from error
        except (requests.RequestException, HTTPError, OSError, GoogleAuthError) as error:
            raise self._say.unreached(error, doing, key) from error
        if not _proven(stored, checksum, size):
            raise self._say.otherwise(key, "its checksum there is not that of what was sent, or is not told")

    def _look_up(self, key: str) -> Any:
        try:
            return self._asked("look up", key, lambda: self._client.ask("GET", self._object(key), fields=FIELDS).json())
        except VaultError as error:
            if isinstance(error.__cause__, RefusedError) and error.__cause__.status == 404:
                raise self._gone(key) from error
            raise

    def _gone(self, key: str) -> VaultError:
        """There is no such object; or no vault, which is told then."""
        try:
            _ = self.identity
        except VaultError as absent:
            return absent
        return self._say.missing(key)

    def _read(self, key: str, offset: int, length: int | None) -> bytes:
        """What is asked for. Raises RefusedError."""
        if length == 0:
            self.size(key)
            return b""

        def read() -> bytes:
            with self._body(key, offset, length) as body:
                content: bytes = body.raw.read()
            there = int(body.headers["Content-Length"])
            if len(content) != there:
                raise OSError(f"it ended after {len(content)} bytes of {there}")
            return content

        return self._untorn(key, read)

    def _body(self, key: str, offset: int, length: int | None) -> requests.Response:
        """The stream of a range, whose length was compared with what was asked for. Raises RefusedError."""
        last = "" if length is None else offset + length - 1
        part = {"Range": f"bytes={offset}-{last}"} if offset or length is not None else {}
        answer = self._client.ask("GET", self._object(key), headers=part, stream=True, alt="media")
        there = int(answer.headers["Content-Length"])
        told = answer.headers.get("Content-Range", "")
        if part and not told.startswith(f"bytes {offset}-"):
            answer.close()
            raise self._say.other_range(key)
        whole = told.rpartition("/")[2]
        if whole.isdigit() and int(whole) < offset:  # which Google refuses, and not every store
            answer.close()
            raise self._say.short(key, offset, 1 if length is None else length, 0)
        if length is not None and there != length:
            answer.close()
            raise self._say.short(key, offset, length, there)
        return answer

    def _untorn(self, key: str, read: Callable[[], _Answer]) -> _Answer:
        """Read until an answer comes whole. Raises RefusedError, VaultError."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return read()
            except requests.exceptions.ConnectionError as error:
                raise self._say.unreached(error, "read", key) from error  # which was tried again already
            except GoogleAuthError as error:
                raise self._say.unreached(error, "read", key) from error
            except _TORN as error:
                if attempt == _ATTEMPTS:
                    raise self._say.torn(key, str(error)) from error
                gcs_client.pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _failed_to_read(self, error: RefusedError, key: str, offset: int, length: int | None) -> VaultError:
        if error.status == 416:
            there = max(self.size(key) - offset, 0)
            return self._say.short(key, offset, 1 if length is None else length, there)
        if error.status == 404:
            return self._gone(key)
        return self._say.refused(error, "read", key)


def _checksum(parts: Sequence[Buffer]) -> str:
    """CRC32C as Google writes it: base64 of its four bytes, the highest first."""
    value = 0
    for part in parts:
        value = _native.crc32c(part, value)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def _proven(answer: Any, checksum: str, size: int) -> bool:
    """Whether what the store says of an object shows that it is this content."""
    return int(answer.get("size", -1)) == size and answer.get("crc32c") == checksum
