"""A PostgreSQL server's log followed as it is written: what is lost with the server, and what each fault does."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cto_backups.core.log_range import follows
from cto_backups.errors import BackupsError, BusyError, ExitStatus, PointNeededError, SourceError
from cto_backups.flows.installation import Installation
from cto_backups.flows.pieces import PieceFiles, tail_of
from cto_backups.flows.stream import follow
from integration.cli.conftest import Home
from integration.cli.following import crash, facts, followed, installed, until, worker
from servers import postgresql
from servers.postgresql import Server

SECTION = """
  shop:
    kind: postgresql
    class: contact-database
    triggers: [daily at 03:00, continuous]
    host: {host}
    user: postgres
    method: physical
    base_every: 1 day
"""
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def shop(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs, wal_level="logical") as made:
        made.do("CREATE TABLE commits (n bigint)")
        yield made


@pytest.fixture
def protecting(home: Home, shop: Server) -> Iterator[Home]:
    """An installation that has a point of the server."""
    shop.do("TRUNCATE commits")
    yield protect(home, shop)
    for (slot,) in shop.do("SELECT slot_name FROM pg_replication_slots WHERE NOT active"):
        shop.do(f"SELECT pg_drop_replication_slot('{slot}')")


def protect(home: Home, server: Server, host: Path | None = None) -> Home:
    text = home.policy.read_text()
    section = SECTION.format(host=host or server.place)
    home.policy.write_text(text.replace("\nsources:\n", "\nsources:" + section, 1))
    assert home("backup").status is ExitStatus.SUCCESS
    return home


def caught_up(installation: Installation, server: Server) -> None:
    """Wait until all that the server has written by now is in a vault."""
    ((now,),) = server.do("SELECT clock_timestamp()")
    until(lambda: (at := facts(installation)) and at.reached_at and at.reached_at > now, "the log is in a vault")


@contextmanager
def recovered(server: Server, home: Home, *arguments: str) -> Iterator[Server]:
    """The server that comes of a restore."""
    with tempfile.TemporaryDirectory(prefix="pg-stream-") as folder:
        place = Path(folder) / "back"
        done = home("restore", *arguments, "--to", str(place))
        assert done.status is ExitStatus.SUCCESS, done
        Path(folder).chmod(0o755)
        postgresql.give(place)
        with postgresql.running(server.bin, place) as again:
            until(lambda: again.do("SELECT NOT pg_is_in_recovery()") == [(True,)], "recovered")
            yield again


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
        with suppress(psycopg.Error), self._server.connect() as session:
            while not self._stop:
                session.execute("INSERT INTO commits VALUES (%s)", (self.acknowledged + 1,))
                self.acknowledged += 1
                self.moments[self.acknowledged] = time.monotonic()
                time.sleep(0.0005)


def kill(server: Server) -> None:
    """End a server as a power failure would."""
    first = int((server.place / "data" / "postmaster.pid").read_text().split()[0])
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(first)], capture_output=True, text=True, check=True)
    for process in (first, *map(int, listed.stdout.split())):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_killing_server_and_worker_loses_less_than_a_second_of_commits(
    home: Home, postgresql_programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with postgresql.server(postgresql_programs, wal_level="logical") as primary:
        primary.do("CREATE TABLE commits (n bigint)")
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
                kill(primary)
            committed, moments = writer.acknowledged, writer.moments
            at_end = moments[committed]
            until(lambda: "not followed" in (tmp_path / "second.log").read_text(), "the worker says so")
        finally:
            for process in (first, second):
                if process is not None:
                    crash(process)
        told = home("status", "shop")
        assert "its log is followed by no worker" in " ".join(told.out.split()), told
    with recovered(primary, home, "shop") as again:
        ((count, last),) = again.do("SELECT count(*), max(n) FROM commits")
    assert count == last, "no commit before the last is missing"
    seconds = at_end - moments[last] if last < committed else 0.0
    with capsys.disabled():
        lost = max(committed - last, 0)
        print(f"\nkill -9 of the primary: {lost} of {committed} commits lost, of the last {seconds:.2f} s")
    assert last > between, "what the second worker brought is there"
    assert seconds < 3, "this is no measurement: machines are slow; see the printed figure"


def test_any_moment_comes_back_and_the_restore_test_goes_to_the_end(protecting: Home, shop: Server) -> None:
    shop.do("INSERT INTO commits VALUES (1)")
    ((moment,),) = shop.do("SELECT clock_timestamp()")
    time.sleep(0.05)
    shop.do("DELETE FROM commits", "INSERT INTO commits VALUES (2), (3)")
    with followed(protecting) as installation:
        caught_up(installation, shop)
        until(lambda: facts(installation).moment and facts(installation).moment > moment, "a mark after it")
    with recovered(shop, protecting, "shop", "--at", moment.isoformat()) as again:
        assert again.do("SELECT n FROM commits ORDER BY n") == [(1,)]
    with recovered(shop, protecting, "shop") as again:
        assert again.do("SELECT n FROM commits ORDER BY n") == [(2,), (3,)]
    with installed(protecting) as installation:
        point = installation.catalog.latest("shop")
        assert point is not None
    with recovered(shop, protecting, point.id) as again:
        assert again.do("SELECT n FROM commits") == [], "a point that is named comes back as it is"
    for words, found in ((("--at", moment.isoformat()), [(1,)]), ((), [(2,), (3,)])):
        one = ("--database", "postgres", "--table", "commits", "--as", "one table")
        beside = protecting("restore", "shop", *words, *one)
        assert beside.status is ExitStatus.SUCCESS, beside
        assert "of log that were streamed since" in beside.err
        assert shop.do("SELECT n FROM commits ORDER BY n", database="one table") == found
        shop.do('DROP DATABASE "one table"')
    tested = protecting("test", "shop", "--json")
    assert tested.status is ExitStatus.SUCCESS, tested
    (restore,) = [step for step in tested.document["tests"][0]["steps"] if step["name"] == "restore"]
    assert restore["figures"]["streamed_bytes"] > 0


@contextmanager
def nothing_of_its_own(server: Server) -> Iterator[None]:
    """Meanwhile the server's background writer, which tells standbys every 15 seconds what goes on, writes nothing."""
    # Nor does a checkpoint whose time has come, autovacuum, or whoever logs in and clears up what others left.
    server.do("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()", "VACUUM", "CHECKPOINT")
    ((pid,),) = server.do("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        server.do("ALTER SYSTEM RESET autovacuum", "SELECT pg_reload_conf()")


def test_a_moment_after_the_last_mark_brings_nothing_back_that_came_later(
    protecting: Home, shop: Server, monkeypatch: Any
) -> None:
    from datetime import timedelta

    from cto_backups.sources.postgresql import stream as postgresql_stream

    monkeypatch.setattr(postgresql_stream, "_MARK_EVERY", timedelta(hours=1))
    with nothing_of_its_own(shop), followed(protecting) as installation:
        until(lambda: (at := facts(installation)) and at.moment, "the only mark")
        shop.do("INSERT INTO commits VALUES (1)")
        ((between,),) = shop.do("SELECT clock_timestamp()")
        shop.do("INSERT INTO commits VALUES (2)")
        caught_up(installation, shop)
        ((after,),) = shop.do("SELECT clock_timestamp()")
    told = protecting("restore", "shop", "--at", between.isoformat(), "--to", "/nowhere", "--dry-run")
    assert "cannot be told apart" in " ".join(told.err.split()), told
    with recovered(shop, protecting, "shop", "--at", between.isoformat()) as again:
        assert again.do("SELECT n FROM commits") == [], "what is marked last before that moment"
    with recovered(shop, protecting, "shop", "--at", after.isoformat()) as again:
        assert again.do("SELECT n FROM commits ORDER BY n") == [(1,), (2,)], "nothing came after it"


def test_what_was_streamed_is_put_behind_a_point_by_the_documented_commands(
    protecting: Home, shop: Server, stock_restic: Path, tmp_path: Path
) -> None:
    with followed(protecting) as installation:
        shop.do("INSERT INTO commits VALUES (1)", "SELECT pg_switch_wal()", "INSERT INTO commits VALUES (2)")
        caught_up(installation, shop)
        point = installation.catalog.latest("shop")
        assert point is not None
        (copy,) = [known.copy for known in installation.catalog.copies(point.id) if known.copy.vault == "one"]
    text = (ROOT / "docs" / "how-to" / "restore-without-us.md").read_text()
    block = re.search(r"(?:^    .*\n)+", text.partition("## The log that was streamed")[2], re.MULTILINE)
    assert block is not None
    with tempfile.TemporaryDirectory(prefix="pg-stream-") as folder:
        place = Path(folder) / "back"
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "RESTIC_PASSWORD_FILE": str(protecting.root / "keys" / "repository.key"),
        }
        restore = f"restic -r VAULT/repositories/main --no-cache restore {copy.reference} --target RESTORED"
        script = f"set -eu\n{restore}\n{block[0]}".replace("restic -r", f"'{stock_restic}' -r")
        for name, meant in (("VAULT", protecting.vault("one")), ("RESTORED", place), ("SOURCE", "shop")):
            script = script.replace(name, str(meant))
        done = subprocess.run(["bash", "-c", script], env=variables, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done
        Path(folder).chmod(0o755)
        postgresql.give(place)
        with postgresql.running(shop.bin, place) as again:
            until(lambda: again.do("SELECT NOT pg_is_in_recovery()") == [(True,)], "recovered")
            assert again.do("SELECT n FROM commits ORDER BY n") == [(1,), (2,)]


def test_two_never_follow_one_log(protecting: Home, shop: Server) -> None:
    with followed(protecting) as installation:
        caught_up(installation, shop)
        now = facts(installation).reached_at
        with installed(protecting) as other, pytest.raises(BusyError, match="followed by another worker"):
            other.catalog.streams.lease("shop", "two", "elsewhere", 1, now, bool)


def test_of_two_workers_that_run_one_follows_the_log(protecting: Home, shop: Server, tmp_path: Path) -> None:
    """And the other one once that one is gone."""
    connected = "SELECT count(*) FROM pg_stat_replication"
    workers = {name: worker(protecting, tmp_path / f"{name}.log", name) for name in ("first", "second")}
    try:
        with installed(protecting) as installation, Writer(shop):
            caught_up(installation, shop)
            most = 0
            for _ in range(40):
                ((count,),) = shop.do(connected)
                most = max(most, count)
                time.sleep(0.05)
            assert most == 1
            holder = facts(installation).holder
            assert all(process.poll() is None for process in workers.values())
            workers[holder].kill()
            (other,) = workers.keys() - {holder}
            until(lambda: facts(installation).holder == other, "the other worker takes over")
            caught_up(installation, shop)
            assert shop.do(connected) == [(1,)]
    finally:
        for process in workers.values():
            crash(process)


def test_a_vault_that_was_away_gets_what_it_lacks(protecting: Home, shop: Server, monkeypatch: Any) -> None:
    from datetime import timedelta

    from cto_backups.flows import stream

    monkeypatch.setattr(stream, "_FILL_EVERY", timedelta(seconds=1))
    aside = protecting.vault("one").with_name("aside")
    with followed(protecting) as installation:
        caught_up(installation, shop)
        protecting.vault("one").rename(aside)
        shop.do("INSERT INTO commits SELECT generate_series(1, 1000)")
        until(lambda: "vault one gets nothing" in facts(installation).problem, "it is said")
        caught_up(installation, shop)
        shown = " ".join(protecting("status", "shop").out.split())
        assert "does not reach every vault: vault one gets nothing" in shown
        aside.rename(protecting.vault("one"))
        until(lambda: not facts(installation).problem, "it is back")
        caught_up(installation, shop)
        pieces = [set(PieceFiles(installation, vault, "shop").listed()) for vault in ("one", "two")]
        point = installation.catalog.latest("shop")
        assert point is not None and pieces[0] >= pieces[1]
        tails = [tail_of(installation, point, vault) for vault in ("one", "two")]
        assert tails[0] and tails[1] and tails[0].ends >= tails[1].ends


def test_a_new_point_takes_the_place_of_what_was_streamed(protecting: Home, shop: Server, monkeypatch: Any) -> None:
    from datetime import timedelta

    from cto_backups.flows import stream

    monkeypatch.setattr(stream, "_TIDY_EVERY", timedelta(seconds=1))
    with followed(protecting) as installation:
        shop.do("INSERT INTO commits VALUES (1)")
        caught_up(installation, shop)
        before = set(PieceFiles(installation, "one", "shop").listed())
        assert before
        assert protecting("backup", "shop").status is ExitStatus.SUCCESS
        newest = installation.catalog.latest("shop")
        assert newest is not None
        ends = follows(newest).ends  # type: ignore[union-attr]
        for vault in ("one", "two"):
            files = PieceFiles(installation, vault, "shop")
            until(lambda files=files: all(piece.ends > ends for piece in files.listed()), "they are gone")
        shop.do("INSERT INTO commits VALUES (2)")
        caught_up(installation, shop)
        tail = tail_of(installation, newest)
        assert tail is not None and tail.ends > ends, "and it goes on from the new point"
    with recovered(shop, protecting, "shop") as again:
        assert again.do("SELECT n FROM commits ORDER BY n") == [(1,), (2,)]


def test_while_a_base_is_read_the_server_keeps_the_log_since_the_point_before(
    protecting: Home, shop: Server, monkeypatch: Any
) -> None:
    """A stream that begins anew meanwhile goes on from there, and so does the next point when the base fails."""
    from cto_backups.sources.postgresql import log as postgresql_log
    from cto_backups.sources.postgresql.replication import Replication

    kept: list[Any] = []
    finish = Replication.finish_log

    def slot() -> Any:
        return shop.do("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name LIKE 'cto_backups_shop_%'")

    def finished(connection: Replication, durable: int) -> None:
        kept.append(slot())
        finish(connection, durable)

    monkeypatch.setattr(postgresql_log, "_REPORT_SECONDS", 0.0)
    monkeypatch.setattr(Replication, "finish_log", finished)
    before = slot()
    (remembered,) = protecting.root.rglob("base.json")
    remembered.unlink()
    shop.do("INSERT INTO commits VALUES (1)", "SELECT pg_switch_wal()", "INSERT INTO commits VALUES (2)")
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS
    assert remembered.exists(), "it was a base"
    assert kept == [before]
    assert slot() != before, "it is let go once the base is in a vault"


def test_no_log_that_makes_a_tablespace_gets_to_a_vault(protecting: Home, shop: Server) -> None:
    """Going through it would make it at its own path, on the server's machine among its own files."""
    space = Path(tempfile.mkdtemp(prefix="pg-space-"))
    postgresql.give(space)
    try:
        with pytest.raises(BackupsError, match=r"tablespaces of .* were made or dropped"), followed(protecting) as seen:
            caught_up(seen, shop)
            shop.do(f"CREATE TABLESPACE secret_place LOCATION '{space}'")
            until(lambda: facts(seen).problem, "it is said")
        with installed(protecting) as installation:
            point = installation.catalog.latest("shop")
            assert point is not None
            tail = tail_of(installation, point)
            assert tail is not None
            assert all(str(space).encode() not in read.data for read in tail.read())
            with pytest.raises(BackupsError, match="tablespaces"):
                follow(installation, "shop", "here", threading.Event())
    finally:
        shop.do("DROP TABLESPACE IF EXISTS secret_place")
        space.rmdir()


def test_a_tablespace_that_the_server_does_not_tell_of_gets_to_no_vault_and_a_restore_stops_before_it(
    protecting: Home, shop: Server, monkeypatch: Any
) -> None:
    """One that was dropped again within the half second: only the log has it."""
    from cto_backups.sources.postgresql import stream as postgresql_stream

    space = Path(tempfile.mkdtemp(prefix="pg-space-"))
    postgresql.give(space)
    blip = (f"CREATE TABLESPACE blip LOCATION '{space}'", "DROP TABLESPACE blip")
    try:
        with pytest.raises(PointNeededError, match=f"makes one at {space}"), followed(protecting) as seen:
            caught_up(seen, shop)
            shop.do("INSERT INTO commits VALUES (1)")
            caught_up(seen, shop)
            shop.do(*blip)
            until(lambda: facts(seen).stuck_at, "it is said")
        with installed(protecting) as installation:
            before = installation.catalog.latest("shop")
            assert before is not None
            tail = tail_of(installation, before)
            assert tail is not None and all(str(space).encode() not in read.data for read in tail.read())
        # As an earlier release streamed it:
        with monkeypatch.context() as patched, followed(protecting) as seen:
            patched.setattr(postgresql_stream.SpaceWatch, "find", lambda *_: None)
            shop.do("INSERT INTO commits VALUES (2)")
            caught_up(seen, shop)
        back = protecting.root / "back"
        told = protecting("restore", "shop", "--to", str(back))
        assert told.status is ExitStatus.RESTORE, told
        assert f"makes a tablespace at {space}" in " ".join(told.err.split()), told
        postgresql_files = [path.read_bytes() for path in (back / "wal").iterdir()]
        assert all(str(space).encode() not in content for content in postgresql_files)
        assert protecting("backup", "shop").status is ExitStatus.SUCCESS
        with installed(protecting) as installation:
            newest = installation.catalog.latest("shop")
            assert newest is not None
            told_before, told_after = follows(before), follows(newest)
            assert told_before and told_after and told_after.first > told_before.ends, "a base, not the log"
        assert list(space.iterdir()) == []
    finally:
        shop.do("DROP TABLESPACE IF EXISTS blip")
        space.rmdir()


def test_damage_in_one_vault_is_healed_from_another_and_a_hole_ends_the_log(protecting: Home, shop: Server) -> None:
    with followed(protecting) as installation:
        for number in range(3):
            shop.do(f"INSERT INTO commits VALUES ({number})")
            caught_up(installation, shop)
            time.sleep(0.6)
    names = sorted(path.name for path in protecting.vault("one").glob("streams/main/shop/*/*.sealed"))
    assert len(names) >= 3
    for path in protecting.vault("one").glob("streams/main/shop/*/*.sealed"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with recovered(shop, protecting, "shop") as again:
        assert again.do("SELECT count(*) FROM commits") == [(3,)]
    middle = [path for vault in protecting.root.glob("vaults/*") for path in vault.rglob(names[-2])]
    for path in middle:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-2] + b"??")
    back = protecting.root / "back"
    damaged = protecting("restore", "shop", "--to", str(back))
    assert damaged.status is ExitStatus.RESTORE, damaged
    assert "a piece cannot be read" in " ".join(damaged.err.split()), damaged
    assert (back / "data" / "PG_VERSION").is_file() and (back / "streamed.json").is_file(), "all that is before it"
    for path in middle:
        path.unlink()
    with installed(protecting) as installation:
        point = installation.catalog.latest("shop")
        assert point is not None
        tail = tail_of(installation, point)
        assert tail is not None and not re.search(f"{tail.ends:016X}", names[-1]), "it ends before the hole"
    holed = protecting("restore", "shop", "--to", str(protecting.root / "holed"))
    assert holed.status is ExitStatus.RESTORE and "has a gap" in " ".join(holed.err.split()), holed
    tested = protecting("test", "shop", "--vault", "two")
    assert tested.status is ExitStatus.VERIFICATION and "has a gap" in " ".join(tested.err.split()), tested
    with followed(protecting) as installation:
        caught_up(installation, shop)
        tail = tail_of(installation, point)
        assert tail is not None and tail.gap is None, "the server still had it"
    last = max([*names, *(path.name for path in protecting.vault("two").glob("streams/main/shop/*/*.sealed"))])
    for path in (path for vault in protecting.root.glob("vaults/*") for path in vault.rglob(last)):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-2] + b"??")
    shop.do("INSERT INTO commits VALUES (4)")
    with followed(protecting) as installation:
        caught_up(installation, shop)
        tail = tail_of(installation, point)
        assert tail is not None and [*tail.read()], "it goes on before a last piece that is damaged"


