"""What Cloud SQL is asked to do with the instances of one project, and how its answers are read."""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cto_backups import clock
from cto_backups.core.cloud_sql import BackupRun, Instance
from cto_backups.errors import SourceError
from cto_backups.providers.google import RefusedError
from cto_backups.sources.cloudsql.client import AdminApi
from cto_backups.sources.cloudsql.wording import failed, refused

POSTGRESQL: Final = "POSTGRES"
MYSQL: Final = "MYSQL"
RUNNING: Final = "RUNNABLE"
_BEING_MADE: Final = "PENDING_CREATE"
_EVENTS: Final = "event_scheduler"
_ON: Final = ("on", "1", "true")
_LOOKS_FOR_NEW: Final = 8
_RESTORE: Final = "RESTORE_VOLUME"
_LIKENESS: Final = ("databaseVersion", "region", "diskEncryptionConfiguration")
_OF_ONE: Final = ("kind", "settingsVersion", "replicationLagMaxSeconds")
"""What settings tell of one instance alone."""
_SHARED_AUTHORITIES: Final = ("GOOGLE_MANAGED_CAS_CA", "CUSTOMER_MANAGED_CAS_CA")
_ENCRYPTED: Final = ("ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED")
_FRACTION: Final = re.compile(r"\.(\d{6})\d+")


@dataclass(frozen=True)
class Way:
    """How an instance is reached: its address, the authority that signed its certificate (PEM), and whether the
    certificate is of that address, or only of that authority, which then is the instance's own.
    """

    host: str
    authority: str
    named: bool


@dataclass(frozen=True)
class Window:
    """From when until when any moment comes back."""

    earliest: datetime | None
    latest: datetime | None


