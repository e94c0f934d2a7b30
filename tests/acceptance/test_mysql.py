"""Databases come back without this program: stock restic restores dumps and log, the server's own tools read them."""

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cto_backups.core.payloads import SnapshotLabel
from cto_backups.sources.mysql.source import MysqlSource
from servers import mariadb
from stock.product import HOSTNAME, PREFIX, TAGS, new_store
from stock.restic import Restic

pytestmark = pytest.mark.stock_restic


def test_stock_brings_databases_and_accounts_back(stock_restic: Path, mariadbd: Path, tmp_path: Path) -> None:
    """In the order that the how-to tells: users, databases, grants as far as they go, views, grants."""
    brought_back(stock_restic, mariadbd, tmp_path)
    dumps = sorted(file.name for file in (tmp_path / "back").glob("database-*.sql"))
    with mariadb.server(mariadbd, **{"gtid-strict-mode": "0"}) as other:
        client = ["mariadb", "--no-defaults", f"--socket={other.socket}", f"--password={mariadb.PASSWORD}", "-uroot"]
        client += ["--comments", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"]
        for name in ("users.sql", *dumps, "grants.sql --force", "views.sql", "grants.sql"):
            name, *force = name.split()
            with (tmp_path / "back" / name).open("rb") as file:
                subprocess.run([*client, *force], stdin=file, check=not force)
        carry_out(client, tmp_path / "back")
        as_it_was(other)
        ((body,),) = other.do("SELECT ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_NAME = 'tidy'")
        assert "-- what is old;" in body


def test_stock_starts_a_server_on_the_files_and_carries_the_log_out(
    stock_restic: Path, mariadbd: Path, mariadb_backup: Path, tmp_path: Path
) -> None:
    """As the how-to tells: prepared by mariadb-backup, and the log in nobody's way."""
    brought_back(stock_restic, mariadbd, tmp_path, {"method": "physical"})
    words = ["--defaults-file=data/backup-my.cnf", "--prepare", "--target-dir=data"]
    subprocess.run([mariadb_backup, *words], cwd=tmp_path / "back", check=True, capture_output=True)
    quiet = {"gtid-strict-mode": "0", "event-scheduler": "OFF"}
    with mariadb.server(mariadbd, files=tmp_path / "back" / "data", **quiet) as other:
        client = ["mariadb", "--no-defaults", f"--socket={other.socket}", f"--password={mariadb.PASSWORD}", "-uroot"]
        carry_out([*client, "--binary-mode", "--max-allowed-packet=1G"], tmp_path / "back")
        as_it_was(other)


def brought_back(restic: Path, mariadbd: Path, tmp_path: Path, more: Mapping[str, object] | None = None) -> None:
    """A point with a log of four pieces, restored by stock restic to the folder `back`."""
    store = new_store(tmp_path / "vault")
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as server:
        mariadb.fill(server)
        options: dict[str, object] = {"host": str(server.socket), "user": "root", "password": lambda: mariadb.PASSWORD}
        options |= {"base_every_seconds": 3600.0, **(more or {})}
        source = MysqlSource("shop", options, state=tmp_path / "state")
        snapshot = None
        for number in range(3):
            with source.capture() as capture, store.writing() as writing:
                draft = writing.write(capture.tree, parent=snapshot)
                assert capture.fingerprint().counts["databases"] == 2
                label = SnapshotLabel(datetime.now(UTC), HOSTNAME, "root", capture.paths, TAGS)
                snapshot = writing.commit(draft, label)
            server.do(f"INSERT INTO zoo.names VALUES ({5000 + number}, 'logged')", "FLUSH BINARY LOGS")
        assert snapshot is not None
    Restic(restic, tmp_path / "vault" / PREFIX).run("restore", snapshot, "--target", tmp_path / "back")


def carry_out(client: list[str], back: Path) -> None:
    """Hand the log to a client."""
    pieces = sorted(back.glob("binlog-*"))
    assert len(pieces) == 4
    log = subprocess.run(["mariadb-binlog", "--skip-gtid-strict-mode", *pieces], capture_output=True, check=True).stdout
    subprocess.run(client, input=log, check=True)


def as_it_was(server: mariadb.Server) -> None:
    """See that rows and rights are there, also of what came into the log alone."""
    assert server.do("SELECT id FROM zoo.names WHERE word = 'logged'") == [(5000,), (5001,)]
    assert server.do("SELECT COUNT(*), SUM(thrice) FROM orders", database="my shop") == [(1502, 4221562.5)]
    assert server.do("SELECT COUNT(*) FROM across", database="my shop") == [(120,)]
    assert server.do("SELECT COUNT(*) FROM mysql.procs_priv WHERE User = 'shop keeper'") == [(1,)]
