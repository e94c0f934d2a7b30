"""A service that speaks the part of Cloud SQL's Admin API that we ask, over real servers of PostgreSQL.

Backups are base backups, the log is archived, a clone recovers to its moment from both, and deleting deletes. What it
does not do as Google does: it takes any token that its own logins gave, and nothing takes minutes.
"""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from servers import google_stores, postgresql
from servers.certificates import certificate
from servers.mariadb import free_port
from servers.postgresql import Server

PROJECT, INSTANCE, REGION = "tests", "ledger", "us-central1"
PASSWORD = "a password of keeper"
HBA = (
    "local all all trust",
    "local replication all trust",
    "host cloudsqladmin all all reject",
    "hostssl all all 127.0.0.0/8 scram-sha-256",
    "",
)

PERMISSIONS = {
    ("GET", "instance"): "cloudsql.instances.get",
    ("GET", "instances"): "cloudsql.instances.list",
    ("GET", "databases"): "cloudsql.databases.list",
    ("GET", "backupRuns"): "cloudsql.backupRuns.list",
    ("POST", "instances"): "cloudsql.instances.create",
    ("POST", "backupRuns"): "cloudsql.backupRuns.create",
    ("POST", "clone"): "cloudsql.instances.clone",
    ("POST", "restoreBackup"): "cloudsql.instances.restoreBackup",
    ("DELETE", "instance"): "cloudsql.instances.delete",
    ("PATCH", "instance"): "cloudsql.instances.update",
    ("GET", "getLatestRecoveryTime"): "cloudsql.instances.get",
    ("GET", "operations"): "cloudsql.instances.get",
}


@dataclass
class Running:
    """An instance: what the API says of it, and its server."""

    told: dict[str, Any]
    server: Any
    stack: ExitStack
    backups: list[dict[str, Any]] = field(default_factory=list)

    @property
    def place(self) -> Path:
        return self.server.place


