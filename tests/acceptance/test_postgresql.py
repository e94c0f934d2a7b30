"""A server's files come back without this program: stock restic restores them, and PostgreSQL recovers from them."""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cto_backups.core.payloads import SnapshotLabel
from cto_backups.sources.postgresql.source import PostgresqlSource
from servers import postgresql
from stock.product import HOSTNAME, PREFIX, TAGS, new_store
from stock.restic import Restic

pytestmark = pytest.mark.stock_restic


def test_stock_restores_a_server_that_recovers_by_itself(
    stock_restic: Path, postgresql_programs: Path, tmp_path: Path
) -> None:
    """With a tablespace, and with what was committed after the files were read."""
    store = new_store(tmp_path / "vault")
    with postgresql.server(postgresql_programs, wal_level="logical") as server:
        (server.place / "space").mkdir()
        postgresql.give(server.place / "space")
        server.do(f"CREATE TABLESPACE apart LOCATION '{server.place}/space'")
        rows = "SELECT n, 'row ' || n AS word FROM generate_series(1, 50000) n"
        server.do(f"CREATE TABLE kept TABLESPACE apart AS {rows}")
        options = {"host": str(server.place), "user": "postgres", "method": "physical"}
        source = PostgresqlSource("shop", options, state=tmp_path / "state")
        with source.capture() as capture, store.writing() as writing:
            draft = writing.write(capture.tree)
            expected = capture.fingerprint()
            snapshot = writing.commit(draft, SnapshotLabel(datetime.now(UTC), HOSTNAME, "root", capture.paths, TAGS))
        server.do("DROP TABLE kept")
    assert expected.counts["rows"] == 50_000
    restic = Restic(stock_restic, tmp_path / "vault" / PREFIX)
    restic.check("--read-data")
    with tempfile.TemporaryDirectory(prefix="pg-back-") as folder:
        place = Path(folder)
        restic.run("restore", snapshot, "--target", place)
        assert sorted(each.name for each in place.iterdir()) == ["data", "moments.json", "tablespaces", "wal"]
        postgresql.give(place)
        with postgresql.running(postgresql_programs, place) as again:
            assert again.do("SELECT count(*), count(DISTINCT word) FROM kept") == [(50_000, 50_000)]
            assert again.do("SELECT spcname FROM pg_tablespace WHERE spcname = 'apart'") == [("apart",)]
            for _ in range(200):
                if again.do("SELECT pg_is_in_recovery()") == [(False,)]:
                    break
                time.sleep(0.05)
            again.do("INSERT INTO kept VALUES (0, 'it is open again')")
