"""PostgreSQL's files and log: recovered to the very moments that were summed up, under writes; and faults are seen."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes.points import MemoryPoint
from source_contract import Fault, SourceContract, Subject, captured

from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.core.trees import ArrivingTree
from cto_backups.errors import RefusedError, SourceError, VerificationError
from cto_backups.sources.postgresql import dumping, logical, moments, sums
from cto_backups.sources.postgresql.hashes import SHA_256
from cto_backups.sources.postgresql.source import PostgresqlSource
from cto_backups.sources.postgresql.sums import SAMPLED, summed_up
from servers import postgresql
from servers.postgresql import Server

Make = Callable[..., PostgresqlSource]
GRANTS = (
    "GRANT SELECT ON pg_largeobject, pg_largeobject_metadata TO keeper",
    """DO $$ DECLARE each oid; BEGIN
        FOR each IN SELECT oid FROM pg_largeobject_metadata LOOP
            EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO keeper', each);
        END LOOP;
    END $$""",
)
PLACES: dict[str, str] = {}
"""Where files of relations lie, by the names of the relations."""


@pytest.fixture(scope="module")
def shop(postgresql_programs: Path) -> Iterator[Server]:
    """A server with a bit of everything, which tests may add to."""
    with postgresql.server(postgresql_programs, wal_level="logical") as made:
        postgresql.fill(made)
        made.do("CHECKPOINT")
        for name in ("sales.events_2025", "sales.orders_pkey", "twins"):
            ((path,),) = made.do(f"SELECT pg_relation_filepath('{name}')", database="my shop")
            PLACES[name] = f"data/{path}"
        yield made


def making(shop: Server, state: Path) -> Make:
    def made(name: str = "shop", **options: Any) -> PostgresqlSource:
        given = {"host": str(shop.place), "port": shop.port, "user": "postgres", "method": "physical", **options}
        return PostgresqlSource(name, given, state=state)

    return made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Make:
    return making(shop, tmp_path / "state")


@pytest.fixture(scope="module")
def taken_once(shop: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryPoint, Fingerprint]:
    return captured(making(shop, tmp_path_factory.mktemp("state"))())


def altered(relation: str, old: bytes, new: bytes) -> Fault:
    """A file of a relation in which something else stands."""

    def fault(restored: Path) -> None:
        file = restored / PLACES[relation]
        content = file.read_bytes()
        assert old in content and len(old) == len(new)
        file.write_bytes(content.replace(old, new))

    return fault


def blank(relation: str, page: int) -> Fault:
    """A page of zeroes: PostgreSQL takes it for one that was never used."""

    def fault(restored: Path) -> None:
        with (restored / PLACES[relation]).open("r+b") as file:
            file.seek(page * 8192)
            assert file.read(8192).strip(b"\0")
            file.seek(page * 8192)
            file.write(bytes(8192))

    return fault


def lost(pattern: str) -> Fault:
    def fault(restored: Path) -> None:
        files = sorted(restored.glob(pattern))
        assert files
        files[-1].unlink()

    return fault


def garbled_log(restored: Path) -> None:
    """The last file of the log, without the last of what is in it."""
    last = max((restored / "wal").iterdir())
    content = last.read_bytes()
    there = content.rstrip(b"\0")
    last.write_bytes(there[: len(there) - 100].ljust(len(content), b"\0"))


def leaf(change: Callable[[bytearray, int], None]) -> Fault:
    """A page of an index in which something else stands; its second argument is where its list of entries ends."""

    def fault(restored: Path) -> None:
        with (restored / PLACES["sales.orders_pkey"]).open("r+b") as file:
            file.seek(2 * 8192)
            page = bytearray(file.read(8192))
            change(page, int.from_bytes(page[12:14], "little"))
            file.seek(2 * 8192)
            file.write(page)

    return fault


def swapped(page: bytearray, ends: int) -> None:
    page[ends - 40 : ends - 32] = page[ends - 36 : ends - 32] + page[ends - 40 : ends - 36]


def forgotten(page: bytearray, ends: int) -> None:
    page[12:14] = (ends - 4).to_bytes(2, "little")


class TestPhysicalForm(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a row that is another": altered("sales.events_2025", b"event 77", b"event 78"),
        "a blank page of a table": blank("sales.events_2025", 1),
        "a blank page of an index": blank("sales.orders_pkey", 2),
        "entries of an index in another order": leaf(swapped),
        "an index that has lost an entry": leaf(forgotten),
        "a lost file of the log": lost("wal/*"),
        "a log that ends too soon": garbled_log,
        "no word of the moments": lost("moments.json"),
        "no server at all": lost("data/PG_VERSION"),
    }

    # Whatever was committed makes another point, and so does the mark that each leaves in the log.

    def test_an_unchanged_source_has_an_unchanged_fingerprint(self, subject: Subject) -> None:
        first, second = (captured(subject.make())[1] for _ in range(2))
        assert (first.checksums, first.counts) == (second.checksums, second.counts)
        assert first.samples != second.samples

    def test_reading_on_several_threads_in_blocks_and_at_once_gives_the_same(self, subject: Subject) -> None:
        """It comes in one order only."""

    def test_what_is_known_need_not_be_read_and_counts_the_same(self, subject: Subject, tmp_path: Path) -> None:
        """All of it comes."""

    @pytest.fixture
    def taken(self, taken_once: tuple[MemoryPoint, Fingerprint]) -> tuple[MemoryPoint, Fingerprint]:
        return taken_once

    @pytest.fixture
    def subject(self, shop: Server, make: Make) -> Subject:
        number = iter(range(100))

        def change() -> None:
            shop.do(f"INSERT INTO twins VALUES ('{next(number)} of {time.monotonic_ns()}')", database="my shop")

        return Subject(source=make(), make=make, change=change, missing=make("nowhere", host="/nowhere"))


@pytest.fixture
def locking(postgresql_programs: Path) -> Iterator[Server]:
    """A server whose log does not tell what a snapshot shows: its tables are locked for a moment."""
    with postgresql.server(postgresql_programs) as made:
        postgresql.fill(made)
        yield made


@pytest.fixture
def newer(newer_postgresql_programs: Path) -> Iterator[Server]:
    """A server of the newest version."""
    with postgresql.server(newer_postgresql_programs, wal_level="logical") as made:
        postgresql.fill(made, extensions=False)
        yield made


@pytest.mark.parametrize("name", ["shop", "locking", "newer"])
def test_a_point_is_of_one_moment_however_much_is_written_meanwhile(
    name: str, request: pytest.FixtureRequest, make: Make, tmp_path: Path
) -> None:
    """Rows come, change and go, and so do tables; all the time, in two databases."""
    shop: Server = request.getfixturevalue(name)
    source = make(host=str(shop.place), port=shop.port, tools=str(shop.bin))
    shop.do("CREATE TABLE busy (n bigint PRIMARY KEY, word text)", database="my shop")
    shop.do("CREATE TABLE IF NOT EXISTS busy (n bigint PRIMARY KEY, word text)")
    stopping = threading.Event()
    written = dict.fromkeys(("my shop", "postgres"), 0)

    def write(database: str) -> None:
        with shop.connect(database) as session:
            while not stopping.is_set():
                number = written[database] = written[database] + 1
                session.execute("INSERT INTO busy VALUES (%s, 'new')", (number,))
                session.execute("UPDATE busy SET word = word || '.' WHERE n %% 7 = %s %% 7", (number,))
                session.execute("DELETE FROM busy WHERE n = %s - 50", (number,))
                if not number % 40:
                    session.execute(f"CREATE TABLE made_{number} AS SELECT n FROM busy")

    writers = [threading.Thread(target=write, args=(database,)) for database in written]
    for writer in writers:
        writer.start()
    try:
        before = dict(written)
        point, expected = captured(source)
        assert all(written[name] > before[name] for name in written), "nothing was written meanwhile"
    finally:
        stopping.set()
        for writer in writers:
            writer.join()
        shop.do("DROP TABLE busy", database="my shop")
        shop.do("DROP TABLE busy")
    point.restore(tmp_path / "restored")
    assert compare(expected, source.probe(tmp_path / "restored", expected)).differences == ()


def broken(source: PostgresqlSource, break_it: Callable[[], None]) -> SourceError:
    """What is said when something happens while a file comes, of which there is more to read."""
    buffer = memoryview(bytearray(8192))
    with source.capture() as capture, pytest.raises(SourceError, match="could not be read") as failed:
        assert isinstance(capture.tree, ArrivingTree)
        done = False
        for arrival in capture.tree.arrivals():
            while arrival.content is not None and arrival.content.readinto(buffer):
                if arrival.entry.size > len(buffer) and not done:
                    done = True
                    break_it()
    assert failed.value.todo
    return failed.value


@pytest.mark.parametrize("state", ["backup", "streaming"])
def test_a_connection_that_breaks_is_no_point(shop: Server, make: Make, state: str) -> None:
    """The one that brings the files, and the one that brings the log."""

    def end() -> None:
        ended = shop.do(f"SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE state = '{state}'")
        assert ended == [(True,)]

    broken(make(), end)


def test_a_connection_that_breaks_within_a_file_is_no_point_either(shop: Server, make: Make) -> None:
    shop.do("CREATE TABLE wide AS SELECT n, repeat(md5(n::text), 30) AS w FROM generate_series(1, 20000) n")
    try:
        with make(max_rate_kib=8192).capture() as capture, pytest.raises(SourceError, match="could not be read"):
            assert isinstance(capture.tree, ArrivingTree)
            buffer = memoryview(bytearray(1 << 16))
            for arrival in capture.tree.arrivals():
                if arrival.content is not None and arrival.entry.size > 1 << 24:
                    assert arrival.content.readinto(buffer)
                    shop.do("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE state = 'backup'")
                while arrival.content is not None and arrival.content.readinto(buffer):
                    pass
    finally:
        shop.do("DROP TABLE wide")


def test_a_server_that_hangs_is_no_point(shop: Server, make: Make) -> None:
    """It is connected all the time, and says nothing."""
    ((before,),) = shop.do("SELECT count(*) FROM pg_replication_slots")
    stopped: list[int] = []

    def stop() -> None:
        stopped.extend(pid for (pid,) in shop.do("SELECT pid FROM pg_stat_replication WHERE state = 'backup'"))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    begun = time.monotonic()
    try:
        error = broken(make(timeout_seconds=2), stop)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert stopped and "sent nothing for 2 seconds" in error.why
    assert time.monotonic() - begun < 30
    for _ in range(200):
        if shop.do("SELECT count(*) FROM pg_replication_slots") == [(before,)]:
            break
        time.sleep(0.05)


def test_a_server_that_is_killed_is_no_point(postgresql_programs: Path, make: Make) -> None:
    with postgresql.server(postgresql_programs, wal_level="logical") as doomed:
        postgresql.fill(doomed)
        first = int((doomed.place / "data/postmaster.pid").read_text().splitlines()[0])

        def kill() -> None:
            sending = doomed.do("SELECT pid FROM pg_stat_replication WHERE state = 'backup'")
            os.kill(first, signal.SIGKILL)
            os.kill(int(sending[0][0]), signal.SIGKILL)

        broken(make(host=str(doomed.place), port=doomed.port), kill)


def test_nothing_is_left_on_the_server_or_here(shop: Server, make: Make, tmp_path: Path) -> None:
    captured(make())
    with make().capture() as capture:
        assert isinstance(capture.tree, ArrivingTree)
        next(iter(capture.tree.arrivals()))
    for _ in range(100):
        left = shop.do("SELECT slot_name FROM pg_replication_slots"), shop.do("SELECT pid FROM pg_stat_replication")
        if left == ([], []):
            break
        time.sleep(0.05)
    assert left == ([], [])
    assert list((tmp_path / "state").rglob("staged.*")) == []


def test_who_backs_up_needs_to_replicate_and_to_read(shop: Server, make: Make, tmp_path: Path) -> None:
    shop.do("CREATE ROLE keeper LOGIN REPLICATION BYPASSRLS", "GRANT pg_read_all_data TO keeper")
    try:
        shop.do(*GRANTS, database="my shop")
        point, expected = captured(make(user="keeper"))
        point.restore(tmp_path / "restored")
        assert compare(expected, make().probe(tmp_path / "restored", expected)).differences == ()
        shop.do("ALTER ROLE keeper NOREPLICATION")
        with pytest.raises(SourceError, match="replication"):
            captured(make(user="keeper"))
    finally:
        shop.do("DROP OWNED BY keeper", database="my shop")
        shop.do("DROP OWNED BY keeper", "DROP ROLE keeper")


def test_a_standby_is_refused(postgresql_programs: Path, make: Make, tmp_path: Path) -> None:
    """Made from a point of ours, which is kept from being promoted."""
    point, _ = captured(make())
    with tempfile.TemporaryDirectory(prefix="pg-standby-") as folder:
        place = Path(folder)
        point.restore(place)
        (place / "data/recovery.signal").rename(place / "data/standby.signal")
        postgresql.give(place)
        with (
            postgresql.running(postgresql_programs, place, recovery_target_action="pause") as standby,
            pytest.raises(SourceError, match="standby"),
        ):
            captured(make(host=str(standby.place)))


def test_a_timeline_that_came_of_a_recovery_is_recovered_again(
    postgresql_programs: Path, make: Make, tmp_path: Path
) -> None:
    """A point of a server that was itself restored from a point."""
    point, _ = captured(make())
    with tempfile.TemporaryDirectory(prefix="pg-second-") as folder:
        place = Path(folder)
        point.restore(place)
        postgresql.give(place)
        with postgresql.running(postgresql_programs, place, wal_level="logical") as second:
            for _ in range(200):
                if second.do("SELECT pg_is_in_recovery()") == [(False,)]:
                    break
                time.sleep(0.05)
            second.do("INSERT INTO twins VALUES ('of the second timeline')", database="my shop")
            source = make(host=str(second.place))
            again, expected = captured(source)
    assert "/wal/00000002.history" in {path.decode() for path in again.entries}
    again.restore(tmp_path / "again")
    assert compare(expected, source.probe(tmp_path / "again", expected)).differences == ()


def test_it_is_not_restored_into_a_server_that_runs(make: Make) -> None:
    point, _ = captured(make())
    with pytest.raises(RefusedError) as refused:
        make().restore(point, None)
    assert "--to FOLDER" in refused.value.todo


def test_a_point_of_the_other_form_is_still_tested_and_restored(make: Make, tmp_path: Path) -> None:
    point, expected = captured(make(method="logical", databases=("my shop",)))
    source = make()
    source.restore(point, tmp_path / "dumps")
    assert (tmp_path / "dumps/my%20shop.dump").is_file()
    assert compare(expected, source.probe(tmp_path / "dumps", expected)).differences == ()


@pytest.mark.parametrize("method", ["physical", "logical"])
def test_a_point_that_was_summed_up_the_former_way_is_still_tested(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """By the algorithm that its fingerprint names."""
    source = make(method=method, databases=("my shop",))
    with monkeypatch.context() as former:
        for module in (moments, logical):
            former.setattr(module, "summed_up", partial(summed_up, row_hash=SHA_256))
        former.setattr(moments, "PHYSICAL", "postgresql-physical/1")
        former.setattr(dumping, "LOGICAL", "postgresql/1")
        point, expected = captured(source)
    assert expected.algorithm in ("postgresql-physical/1", "postgresql/1")
    point.restore(tmp_path / "restored")
    assert compare(expected, source.probe(tmp_path / "restored", expected)).differences == ()


def test_a_map_that_calls_deleted_rows_visible_is_seen(shop: Server, make: Make, tmp_path: Path) -> None:
    """A server counts by it without looking at the rows; sums look at them, and indexes are sound."""
    shop.do(
        "CREATE TABLE seen AS SELECT generate_series(1, 5000) n",
        "VACUUM seen",
        "DELETE FROM seen WHERE n % 2 = 0",
        "CHECKPOINT",
        database="my shop",
    )
    ((place,),) = shop.do("SELECT pg_relation_filepath('seen')", database="my shop")
    source = make(databases=("my shop",))
    point, expected = captured(source)
    point.restore(tmp_path / "sound")
    assert compare(expected, source.probe(tmp_path / "sound", expected)).differences == ()
    point.restore(tmp_path / "wrong")
    with (tmp_path / "wrong" / "data" / f"{place}_vm").open("r+b") as file:
        file.seek(24)  # behind the page's header, two bits for each page of the table
        file.write(b"\x55")
    with pytest.raises(VerificationError, match="do not work") as raised:
        source.probe(tmp_path / "wrong", expected)
    assert "visible to all" in str(raised.value.why) and "of public.seen" in str(raised.value.why)
    shop.do("DROP TABLE seen", database="my shop")


def test_of_large_tables_the_same_blocks_are_summed_up_after_recovery(
    shop: Server, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dead rows in them, while rows come, change and go; and what is altered in these blocks shows."""
    monkeypatch.setattr(sums, "_WHOLE_BYTES", 2 << 20)
    monkeypatch.setattr(sums, "_PART_BYTES", 1 << 20)
    shop.do(
        "CREATE TABLE large AS SELECT n, 'row ' || n AS word FROM generate_series(1, 60000) n",
        "UPDATE large SET word = word || '.' WHERE n % 3 = 0",
        "DELETE FROM large WHERE n % 7 = 0",
        database="my shop",
    )
    ((path,),) = shop.do("SELECT pg_relation_filepath('large')", database="my shop")
    stopping = threading.Event()

    def write() -> None:
        with shop.connect("my shop") as session:
            number = 0
            while not stopping.is_set():
                number += 1
                session.execute("UPDATE large SET word = 'changed' WHERE n = %s * 11", (number,))
                session.execute("DELETE FROM large WHERE n = %s * 13", (number,))
                session.execute("INSERT INTO large SELECT -n, 'new' FROM generate_series(1, 50) n")

    writer = threading.Thread(target=write)
    writer.start()
    source = make(sums="sampled")
    try:
        point, expected = captured(source)
    finally:
        stopping.set()
        writer.join()
        shop.do("DROP TABLE large", database="my shop")
    assert expected.algorithm == SAMPLED
    (sampled,) = (sample for sample in expected.samples if "seed" in sample.fields)
    assert sampled.key == "my shop: public.large"
    rows, within = int(sampled.fields["rows"]), int(sampled.fields["rows_in_sample"])
    assert 0 < within < rows
    assert expected.counts["rows_beyond_samples"] == rows - within
    point.restore(tmp_path / "restored")
    assert compare(expected, source.probe(tmp_path / "restored", expected)).differences == ()
    point.restore(tmp_path / "altered")
    file = tmp_path / "altered" / "data" / path
    content = file.read_bytes()
    assert b"row 5" in content
    file.write_bytes(content.replace(b"row 5", b"row 6"))
    (first, *_) = compare(expected, source.probe(tmp_path / "altered", expected)).differences
    assert first.startswith("checksum my shop: rows differs")