class RefusedError(Exception):
    """What the API says no to."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass
class CloudSql:
    """The service. `denied` are permissions that nobody has; `troubles` are statuses that the next requests get.

    `held`: no clone gets done while it is not set; with `astray` it is one of that moment. `lost`: the answer
    that the next restore has begun is lost; `unheard`: none begins. `asked` are all requests: method and path.
    """

    bin: Path
    endpoint: str
    logins: google_stores.Logins
    port: int
    folder: Path
    instances: dict[str, Running] = field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    troubles: list[int] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    astray: str = ""
    lost: bool = False
    unheard: bool = False
    _addresses: int = 1
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def main(self) -> Running:
        return self.instances[INSTANCE]

    @property
    def others(self) -> list[str]:
        return sorted(set(self.instances) - {INSTANCE})

    def options(self, **more: Any) -> dict[str, Any]:
        """What a source of it is given."""
        return {
            "project": PROJECT,
            "instance": INSTANCE,
            "user": "keeper",
            "password": lambda: PASSWORD,
            "port": self.port,
            "credentials": lambda: self.logins.key_file,
            "endpoint": self.endpoint,
            "log_seconds": 20.0,
            "operation_seconds": 60.0,
            **more,
        }

    # -- what servers do ----------------------------------------------------------------------------------------------

    def start(self, name: str, place: Path, told: dict[str, Any] | None = None) -> Running:
        """A server on the data of a place, at an address of its own, with a certificate of its own authority."""
        address = self._address()
        archive = place / "archive"
        archive.mkdir(exist_ok=True)
        shown = certificate(self.folder, f"{name}-{self._addresses}")
        data = place / "data"
        shown.put(data / "server.crt", data / "server.key", data)
        postgresql.give(place)
        stack = ExitStack()
        server = stack.enter_context(
            postgresql.running(
                self.bin,
                place,
                listen_addresses=address,
                port=str(self.port),
                ssl="on",
                wal_level="replica",
                archive_mode="on",
                archive_command=f"cp %p {archive}/%f",
                max_connections="40",
            )
        )
        version, authority = f"POSTGRES_{self.bin.parent.name}", shown.shown.read_text()
        made = self._told(name, version, address, authority, (told or {}).get("settings") or SETTINGS)
        running = Running(made, server, stack)
        self.instances[name] = running
        return running

    def _address(self) -> str:
        """Another address of this machine."""
        with self._lock:
            self._addresses += 1
            return f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 200}.{self._addresses}"

    def _told(self, name: str, version: str, address: str, authority: str, settings: dict[str, Any]) -> dict[str, Any]:
        """What the API says of an instance that runs."""
        return {
            "kind": "sql#instance",
            "name": name,
            "project": PROJECT,
            "region": REGION,
            "state": "RUNNABLE",
            "databaseVersion": version,
            "instanceType": "CLOUD_SQL_INSTANCE",
            "createTime": datetime.now(UTC).isoformat(),
            "connectionName": f"{PROJECT}:{REGION}:{name}",
            "settings": json.loads(json.dumps(settings)),
            "ipAddresses": [{"type": "PRIMARY", "ipAddress": address}],
            "serverCaCert": {"cert": authority},
            "rootPassword": "never to be seen",
        }

    def changed(self, running: Running) -> None:
        """Settings of an instance are others now."""

    def new(self, name: str) -> Running:
        """A new, empty server."""
        place = self._place()
        words = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run(place, "initdb", "-D", place / "data", *words)
        hba = "\n".join(HBA)
        (place / "data" / "pg_hba.conf").write_text(hba)
        return self.start(name, place)

    def back_up(self, kind: str, description: str = "") -> dict[str, Any]:
        """A base backup of the main instance."""
        running = self.main
        number = str(1_700_000_000_000 + len(running.backups))
        into = running.place / "backups" / number
        (running.place / "backups").mkdir(exist_ok=True)
        postgresql.give(running.place / "backups")
        words = ["-h", running.place, "-p", str(self.port), "-U", "postgres", "-c", "fast", "--no-sync"]
        self._run(running.place, "pg_basebackup", "-D", into, *words)
        return self._backed_up(number, kind, description)

    def _backed_up(self, number: str, kind: str, description: str) -> dict[str, Any]:
        """Note a backup of the main instance that is there."""
        told = {
            "id": number,
            "status": "SUCCESSFUL",
            "type": kind,
            "description": description,
            "endTime": datetime.now(UTC).isoformat(),
            "location": "us",
            "instance": INSTANCE,
        }
        self.main.backups.insert(0, told)
        return told

    def latest(self) -> datetime:
        """Until when the archive leads, once it has what was written until now."""
        server = self.main.server
        now = datetime.now(UTC)
        ((last,),) = server.do("SELECT pg_walfile_name(pg_current_wal_lsn())")
        server.do("SELECT pg_logical_emit_message(true, 'service', 'x')", "SELECT pg_switch_wal()")
        for _ in range(200):
            if (self.main.place / "archive" / str(last)).exists():
                return now
            time.sleep(0.02)
        raise AssertionError("the log is not archived")

    def clone(self, source: Running, name: str, context: dict[str, Any]) -> None:
        """Recover the newest backup before a moment to that moment, from the archive."""
        moment = datetime.fromisoformat(context["pointInTime"])
        self.latest()
        chosen = next(
            each for each in source.backups if datetime.fromisoformat(each["endTime"]) <= moment + timedelta(seconds=0)
        )
        place = self._place()
        shutil.copytree(source.place / "backups" / chosen["id"], place / "data", symlinks=True)
        with (place / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"restore_command = 'cp {source.place}/archive/%f %p'\n")
            settings.write(f"recovery_target_time = '{moment:%Y-%m-%d %H:%M:%S.%f}+00'\n")
            settings.write("recovery_target_action = 'promote'\n")
        (place / "data" / "recovery.signal").touch()
        running = self.start(name, place, source.told)
        for _ in range(400):
            if running.server.do("SELECT pg_is_in_recovery()") == [(False,)]:
                return
            time.sleep(0.02)
        raise AssertionError("the clone does not come up")

    def restore(self, name: str, number: str) -> None:
        """Put a backup of the main instance in the place of what an instance holds."""
        running = self.instances[name]
        running.stack.close()
        shutil.rmtree(running.place / "data")
        shutil.copytree(self.main.place / "backups" / number, running.place / "data", symlinks=True)
        self.start(name, running.place, running.told).backups = running.backups

    def databases(self, running: Running) -> list[str]:
        """The names of an instance's databases."""
        return [name for (name,) in running.server.do("SELECT datname FROM pg_database WHERE NOT datistemplate")]

    def logs(self, running: Running) -> bool:
        """Whether an instance keeps its log, as it is set."""
        return bool(running.told["settings"]["backupConfiguration"].get("pointInTimeRecoveryEnabled"))

    def delete(self, name: str) -> None:
        """Stop it, and delete all of it."""
        running = self.instances.pop(name)
        running.stack.close()
        if running.told.get("ipAddresses"):
            shutil.rmtree(running.place, ignore_errors=True)

    def _place(self) -> Path:
        place = Path(tempfile.mkdtemp(prefix="cloudsql-", dir=self.folder))
        postgresql.give(place)
        return place

    def _run(self, place: Path, program: str, *words: object) -> None:
        subprocess.run(
            [self.bin / program, *map(str, words)],
            check=True,
            capture_output=True,
            env=postgresql._environment(place),
            cwd=place,
            **postgresql._identity(),
        )

    # -- what the API does --------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((method, path))
        if self.troubles:
            raise RefusedError(self.troubles.pop(0), "backendError", "try again")
        words = path.removeprefix(f"/v1/projects/{PROJECT}/").split("/")
        what = words[2] if len(words) > 2 else {"instances": "instances", "operations": "operations"}[words[0]]
        if len(words) == 2 and words[0] == "instances":
            what = "instance"
        permission = PERMISSIONS[method, what]
        if permission in self.denied:
            raise RefusedError(403, "notAuthorized", "The client is not authorized to make this request.")
        if what == "operations":
            if len(words) == 2:
                return self.operations[words[1]]
            (of,) = query["instance"]
            return {"items": [each for each in self.operations.values() if each.get("targetId") == of]}
        if what == "instances" and method == "POST":
            return self._make(body)
        if what == "instances":
            return {"items": [each.told for each in list(self.instances.values())]}
        found = self.instances.get(words[1])
        if found is None:
            raise RefusedError(404, "instanceDoesNotExist", "The Cloud SQL instance does not exist.")
        return self._answered(method, what, words[1], found, query, body)

    def _answered(
        self, method: str, what: str, name: str, found: Running, query: dict[str, list[str]], body: dict[str, Any]
    ) -> dict[str, Any]:
        match method, what:
            case "GET", "instance":
                return found.told
            case "GET", "backupRuns":
                return {"items": found.backups}
            case "GET", "databases":
                return {"items": [{"name": each} for each in self.databases(found)]}
            case "GET", "getLatestRecoveryTime":
                return self._window(found)
            case "POST", "backupRuns":
                return self._operation(lambda: self.back_up("ON_DEMAND", body.get("description", "")))
            case "POST", "clone":
                return self._clone(found, body["cloneContext"])
            case "POST", "restoreBackup":
                return self._restore(name, body["restoreBackupContext"])
            case "PATCH", "instance":
                found.told["settings"].update(body["settings"])
                return self._operation(lambda: self.changed(found))
            case "DELETE", "instance":
                assert query.get("enableFinalBackup") == ["false"], "else each test would leave a backup behind"
                if found.told["settings"].get("deletionProtectionEnabled"):
                    raise RefusedError(400, "invalidRequest", "The instance is protected.")
                return self._operation(lambda: self.delete(name))
        raise RefusedError(400, "badRequest", f"{method} {what}")

    def _window(self, found: Running) -> dict[str, Any]:
        if not self.logs(found):
            raise RefusedError(400, "invalidRequest", "Point-in-time recovery is not enabled.")
        good = [each["endTime"] for each in found.backups if each["status"] == "SUCCESSFUL"]
        if not good:
            return {}
        return {"earliestRecoveryTime": good[-1], "latestRecoveryTime": self.latest().isoformat()}

    def _clone(self, source: Running, context: dict[str, Any]) -> dict[str, Any]:
        name = context["destinationInstanceName"]
        if name in self.instances:
            raise RefusedError(409, "instanceAlreadyExists", "The Cloud SQL instance already exists.")
        if not self.logs(source):
            raise RefusedError(400, "invalidRequest", "Point-in-time recovery is not enabled.")
        waiting = Running({"name": name, "state": "PENDING_CREATE", "settings": {}}, source.server, ExitStack())
        self.instances[name] = waiting

        def work() -> None:
            self.held.wait(60)
            try:
                self.clone(source, name, {"pointInTime": self.astray} if self.astray else context)
            except Exception:
                waiting.told["state"] = "FAILED"
                raise

        return self._operation(work)

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["name"]
        if name in self.instances:
            raise RefusedError(409, "instanceAlreadyExists", "The Cloud SQL instance already exists.")
        assert body["databaseVersion"] == self.main.told["databaseVersion"] and body["region"] == REGION

        def work() -> None:
            self.new(name).told["settings"] = body["settings"]

        return self._operation(work)

    def _restore(self, name: str, context: dict[str, Any]) -> dict[str, Any]:
        number = context["backupRunId"]
        assert (context["project"], context["instanceId"]) == (PROJECT, INSTANCE)
        if number not in {each["id"] for each in self.main.backups}:
            raise RefusedError(404, "backupRunDoesNotExist", "The backup run does not exist.")
        if self.unheard:
            raise RefusedError(503, "backendError", "try again")
        begun = self._operation(lambda: self.restore(name, number), operationType="RESTORE_VOLUME", targetId=name)
        if self.lost:
            self.lost = False
            raise RefusedError(503, "backendError", "the answer is lost")
        return begun

    def _operation(self, work: Callable[[], object], **more: str) -> dict[str, Any]:
        name = uuid.uuid4().hex
        told: dict[str, Any] = {"name": name, "status": "RUNNING", **more}
        self.operations[name] = told

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - as the service tells it
                told["error"] = {"errors": [{"code": "INTERNAL_ERROR", "message": repr(error)[:200]}]}
            told["status"] = "DONE"

        threading.Thread(target=run, daemon=True).start()
        return dict(told)


