"""What a check asks of Google Cloud Storage; see `trial`."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

from cto_backups import _native
from cto_backups.config.redaction import redact
from cto_backups.core.policy import LockMode
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import VaultError
from cto_backups.providers import handshake
from cto_backups.providers.google import FAILED, STORAGE, GoogleClient, RefusedError, authorities
from cto_backups.vaults.gcs_errors import GcsWording
from cto_backups.vaults.trial import Reply, Said

_KEPT: Final = ("retentionPolicyNotMet", "objectUnderActiveHold")
_MODES: Final = {LockMode.GOVERNANCE: "Unlocked", LockMode.COMPLIANCE: "Locked"}
_JSON: Final = {"Content-Type": "application/json; charset=UTF-8"}


class GcsTrial:
    """Implements `trial.Trial`. A version is a generation."""

    hides = False

    def __init__(self, vault: str, client: GoogleClient, address: StoreAddress, say: GcsWording) -> None:
        self._vault = vault
        self._client = client
        self._address = address
        self._say = say

    def tls(self) -> str | None:
        """By a handshake with the address that requests go to. Raises VaultError."""
        endpoint = self._address.endpoint or STORAGE
        return handshake.prove(endpoint, self._address.tls, f"vault {self._vault}", VaultError, authorities())

    def clock(self) -> datetime | None:
        """As the store dates its answers."""
        answer = self._asked("list", "", lambda: self._client.ask("GET", self._objects(), maxResults=1))
        told = answer.headers.get("Date")
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
        """In one request, with its CRC32C."""
        lock = _retention(until, mode) if until is not None and mode is not None else {}
        return self._put(key, content, content, lock)

    def put_damaged(self, key: str) -> Reply:
        """With the CRC32C of other content."""
        return self._put(key, b"as it came", b"as it was sent", {})

    def former_kept(self, key: str, version: str) -> Reply:
        """It is asked for by its generation."""
        reply = self._reply("storage.objects.get", "GET", self._object(key), generation=version, fields="generation")
        if reply.said is Said.DONE and reply.version == version:
            return reply
        if reply.said is Said.DENIED:
            return reply
        return Reply(Said.UNKNOWN, "the bucket keeps no versions")

    def encryption(self, key: str) -> tuple[str, str]:
        """Google encrypts everything; it tells of a key only where it is not its own."""
        told = self._asked("look up", key, lambda: self._client.ask("GET", self._object(key), fields="kmsKeyName"))
        named = str(told.json().get("kmsKeyName") or "").partition("/cryptoKeyVersions/")[0]
        if named:
            return "a key of Cloud KMS", named
        return ("keys of Google" if self._address.endpoint is None else ""), ""

    def locked_until(self, key: str) -> datetime | None:
        """As the object's own retention tells."""
        told = self._asked("look up", key, lambda: self._client.ask("GET", self._object(key), fields="retention"))
        until = told.json().get("retention", {}).get("retainUntilTime")
        return datetime.fromisoformat(until) if until else None

    def relock(self, key: str, until: datetime, mode: LockMode, *, bypass: bool = False) -> Reply:
        """By an update of its retention."""
        right = "storage.objects.overrideUnlockedRetention" if bypass else "storage.objects.setRetention"
        return self._reply(
            right,
            "PATCH",
            self._object(key),
            headers=_JSON,
            body=json.dumps(_retention(until, mode)).encode,
            overrideUnlockedRetention="true" if bypass else None,
        )

    def hold(self, key: str, version: str, *, on: bool) -> Reply:
        """By an update of its temporary hold."""
        return self._reply(
            "storage.objects.update",
            "PATCH",
            self._object(key),
            headers=_JSON,
            body=json.dumps({"temporaryHold": on}).encode,
            generation=version or None,
        )

    def is_held(self, key: str, version: str) -> Reply:
        """As the object tells."""
        generation = version or None
        told = self._asked(
            "look up",
            key,
            lambda: self._client.ask("GET", self._object(key), generation=generation, fields="temporaryHold"),
        )
        return Reply(Said.DONE) if told.json().get("temporaryHold") else Reply(Said.REFUSED, "it tells of no hold")

    def delete(self, key: str, version: str) -> Reply:
        """One generation, for good but for soft deletion."""
        return self._reply("storage.objects.delete", "DELETE", self._object(key), generation=version or None)

    def hide(self, key: str) -> Reply:
        """What is there."""
        return self._reply("storage.objects.delete", "DELETE", self._object(key))

    def clear(self, folder: str, spare: Callable[[str], bool]) -> dict[str, str]:
        """Generation by generation."""
        kept: dict[str, str] = {}
        own, token = len(self._address.key("")), None
        found: list[tuple[str, str]] = []
        while True:
            page = self._listed(folder, token)
            found += [(each["name"], str(each.get("generation", ""))) for each in page.get("items", ())]
            token = page.get("nextPageToken")
            if not token:
                break
        for name, generation in found:
            key = name[own:]
            if not spare(key) and (reply := self.delete(key, generation)).said is not Said.DONE:
                kept[key] = reply.why
        return kept

    # -- how ----------------------------------------------------------------------------------------------------------

    def _put(self, key: str, content: bytes, summed: bytes, lock: Mapping[str, Any]) -> Reply:
        checksum = base64.b64encode(_native.crc32c(summed, 0).to_bytes(4, "big")).decode()
        told = json.dumps({"name": self._address.key(key), "crc32c": checksum, **lock})
        boundary = uuid.uuid4().hex
        begin = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{told}\r\n"
        middle = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        body = b"".join([begin.encode(), middle.encode(), content, f"\r\n--{boundary}--\r\n".encode()])
        return self._reply(
            "storage.objects.create" + (" and storage.objects.setRetention" if lock else ""),
            "POST",
            f"/upload{self._objects()}",
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=lambda: body,
            uploadType="multipart",
            kmsKeyName=self._address.kms_key,
            name=self._address.key(key),
        )

    def _listed(self, folder: str, token: str | None) -> Any:
        return self._asked(
            "list",
            folder,
            lambda: self._client.ask(
                "GET",
                self._objects(),
                prefix=self._address.key(folder),
                versions="true",
                pageToken=token,
                fields="nextPageToken,items(name,generation)",
            ),
        ).json()

    def _reply(self, right: str, method: str, path: str, **asked: Any) -> Reply:
        try:
            answer = self._client.ask(method, path, **asked)
        except RefusedError as error:
            said = redact(error.message)
            if error.status == 403 and error.reason not in _KEPT and "retention" not in said.lower():
                return Reply(Said.DENIED, f"this login has not {right}")
            if error.status in (400, 412, 501) and "retention is not enabled" in said.lower():
                return Reply(Said.UNKNOWN, said)
            return Reply(Said.REFUSED, f"{said} ({error.reason or error.status})")
        except FAILED as error:
            raise self._say.unreached(error, "ask", "") from error
        try:
            told = answer.json() or {}
        except ValueError:  # nothing, where something was deleted
            told = {}
        return Reply(Said.DONE, version=str(told.get("generation") or ""))

    def _asked(self, doing: str, key: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except RefusedError as error:
            raise self._say.refused(error, doing, key) from error
        except FAILED as error:
            raise self._say.unreached(error, doing, key) from error

    def _objects(self) -> str:
        return f"/storage/v1/b/{quote(self._address.bucket, safe='')}/o"

    def _object(self, key: str) -> str:
        return f"{self._objects()}/{quote(self._address.key(key), safe='')}"


def _retention(until: datetime, mode: LockMode) -> dict[str, Any]:
    end = until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"retention": {"mode": _MODES[mode], "retainUntilTime": end}}