@dataclass(frozen=True)
class LogPlace:
    """A place in the binary log of an instance of MySQL: after all that was committed before it."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


class Service:
    """The instances of one project. An operation that takes longer than `patience_seconds` is given up."""

    def __init__(self, api: AdminApi, project: str, patience_seconds: float) -> None:
        self._api = api
        self._project = project
        self._patience_seconds = patience_seconds

    @property
    def _instances(self) -> str:
        return f"projects/{self._project}/instances"

    def get(self, name: str) -> dict[str, Any]:
        """What the API says of an instance. Raises SourceError."""
        return self._api.ask("GET", f"{self._instances}/{name}", "look at the instance")

    def find(self, name: str) -> dict[str, Any]:
        """The same; nothing where there is none."""
        return self._api.ask("GET", f"{self._instances}/{name}", "look at the instance", missing=True)

    def listed(self) -> list[dict[str, Any]]:
        """What the API says of every instance of the project. Raises SourceError."""
        return list(self._api.pages(self._instances, "items", "list the project's instances"))

    def databases(self, name: str) -> list[str]:
        """The names of an instance's databases. Raises SourceError."""
        pages = self._api.pages(f"{self._instances}/{name}/databases", "items", "list its databases")
        return [str(each.get("name")) for each in pages]

    def backups(self, name: str) -> list[BackupRun]:
        """Its backups that are there, the newest first. Raises SourceError."""
        pages = self._api.pages(f"{self._instances}/{name}/backupRuns", "items", "list its backups")
        found = [backup_run(each) for each in pages]
        early = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda each: each.ended_at or early, reverse=True)

    def window(self, name: str) -> Window:
        """Which moments come back: none where the log is not kept. Raises SourceError."""
        path = f"{self._instances}/{name}/getLatestRecoveryTime"
        told = self._api.ask("GET", path, "see how far its log goes", missing=True)
        return Window(_moment(told.get("earliestRecoveryTime")), _moment(told.get("latestRecoveryTime")))

    def window_until(self, name: str, at: datetime, seconds: float) -> Window:
        """The same, once it holds a moment, or so many seconds later. Raises SourceError."""
        until, look = clock.monotonic() + seconds, 0
        while True:
            found = self.window(name)
            if (found.latest is not None and found.latest >= at) or clock.monotonic() > until:
                return found
            look += 1
            self._api.look_again(look)

    def back_up(self, name: str, description: str) -> BackupRun:
        """A backup with this description: the one that there is, or a new one; when it is good. Raises SourceError."""
        doing = "begin a backup"
        found = next((each for each in self.backups(name) if each.description == description), None)
        if found is None:
            path = f"{self._instances}/{name}/backupRuns"
            self._begun(lambda: self._api.ask("POST", path, doing, body={"description": description}), doing, path)
        for look in self._looks("make a backup"):
            found = next((each for each in self.backups(name) if each.description == description), None)
            if found is not None and found.is_good:
                return found
            if found is None and look > _LOOKS_FOR_NEW:
                raise failed(self._api.source, "make a backup", "none was begun, though we asked for it")
            if found is not None and found.ended_at is not None:
                raise failed(self._api.source, "make a backup", found.error or f"it ended as {found.status}")
        raise AssertionError("looks end by an error alone")

    def clone(self, name: str, into: str, to: str | LogPlace) -> None:
        """A new instance as this one was at a moment (RFC 3339), or a place in its log, running. Raises SourceError."""
        path, doing = f"{self._instances}/{name}/clone", "clone the instance"
        context: dict[str, Any] = {"kind": "sql#cloneContext", "destinationInstanceName": into}
        if isinstance(to, LogPlace):
            place = {"binLogFileName": to.file, "binLogPosition": str(to.offset)}
            context["binLogCoordinates"] = {"kind": "sql#binLogCoordinates", **place}
        else:
            context["pointInTime"] = to
        operation = self._begun(lambda: self._api.ask("POST", path, doing, body={"cloneContext": context}), doing, path)
        self._finished(operation, doing, into)

    def make(self, name: str, like: Mapping[str, Any]) -> None:
        """A new, empty instance with the version, the region and the settings of another one. Raises SourceError."""
        path, doing = self._instances, "make an instance"
        body = {key: like[key] for key in _LIKENESS if like.get(key)}
        settings = {key: value for key, value in _part(like, "settings").items() if key not in _OF_ONE}
        body |= {"name": name, "settings": settings}
        operation = self._begun(lambda: self._api.ask("POST", path, doing, body=body), doing, path)
        self._finished(operation, doing, name)

    def restore_backup(self, name: str, number: str, into: str) -> None:
        """Put a backup's data in the place of all that an instance holds, which may be another. Raises SourceError.

        Where the answer was lost, the service is asked whether it has begun: it is never asked to do it twice.
        """
        path, doing = f"{self._instances}/{into}/restoreBackup", "restore a backup"
        before = {each.get("name") for each in self._restores(into)}
        context = {"backupRunId": number, "instanceId": name, "project": self._project}
        body = {"restoreBackupContext": context}
        operation = self._begun(
            lambda: self._api.ask("POST", path, doing, body=body, once=True), doing, path, taken=False
        ) or self._begun_since(into, before, doing)
        self._finished(operation, doing, into)

    def _begun_since(self, instance: str, before: Collection[object], doing: str) -> dict[str, Any]:
        for look in self._looks(doing):
            found = next((each for each in self._restores(instance) if each.get("name") not in before), None)
            if found is not None:
                return found
            if look > _LOOKS_FOR_NEW:
                break
        raise failed(self._api.source, doing, "its answer was lost, and it knows of none that was begun")

    def _restores(self, instance: str) -> list[dict[str, Any]]:
        """The operations that restore, or restored, a backup to an instance."""
        path = f"projects/{self._project}/operations"
        pages = self._api.pages(path, "items", "follow an operation", instance=instance)
        return [each for each in pages if each.get("operationType") == _RESTORE]

    def is_being_made(self, name: str) -> bool:
        """Whether there is such an instance, which does not run yet. Raises SourceError."""
        return self.find(name).get("state") == _BEING_MADE

    def without_events(self, clone: Mapping[str, Any]) -> None:
        """Switch off what a clone would do of itself, where its instance has that on. Raises SourceError.

        A clone is made with the flags of its instance, and nobody can ask for others.
        """
        flags = _part(clone, "settings").get("databaseFlags") or []
        if any(each.get("name") == _EVENTS and str(each.get("value")).lower() in _ON for each in flags):
            kept = [each for each in flags if each.get("name") != _EVENTS]
            self._change(str(clone["name"]), {"databaseFlags": [*kept, {"name": _EVENTS, "value": "off"}]})

    def _change(self, name: str, settings: Mapping[str, Any]) -> None:
        """Set a clone otherwise: only what we made ourselves."""
        path, doing = f"{self._instances}/{name}", "change a clone"
        body = {"settings": settings}
        operation = self._begun(lambda: self._api.ask("PATCH", path, doing, body=body), doing, path)
        self._finished(operation, doing, name)

    def delete(self, name: str) -> None:
        """Delete an instance, without a last backup of it; fine where there is none. Raises SourceError.

        Of one that is protected from that the protection is taken first: only for what we made ourselves.
        """
        path, doing = f"{self._instances}/{name}", "delete a clone"
        for _ in self._looks(doing):
            there = self.find(name)
            if there.get("state") != _BEING_MADE:
                break  # what is still being made cannot be deleted
        if not there:
            return
        if _part(there, "settings").get("deletionProtectionEnabled"):
            self._change(name, {"deletionProtectionEnabled": False})
        try:
            operation = self._api.ask("DELETE", path, doing, missing=True, enableFinalBackup="false")
        except RefusedError:
            operation = {}  # it may have come through
        self._finished(operation, doing, "")
        for _ in self._looks(doing):
            if not self.find(name):
                return

    def _begun(
        self, asked: Callable[[], dict[str, Any]], doing: str, path: str, *, taken: bool = True
    ) -> dict[str, Any]:
        """The operation that was begun; nothing where an earlier try may have begun it, and a later one was refused.

        That a name is `taken` (409) says so of what has a name of its own.
        """
        try:
            return asked()
        except RefusedError as error:
            if error.status == 0 or error.status >= 500 or (taken and error.status == 409):
                return {}
            raise refused(self._api.source, error, doing, path) from error

    def _finished(self, operation: Mapping[str, Any], doing: str, running: str) -> None:
        """Wait for an operation, and then for the instance `running`, where one is named. Raises SourceError."""
        name = operation.get("name")
        for _ in self._looks(doing):
            if not name or operation.get("status") == "DONE":
                break
            operation = self._api.ask("GET", f"projects/{self._project}/operations/{name}", "follow an operation")
        errors = _part(operation, "error").get("errors") or ()
        if errors:
            words = (f"{each.get('message') or ''} ({each.get('code')})".strip() for each in errors)
            raise failed(self._api.source, doing, "; ".join(words))
        for look in self._looks(doing):
            state = self.find(running).get("state") if running else RUNNING
            if state == RUNNING:
                return
            if state in ("FAILED", "SUSPENDED") or (state is None and look > _LOOKS_FOR_NEW):
                raise failed(self._api.source, doing, f"instance {running} is {state or 'not there'}")

    def _looks(self, doing: str) -> Iterator[int]:
        """Look, and look again, with longer and longer pauses. Raises SourceError when it takes too long."""
        until = clock.monotonic() + self._patience_seconds
        look = 0
        while True:
            yield look
            if self._api.limit.left() == 0 or clock.monotonic() > until:
                raise failed(self._api.source, doing, "it took longer than policy gives it")
            look += 1
            self._api.look_again(look)


