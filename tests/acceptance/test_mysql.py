"""Databases come back without this program: stock restic restores the dumps, and the server's own client reads them."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cto_backups.core.payloads import SnapshotLabel
from cto_backups.sources.mysql import MysqlSource
from servers import mariadb
from stock.product import HOSTNAME, PREFIX, TAGS, new_store
from stock.restic import Restic

pytestmark = pytest.mark.stock_restic


def test_stock_brings_databases_and_accounts_back(stock_restic: Path, mariadbd: Path, tmp_path: Path) -> None:
    """In the order that the how-to tells: users, databases, grants as far as they go, views, grants."""
    store = new_store(tmp_path / "vault")
    with mariadb.server(mariadbd) as server:
        mariadb.fill(server)
        options = {"host": str(server.socket), "user": "root", "password": lambda: mariadb.PASSWORD}
        source = MysqlSource("shop", options, state=tmp_path / "state")
        with source.capture() as capture, store.writing() as writing:
            draft = writing.write(capture.tree)
            assert capture.fingerprint().counts["databases"] == 2
            snapshot = writing.commit(draft, SnapshotLabel(datetime.now(UTC), HOSTNAME, "root", capture.paths, TAGS))
    Restic(stock_restic, tmp_path / "vault" / PREFIX).run("restore", snapshot, "--target", tmp_path / "back")
    dumps = sorted(file.name for file in (tmp_path / "back").glob("database-*.sql"))
    with mariadb.server(mariadbd) as other:
        client = ["mariadb", "--no-defaults", f"--socket={other.socket}", f"--password={mariadb.PASSWORD}", "-uroot"]
        client += ["--comments", "--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"]
        for name in ("users.sql", *dumps, "grants.sql --force", "views.sql", "grants.sql"):
            name, *force = name.split()
            with (tmp_path / "back" / name).open("rb") as file:
                subprocess.run([*client, *force], stdin=file, check=not force)
        assert other.do("SELECT COUNT(*), SUM(thrice) FROM orders", database="my shop") == [(1502, 4221562.5)]
        assert other.do("SELECT COUNT(*) FROM across", database="my shop") == [(120,)]
        assert other.do("SELECT COUNT(*) FROM mysql.procs_priv WHERE User = 'shop keeper'") == [(1,)]
        ((body,),) = other.do("SELECT ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_NAME = 'tidy'")
        assert "-- what is old;" in body