def test_pieces_that_vanish_from_the_vaults_are_streamed_once_more(
    protecting: Home, shop: Server, monkeypatch: Any
) -> None:
    from datetime import timedelta

    from cto_backups.flows import stream

    monkeypatch.setattr(stream, "_COMPARE_EVERY", timedelta(seconds=1))
    with pytest.raises(BackupsError, match="gone from the vaults"), followed(protecting) as installation:
        for number in range(3):
            shop.do(f"INSERT INTO commits VALUES ({number})")
            caught_up(installation, shop)
        names = sorted(path.name for path in protecting.vault("one").glob("streams/main/shop/*/*.sealed"))
        for vault in protecting.root.glob("vaults/*"):
            for path in vault.rglob(names[0]):
                path.unlink()
        until(lambda: "gone from the vaults" in facts(installation).problem, "it is said")
    with followed(protecting) as installation:
        caught_up(installation, shop)
        point = installation.catalog.latest("shop")
        assert point is not None
        tail = tail_of(installation, point)
        assert tail is not None and tail.gap is None and tail.ends >= int(names[-1][17:33], 16)


def test_a_server_that_was_set_back_is_not_followed_into_another_history(protecting: Home, shop: Server) -> None:
    with followed(protecting) as installation:
        shop.do("INSERT INTO commits VALUES (1)")
        caught_up(installation, shop)
    with installed(protecting) as installation:
        point = installation.catalog.latest("shop")
        assert point is not None
        tail = tail_of(installation, point)
        assert tail is not None
        *_, last = tail.read()
        for vault in ("one", "two"):
            files = PieceFiles(installation, vault, "shop")
            if last.piece in files.listed():
                files.delete(last.piece)
                files.put(replace(last, data=last.data[:-1] + bytes([last.data[-1] ^ 1])))
        with pytest.raises(BackupsError, match="not the one that was streamed before"):
            follow(installation, "shop", "here", threading.Event())
    assert "so that a new point is due at once" in " ".join(protecting("status", "shop").out.split())


