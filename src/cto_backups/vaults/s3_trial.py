"""What a check asks of a store that speaks S3; see `trial`."""

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from cto_backups.config.redaction import redact
from cto_backups.core.policy import LockMode
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import VaultError
from cto_backups.providers import aws, handshake
from cto_backups.vaults.s3_errors import S3Wording
from cto_backups.vaults.trial import Reply, Said

_DENIED: Final = ("AccessDenied", "403", "Forbidden", "UnauthorizedAccess", "AllAccessDisabled")
_UNKNOWN: Final = (
    *("NotImplemented", "501", "MethodNotAllowed", "MalformedXML", "InvalidBucketState"),
    *("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"),
)
_KEPT: Final = ("object lock", "worm", "retention", "locked", "legal hold")  # in what stores say of what a lock keeps
_HOLD: Final = {True: "ON", False: "OFF"}
_NEW: Final = {"IfNoneMatch": "*"}  # without it, a role that may replace nothing may not store at all
_RIGHTS: Final = {
    "put_object": "s3:PutObject",
    "put_object_retention": "s3:PutObjectRetention",
    "put_object_legal_hold": "s3:PutObjectLegalHold",
    "get_object_legal_hold": "s3:GetObjectLegalHold",
    "delete_object": "s3:DeleteObject",
    "get_object": "s3:GetObjectVersion",
    "list_object_versions": "s3:ListBucketVersions",
}