@contextmanager
def opened(api: AdminApi, project: str, patience_seconds: float) -> Iterator[Service]:
    """A service whose connections are closed in the end."""
    try:
        yield Service(api, project, patience_seconds)
    finally:
        api.close()


def engine(instance: Mapping[str, Any]) -> str:
    """Which server it is: POSTGRES, MYSQL or SQLSERVER."""
    return str(instance.get("databaseVersion") or "").partition("_")[0]


def way(source: str, instance: Mapping[str, Any], private: bool | None) -> Way:
    """How to reach it: by its private address, or where `private` is None by the one it has. Raises SourceError."""
    found = {str(each.get("type")): str(each.get("ipAddress")) for each in instance.get("ipAddresses") or ()}
    wanted = ("PRIVATE", "PRIMARY") if private is None else ("PRIVATE",) if private else ("PRIMARY",)
    address = next((found[each] for each in wanted if each in found), None)
    if address is None:
        raise SourceError(
            f"source {source}: instance {instance.get('name')} has no {'private' if private else 'public'} address",
            why=f"it has: {', '.join(found) or 'none'}; its state is {instance.get('state')}",
            todo="Correct `address` of the source; or give it `host`, the socket of a Cloud SQL Auth Proxy.",
        )
    authority = str(_part(instance, "serverCaCert").get("cert") or "")
    network = _part(_part(instance, "settings"), "ipConfiguration")
    names = [str(each.get("name")) for each in instance.get("dnsNames") or ()] or [str(instance.get("dnsName") or "")]
    # An authority of many instances proves nothing about which of them answers: then its name has to.
    if network.get("serverCaMode") in _SHARED_AUTHORITIES and names[0]:
        return Way(names[0].rstrip("."), authority, named=True)
    return Way(str(ipaddress.ip_address(address)), authority, named=False)