def test_after_a_failover_a_new_base_is_made_at_once_and_the_stream_goes_on(
    home: Home, postgresql_programs: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from datetime import timedelta

    from cto_backups.sources.postgresql import stream as postgresql_stream

    monkeypatch.setattr(postgresql_stream, "_MARK_ONE_EVERY", timedelta(seconds=1))
    monkeypatch.setattr(postgresql_stream, "_MARK_EVERY", timedelta(seconds=1))
    host = tmp_path / "db"  # what leads to the server that may be written to, as a name does
    with postgresql.server(postgresql_programs, wal_level="logical") as primary:
        host.symlink_to(primary.place)
        primary.do("CREATE TABLE commits (n bigint)")
        protect(home, primary, host)
        with postgresql.standby(primary) as second:
            with followed(home) as installation:
                primary.do("INSERT INTO commits VALUES (1)")
                caught_up(installation, primary)
                before = installation.catalog.latest("shop")
                ((moment,),) = primary.do("SELECT clock_timestamp()")
                primary.do("INSERT INTO commits VALUES (2)")
                until(lambda: facts(installation).moment > moment, "a mark after it")
                ((written,),) = primary.do("SELECT pg_current_wal_flush_lsn()")
                replayed = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
                until(lambda: second.do(replayed) == [(True,)], "the standby has it")
                caught_up(installation, primary)
            assert before is not None
            kill(primary)
            host.unlink()
            host.symlink_to(second.place)
            with pytest.raises(SourceError, match="is a standby"), followed(home) as installation:
                until(lambda: facts(installation).problem, "it is said")
            second.do("SELECT pg_promote()")
            until(lambda: second.do("SELECT NOT pg_is_in_recovery()") == [(True,)], "it is the primary")
            with pytest.raises(PointNeededError, match="another one took its place"), followed(home) as installation:
                until(lambda: facts(installation).stuck_at == before.id, "it is said")
            said = home("status", "shop")
            assert f"leads on from {before.id} no longer" in " ".join(said.out.split()), said
            due = home("schedule", "--json").document
            assert "its log needs a new point to go on from" in str(due), due
            second.do("INSERT INTO commits VALUES (3)")
            working = worker(home, tmp_path / "worker.log", "one")
            try:
                with installed(home) as installation:
                    until(lambda: installation.catalog.latest("shop") != before, "a new point")
                    caught_up(installation, second)
                    assert not facts(installation).stuck_at
                    second.do("INSERT INTO commits VALUES (4)")
                    caught_up(installation, second)
            finally:
                working.terminate()
                working.wait()
        with recovered(second, home, "shop") as again:
            assert again.do("SELECT n FROM commits ORDER BY n") == [(1,), (2,), (3,), (4,)]
        with recovered(second, home, "shop", "--at", moment.isoformat()) as again:
            assert again.do("SELECT n FROM commits") == [(1,)], "what was streamed before is there still"


def test_the_log_goes_behind_a_point_whose_own_came_from_another_vault(
    protecting: Home, shop: Server, monkeypatch: Any
) -> None:
    from cto_backups.core.model import Problem
    from cto_backups.repository.reader import SnapshotReader

    with followed(protecting) as installation:
        shop.do("INSERT INTO commits VALUES (1)")
        caught_up(installation, shop)
    restore = SnapshotReader.restore

    def damaged(reader: SnapshotReader, destination: Path, **options: Any) -> Any:
        restored = restore(reader, destination, **options)
        if options["only"]:
            return restored
        log = max((destination / "wal").iterdir())
        log.unlink()
        return replace(restored, problems=(Problem(f"/wal/{log.name}", "damaged", "by this test"),))

    monkeypatch.setattr(SnapshotReader, "restore", damaged)
    with recovered(shop, protecting, "shop") as again:
        assert again.do("SELECT n FROM commits") == [(1,)]
