"""A vault in a bucket of Amazon S3, or of a store that speaks its protocol.

An object is written with its SHA-256, see `s3_upload`. What fails is told in `s3_errors`; how one logs in and
connects is in `s3_client`; what a vault makes of it in `bucket`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from cto_backups.buckets import s3 as bucket_settings
from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.object_locks import FileLock
from cto_backups.core.objects import ObjectState
from cto_backups.core.policy import LockMode
from cto_backups.core.trees import Buffer
from cto_backups.core.vault_settings import Change
from cto_backups.core.vaults import StoreAddress, StoredFile
from cto_backups.errors import KeyProblemError, VaultError
from cto_backups.providers import aws_copies, pauses
from cto_backups.vaults import s3_client
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.object_store import AbsentError, Answer, BeyondError, Page, TakenError, UnansweredError, Version
from cto_backups.vaults.passing import Passing
from cto_backups.vaults.s3_errors import S3Wording
from cto_backups.vaults.s3_holds import S3Holds
from cto_backups.vaults.s3_trial import S3Trial
from cto_backups.vaults.s3_upload import ProofError, checksum, proven, stream, upload
from cto_backups.vaults.s3_versions import versions
from cto_backups.vaults.straight import straight

_ATTEMPTS = 4  # at what the client does not try again by itself: conflicts of writers
_OF_ONE = ("look up", "read")
_ABSENT = ("NoSuchKey", "NotFound", "404", "NoSuchUpload")
_TAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict")
_CONFLICT = "ConditionalRequestConflict"
_NOT_PROVEN = "its checksum there is not that of what was sent, or is not told"
_NOT_LOCKED = ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError")
_LOST = ("NoSuchUpload",)  # it was completed, and the answer got lost; or somebody removed what had come
_UNKNOWN = ("NotImplemented", "501", "MethodNotAllowed")
_NO_RANGE = ("InvalidRange", "416")

_Answer = TypeVar("_Answer")


def s3_vault(name: str, address: StoreAddress) -> BucketVault:
    """The vault of this name; where the store has an endpoint of its own, its location is as restic writes it."""
    place = "/".join(filter(None, (address.bucket, address.prefix)))
    location = f"s3:{address.endpoint}/{place}" if address.endpoint else f"s3://{place}"
    return BucketVault(name, location, S3Store(name, location, address))


class S3Store:
    """A bucket of S3; implements `object_store.ObjectStore` and `Versioned`. Thread-safe."""

    condition = "If-None-Match"
    copying: Mapping[str, int] = {"single_bytes": aws_copies.SINGLE_BYTES, "part_bytes": aws_copies.PART_BYTES}
    # A body is read from the connection itself: what goes wrong there is not always told as the client's own error.
    torn: tuple[type[Exception], ...] = (BotoCoreError, HTTPError, OSError)

    def __init__(self, name: str, location: str, address: StoreAddress) -> None:
        self.address = address
        self.say = S3Wording(name, location, address)
        self._name = name
        self._lock = threading.Lock()
        self._made: Any = None

    def look(self) -> None:
        """See that the bucket is there, and in the policy's region. Raises VaultMissingError with what makes it."""
        try:
            seen = self._asked("look at", "the bucket", lambda: self._client.head_bucket(Bucket=self.address.bucket))
        except AbsentError:
            raise self.say.no_bucket() from None
        # The client follows a bucket to another region; what the policy says of it would be wrong all the same.
        if (region := seen.get("BucketRegion")) and self.address.region not in (region, "auto"):
            raise self.say.elsewhere(region)

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool, until: datetime | None = None) -> None:
        """Store the joined parts; proven by the checksum that the store tells. Raises TakenError."""
        told, condition, sent = self._told(key, until), _condition(overwrite), checksum(parts)
        again = False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = upload(lambda: self._client, told, parts, condition=condition, sent=sent)
            except ClientError as error:
                again = again or _retried(error)
                if _code(error) == _CONFLICT and attempt < _ATTEMPTS:
                    pauses.pause(attempt)  # another writer is at it: whether it wins will be seen
                    continue
                raise self._not_stored(error, key, again) from error
            except (BotoCoreError, ProofError) as error:
                raise self._not_stored(error, key) from error
            if not proven(answer, parts, sent):
                raise self.say.otherwise(key, _NOT_PROVEN)
            self._see_encrypted(key, answer)
            return

    def put_stream(self, key: str, passing: Passing, *, overwrite: bool, until: datetime | None = None) -> None:
        """Store parts as they come; each proven by its checksum, and all by the size. Raises TakenError."""
        try:
            stream(lambda: self._client, self._told(key, until), passing, condition=_condition(overwrite))
        except ClientError as error:
            raise self._not_stored(error, key, _retried(error) or _code(error) == _CONFLICT) from error
        except (BotoCoreError, ProofError) as error:
            raise self._not_stored(error, key) from error
        stored = self._head(key)
        if int(stored["ContentLength"]) != passing.size:
            raise self.say.otherwise(key, "it is not as long there as what was sent")
        self._see_encrypted(key, stored)

    def holds(self, key: str, parts: Sequence[Buffer]) -> bool | None:
        """Whether what is there is these parts, by the checksum that the store tells. Raises AbsentError."""
        stored = self._head(key)
        self._see_encrypted(key, stored)
        return proven(stored, parts)

    def holds_stream(self, key: str, passed: Passing) -> bool | None:
        """Whether what is there may be what passed, by its size: its parts are not told. Raises AbsentError."""
        stored = self._head(key)
        self._see_encrypted(key, stored)
        return None if int(stored["ContentLength"]) == passed.size else False

    def copies(self, state: ObjectState) -> bool:
        """Whether it lies in S3, or in the same store that speaks as S3 does."""
        return state.is_at("s3", self.address.endpoint)

    def state_of(self, key: str) -> ObjectState:
        """An object as it is now. Raises AbsentError."""
        told = self._head(key)
        return ObjectState(
            "s3",
            self.address.endpoint,
            self.address.bucket,
            self.address.key(key),
            int(told["ContentLength"]),
            str(told.get("VersionId", "")),
            str(told["ETag"]).strip('"'),
            aws_copies.checksums(told),
        )

    def copy_within(self, key: str, state: ObjectState, *, until: datetime | None = None) -> Mapping[str, str]:
        """Have a state copied to a new key; the checksums told of the copy. Raises NotCopiedError."""
        try:
            answer = aws_copies.copy(self._client, self._told(key, until), state, _condition(False), **self.copying)
        except (ClientError, BotoCoreError) as error:
            raise self.say.not_copied_by(error, state) from error
        found = aws_copies.checksums(answer)
        if not found:
            answer = self._head(key)
            found = aws_copies.checksums(answer)
        self._see_encrypted(key, answer)
        return found

    def get(self, key: str, headers: Mapping[str, str]) -> Answer:
        """Bytes of an object. Raises AbsentError, BeyondError."""
        answer = self._asked("read", key, lambda: self._client.get_object(**self._object(key), **headers))
        # The connection's own stream, below the client's: whoever waits for it can be woken.
        body = straight(answer["Body"]._raw_stream)
        return Answer(body, int(answer["ContentLength"]), str(answer.get("ContentRange", "")))

    def size(self, key: str) -> int:
        """Size in bytes. Raises AbsentError."""
        return int(self._head(key)["ContentLength"])

    def lock_of(self, key: str) -> FileLock | None:
        """The retention of an object. Raises AbsentError."""
        return self._lock_of(key)

    def lock(self, key: str, until: datetime, mode: LockMode) -> None:
        """Lock an object until then; the store itself refuses to shorten a lock. Raises AbsentError."""
        retention = {"Mode": str(mode).upper(), "RetainUntilDate": until}
        self._asked("lock", key, lambda: self._client.put_object_retention(**self._object(key), Retention=retention))

    @property
    def legal_holds(self) -> S3Holds:
        """Its legal holds."""
        return S3Holds(lambda: self._client, self._asked, self.address)

    def versions(self) -> Iterator[tuple[Version, ...]]:
        """All versions, those of a key together, the newest first."""
        for _, found in groupby(versions(self._client, self._asked, self.address), key=lambda version: version.key):
            yield tuple(found)

    def lock_of_version(self, version: Version) -> FileLock | None:
        """The retention of a version."""
        return self._lock_of(version.key, VersionId=version.id)

    def read_version(self, key: str, version: str) -> bytes:
        """A version's content; the client sees to it that it is whole."""
        answer = self._asked("read", key, lambda: self._client.get_object(**self._object(key), VersionId=version))
        with answer["Body"] as body:
            content: bytes = self._asked("read", key, body.read)
        return content

    def remove_marker(self, key: str, marker: str) -> None:
        """Undo a deletion, of which this is the marker."""
        self._asked("undelete", key, lambda: self._client.delete_object(**self._object(key), VersionId=marker))

    def page(self, folder: str, after: str | None) -> Page:
        """Up to a thousand names that begin with `folder`."""
        asked = {"Bucket": self.address.bucket, "Prefix": self.address.key(folder)}
        if after is not None:
            asked["ContinuationToken"] = after
        answer = self._asked("list", folder.rstrip("/"), lambda: self._client.list_objects_v2(**asked))
        own = len(self.address.key(""))
        files = tuple(StoredFile(entry["Key"][own:], int(entry["Size"])) for entry in answer.get("Contents", ()))
        if not answer.get("IsTruncated"):
            return Page(files, None)
        if not (following := answer.get("NextContinuationToken")):
            raise self.say.cut_short(folder)  # what it leaves out would count as not there
        return Page(files, following)

    def delete(self, key: str) -> None:
        """Remove an object; what is not there is not told. Raises VaultReadOnlyError."""
        self._asked("delete", key, lambda: self._client.delete_object(**self._object(key)))

    def sweep(self, before: datetime) -> int:
        """Remove the parts of uploads that began before and never ended; 0 where the store knows no such uploads."""
        swept = 0
        for name, upload_id in self._uploads(before):
            place = {"Bucket": self.address.bucket, "Key": name, "UploadId": upload_id}
            abort = partial(self._abort, place)
            with suppress(AbsentError):  # it has just ended
                self._asked("remove an unfinished upload of", name[len(self.address.key("")) :], abort)
                swept += 1
        return swept

    def settings(self) -> BucketSettings:
        """Asked one by one."""
        return bucket_settings.settings(self._client, self.address.bucket, self.address.key(""))

    def change(self, change: Change) -> str:
        """Rules for versions are made for what lies below the prefix."""
        return bucket_settings.apply(self._client, self.address.bucket, change, self.address.key(""))

    def trial(self) -> S3Trial:
        """What asks it for more than a vault does."""
        return S3Trial(self._name, self._client, self.address, self.say)

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
                    self._made = s3_client.connected(self._name, self.address)
                except KeyProblemError as error:
                    raise self.say.no_key(error) from error
                except BotoCoreError as error:
                    raise self.say.unreached(error, "log in", "") from error
            return self._made

    @property
    def _mode(self) -> str:
        """The lock mode, as S3 calls it."""
        locking = self.address.locking
        assert locking is not None
        return str(locking.mode).upper()

    def _told(self, key: str, until: datetime | None) -> dict[str, Any]:
        """What a store is told of an object beside its content."""
        told: dict[str, Any] = self._object(key)
        if self.address.kms_key is not None:
            told |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.address.kms_key}
        if until is not None:
            told |= {"ObjectLockMode": self._mode, "ObjectLockRetainUntilDate": until}
        return told

    def _not_stored(self, error: Exception, key: str, again: bool = False) -> VaultError:
        """What became of a put; `again`: an earlier try of the same call may have come through."""
        if isinstance(error, ProofError):
            return self.say.otherwise(key, _NOT_PROVEN)
        if not isinstance(error, ClientError):
            return self.say.of(UnansweredError, self.say.unreached(error, "store", key))
        if _code(error) in _TAKEN:
            taken = self.say.of(TakenError, self.say.exists(key))
            taken.again = again
            return taken
        refused = self.say.refused(error, "store", key)
        unknown = _status(error) >= 500 or ((again or _code(error) in _LOST) and type(refused) is VaultError)
        return self.say.of(UnansweredError, refused) if unknown else refused

    def _see_encrypted(self, key: str, answer: Any) -> None:
        """Raise VaultError unless the store says that it encrypted under the key that the policy names."""
        wanted = self.address.kms_key
        if wanted is None:
            return
        if "SSEKMSKeyId" not in answer:
            answer = self._head(key)
        told = str(answer.get("SSEKMSKeyId", ""))
        # The store tells the key's whole name, also where the policy has its id alone.
        if answer.get("ServerSideEncryption") != "aws:kms" or told.rpartition("/")[2] != wanted.rpartition("/")[2]:
            raise self.say.otherwise_encrypted(key, told, wanted)

    def _lock_of(self, key: str, **version: str) -> FileLock | None:
        """What the object's own headers tell; where they tell none, the store is asked why."""

        def ask() -> Any:
            try:
                return self._client.get_object_retention(**self._object(key), **version)["Retention"]
            except ClientError as error:
                if _code(error) in _NOT_LOCKED:
                    return {}
                raise

        head = self._asked("look up", key, lambda: self._client.head_object(**self._object(key), **version))
        mode, until = head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate")
        if until is None:
            retention = self._asked("see the lock of", key, ask)
            mode, until = retention.get("Mode"), retention.get("RetainUntilDate")
        return None if until is None else FileLock(LockMode(str(mode).lower()), until)

    def _uploads(self, before: datetime) -> Iterator[tuple[str, str]]:
        """The names and ids of uploads below the prefix that began before; none where the store knows no such."""
        asked = {"Bucket": self.address.bucket, "Prefix": self.address.key("")}

        def page() -> Any:
            try:
                return self._client.list_multipart_uploads(**asked)
            except ClientError as error:
                if _code(error) in _UNKNOWN:
                    return {}
                raise

        while True:
            answer = self._asked("look for", "unfinished uploads", page)
            found = [upload for upload in answer.get("Uploads", ()) if upload["Initiated"] < before]
            yield from ((str(upload["Key"]), str(upload["UploadId"])) for upload in found)
            markers = {name: answer.get(f"Next{name}") for name in ("KeyMarker", "UploadIdMarker")}
            going = {**asked, **{name: marker for name, marker in markers.items() if marker}}
            if not answer.get("IsTruncated") or going == asked:
                return  # or it does not tell how to ask for the rest: a later sweep finds what is left
            asked = going

    def _abort(self, place: Mapping[str, str]) -> None:
        self._client.abort_multipart_upload(**place)

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self.address.bucket, "Key": self.address.key(key)}

    def _asked(self, doing: str, key: str, ask: Callable[[], _Answer]) -> _Answer:
        """The store's answer. Raises VaultError in plain words."""
        try:
            return ask()
        except ClientError as error:
            code = _code(error)
            if code in _ABSENT or (doing in _OF_ONE and s3_client.is_unlisted(self._made, self.address, key, error)):
                raise self.say.of(AbsentError, self.say.missing(key)) from error
            refused = self.say.refused(error, doing, key)
            raise self.say.of(BeyondError, refused) if code in _NO_RANGE else refused from error
        except BotoCoreError as error:
            raise self.say.unreached(error, doing, key) from error

    def _head(self, key: str) -> Any:
        return self._asked(
            "look up", key, lambda: self._client.head_object(**self._object(key), ChecksumMode="ENABLED")
        )


def _condition(overwrite: bool) -> dict[str, str]:
    return {} if overwrite else {"IfNoneMatch": "*"}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _retried(error: ClientError) -> bool:
    """Whether the client tried more than once before it got this answer."""
    return bool(error.response.get("ResponseMetadata", {}).get("RetryAttempts"))
