"""A vault in a bucket of Google Cloud Storage.

An object is written with its CRC32C, which the store compares before it shows the object. What fails is told in
`gcs_errors`; how one logs in, asks, and asks again is in `providers.google`; what a vault makes of it in `bucket`.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from google.auth.exceptions import GoogleAuthError
from urllib3.exceptions import HTTPError

from cto_backups import _native
from cto_backups.buckets import gcs as bucket_settings
from cto_backups.buckets.gcs import NotToldError
from cto_backups.config.redaction import redact
from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.object_locks import FileLock
from cto_backups.core.objects import ObjectState
from cto_backups.core.policy import LockMode
from cto_backups.core.trees import Buffer
from cto_backups.core.vault_settings import Change
from cto_backups.core.vaults import StoreAddress, StoredFile
from cto_backups.errors import KeyProblemError, VaultError
from cto_backups.providers import google_copies
from cto_backups.providers.google import GoogleClient, RefusedError
from cto_backups.vaults import gcs_client
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs_errors import GcsWording
from cto_backups.vaults.gcs_holds import GcsHolds
from cto_backups.vaults.gcs_trial import GcsTrial
from cto_backups.vaults.gcs_upload import FIELDS, stream, upload, written
from cto_backups.vaults.object_store import AbsentError, Answer, BeyondError, Page, TakenError, UnansweredError
from cto_backups.vaults.passing import Passing
from cto_backups.vaults.straight import straight

_UNREACHED = (requests.RequestException, HTTPError, OSError, GoogleAuthError)

_NOT_PROVEN = "its checksum there is not that of what was sent, or is not told"
_JSON = {"Content-Type": "application/json; charset=UTF-8"}
_LOCK = "retention,retentionExpirationTime"
# https://cloud.google.com/storage/docs/object-lock
_MODES = {"Unlocked": LockMode.GOVERNANCE, "Locked": LockMode.COMPLIANCE}

_Answer = TypeVar("_Answer")


def gcs_vault(name: str, address: StoreAddress) -> BucketVault:
    """The vault of this name; its location names the server where it is not Google's own."""
    place = "/".join(filter(None, ("gs:/", address.bucket, address.prefix)))
    location = f"{place} on {address.endpoint}" if address.endpoint else place
    return BucketVault(name, location, GcsStore(name, location, address))