class S3Trial:
    """Implements `trial.Trial`."""

    hides = True

    def __init__(self, vault: str, client: Any, address: StoreAddress, say: S3Wording) -> None:
        self._vault = vault
        self._client = client
        self._address = address
        self._say = say

    def tls(self) -> str | None:
        """By a handshake with the address that requests go to. Raises VaultError."""
        endpoint = self._client.meta.endpoint_url
        return handshake.prove(endpoint, self._address.tls, f"vault {self._vault}", VaultError, aws.authorities())

    def clock(self) -> datetime | None:
        """As the store dates its answers."""
        seen = self._asked("look at", "the bucket", lambda: self._client.head_bucket(Bucket=self._address.bucket))
        told = seen["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(told) if told else None

    def put(
        self,
        key: str,
        content: bytes,
        *,
        until: datetime | None = None,
        mode: LockMode | None = None,
        over: bool = False,
    ) -> Reply:
        """In one request, with its SHA-256."""
        lock: dict[str, Any] = {}
        if until is not None and mode is not None:
            lock = {"ObjectLockMode": str(mode).upper(), "ObjectLockRetainUntilDate": until}
        return self._put(key, content, content, lock if over else lock | _NEW)

    def put_damaged(self, key: str) -> Reply:
        """With the SHA-256 of other content."""
        return self._put(key, b"as it came", b"as it was sent", dict(_NEW))

    def former_kept(self, key: str, version: str) -> Reply:
        """It is read, where this login may; else its name, which is none in a bucket without versions, has to do."""
        if version in ("", "null"):
            return Reply(Said.UNKNOWN, "the bucket keeps no versions")

        def read() -> Any:
            answer = self._client.get_object(**self._object(key), VersionId=version)
            with answer["Body"] as body:
                body.read()
            return {"VersionId": version}

        return self._reply("get_object", read)

    def encryption(self, key: str) -> tuple[str, str]:
        """As the object's headers tell."""
        head = self._asked("look up", key, lambda: self._client.head_object(**self._object(key)))
        return str(head.get("ServerSideEncryption", "")), str(head.get("SSEKMSKeyId", ""))

    def locked_until(self, key: str) -> datetime | None:
        """As the object's own headers tell, or the store when it is asked for that alone."""
        head = self._asked("look up", key, lambda: self._client.head_object(**self._object(key)))
        until = head.get("ObjectLockRetainUntilDate")
        if until is None:
            try:
                until = self._client.get_object_retention(**self._object(key))["Retention"]["RetainUntilDate"]
            except (ClientError, KeyError):
                return None
        return until if isinstance(until, datetime) else None

    def relock(self, key: str, until: datetime, mode: LockMode, *, bypass: bool = False) -> Reply:
        """By PutObjectRetention."""
        asked: dict[str, Any] = {"Retention": {"Mode": str(mode).upper(), "RetainUntilDate": until}}
        asked |= {"BypassGovernanceRetention": True} if bypass else {}
        return self._reply(
            "put_object_retention", lambda: self._client.put_object_retention(**self._object(key), **asked)
        )

    def hold(self, key: str, version: str, *, on: bool) -> Reply:
        """By PutObjectLegalHold."""
        asked: dict[str, Any] = {**self._object(key), **_version(version), "LegalHold": {"Status": _HOLD[on]}}
        return self._reply("put_object_legal_hold", lambda: self._client.put_object_legal_hold(**asked))

    def is_held(self, key: str, version: str) -> Reply:
        """By GetObjectLegalHold."""
        told: dict[str, Any] = {}

        def ask() -> Any:
            told.update(self._client.get_object_legal_hold(**self._object(key), **_version(version)))
            return told

        reply = self._reply("get_object_legal_hold", ask)
        if reply.said is Said.DONE and told.get("LegalHold", {}).get("Status") != _HOLD[True]:
            return Reply(Said.REFUSED, "it tells of no hold")
        return reply

    def delete(self, key: str, version: str) -> Reply:
        """By DeleteObject, naming the version."""
        named = {"VersionId": version} if version else {}
        return self._reply("delete_object", lambda: self._client.delete_object(**self._object(key), **named))

    def hide(self, key: str) -> Reply:
        """By DeleteObject, naming none."""
        return self._reply("delete_object", lambda: self._client.delete_object(**self._object(key)))

    def clear(self, folder: str, spare: Callable[[str], bool]) -> dict[str, str]:
        """Version by version; in a bucket whose versions this login may not list, what is read now."""
        kept: dict[str, str] = {}
        own = len(self._address.key(""))
        for name, version in self._versions(folder):
            key = name[own:]
            if not spare(key) and (reply := self.delete(key, version)).said is not Said.DONE:
                kept[key] = reply.why
        return kept

    # -- how ----------------------------------------------------------------------------------------------------------

    def _put(self, key: str, content: bytes, summed: bytes, lock: dict[str, Any]) -> Reply:
        checksum = base64.b64encode(hashlib.sha256(summed).digest()).decode()
        if self._address.kms_key is not None:
            lock = {**lock, "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._address.kms_key}
        told = {**self._object(key), **lock, "ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
        return self._reply("put_object", lambda: self._client.put_object(**told, Body=content))

    def _versions(self, folder: str) -> list[tuple[str, str]]:
        """Names and versions below a folder, markers among them."""
        place = {"Bucket": self._address.bucket, "Prefix": self._address.key(folder)}
        found: list[tuple[str, str]] = []
        try:
            for page in self._client.get_paginator("list_object_versions").paginate(**place):
                entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                found += [(entry["Key"], str(entry["VersionId"])) for entry in entries]
        except ClientError:
            pages = self._client.get_paginator("list_objects_v2")
            for page in self._asked("list", folder, lambda: list(pages.paginate(**place))):
                found += [(entry["Key"], "") for entry in page.get("Contents", ())]
        except BotoCoreError as error:
            raise self._say.unreached(error, "list", folder) from error
        return found

    def _reply(self, call: str, ask: Callable[[], Any]) -> Reply:
        try:
            answer = ask()
        except ClientError as error:
            told = error.response.get("Error", {})
            code, said = str(told.get("Code", "")), redact(str(told.get("Message") or ""))
            why = f"{said or 'no reason'} ({code})"
            if code in _UNKNOWN or (code == "InvalidRequest" and "lock" in said.lower() and "configur" in said.lower()):
                return Reply(Said.UNKNOWN, why)
            if code in _DENIED and not any(word in said.lower() for word in _KEPT):
                return Reply(Said.DENIED, f"this login may not {_RIGHTS[call]}")
            return Reply(Said.REFUSED, why)
        except BotoCoreError as error:
            raise self._say.unreached(error, call.replace("_", " "), "") from error
        return Reply(Said.DONE, version=str(answer.get("VersionId") or ""))

    def _asked(self, doing: str, key: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except ClientError as error:
            raise self._say.refused(error, doing, key) from error
        except BotoCoreError as error:
            raise self._say.unreached(error, doing, key) from error

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._address.key(key)}


def _version(version: str) -> dict[str, str]:
    return {"VersionId": version} if version else {}