def settings(instance: Mapping[str, Any], backups: Sequence[BackupRun], leftovers: Sequence[str] = ()) -> Instance:
    """What it is set to, as controls judge it."""
    given = _part(instance, "settings")
    kept = _part(given, "backupConfiguration")
    network = _part(given, "ipConfiguration")
    final = _part(given, "finalBackupConfig")
    survive = "its backups stay" if given.get("retainBackupsOnDelete") else ""
    if final.get("enabled") and not survive:
        survive = f"a final backup stays for {final.get('retentionDays') or 'some'} days"
    automated = [each for each in backups if each.kind == "AUTOMATED" and each.ended_at is not None]
    good = next((each for each in automated if each.is_good), None)
    last = automated[0] if automated else None
    return Instance(
        name=str(instance.get("name")),
        region=str(instance.get("region") or ""),
        backups=kept.get("enabled") is True,
        backups_kept=_number(_part(kept, "backupRetentionSettings").get("retainedBackups")),
        point_in_time=kept.get("pointInTimeRecoveryEnabled") is True or kept.get("binaryLogEnabled") is True,
        log_days=_number(kept.get("transactionLogRetentionDays")),
        window=str(kept.get("startTime") or ""),
        backup_location=str(kept.get("location") or ""),
        deletion_protection=given.get("deletionProtectionEnabled") is True,
        survive=survive,
        public_address=network.get("ipv4Enabled") is True,
        networks=tuple(str(each.get("value")) for each in network.get("authorizedNetworks") or ()),
        encrypted=network.get("sslMode") in _ENCRYPTED or network.get("requireSsl") is True,
        newest_at=good.ended_at if good is not None else None,
        failed=(last.error or last.status) if last is not None and not last.is_good else "",
        leftovers=tuple(leftovers),
    )


def backup_run(told: Mapping[str, Any]) -> BackupRun:
    """One backup, as the API tells of it."""
    error = _part(told, "error")
    return BackupRun(
        number=str(told.get("id") or ""),
        status=str(told.get("status") or ""),
        kind=str(told.get("type") or ""),
        ended_at=_moment(told.get("endTime")),
        location=str(told.get("location") or ""),
        description=str(told.get("description") or ""),
        error=str(error.get("message") or error.get("code") or ""),
    )


def rfc3339(moment: datetime) -> str:
    """As the API wants it, to the millisecond."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _moment(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(_FRACTION.sub(r".\1", text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _number(value: object) -> int:
    text = str(value or "")
    return int(text) if text.isdecimal() else 0


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name)
    return found if isinstance(found, Mapping) else {}
