"""A bucket of a store that speaks S3, for the source: listed, read by ETag and version, written back.

The API's reference is https://docs.aws.amazon.com/AmazonS3/latest/API/.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botocore import exceptions as client_side
from urllib3.exceptions import HTTPError

from cto_backups.buckets.s3 import settings
from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.objects import ObjectState
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import KeyProblemError, SourceError
from cto_backups.providers import aws, aws_copies
from cto_backups.providers.aws_words import DENIED, code_of, said_in
from cto_backups.sources.bucket import checksums, s3_upload
from cto_backups.sources.bucket.s3_errors import S3Wording
from cto_backups.sources.bucket.stores import (
    Found,
    OtherStateError,
    Properties,
    TornError,
    UncopiedError,
    UnreadableError,
)
from cto_backups.sources.moments import nanoseconds

_TORN: Final = (client_side.HTTPClientError, client_side.IncompleteReadError, HTTPError, OSError)
_OTHER_STATE: Final = ("PreconditionFailed", "NoSuchKey", "NoSuchVersion", "ConditionalRequestConflict", "404", "412")
_ABSENT: Final = ("NoSuchKey", "404", "NotFound")

_MORE: Final = {
    "ContentType": "content_type",
    "ContentEncoding": "content_encoding",
    "ContentLanguage": "content_language",
    "ContentDisposition": "content_disposition",
    "CacheControl": "cache_control",
    "ExpiresString": "expires",
    "WebsiteRedirectLocation": "website_redirect",
    "Metadata": "metadata",
    "StorageClass": "storage_class",
    "VersionId": "version",
    "ServerSideEncryption": "encryption",
    "SSEKMSKeyId": "encryption_key",
    "ChecksumCRC32": "crc32",
    "ChecksumCRC32C": "crc32c",
    "ChecksumSHA1": "sha1",
    "ChecksumSHA256": "sha256_told",
    "ChecksumCRC64NVME": "crc64nvme",
    "ObjectLockMode": "lock_mode",
    "ObjectLockLegalHoldStatus": "legal_hold",
}
_CLAIMS: Final = {
    "ChecksumCRC32": "crc32",
    "ChecksumCRC32C": "crc32c",
    "ChecksumSHA1": "sha1",
    "ChecksumSHA256": "sha256",
}


class S3Store:
    """Implements `stores.ObjectStore`; one client serves all threads."""

    def __init__(self, source: str, address: StoreAddress) -> None:
        self._address = address
        self._say = S3Wording(source, address)
        try:
            self._client = aws.s3_client(f"source {source}", SourceError, address)
        except (KeyProblemError, client_side.BotoCoreError) as error:
            raise self._say.unreached(error) from error

    def listing(self) -> Iterator[Found]:
        """Every object below the prefix, a page of a thousand at a time."""
        token: dict[str, str] = {}
        while True:
            page = self._page(token)
            for each in page.get("Contents", ()):
                yield self._listed(each)
            if not page.get("IsTruncated"):
                return
            following = page.get("NextContinuationToken")
            if not following or following == token.get("ContinuationToken"):
                raise self._say.endless()
            token = {"ContinuationToken": following}

    def look_up(self, name: bytes) -> Found | None:
        """The object as it is now, by a HEAD."""
        try:
            answer = self._client.head_object(Bucket=self._address.bucket, Key=self._key(name))
        except client_side.ClientError as error:
            if code_of(error) in _ABSENT:
                return None
            raise self._say.of_object(error, name) from error
        except client_side.BotoCoreError as error:
            raise self._say.unreached(error) from error
        return self._told(name, answer, int(answer["ContentLength"]))

    def open(self, found: Found, offset: int = 0) -> "_S3Body":
        """The content of an ETag; and of its version, once that is known."""
        asked: dict[str, Any] = {"Bucket": self._address.bucket, "Key": self._key(found.name)}
        asked["IfMatch"] = f'"{_etag(found)}"'
        if (version := found.more.get("version")) not in (None, "null"):
            asked["VersionId"] = version
        asked |= {"Range": f"bytes={offset}-"} if offset else {"ChecksumMode": "ENABLED"}
        try:
            answer = self._client.get_object(**asked)
        except client_side.ClientError as error:
            code = code_of(error)
            if code in _OTHER_STATE:
                raise OtherStateError(code) from error
            raise self._say.of_object(error, found.name) from error
        except client_side.BotoCoreError as error:
            raise self._say.unreached(error) from error
        if offset:
            return _S3Body(found, {}, answer["Body"])
        told = self._told(found.name, answer, int(answer["ContentLength"]))
        told = Found(found.name, told.size, found.made_ns, found.state, found.told, told.more)
        return _S3Body(told, self._claims(told, answer), answer["Body"])

    def state(self, found: Found) -> ObjectState:
        """By its version, where it has one, and its ETag."""
        address, version = self._address, str(found.more.get("version", ""))
        place = address.bucket, self._key(found.name)
        return ObjectState("s3", address.endpoint, *place, found.size, version, _etag(found))

    def others(self) -> tuple[str, ...]:
        """The other buckets of the account; none at a login that may not list them."""
        try:
            buckets = self._client.list_buckets().get("Buckets", ())
        except (client_side.ClientError, client_side.BotoCoreError):
            return ()
        return tuple(f"s3://{each['Name']}" for each in buckets if each["Name"] != self._address.bucket)

    def settings(self) -> BucketSettings:
        """What is set for the bucket, as far as this login may ask."""
        return settings(self._client, self._address.bucket)

    def put(
        self, name: bytes, size: int, content: Callable[[], Any], properties: Properties, instead: Found | None
    ) -> None:
        """Write an object with its properties, in place of just what was there."""
        place = {"Bucket": self._address.bucket, "Key": self._key(name)}
        condition = {"IfNoneMatch": "*"} if instead is None else {"IfMatch": f'"{_etag(instead)}"'}
        self._changed(name, lambda: s3_upload.put(self._client, place, size, content, properties, condition))

    def copies(self, state: ObjectState) -> bool:
        """Whether it lies in S3, or in the same store that speaks as S3 does."""
        return state.is_at("s3", self._address.endpoint)

    def copy(self, name: bytes, state: ObjectState, properties: Properties, instead: Found | None) -> Mapping[str, str]:
        """Have an object copied in place of just what was there; by what login is told with what is lacking."""
        told = {"Bucket": self._address.bucket, "Key": self._key(name), **s3_upload.told_of(properties)}
        condition = {"IfNoneMatch": "*"} if instead is None else {"IfMatch": f'"{_etag(instead)}"'}
        now = self.look_up(name)  # not every store takes a condition for a copy
        if (now and _etag(now)) != (instead and _etag(instead)):
            raise OtherStateError("it was written since it was compared")
        try:
            return aws_copies.checksums(aws_copies.copy(self._client, told, state, condition))
        except client_side.ClientError as error:
            denied = code_of(error) in DENIED
            right = f"; this login may not s3:GetObject on arn:aws:s3:::{state.bucket}/*" if denied else ""
            raise UncopiedError(f"{said_in(error)} ({code_of(error)}){right}", lasting=denied) from error
        except client_side.BotoCoreError as error:
            raise UncopiedError(str(error)) from error

    def delete(self, found: Found) -> None:
        """Delete an object; a bucket with versions keeps it as one of them."""
        place = {"Bucket": self._address.bucket, "Key": self._key(found.name), "IfMatch": f'"{_etag(found)}"'}
        self._changed(found.name, lambda: self._client.delete_object(**place))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _key(self, name: bytes) -> str:
        return self._address.key(name.decode("utf-8", "surrogateescape"))

    def _page(self, token: Mapping[str, str]) -> Any:
        try:
            return self._client.list_objects_v2(Bucket=self._address.bucket, Prefix=self._address.key(""), **token)
        except client_side.ClientError as error:
            raise self._say.refused(error, "ListObjectsV2", b"") from error
        except client_side.BotoCoreError as error:
            raise self._say.unreached(error) from error

    def _listed(self, each: Mapping[str, Any]) -> Found:
        name = each["Key"][len(self._address.key("")) :].encode("utf-8", "surrogateescape")
        etag = each["ETag"].strip('"')
        told = {"etag": etag, "storage_class": each.get("StorageClass", "STANDARD")}
        return Found(name, int(each["Size"]), _made_ns(each), _state(etag, each["LastModified"]), told)

    def _told(self, name: bytes, answer: Mapping[str, Any], size: int) -> Found:
        etag = answer["ETag"].strip('"')
        more = {ours: value for theirs, ours in _MORE.items() if (value := answer.get(theirs)) not in (None, "", {})}
        if answer.get("ChecksumType"):
            more["checksum_type"] = answer["ChecksumType"]
        told = {"etag": etag, "storage_class": answer.get("StorageClass", "STANDARD")}
        return Found(name, size, _made_ns(answer), _state(etag, answer["LastModified"]), told, more)

    def _claims(self, found: Found, answer: Mapping[str, Any]) -> dict[str, str]:
        claims = {
            ours: checksums.as_hex(answer[theirs])
            for theirs, ours in _CLAIMS.items()
            if answer.get(theirs) and "-" not in answer[theirs] and answer.get("ChecksumType") != "COMPOSITE"
        }
        is_digest = answer.get("ServerSideEncryption") in (None, "AES256") and not answer.get("SSECustomerAlgorithm")
        etag = _etag(found)
        part_size = self._part_size(found) if is_digest and not claims and checksums.parts_of_etag(etag) else 0
        return claims | checksums.claims_of_etag(etag, is_digest=is_digest, size=found.size, part_size=part_size)

    def _part_size(self, found: Found) -> int:
        """How large the first part of an object is; 0 where the store does not say."""
        try:
            first = self._client.head_object(
                Bucket=self._address.bucket, Key=self._key(found.name), PartNumber=1, IfMatch=f'"{_etag(found)}"'
            )
        except (client_side.ClientError, client_side.BotoCoreError):
            return 0
        return int(first["ContentLength"])

    def _changed(self, name: bytes, change: Callable[[], Any]) -> None:
        try:
            change()
        except client_side.ClientError as error:
            if (code := code_of(error)) in _OTHER_STATE:
                raise OtherStateError(code) from error
            raise self._say.of_object(error, name) from error
        except client_side.BotoCoreError as error:
            raise self._say.unreached(error) from error


class _S3Body:
    """Implements `stores.Body`."""

    def __init__(self, found: Found, claims: Mapping[str, str], body: Any) -> None:
        self.found = found
        self.claims = claims
        self._body = body

    def readinto(self, buffer: memoryview) -> int:
        """Some of the bytes."""
        try:
            data = self._body.read(len(buffer))
        except client_side.FlexibleChecksumError as error:
            raise UnreadableError("damaged", "what came is not that of which the store tells the checksum") from error
        except _TORN as error:
            raise TornError(str(error)) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()


def _etag(found: Found) -> str:
    return found.state.partition(" ")[0]


def _state(etag: str, modified: datetime) -> str:
    return f"{etag} {modified.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _made_ns(answer: Mapping[str, Any]) -> int:
    modified: datetime = answer["LastModified"]
    return nanoseconds(modified.astimezone(UTC).replace(microsecond=0))  # answers of other calls tell no more
