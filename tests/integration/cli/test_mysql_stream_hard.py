"""A binary log that is hard to follow: one that the server encrypts, and one in which a transaction is large."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from integration.cli.following import crash, followed, installed, worker
from integration.cli.test_mysql_stream import add, caught_up, protect, recovered
from servers import mariadb
from servers.mariadb import Server

LARGE_BYTES = 64 << 20
GROWTH_BYTES = LARGE_BYTES // 4
INSERT = "INSERT INTO zoo.commits SELECT seq, REPEAT(SHA2(seq, 512), 8)"
WORD = "a word that nobody is to read"


@pytest.fixture
def other(mariadbd: Path) -> Iterator[Server]:
    """A server without databases, to restore to."""
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as made:
        yield made


@pytest.fixture
def encrypting(mariadbd: Path, mariadb_plugins: Path) -> Iterator[Server]:
    """A server whose log is encrypted by a key that nobody else has."""
    place = Path(tempfile.mkdtemp(prefix="mariadb-keys-"))
    try:
        place.chmod(0o755)
        shutil.copy(mariadb_plugins / "file_key_management.so", place)
        (place / "keys").write_text(f"1;{secrets.token_hex(32)}\n")
        settings = {"binlog-format": "ROW", "encrypt-binlog": "1", "plugin-dir": str(place)}
        settings |= {"plugin-load-add": "file_key_management", "file-key-management-filename": str(place / "keys")}
        with mariadb.server(mariadbd, **settings) as made:
            yield made
    finally:
        shutil.rmtree(place)


def test_a_log_that_the_server_encrypts_is_kept_streamed_and_carried_out(
    home: Home, encrypting: Server, other: Server
) -> None:
    encrypting.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY, words longtext)")
    protect(home, encrypting)
    encrypting.do(f"INSERT INTO zoo.commits VALUES (1, '{WORD}')", "FLUSH BINARY LOGS")
    assert home("backup", "shop").status is ExitStatus.SUCCESS
    with followed(home) as installation:
        encrypting.do(f"INSERT INTO zoo.commits VALUES (2, '{WORD}')", "FLUSH BINARY LOGS")
        add(encrypting, 3)
        caught_up(installation, encrypting)
    logs = [file for file in encrypting.place.glob("binlog.0*") if WORD.encode() in file.read_bytes()]
    assert len(list(encrypting.place.glob("binlog.0*"))) >= 3 and not logs, "on the server it cannot be read"
    tested = home("test", "shop", "--json")
    assert tested.status is ExitStatus.SUCCESS, tested
    (step,) = [step for step in tested.document["tests"][0]["steps"] if step["name"] == "restore"]
    assert step["figures"]["streamed_bytes"] > 0
    with recovered(home, encrypting, other, "shop") as again:
        assert again.do(f"SELECT n, words = '{WORD}' FROM zoo.commits") == [(1, 1), (2, 1), (3, 0)]


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had at a time."""
    told = Path(f"/proc/{pid}/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) << 10


def test_a_large_transaction_goes_through_a_worker_that_takes_no_more_memory_for_it(
    home: Home, mariadbd: Path, other: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as primary:
        primary.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY, words longtext)")
        protect(home, primary)
        running = worker(home, tmp_path / "log", "one")
        try:
            with installed(home) as installation:
                primary.do(f"{INSERT} FROM zoo.seq_1_to_16384")  # some pieces of full size, one after the other
                caught_up(installation, primary)
                before = peak_bytes(running.pid)
                primary.do("FLUSH BINARY LOGS", f"{INSERT} FROM zoo.seq_20001_to_85536")
                ((_, size, *_),) = primary.do("SHOW MASTER STATUS")
                assert int(size) > LARGE_BYTES
                caught_up(installation, primary)
            after = peak_bytes(running.pid)
        finally:
            crash(running)
        with recovered(home, primary, other, "shop") as again:
            assert again.do("SELECT COUNT(*), MAX(LENGTH(words)) FROM zoo.commits") == [(16384 + 65536, 1024)]
    with capsys.disabled():
        print(
            f"\n{int(size) >> 20} MiB in one transaction: a worker of {before >> 20} MiB had {after >> 20} MiB at most"
        )
    assert after - before < GROWTH_BYTES
