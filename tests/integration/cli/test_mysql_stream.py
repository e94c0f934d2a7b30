"""A MariaDB server's binary log followed as it is written: what is lost with the server, and what each fault does."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pymysql
import pytest

from cto_backups.core.log_range import follows
from cto_backups.core.streams import Streaming
from cto_backups.errors import BackupsError, ExitStatus, SourceError
from cto_backups.flows.installation import Installation
from cto_backups.flows.pieces import PieceFiles, tail_of
from integration.cli.conftest import Home
from integration.cli.following import crash, facts, followed, installed, until, worker
from servers import mariadb
from servers.mariadb import Server

SECTION = """
  shop:
    kind: mysql
    class: contact-database
    triggers: [daily at 03:00, continuous]
    host: {host}
    user: keeper
    password: file:shop.password
    base_every: 1 day
"""
RIGHTS = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, RELOAD, PROCESS, REPLICATION SLAVE, BINLOG MONITOR"
ROOT = Path(__file__).resolve().parents[3]
ROWS = "SELECT n FROM zoo.commits ORDER BY n"


@pytest.fixture(scope="module")
def shop(mariadbd: Path) -> Iterator[Server]:
    """A server whose log is in many small files, and compressed."""
    settings = {"binlog-format": "ROW", "max-binlog-size": "65536", "log-bin-compress": "1", "gtid-domain-id": "3"}
    with mariadb.server(mariadbd, **settings) as made:
        yield made


@pytest.fixture(scope="module")
def other(mariadbd: Path) -> Iterator[Server]:
    """A server without databases, to restore to."""
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as made:
        yield made


@pytest.fixture
def protecting(home: Home, shop: Server) -> Home:
    """An installation that has a point of the server."""
    empty(shop)
    shop.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY, words longtext)")
    return protect(home, shop)


def empty(server: Server) -> None:
    for (name,) in server.do("SHOW DATABASES"):
        if name not in ("information_schema", "mysql", "performance_schema", "sys"):
            server.do(f"DROP DATABASE `{name}`")


def protect(home: Home, server: Server, section: str = SECTION) -> Home:
    password = home.policy.parent / "shop.password"
    password.write_text(mariadb.PASSWORD)
    password.chmod(0o600)
    server.do(
        f"CREATE USER IF NOT EXISTS keeper@localhost IDENTIFIED BY '{mariadb.PASSWORD}'",
        f"GRANT {RIGHTS} ON *.* TO keeper@localhost",
    )
    text = home.policy.read_text()
    home.policy.write_text(text.replace("\nsources:\n", "\nsources:" + section.format(host=server.socket), 1))
    backed_up = home("backup", "shop")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    return home


def now(server: Server) -> datetime:
    ((moment,),) = server.do("SELECT UTC_TIMESTAMP(6)")
    assert isinstance(moment, datetime)
    return moment.replace(tzinfo=UTC)


def add(server: Server, *numbers: int) -> None:
    server.do(*(f"INSERT INTO zoo.commits VALUES ({number}, REPEAT('word ', 50))" for number in numbers))


def caught_up(installation: Installation, server: Server) -> None:
    """Wait until all that the server has committed by now is in a vault."""
    moment = now(server)
    until(lambda: (at := facts(installation)) and at.reached_at and at.reached_at > moment, "the log is in a vault")


@contextmanager
def recovered(home: Home, shop: Server, other: Server, *arguments: str) -> Iterator[Server]:
    """The server that comes of a restore."""
    text = home.policy.read_text()
    empty(other)
    home.policy.write_text(text.replace(str(shop.socket), str(other.socket)).replace("keeper", other.user))
    try:
        done = home("restore", *arguments, "--in-place", "--yes")
        assert done.status is ExitStatus.SUCCESS, done
        yield other
    finally:
        home.policy.write_text(text)


class Writer:
    """Commits numbers one after the other, and knows the last that the server said is committed."""

    def __init__(self, server: Server) -> None:
        self.acknowledged = 0
        self.moments: dict[int, float] = {}
        self._stop = False
        self._server = server
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def _run(self) -> None:
        with suppress(pymysql.MySQLError), self._server.connect() as session, session.cursor() as cursor:
            while not self._stop:
                cursor.execute("INSERT INTO zoo.commits (n) VALUES (%s)", (self.acknowledged + 1,))
                self.acknowledged += 1
                self.moments[self.acknowledged] = time.monotonic()
                time.sleep(0.0005)


def test_killing_server_and_worker_loses_less_than_a_second_of_commits(
    home: Home, mariadbd: Path, other: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as primary:
        primary.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY)")
        protect(home, primary)
        first = worker(home, tmp_path / "first.log", "first")
        second: subprocess.Popen[bytes] | None = None
        try:
            with installed(home) as installation, Writer(primary) as writer:
                caught_up(installation, primary)
                first.kill()
                first.wait()
                between = writer.acknowledged
                second = worker(home, tmp_path / "second.log", "second")
                until(lambda: facts(installation).holder == "second", "the other worker takes over at once")
                until(lambda: writer.acknowledged > between + 500, "writes go on")
                caught_up(installation, primary)
                shown = home("status", "shop", "--json").document["sources"][0]
                assert shown["stream"]["standing"] is None, shown
                time.sleep(1.0)
                os.kill(primary.pid, signal.SIGKILL)
            committed, moments = writer.acknowledged, writer.moments
            at_end = moments[committed]
            until(lambda: "not followed" in (tmp_path / "second.log").read_text(), "the worker says so")
        finally:
            for process in (first, second):
                if process is not None:
                    crash(process)
        told = home("status", "shop")
        assert "its log is followed by no worker" in " ".join(told.out.split()), told
    with recovered(home, primary, other, "shop") as again:
        ((count, last),) = again.do("SELECT COUNT(*), MAX(n) FROM zoo.commits")
    assert count == last, "no commit before the last is missing"
    seconds = at_end - moments[last] if last < committed else 0.0
    with capsys.disabled():
        lost = max(committed - last, 0)
        print(f"\nkill -9 of the server: {lost} of {committed} commits lost, of the last {seconds:.2f} s")
    assert last > between, "what the second worker brought is there"
    assert seconds < 3, "this is no measurement: machines are slow; see the printed figure"


def test_any_second_comes_back_and_the_restore_test_goes_to_the_end(
    protecting: Home, shop: Server, other: Server, tmp_path: Path
) -> None:
    add(shop, 1)
    time.sleep(1.1)
    moment = now(shop)
    shop.do(
        "DELETE FROM zoo.commits",
        "FLUSH BINARY LOGS",
        "CREATE TABLE zoo.old (n int) ENGINE=MyISAM",
        "INSERT INTO zoo.old SELECT seq FROM zoo.seq_1_to_3",
        "CREATE TEMPORARY TABLE zoo.passing SELECT n + 10 AS n FROM zoo.old",
        "INSERT INTO zoo.old SELECT n FROM zoo.passing",
        "ALTER TABLE zoo.commits ADD COLUMN later int DEFAULT 7",
        "CREATE USER IF NOT EXISTS streamed@localhost",
    )
    shop.do("INSERT INTO zoo.commits (n) VALUES (2), (3)")
    with followed(protecting) as installation:
        caught_up(installation, shop)
        until(lambda: facts(installation).moment > moment, "a mark after it")
    with recovered(protecting, shop, other, "shop", "--at", moment.isoformat()) as again:
        assert again.do(ROWS) == [(1,)]
    with recovered(protecting, shop, other, "shop") as again:
        assert again.do("SELECT n, later FROM zoo.commits ORDER BY n") == [(2, 7), (3, 7)]
        assert again.do("SELECT n FROM zoo.old ORDER BY n") == [(1,), (2,), (3,), (11,), (12,), (13,)]
        assert again.do("SELECT COUNT(*) FROM mysql.user WHERE User = 'streamed'") == [(1,)]
    with installed(protecting) as installation:
        point = installation.catalog.latest("shop")
        assert point is not None
    with recovered(protecting, shop, other, point.id) as again:
        assert again.do(ROWS) == [], "a point that is named comes back as it is"
    tested = protecting("test", "shop", "--json")
    assert tested.status is ExitStatus.SUCCESS, tested
    (restore,) = [step for step in tested.document["tests"][0]["steps"] if step["name"] == "restore"]
    assert restore["figures"]["streamed_bytes"] > 0
    # What never came into the log cannot be deleted by it.
    never = "SET sql_log_bin = 0", "INSERT INTO zoo.commits (n) VALUES (50)", "SET sql_log_bin = 1"
    shop.do(*never, "DELETE FROM zoo.commits WHERE n = 50")
    with followed(protecting) as installation:
        caught_up(installation, shop)
    failed = protecting("test", "shop")
    assert failed.status is ExitStatus.VERIFICATION and "the log stops" in " ".join(failed.err.split()), failed
    for words, streamed in ((("shop",), True), ((point.id, "--overwrite"), False)):
        assert protecting("restore", *words, "--to", str(tmp_path / "files")).status is ExitStatus.SUCCESS
        assert bool([*(tmp_path / "files").glob("streamed*")]) is streamed, "nothing of an earlier restore stays"
    one = protecting("restore", "shop", "--to", str(tmp_path / "one"), "--only", "/database-zoo.sql")
    assert one.status is ExitStatus.SUCCESS and "not with a part" in " ".join((one.out + one.err).split()), one


def test_what_was_streamed_is_carried_out_by_the_documented_commands(
    protecting: Home, shop: Server, other: Server, stock_restic: Path, tmp_path: Path
) -> None:
    add(shop, 1)
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS, "a point that has a log of its own"
    add(shop, 2)
    with followed(protecting) as installation:
        caught_up(installation, shop)
        shop.do("FLUSH BINARY LOGS")
        add(shop, 3)
        caught_up(installation, shop)
        point = installation.catalog.latest("shop")
        assert point is not None
        told, source = follows(point), installation.source("shop")
        assert told is not None and isinstance(source, Streaming)
        for name, value in (("last_event", "0" * 64), ("last_file_begun", "1"), ("version", "9.9"), ("goes_on", "no")):
            changed = replace(told, about={**told.about, name: value})
            with pytest.raises(SourceError, match="on from"), source.follow(changed, None):
                pass
        (copy,) = [known.copy for known in installation.catalog.copies(point.id) if known.copy.vault == "one"]
    back = without_us(protecting, stock_restic, copy.reference, tmp_path)
    empty(other)
    client = ["mariadb", "--no-defaults", f"--socket={other.socket}", f"--password={mariadb.PASSWORD}", "-uroot"]
    client += ["--binary-mode"]
    subprocess.run(client, input=(back / "database-zoo.sql").read_bytes(), check=True)
    pieces = [*sorted(back.glob("binlog-*")), *sorted(back.glob("streamed-*"))]
    assert len(pieces) >= 3
    log = subprocess.run(["mariadb-binlog", "--skip-gtid-strict-mode", *pieces], capture_output=True, check=True).stdout
    subprocess.run(client, input=log, check=True)
    assert other.do(ROWS) == [(1,), (2,), (3,)]


def without_us(home: Home, restic: Path, snapshot: str, tmp_path: Path) -> Path:
    """A snapshot that stock restic restored, with what was streamed behind it, by the commands of the how-to."""
    text = (ROOT / "docs" / "how-to" / "restore-without-us.md").read_text()
    block = re.search(r"(?:^    .*\n)+", text.partition("Of a MariaDB server")[2], re.MULTILINE)
    assert block is not None
    back = tmp_path / "back"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RESTIC_PASSWORD_FILE": str(home.root / "keys" / "repository.key"),
    }
    restore = f"restic -r VAULT/repositories/main --no-cache restore {snapshot} --target RESTORED"
    script = f"set -eu\n{restore}\n{block[0]}".replace("restic -r", f"'{restic}' -r")
    for name, meant in (("VAULT", home.vault("one")), ("RESTORED", back), ("SOURCE", "shop")):
        script = script.replace(name, str(meant))
    done = subprocess.run(["bash", "-c", script], env=variables, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done
    return back


def test_a_transaction_whose_end_did_not_come_is_left_out(
    protecting: Home, shop: Server, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cto_backups.sources.mysql import stream

    monkeypatch.setattr(stream, "_AT_ONCE_BYTES", 20_000)
    add(shop, 1)
    shop.do(
        "CREATE TABLE zoo.others SELECT SHA2(seq, 512) AS words FROM zoo.seq_1_to_2000",
        "INSERT INTO zoo.commits SELECT seq, SHA2(seq, 512) FROM zoo.seq_2_to_1000",
    )
    with followed(protecting) as installation:
        caught_up(installation, shop)
    with followed(protecting) as installation:  # another worker goes on from the last piece
        add(shop, 2000)
        caught_up(installation, shop)
        listed = sorted(PieceFiles(installation, "one", "shop").listed(), key=lambda piece: piece.begins)
    assert len(listed) > 5
    assert [piece.ends for piece in listed[:-1]] == [piece.begins for piece in listed[1:]], "there is no gap"
    with recovered(protecting, shop, other, "shop") as again:
        assert again.do("SELECT COUNT(*), MAX(n) FROM zoo.commits") == [(1001, 2000)]
        assert again.do("SELECT COUNT(*) FROM zoo.others") == [(2000,)]
    with installed(protecting) as installation:
        for vault in ("one", "two", "three"):
            files = PieceFiles(installation, vault, "shop")
            for piece in listed[3:5]:
                files.delete(piece)
    holed = protecting("restore", "shop", "--to", str(protecting.root / "holed"))
    assert holed.status is ExitStatus.RESTORE and "has a gap" in " ".join(holed.err.split()), holed
    with installed(protecting) as installation:
        for vault in ("one", "two", "three"):
            files = PieceFiles(installation, vault, "shop")
            for piece in listed[5:]:
                files.delete(piece)
        point = installation.catalog.latest("shop")
        assert point is not None
        tail = tail_of(installation, point)
        assert tail is not None and tail.ends == listed[2].ends
    with recovered(protecting, shop, other, "shop") as again:
        assert again.do(ROWS) == [(1,)]
        assert again.do("SHOW TABLES FROM zoo LIKE 'others'") == [], "nor is its table made, and left empty"


def test_a_log_that_is_not_the_one_is_not_followed_until_dumps_are_made_again(
    protecting: Home, shop: Server, other: Server
) -> None:
    """Be it thrown away before it was read, or begun anew while it was."""
    add(shop, 1)
    shop.do("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    ((newest, *_),) = shop.do("SHOW MASTER STATUS")

    def purged() -> bool:  # it keeps a file for a moment that it may need after a crash
        shop.do(f"PURGE BINARY LOGS TO '{newest}'")
        return len(shop.do("SHOW BINARY LOGS")) == 1

    until(purged, "the server throws its log away")
    with pytest.raises(BackupsError, match="does not go on") as raised, followed(protecting):
        pass
    assert "binlog_expire_logs_seconds" in raised.value.todo
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS
    with pytest.raises(BackupsError, match="does not go on"), followed(protecting) as installation:
        add(shop, 2)
        caught_up(installation, shop)
        shop.do("RESET MASTER")
        add(shop, *range(10, 40))
        until(lambda: "does not go on" in facts(installation).problem, "it is noticed")
    with pytest.raises(BackupsError, match="does not go on"), followed(protecting):
        pass
    assert "its log is followed by no worker" in " ".join(protecting("status", "shop").out.split())
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS
    add(shop, 3)
    with followed(protecting) as installation:
        caught_up(installation, shop)
    with recovered(protecting, shop, other, "shop") as again:
        assert again.do("SELECT COUNT(*) FROM zoo.commits WHERE n < 10") == [(3,)]


def test_the_log_of_a_server_that_was_killed_goes_on_and_gets_another_name(
    home: Home, mariadbd: Path, other: Server
) -> None:
    """What a server lost of its last file, and others were given, is never taken for what it wrote in its place."""
    durable = {"innodb-flush-log-at-trx-commit": "1", "sync-binlog": "1", "binlog-format": "ROW"}
    with mariadb.server(mariadbd, **durable) as primary:
        primary.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY, words longtext)")
        protect(home, primary)
        again = None
        try:
            with pytest.raises(BackupsError, match="cannot be read"), followed(home) as installation:
                add(primary, 1)
                caught_up(installation, primary)
                again = mariadb.killed_and_started_again(primary)
                until(lambda: facts(installation).problem, "it is noticed")
            with followed(home) as installation:
                add(primary, 2)
                caught_up(installation, primary)
                before = facts(installation).log
            with recovered(home, primary, other, "shop") as back:
                assert back.do(ROWS) == [(1,), (2,)]
            assert home("backup", "shop").status is ExitStatus.SUCCESS
            with followed(home) as installation:
                add(primary, 3)
                caught_up(installation, primary)
                point = installation.catalog.latest("shop")
                assert point is not None and point.size_bytes > 0
                assert facts(installation).log == f"{before}-000002"
            with recovered(home, primary, other, "shop") as back:
                assert back.do(ROWS) == [(1,), (2,), (3,)]
        finally:
            if again is not None:
                again.kill()
                again.wait(30)