SETTINGS = {
    "tier": "db-custom-1-3840",
    "dataDiskSizeGb": "10",
    "deletionProtectionEnabled": True,
    "retainBackupsOnDelete": True,
    "backupConfiguration": {
        "enabled": True,
        "startTime": "02:00",
        "pointInTimeRecoveryEnabled": True,
        "transactionLogRetentionDays": 7,
        "backupRetentionSettings": {"retentionUnit": "COUNT", "retainedBackups": 30},
    },
    "ipConfiguration": {"ipv4Enabled": False, "sslMode": "ENCRYPTED_ONLY", "authorizedNetworks": []},
}


Made = TypeVar("Made", bound=CloudSql)


@contextmanager
def service(kind: type[Made], bin: Path) -> Iterator[Made]:
    """The service, with no instance yet; all that it has then are gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="cloudsql-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        login = stack.enter_context(google_stores.logins())
        made = kind(bin, "", login, free_port(), folder)
        made.held.set()
        made.endpoint = stack.enter_context(_serving(made))
        stack.callback(lambda: [made.delete(name) for name in list(made.instances)])
        yield made


@contextmanager
def cloud_sql(bin: Path) -> Iterator[CloudSql]:
    """The service, with one instance in which there is something, and an automated backup of it."""
    with service(CloudSql, bin) as made:
        running = made.new(INSTANCE)
        running.server.do(
            "CREATE DATABASE cloudsqladmin",
            f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}' BYPASSRLS",
            "GRANT pg_read_all_data TO keeper",
        )
        postgresql.fill(running.server)
        # Nobody is a superuser there: who owns a large object has to let others read it.
        for (number,) in running.server.do("SELECT oid FROM pg_largeobject_metadata", database="my shop"):
            running.server.do(f"GRANT SELECT ON LARGE OBJECT {number} TO keeper", database="my shop")
        made.back_up("AUTOMATED")
        yield made


@contextmanager
def telling(folder: Path, port: int, told: dict[str, Any], key_file: Path) -> Iterator[CloudSql]:
    """The service on a port, of an instance that does not run: it only tells what that is set to."""
    with google_stores.logins() as login:
        key_file.write_text(login.key_file)
        key_file.chmod(0o600)
        made = CloudSql(folder, f"http://127.0.0.1:{port}", login, port, folder)
        made.instances[INSTANCE] = Running(told, Server(folder, folder), ExitStack())
        with _serving(made, port):
            yield made


@contextmanager
def _serving(made: CloudSql, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            url = urlsplit(self.path)
            status = 200
            try:
                if self.headers.get("Authorization", "").removeprefix("Bearer ") not in made.logins.given:
                    raise RefusedError(401, "authError", "Invalid Credentials")
                answer = made.answer(self.command, url.path, parse_qs(url.query), body)
            except RefusedError as refused:
                status = refused.status
                reasons = [{"reason": refused.reason, "message": refused.message}]
                answer = {"error": {"code": status, "message": refused.message, "errors": reasons}}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PATCH = _do  # noqa: N815 - what the library calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
