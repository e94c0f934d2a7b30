"""The service of `cloudsql` with a server of MariaDB in each instance of MySQL.

Backups are made by mariadb-backup, the binary log is the server's own, and a clone is a backup on which
mariadb-binlog's statements are carried out up to a time or a place. MySQL's own server was not at hand.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servers import cloudsql, mariadb
from servers.certificates import certificate
from servers.cloudsql import INSTANCE, PASSWORD, CloudSql, RefusedError, Running

_PATIENCE_SECONDS = 60.0
_NOTES = "xtrabackup_binlog_info"
RIGHTS = "SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE, RELOAD, LOCK TABLES, BINLOG MONITOR"


@dataclass
class CloudSqlMysql(CloudSql):
    """The same API; `bin` is mariadbd itself."""

    def start(
        self, name: str, place: Path, told: dict[str, Any] | None = None, *, before: str = mariadb.PASSWORD
    ) -> Running:
        """A server on the data of a place, at an address of its own, with a certificate of its own authority.

        `before` is root's password there so far.
        """
        address = self._address()
        # MariaDB's tools, which no clone is reached by, trust no certificate that has not the name they asked for.
        named = address if name == INSTANCE else ""
        shown = certificate(self.folder, f"{name}-{self._addresses}", address=named)
        how = mariadb.surroundings(place)
        shown.put(place / "server.crt", place / "server.key", place)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:", place], check=True)
        settings = {
            "datadir": place / "data",
            "socket": place / "mariadb.sock",
            "pid-file": place / "pid",
            "bind-address": address,
            "port": self.port,
            "ssl-cert": place / "server.crt",
            "ssl-key": place / "server.key",
            "require-secure-transport": "ON",
            "innodb-log-file-size": "8M",
            "innodb-buffer-pool-size": "32M",
            "innodb-flush-log-at-trx-commit": 0,
            "log-bin": place / "binlog",
            "server-id": self._addresses,
        }
        words = [f"--{key}={value}" for key, value in settings.items()]
        (place / "mariadb.sock").unlink(missing_ok=True)  # of a server that was here before
        with (place / "log").open("ab") as log:
            process = subprocess.Popen(
                [self.bin, "--no-defaults", "--debug-no-sync", *words], stdout=log, stderr=log, **how
            )
        stack = ExitStack()
        stack.callback(_ended, process)
        server = mariadb.Server(place, self.port, process.pid)
        until = time.monotonic() + _PATIENCE_SECONDS
        while not mariadb.answers(server, before):
            assert process.poll() is None and time.monotonic() < until, (place / "log").read_text()
            time.sleep(0.05)
        made = self._told(name, "MYSQL_8_0", address, shown.shown.read_text(), (told or {}).get("settings") or SETTINGS)
        running = Running(made, server, stack)
        self.instances[name] = running
        return running

    def new(self, name: str) -> Running:
        """A new, empty server."""
        place = self._place()
        subprocess.run(["cp", "-a", mariadb.installed(()), place / "data"], check=True)
        return self.start(name, place, before="")

    def back_up(self, kind: str, description: str = "") -> dict[str, Any]:
        """The files of the main instance, prepared, and where in its log they are."""
        running = self.main
        number = str(1_700_000_000_000 + len(running.backups))
        into = running.place / f"backup-{number}"
        how = mariadb.surroundings(running.place)
        program = ["mariadb-backup", "--no-defaults"]
        login = [f"--socket={running.server.socket}", "--user=root", f"--password={mariadb.PASSWORD}"]
        for words in (["--backup", f"--target-dir={into}", *login], ["--prepare", f"--target-dir={into}"]):
            done = subprocess.run([*program, *words], capture_output=True, **how)
            assert done.returncode == 0, done.stderr.decode()[-2000:]
        return self._backed_up(number, kind, description)

    def latest(self) -> datetime:
        """Until when the log leads, once it has what was written until now."""
        now = datetime.now(UTC)
        self.main.server.do("FLUSH BINARY LOGS")
        return now

    def clone(self, source: Running, name: str, context: dict[str, Any]) -> None:
        """Carry out the log since the newest backup before a moment, or a place, up to there."""
        place, at = context.get("binLogCoordinates"), context.get("pointInTime")
        assert (place is None) != (at is None), "one of them, as the service wants it"
        self.latest()
        logs = sorted(each for each in source.place.glob("binlog.*") if each.suffix[1:].isdigit())
        if place is not None:
            if place["binLogFileName"] not in {each.name for each in logs}:
                raise RefusedError(400, "invalidRequest", "There is no such file of the log.")
            logs = [each for each in logs if each.name <= place["binLogFileName"]]
            until = (place["binLogFileName"], int(place["binLogPosition"]))
            chosen = next(each for each in source.backups if self._at(source, each) <= until)
            end = [f"--stop-position={until[1]}"]
        else:
            moment = datetime.fromisoformat(str(at)).astimezone(UTC)
            chosen = next(each for each in source.backups if datetime.fromisoformat(each["endTime"]) <= moment)
            end = [f"--stop-datetime={moment:%Y-%m-%d %H:%M:%S}"]
        file, offset = self._at(source, chosen)
        running = self._copied(name, source, chosen["id"], self._place())
        self.changed(running)  # it has the flags of its instance
        if place is not None and (file, offset) == until:
            return
        words = [f"--start-position={offset}", *end, *(each for each in logs if each.name >= file)]
        login = [f"--socket={running.server.socket}", "--user=root", f"--password={mariadb.PASSWORD}"]
        doing = ["mariadb", "--no-defaults", *login, "--binary-mode"]
        told = ["mariadb-binlog", "--no-defaults", *map(str, words)]
        with subprocess.Popen(told, stdout=subprocess.PIPE, env={**os.environ, "TZ": "UTC"}) as reading:
            done = subprocess.run(doing, stdin=reading.stdout, capture_output=True, check=False)
        assert done.returncode == 0 and reading.returncode == 0, done.stderr.decode()

    def restore(self, name: str, number: str) -> None:
        """Put a backup of the main instance in the place of what an instance holds."""
        running = self.instances[name]
        running.stack.close()
        shutil.rmtree(running.place / "data")
        backups = running.backups
        self._copied(name, self.main, number, running.place).backups = backups

    def changed(self, running: Running) -> None:
        """The flag that can be changed while a server runs."""
        for flag in running.told["settings"].get("databaseFlags", ()):
            if flag["name"] == "event_scheduler":
                running.server.do(f"SET GLOBAL event_scheduler = {flag['value']}")

    def databases(self, running: Running) -> list[str]:
        return [name for (name,) in running.server.do("SHOW DATABASES")]

    def _copied(self, name: str, source: Running, number: str, place: Path) -> Running:
        shutil.copytree(source.place / f"backup-{number}", place / "data", symlinks=True)
        return self.start(name, place, source.told)

    def _at(self, source: Running, backup: dict[str, Any]) -> tuple[str, int]:
        file, offset, *_ = (source.place / f"backup-{backup['id']}" / _NOTES).read_text().split()
        return Path(file).name, int(offset)

    def _place(self) -> Path:
        place = Path(tempfile.mkdtemp(prefix="cloudsql-", dir=self.folder))
        mariadb.surroundings(place)
        return place

    def logs(self, running: Running) -> bool:
        return bool(running.told["settings"]["backupConfiguration"].get("binaryLogEnabled"))


def _ended(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait(30)


SETTINGS = json.loads(json.dumps(cloudsql.SETTINGS))
SETTINGS["backupConfiguration"]["binaryLogEnabled"] = True
del SETTINGS["backupConfiguration"]["pointInTimeRecoveryEnabled"]


@contextmanager
def cloud_sql(mariadbd: Path) -> Iterator[CloudSqlMysql]:
    """The service, with one instance in which there is something, and an automated backup of it."""
    with cloudsql.service(CloudSqlMysql, mariadbd) as made:
        server = made.new(INSTANCE).server
        mariadb.fill(server)
        server.do(
            f"CREATE USER keeper@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL",
            f"GRANT {RIGHTS} ON *.* TO keeper@'%'",
        )
        server.do(
            "CREATE TABLE fleeting (n int) ENGINE = MEMORY", "INSERT INTO fleeting VALUES (1)", database="my shop"
        )
        made.back_up("AUTOMATED")
        yield made