class GcsStore:
    """A bucket of Google Cloud Storage; implements `object_store.ObjectStore`. Thread-safe."""

    condition = "ifGenerationMatch"
    torn: tuple[type[Exception], ...] = (HTTPError, OSError)

    def __init__(self, name: str, location: str, address: StoreAddress) -> None:
        self.address = address
        self.say = GcsWording(name, location, address)
        self._name = name
        self._lock = threading.Lock()
        self._made: GoogleClient | None = None

    def look(self) -> None:
        """See that the bucket is there. Raises VaultMissingError with the command that makes it."""
        self._listed("", None, 1)

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool, until: datetime | None = None) -> None:
        """Store the joined parts; proven by the checksum that the store tells. Raises TakenError."""
        size, checksum = _size(parts), _crc32c(parts)
        told = {**self._told(key, until), "crc32c": checksum}
        generation = None if overwrite else 0
        try:
            stored = upload(self._client, self._objects(), told, parts, size, generation, self.address.kms_key)
        except RefusedError as error:
            raise self._not_stored(error, key, overwrite) from error
        except _UNREACHED as error:
            raise self._unanswered(error, key, overwrite) from error
        if not _proven(stored, checksum, size):
            raise self.say.otherwise(key, _NOT_PROVEN)
        self._see_encrypted(key, stored)

    def put_stream(self, key: str, passing: Passing, *, overwrite: bool, until: datetime | None = None) -> None:
        """Store parts as they come; proven by the checksum that the store tells of the whole. Raises TakenError."""
        told, generation = self._told(key, until), None if overwrite else 0
        try:
            stored = stream(self._client, self._objects(), told, passing, generation, self.address.kms_key)
        except RefusedError as error:
            raise self._not_stored(error, key, overwrite) from error
        except _UNREACHED as error:
            raise self._unanswered(error, key, overwrite) from error
        if not _proven(stored, written(passing.crc32c), passing.size):
            with suppress(VaultError):
                self.delete(key)  # Google itself compares before it shows an object; not every store does
            raise self.say.otherwise(key, _NOT_PROVEN)
        self._see_encrypted(key, stored)

    def holds(self, key: str, parts: Sequence[Buffer]) -> bool:
        """Whether what is there is these parts, by the checksum that the store tells. Raises AbsentError."""
        stored = self._look_up(key)
        self._see_encrypted(key, stored)
        return _proven(stored, _crc32c(parts), _size(parts))

    def holds_stream(self, key: str, passed: Passing) -> bool:
        """Whether what is there is what passed, by the checksum that the store tells. Raises AbsentError."""
        stored = self._look_up(key)
        self._see_encrypted(key, stored)
        return _proven(stored, written(passed.crc32c), passed.size)

    def copies(self, state: ObjectState) -> bool:
        """Whether it lies in Google Cloud Storage, too."""
        return state.is_at("gs", self.address.endpoint)

    def state_of(self, key: str) -> ObjectState:
        """An object as it is now. Raises AbsentError."""
        told = self._asked(
            "look up", key, lambda: self._client.told("GET", self._object(key), fields=f"{FIELDS},md5Hash,generation")
        )
        sums, generation = google_copies.checksums(told), str(told["generation"])
        place = self.address.bucket, self.address.key(key)
        return ObjectState("gs", self.address.endpoint, *place, int(told["size"]), generation, "", sums)

    def copy_within(self, key: str, state: ObjectState, *, until: datetime | None = None) -> Mapping[str, str]:
        """Have a state copied to a new key; the checksums told of the copy. Raises NotCopiedError."""
        try:
            stored = google_copies.copy(
                self._client, self._objects(), self._told(key, until), state, 0, self.address.kms_key
            )
        except (RefusedError, *_UNREACHED) as error:
            raise self.say.not_copied_by(error, state) from error
        self._see_encrypted(key, stored)
        if until is not None and not stored.get("retention"):
            self.lock(key, until, self._mode)  # a store that does not take it along with a copy
        return google_copies.checksums(stored)

    def get(self, key: str, headers: Mapping[str, str]) -> Answer:
        """Bytes of an object. Raises AbsentError, BeyondError."""
        answer = self._asked(
            "read", key, lambda: self._client.ask("GET", self._object(key), headers=headers, stream=True, alt="media")
        )
        size, told = int(answer.headers["Content-Length"]), answer.headers.get("Content-Range", "")
        return Answer(straight(answer.raw), size, told)

    def size(self, key: str) -> int:
        """Size in bytes. Raises AbsentError."""
        return int(self._look_up(key)["size"])

    def lock_of(self, key: str) -> FileLock | None:
        """What keeps an object: a retention of its own, or the bucket's, whichever ends later. Raises AbsentError."""
        told = self._asked("look up", key, lambda: self._client.ask("GET", self._object(key), fields=_LOCK).json())
        retention = told.get("retention", {})
        ends = [retention.get("retainUntilTime"), told.get("retentionExpirationTime")]
        moments = [datetime.fromisoformat(end) for end in ends if end]
        if not moments:
            return None
        return FileLock(_MODES.get(retention.get("mode"), LockMode.GOVERNANCE), max(moments))

    def lock(self, key: str, until: datetime, mode: LockMode) -> None:
        """Lock an object until then; without a word for it, the store refuses to shorten a lock. Raises AbsentError."""
        body = json.dumps({"retention": _retention(until, mode)})
        self._asked(
            "lock",
            key,
            lambda: self._client.ask("PATCH", self._object(key), headers=_JSON, body=body.encode, fields=_LOCK),
        )

    @property
    def legal_holds(self) -> GcsHolds:
        """Its legal holds."""
        return GcsHolds(lambda: self._client, self._asked, self._object)

    def page(self, folder: str, after: str | None) -> Page:
        """Up to a thousand names that begin with `folder`."""
        answer = self._listed(folder, after)
        own = len(self.address.key(""))
        files = tuple(StoredFile(entry["name"][own:], int(entry["size"])) for entry in answer.get("items", ()))
        return Page(files, answer.get("nextPageToken") or None)

    def delete(self, key: str) -> None:
        """Remove an object. Raises AbsentError, VaultReadOnlyError."""
        self._asked("delete", key, lambda: self._client.ask("DELETE", self._object(key)))

    def sweep(self, before: datetime) -> int:
        """Nothing: the store itself ends sessions after a week, and nobody pays for what came in them."""
        return 0

    def settings(self) -> BucketSettings:
        """As the bucket's own resource tells."""
        return bucket_settings.settings(self._told_of_bucket, self.address.key(""))

    def change(self, change: Change) -> str:
        """By a patch of the bucket; rules for versions are made for what lies below the prefix."""
        try:
            patch = bucket_settings.changed(self._told_of_bucket, change, self.address.key(""))
            self._client.ask("PATCH", self._bucket(), headers=_JSON, body=json.dumps(patch).encode)
        except (RefusedError, NotToldError) as error:
            denied = error.denied if isinstance(error, NotToldError) else error.status == 403
            return "this login may not storage.buckets.update" if denied else f"the store says {redact(str(error))}"
        except _UNREACHED as error:
            raise self.say.unreached(error, "set", "the bucket") from error
        return ""

    def trial(self) -> GcsTrial:
        """What asks it for more than a vault does."""
        return GcsTrial(self._name, self._client, self.address, self.say)

    def close(self) -> None:
        """Close the connections; they are made anew when needed."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> GoogleClient:
        with self._lock:
            if self._made is None:
                try:
                    self._made = gcs_client.connected(self._name, self.address)
                except KeyProblemError as error:
                    raise self.say.no_key(error) from error
                except (GoogleAuthError, ValueError) as error:
                    raise self.say.unreached(error, "log in", "") from error
            return self._made

    def _told(self, key: str, until: datetime | None) -> dict[str, Any]:
        """What a store is told of an object beside its content."""
        told: dict[str, Any] = {"name": self.address.key(key)}
        return told if until is None else {**told, "retention": _retention(until, self._mode)}

    def _not_stored(self, error: RefusedError, key: str, overwrite: bool) -> VaultError:
        """What became of a put that was refused."""
        if error.status == 412:
            taken = self.say.of(TakenError, self.say.exists(key))
            taken.again = error.again
            return taken
        if error.status == 404:
            return self.say.no_bucket()
        refused = self.say.refused(error, _doing(overwrite), key)
        unknown = error.status >= 500 or (error.again and type(refused) is VaultError)
        return self.say.of(UnansweredError, refused) if unknown else refused

    def _unanswered(self, error: Exception, key: str, overwrite: bool) -> UnansweredError:
        return self.say.of(UnansweredError, self.say.unreached(error, _doing(overwrite), key))

    def _see_encrypted(self, key: str, answer: Any) -> None:
        """Raise VaultError unless the store says that it encrypted under a version of the key that the policy names."""
        wanted, told = self.address.kms_key, str(answer.get("kmsKeyName", ""))
        if wanted is not None and told.partition("/cryptoKeyVersions/")[0] != wanted:
            raise self.say.otherwise_encrypted(key, told, wanted)

    @property
    def _mode(self) -> LockMode:
        locking = self.address.locking
        assert locking is not None
        return locking.mode

    def _bucket(self) -> str:
        return f"/storage/v1/b/{quote(self.address.bucket, safe='')}"

    def _objects(self) -> str:
        return f"{self._bucket()}/o"

    def _told_of_bucket(self, path: str) -> Any:
        try:
            return self._client.ask("GET", f"{self._bucket()}{path}").json()
        except RefusedError as error:
            raise NotToldError(redact(str(error)), denied=error.status == 403) from error
        except _UNREACHED as error:
            raise self.say.unreached(error, "look at", "the bucket") from error

    def _object(self, key: str) -> str:
        return f"{self._objects()}/{quote(self.address.key(key), safe='')}"

    def _asked(self, doing: str, key: str, ask: Callable[[], _Answer]) -> _Answer:
        """The store's answer. Raises VaultError in plain words."""
        try:
            return ask()
        except RefusedError as error:
            if error.status == 404:
                raise self.say.of(AbsentError, self.say.missing(key)) from error
            refused = self.say.refused(error, doing, key)
            raise self.say.of(BeyondError, refused) if error.status == 416 else refused from error
        except _UNREACHED as error:
            raise self.say.unreached(error, doing, key) from error

    def _listed(self, folder: str, token: str | None, most: int = 1000) -> Any:
        def ask() -> Any:
            return self._client.told(
                "GET",
                self._objects(),
                prefix=self.address.key(folder) or None,
                pageToken=token,
                maxResults=most,
                fields="nextPageToken,items(name,size)",
            )

        try:
            return self._asked("list", folder.rstrip("/"), ask)
        except AbsentError as error:
            raise self.say.no_bucket() from error

    def _look_up(self, key: str) -> Any:
        return self._asked("look up", key, lambda: self._client.told("GET", self._object(key), fields=FIELDS))


def _size(parts: Sequence[Buffer]) -> int:
    return sum(memoryview(part).nbytes for part in parts)


def _crc32c(parts: Sequence[Buffer]) -> str:
    value = 0
    for part in parts:
        value = _native.crc32c(part, value)
    return written(value)


def _retention(until: datetime, mode: LockMode) -> dict[str, str]:
    """As the store is told it: only what is `Locked` can be shortened by nobody."""
    name = next(name for name, meant in _MODES.items() if meant is mode)
    return {"mode": name, "retainUntilTime": until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def _doing(overwrite: bool) -> str:
    return "replace" if overwrite else "store"


def _proven(answer: Any, checksum: str, size: int) -> bool:
    """Whether what the store says of an object shows that it is this content."""
    return int(answer.get("size", -1)) == size and answer.get("crc32c") == checksum
