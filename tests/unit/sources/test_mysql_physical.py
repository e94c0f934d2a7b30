"""MariaDB's files: prepared to the very moment that was summed up, under writes; and faults are seen."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pymysql
import pytest
from fakes.memory import MemoryVault
from fakes.points import MemoryPoint
from payload_store_contract import label
from source_contract import Fault, SourceContract, Subject, captured

from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint, Problem
from cto_backups.core.ports import Existing, Restored
from cto_backups.core.trees import ArrivingTree
from cto_backups.errors import RefusedError, SourceError, VerificationError
from cto_backups.process import ToolError
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.mysql import physical
from cto_backups.sources.mysql.mbstream import MbstreamReader
from cto_backups.sources.mysql.relay import relayed
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.pacing import Paced
from cto_backups.sources.staging import staging
from cto_backups.sources.streams import Ready
from servers import mariadb
from servers.mariadb import Server
from servers.writing import Client, writing

Make = Callable[..., MysqlSource]
Kept = tuple[MemoryPoint, Fingerprint]
RIGHTS = "SELECT, SHOW VIEW, TRIGGER, EVENT, RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR"
SHOP = "data/my@0020shop"
PAGE = 16384


@pytest.fixture(scope="module")
def shop(mariadbd: Path, mariadb_backup: Path) -> Iterator[Server]:
    """A server with a bit of everything, which tests may add to."""
    with mariadb.server(mariadbd) as made:
        mariadb.fill(made)
        # Else all tables would count as made while the files are read.
        made.do("SET GLOBAL innodb_max_dirty_pages_pct = 0")
        for _ in range(200):
            ((_, age),) = made.do("SHOW GLOBAL STATUS LIKE 'Innodb_checkpoint_age'")
            if int(age) < 10_000:
                break
            time.sleep(0.05)
        made.do("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT")
        made.do("CREATE USER keeper@localhost IDENTIFIED BY 'kept'", f"GRANT {RIGHTS} ON *.* TO keeper@localhost")
        yield made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Make:
    def made(name: str = "shop", **options: Any) -> MysqlSource:
        given = {"host": str(shop.socket), "user": "keeper", "password": lambda: "kept", "method": "physical"}
        return MysqlSource(name, {**given, **options}, state=tmp_path / "state")

    return made


@pytest.fixture(scope="module")
def kept(shop: Server, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A point of the server as it is at first, for what needs none of its own."""
    options = {"host": str(shop.socket), "user": "keeper", "password": lambda: "kept", "method": "physical"}
    return captured(MysqlSource("shop", options, state=tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="module")
def prepared(shop: Server, kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files, as a restore leaves them."""
    source = MysqlSource("shop", {"host": str(shop.socket)}, state=tmp_path_factory.mktemp("state"))
    place = tmp_path_factory.mktemp("prepared") / "all"
    assert source.restore(kept[0], place).notes == (f"prepared: a server of MariaDB 10.11 starts on {place / 'data'}",)
    return place


def castagnoli(data: bytes) -> int:
    """CRC-32C, with which InnoDB ends each page."""
    sum_ = 0xFFFFFFFF
    for byte in data:
        sum_ ^= byte
        for _ in range(8):
            sum_ = (sum_ >> 1) ^ (0x82F63B78 if sum_ & 1 else 0)
    return sum_ ^ 0xFFFFFFFF


def altered(name: str, old: bytes, new: bytes, *, page: bool = False) -> Fault:
    """A file in which something else stands; of an InnoDB `page`, with a sum that fits."""

    def fault(restored: Path) -> None:
        content = bytearray((restored / name).read_bytes())
        at = content.find(old)
        assert at >= 0 and len(old) == len(new)
        content = content.replace(old, new)
        if page:
            begin = at - at % PAGE
            end = begin + PAGE - 4
            assert content[end : end + 4] != struct.pack(">I", castagnoli(content[begin:end]))
            content[end : end + 4] = struct.pack(">I", castagnoli(content[begin:end]))
        (restored / name).write_bytes(content)

    return fault


def lost(name: str) -> Fault:
    return lambda restored: (restored / name).unlink()


def blank(restored: Path) -> None:
    """A page of zeroes where the rows of a table are."""
    file = restored / SHOP / "events#P#p2025.ibd"
    content = bytearray(file.read_bytes())
    begin = content.find(b"event 77") // PAGE * PAGE
    content[begin : begin + PAGE] = bytes(PAGE)
    file.write_bytes(content)


class TestPhysicalForm(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a row that is another, on a page with a sum that fits": altered(
            f"{SHOP}/events#P#p2025.ibd", b"event 77", b"event 78", page=True
        ),
        "a row that is another, on a page with its former sum": altered(
            f"{SHOP}/events#P#p2025.ibd", b"event 77", b"event 78"
        ),
        "a row that is another, where there are no sums": altered(f"{SHOP}/my_isam.MYD", b"w77", b"w78"),
        "a blank page": blank,
        "a table that is lost": lost(f"{SHOP}/twins.ibd"),
        "a table that nobody knows of": lost(f"{SHOP}/twins.frm"),
        "triggers that are lost": lost(f"{SHOP}/order_lines.TRG"),
        "a view that shows something else": altered(f"{SHOP}/big.frm", b"`amount` > 100", b"`amount` > 101"),
        "accounts that are lost": lost("data/mysql/global_priv.MAD"),
        "no word of the server": lost("server.json"),
        "no server at all": lost("data/ibdata1"),
    }

    # A capture takes as long as mariadb-backup does, at least a second: one serves many of these.

    def test_every_fault_in_the_restored_data_shows(  # type: ignore[override]
        self, kept: Kept, prepared: Path, make: Make, open_place: Path, fault: Fault
    ) -> None:
        shutil.copytree(prepared, open_place / "restored")
        fault(open_place / "restored")
        try:
            found = make().probe(open_place / "restored", kept[1])
        except VerificationError as error:
            assert error.what and error.why and error.todo
        else:
            assert compare(kept[1], found).differences

    def test_what_was_captured_probes_equal_once_it_is_restored(  # type: ignore[override]
        self, kept: Kept, make: Make, tmp_path: Path
    ) -> None:
        """Also where nobody prepared the files yet, and the policy asks for dumps by now."""
        kept[0].restore(tmp_path / "restored")
        assert make(method="logical").probe(tmp_path / "restored", kept[1]) == kept[1]

    def test_an_unchanged_source_has_an_unchanged_fingerprint(self, subject: Subject) -> None:
        """And takes no room once more."""
        quick = RepositoryOptions(scrypt=ScryptParameters(n=2))
        now = datetime.now(UTC)
        store = RepositoryStore.create(MemoryVault(), "r", "secret", now=now, hostname="h", username="u", options=quick)
        told, drafts, last = [], [], None
        for _ in range(2):
            with subject.make().capture() as capture, store.writing() as writing:
                drafts.append(writing.write(capture.tree, parent=last))
                told.append(capture.fingerprint())
                last = writing.commit(drafts[-1], label())
        assert told[0] == told[1]
        assert drafts[0].size_bytes > 20 << 20
        assert drafts[1].added_bytes < drafts[0].added_bytes / 10

    def test_a_change_shows_in_the_fingerprint(  # type: ignore[override]
        self, kept: Kept, subject: Subject
    ) -> None:
        subject.change()
        assert captured(subject.make())[1].checksums != kept[1].checksums

    def test_a_fingerprint_says_checksums_counts_and_samples(  # type: ignore[override]
        self, kept: Kept
    ) -> None:
        assert kept[1].algorithm == "mysql/2", "it is what dumps are compared by"
        assert kept[1].checksums and kept[1].counts["tables"] > 10 and kept[1].counts["rows"] > 3000

    def test_a_capture_tells_the_moment_of_its_newest_content_or_that_it_has_none(self, subject: Subject) -> None:
        with subject.source.capture() as capture:
            assert capture.newest_content_at is None

    def test_reading_on_several_threads_in_blocks_and_at_once_gives_the_same(self, subject: Subject) -> None:
        """It comes in one order only."""

    def test_what_is_known_need_not_be_read_and_counts_the_same(self, subject: Subject, tmp_path: Path) -> None:
        """All of it comes."""

    def test_a_point_keeps_its_content_when_the_source_changes(self, subject: Subject, tmp_path: Path) -> None:
        """It lies in other files."""

    def test_it_restores_through_its_own_hands(  # type: ignore[override]
        self, kept: Kept, make: Make, prepared: Path, open_place: Path
    ) -> None:
        plan = make().plan_restore(kept[0], open_place / "restored")
        assert plan.entries == len(kept[0].entries)
        assert "prepared" in plan.notes[-1]
        shutil.copytree(prepared, open_place / "restored")
        assert make().probe(open_place / "restored", kept[1]) == kept[1]

    def test_it_overwrites_only_when_told_to(  # type: ignore[override]
        self, kept: Kept, make: Make, prepared: Path, open_place: Path
    ) -> None:
        """What was prepared, and maybe served since, is there as it was before, and prepared again."""
        place = open_place / "restored"
        shutil.copytree(prepared, place)
        assert make().plan_restore(kept[0], place).conflicts
        with pytest.raises(RefusedError):
            make().restore(kept[0], place)
        altered(f"{SHOP}/my_isam.MYD", b"w77", b"w78")(place)
        make().restore(kept[0], place, existing=Existing.OVERWRITE)
        assert make().probe(place, kept[1]) == kept[1]

    @pytest.fixture
    def subject(self, shop: Server, make: Make) -> Subject:
        number = iter(range(100))

        def change() -> None:
            shop.do(f"INSERT INTO twins VALUES ('{next(number)} of {time.monotonic_ns()}')", database="my shop")

        return Subject(source=make(), make=make, change=change, missing=make("nowhere", host="/nowhere/sock"))


# -- one moment --------------------------------------------------------------------------------------------------------


@pytest.fixture
def logless(mariadbd: Path, mariadb_backup: Path) -> Iterator[Server]:
    """A server that writes no binary log, and whose files are not those of every server."""
    layout = ("8K", "first:12M;second:12M:autoextend", "3", "1")
    with mariadb.server(mariadbd, **{"skip-log-bin": ""}, **dict(zip(mariadb.OF_FILES, layout, strict=True))) as made:
        made.do("CREATE DATABASE zoo", "CREATE DATABASE `my shop`")
        made.do("CREATE TABLE zoo.dense (n int, w longtext) ROW_FORMAT = COMPRESSED")
        made.do("CREATE TABLE zoo.holes (n int, w longtext) PAGE_COMPRESSED = 1")
        for name in ("dense", "holes"):
            made.do(f"INSERT INTO zoo.{name} SELECT seq, REPEAT(MD5(seq), 100) FROM zoo.seq_1_to_300")
        made.do("XA START 'x'", "INSERT INTO zoo.dense VALUES (-1, '')", "XA END 'x'", "XA PREPARE 'x'")
        made.do("CREATE TABLE `my shop`.my_isam (n int, w varchar(20)) ENGINE = MyISAM")
        yield made


@pytest.mark.parametrize("name", ["shop", "logless"])
def test_files_and_rows_are_of_one_moment_however_much_is_written_meanwhile(
    name: str, request: pytest.FixtureRequest, make: Make, tmp_path: Path
) -> None:
    """Two databases that are equal in each transaction, a sequence that moves on, tables that are in no snapshot."""
    server: Server = request.getfixturevalue(name)
    source = make(host=str(server.socket), user="root", password=lambda: mariadb.PASSWORD)
    server.do("CREATE DATABASE plain")
    server.do("CREATE TABLE a (n serial, v int)", "CREATE SEQUENCE moves", database="plain")
    server.do("CREATE TABLE b (n serial, v int)", database="zoo")
    server.do("CREATE TABLE c (n serial) ENGINE = Aria", database="plain")
    equal = Client(
        "plain",
        (
            "INSERT INTO a (v) SELECT NEXTVAL(moves) FROM seq_1_to_20",
            "INSERT INTO zoo.b (v) SELECT seq FROM seq_1_to_20",
            "UPDATE a SET v = v + 1 WHERE n % 97 = 0",
        ),
        together=True,
    )
    beside = Client("my shop", ("INSERT INTO my_isam VALUES (1, 'more')", "INSERT INTO plain.c VALUES (NULL)"))
    try:
        with writing(server, equal, beside):
            point, expected = captured(source)
    finally:
        server.do("DROP DATABASE plain", "DROP TABLE zoo.b", "DELETE FROM `my shop`.my_isam WHERE w = 'more'")
    source.restore(point, tmp_path / "restored")
    assert compare(expected, source.probe(tmp_path / "restored", expected)).differences == ()
    sizes = {sample.key: sample.fields.get("rows") for sample in expected.samples}
    assert sizes["plain: table a"] == sizes["zoo: table b"] != "0"
    assert sizes["plain: table c"] != "0"
    (told,) = (sample.fields for sample in expected.samples if sample.key == "server")
    if name == "logless":
        assert "binlog_position" not in told
    else:
        place = f"{told['binlog_file']}\t{told['binlog_position']}\t{told['gtid']}\n"
        assert point.entries[b"/data/xtrabackup_binlog_info"][1] == place.encode()


def test_what_moved_the_log_on_in_between_is_no_point(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a session began a moment later than the files end."""
    with make().capture() as capture:
        MemoryPoint.of(capture.tree)
        monkeypatch.setattr(capture.tree, "place", None)
        with pytest.raises(SourceError, match="not of one moment") as failed:
            capture.fingerprint()
    assert "back up again" in failed.value.todo


def test_who_does_not_end_writing_is_not_waited_for_for_ever(shop: Server, make: Make) -> None:
    with shop.connect("my shop") as session, session.cursor() as cursor:
        session.begin()
        cursor.execute("INSERT INTO my_isam VALUES (1, 'more')")
        with pytest.raises(SourceError, match="could not be read") as failed:
            captured(make(lock_seconds=1.0))
        session.rollback()
    assert "while tables were locked that are in no snapshot" in failed.value.why
    shop.do("BACKUP STAGE START", "BACKUP STAGE END", "DELETE FROM `my shop`.my_isam WHERE w = 'more'")


# -- bad luck ----------------------------------------------------------------------------------------------------------


def broken(source: MysqlSource, at_file: int, break_it: Callable[[], None]) -> SourceError:
    """What is said when something happens while the files come."""
    with source.capture() as capture, pytest.raises(SourceError) as failed:
        assert isinstance(capture.tree, ArrivingTree)
        for number, arrival in enumerate(capture.tree.arrivals()):
            if number == at_file:
                break_it()
            buffer = memoryview(bytearray(1 << 16))
            while arrival.content is not None and arrival.content.readinto(buffer):
                pass
    assert failed.value.todo
    return failed.value


def programs() -> dict[int, bytes]:
    """The command lines of mariadb-backup, by their processes."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"mariadb-backup\0" in command:
                found[int(entry.name)] = command
    return found


def test_a_program_that_is_killed_is_no_point_and_was_told_no_password(make: Make, tmp_path: Path) -> None:
    def kill() -> None:
        ((process, command),) = ((number, line) for number, line in programs().items() if os.fsencode(tmp_path) in line)
        assert b"kept" not in command and b"password" not in command
        os.kill(process, signal.SIGKILL)

    error = broken(make(), 20, kill)
    assert "could not be read" in error.what and "signal 9" in error.why
    assert list((tmp_path / "state").rglob("staged.*")) == []


HELD = """
import sys, time
from pathlib import Path
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.mysql.standstill import Standstill

def wait(*_):
    print("held", flush=True)
    time.sleep(60)

Standstill.begin = wait
options = {"host": sys.argv[1], "user": "keeper", "password": lambda: "kept", "method": "physical"}
buffer = memoryview(bytearray(1 << 16))
with MysqlSource("shop", options, state=Path(sys.argv[2])).capture() as capture:
    for arrival in capture.tree.arrivals():
        while arrival.content is not None and arrival.content.readinto(buffer):
            pass
"""


def test_a_backup_that_is_killed_while_nobody_commits_lets_everybody_go_on(shop: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, str(shop.socket), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with shop.connect("zoo") as session, session.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 1")
            with pytest.raises(pymysql.OperationalError, match="Lock wait timeout"):
                cursor.execute("DELETE FROM names WHERE id = 7777")
            holder.kill()
            cursor.execute("SET lock_wait_timeout = 20")
            cursor.execute("DELETE FROM names WHERE id = 7777")


def test_connections_that_are_ended_are_no_point(shop: Server, make: Make) -> None:
    error = broken(make(), 20, lambda: shop.do("KILL USER keeper") and None)
    assert "could not be read" in error.what or "cannot be read" in error.what
    assert "kept" not in str(error)


def test_a_server_that_is_killed_is_no_point(mariadbd: Path, mariadb_backup: Path, make: Make) -> None:
    with mariadb.server(mariadbd) as doomed:
        doomed.do("CREATE DATABASE plain", "CREATE TABLE plain.t (n int)")
        source = make(host=str(doomed.socket), user="root", password=lambda: mariadb.PASSWORD)
        error = broken(source, 3, lambda: os.kill(doomed.pid, signal.SIGKILL))
    assert "read" in error.what


def test_a_disk_that_is_full_is_no_point(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server's log is kept meanwhile."""

    @contextmanager
    def full(folder: Path) -> Iterator[Path]:
        with staging(folder) as place:
            for number in range(1000):
                (place / f"spooled.{number}").symlink_to("/dev/full")
            yield place

    monkeypatch.setattr(physical, "staging", full)
    with pytest.raises(SourceError, match="could not be read") as failed:
        captured(make())
    assert "No space left on device" in failed.value.why


def test_nothing_is_left_on_the_server_or_here(shop: Server, make: Make, tmp_path: Path) -> None:
    left_by_a_killed_one = Path(tempfile.mkdtemp(prefix=f"cto-backups-relay.{2**22 + 1}."))
    with make().capture() as capture:
        assert isinstance(capture.tree, ArrivingTree)
        for number, _ in enumerate(capture.tree.arrivals()):
            if number == 5:
                break
    for _ in range(100):
        left = shop.do("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'keeper'")
        if not left:
            break
        time.sleep(0.05)
    assert not left
    assert list((tmp_path / "state").rglob("staged.*")) == []
    assert not list(Path(tempfile.gettempdir()).glob(f"cto-backups-relay.{os.getpid()}.*"))
    assert not left_by_a_killed_one.exists()
    assert not any(os.fsencode(tmp_path) in command for command in programs().values())


# -- what it takes -----------------------------------------------------------------------------------------------------


def test_who_backs_up_needs_more_than_to_read(shop: Server, make: Make) -> None:
    shop.do("CREATE OR REPLACE USER reader@localhost IDENTIFIED BY 'kept'")
    shop.do(f"GRANT {RIGHTS.replace(', PROCESS', '')} ON *.* TO reader@localhost")
    with pytest.raises(SourceError, match="may not read everything") as failed:
        captured(make(user="reader"))
    assert failed.value.why.startswith("it lacks PROCESS:")
    shop.do("DROP USER reader@localhost")


def test_a_table_that_lies_elsewhere_is_refused(shop: Server, make: Make) -> None:
    """Whoever brings the files up would find the server's own there."""
    apart = shop.place / "apart"
    apart.mkdir(mode=0o777)
    apart.chmod(0o777)
    shop.do(f"CREATE TABLE zoo.far (n int) DATA DIRECTORY = '{apart}'")
    try:
        with pytest.raises(SourceError, match="method: physical") as failed:
            captured(make())
        assert "zoo/far" in failed.value.why and "logical" in failed.value.todo
    finally:
        shop.do("DROP TABLE zoo.far")


def test_it_reads_at_a_rate_until_the_server_stands_still() -> None:
    """Whoever waits for the server then is not to wait for that as well."""
    applies = [True] * 12 + [False] * 10_000
    begun = time.monotonic()
    paced = Paced(Ready(bytes(3 << 20)), 1 << 20, lambda: applies.pop(0))
    buffer = memoryview(bytearray(1 << 20))
    total = 0
    while count := paced.readinto(buffer):
        total += count
        assert len(applies) < 10_000 or count <= (1 << 20) // 10
    assert total == 3 << 20
    assert 1.0 < time.monotonic() - begun < 3.0


def test_without_the_program_of_that_series_nothing_is_written(kept: Kept, make: Make, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    source = make(tools=str(tmp_path / "none"))
    with pytest.raises(RefusedError, match=r"MariaDB 10\.11") as refused:
        source.restore(kept[0], tmp_path / "restored")
    assert "mariadb-backup" in refused.value.todo
    assert not (tmp_path / "restored").exists()
    with pytest.raises(SourceError, match="not here"):
        captured(source)
    restored = source.restore(kept[0], tmp_path / "restored", only=["/data/zoo"])
    assert "not prepared" in restored.notes[-1]
    assert (tmp_path / "restored/data/zoo/names.ibd").is_file(), "which was not made meanwhile"


def test_it_is_not_restored_into_a_server_that_runs(kept: Kept, make: Make) -> None:
    for attempt in (make().restore, make().plan_restore):
        with pytest.raises(RefusedError) as refused:
            attempt(kept[0], None)
        assert "--to FOLDER" in refused.value.todo


def test_what_one_vault_lacks_comes_from_another_and_is_prepared_then(kept: Kept, make: Make, tmp_path: Path) -> None:
    point, expected = kept

    class Damaged(MemoryPoint):
        def restore(self, destination: Path, **how: Any) -> Restored:
            restored = super().restore(destination, **how)
            if how.get("only"):
                return restored
            (destination / "data/zoo/names.frm").unlink()
            return Restored(1, 1, 0.0, (), (Problem("/data/zoo/names.frm", "unreadable", "damaged"),))

    place = tmp_path / "restored"
    assert make().restore(Damaged(point.entries), place).problems
    assert b"full-backuped" in (place / "data/xtrabackup_checkpoints").read_bytes()
    again = make().restore(point, place, only=["/data/zoo/names.frm"], existing=Existing.OVERWRITE)
    assert again.notes[-1].startswith("prepared: ")
    assert make().probe(place, expected) == expected


# -- the stream --------------------------------------------------------------------------------------------------------


def piece(path: bytes, content: bytes, at: int = 0) -> bytes:
    head = b"XBSTCK01\0P" + struct.pack("<I", len(path)) + path
    return head + struct.pack("<QQI", len(content), at, zlib.crc32(content)) + content


def ended(path: bytes) -> bytes:
    return b"XBSTCK01\0E" + struct.pack("<I", len(path)) + path


def with_holes(path: bytes, runs: list[tuple[int, bytes]], at: int = 0) -> bytes:
    """A piece as xtrabackup writes it, of which each run is a hole and what follows it."""
    told = b"".join(struct.pack("<II", hole, len(content)) for hole, content in runs)
    kept = b"".join(content for _, content in runs)
    head = b"XBSTCK01\0S" + struct.pack("<I", len(path)) + path
    return head + struct.pack("<IQQI", len(runs), len(kept), at, zlib.crc32(told + kept)) + told + kept


def read(stream: bytes, spool: Path) -> dict[bytes, bytes]:
    reader = MbstreamReader("test", Ready(stream), spool, frozenset({b"log"}))
    found = {}
    for path in reader.files():
        content, part = bytearray(), memoryview(bytearray(3))
        while count := reader.readinto(part):
            content += part[:count]
        found[path] = bytes(content)
    assert [file for file in spool.iterdir() if file.stat().st_size > 10] == []
    return found


WHOLE = (
    piece(b"log", b"lo"),
    piece(b"a/b", b"first"),
    piece(b"log", b"g", 2),
    piece(b"other", b"in between"),
    piece(b"a/b", b" and last", 5),
    ended(b"other"),
    ended(b"a/b"),
    with_holes(b"holes", [(0, b"o"), (2, b"t"), (1, b"")]),
    with_holes(b"log", [(0, b"s"), (1, b"")], 3),
    with_holes(b"holes", [(1, b""), (0, b"th")], 5),
    ended(b"holes"),
    ended(b"empty"),
    ended(b"log"),
)


def test_files_whose_pieces_come_between_each_other_come_one_by_one(tmp_path: Path) -> None:
    found = read(b"".join(WHOLE), tmp_path)
    holes = b"o\0\0t\0\0th"
    log = b"logs\0"
    assert found == {b"a/b": b"first and last", b"other": b"in between", b"holes": holes, b"empty": b"", b"log": log}
    assert next(iter(found)) == b"a/b"


def test_a_stream_that_is_cut_or_altered_anywhere_is_no_whole_one(tmp_path: Path) -> None:
    """But for between two files: there, the program's status tells."""
    stream = b"".join(WHOLE)
    for cut in range(1, len(stream) - 1):
        with pytest.raises(ToolError, match="not whole"):
            read(stream[:cut], tmp_path)
    for at in range(len(stream)):
        wrong = bytes([stream[at] ^ 0x10])
        try:
            found = read(stream[:at] + wrong + stream[at + 1 :], tmp_path)
        except ToolError:
            continue
        # Flags, and the letters of a name that comes once, are in no sum.
        assert sorted(found.values()) == sorted(read(stream, tmp_path).values())


def test_holes_that_do_not_fit_their_piece_are_no_whole_stream(tmp_path: Path) -> None:
    fitting = with_holes(b"a", [(2, b"xy")])
    assert read(fitting + ended(b"a"), tmp_path) == {b"a": b"\0\0xy"}
    count = fitting.index(b"a") + 1
    for number in (0, 2, 1 << 21):
        with pytest.raises(ToolError, match="not whole"):
            read(fitting[:count] + struct.pack("<I", number) + fitting[count + 4 :] + ended(b"a"), tmp_path)


@pytest.mark.parametrize("path", [b"/etc/passwd", b"../up", b"a/../../up", b"a//b", b"a\0b"])
def test_a_stream_names_nothing_outside_of_it(path: bytes, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="unknown"):
        read(piece(path, b"x") + ended(path), tmp_path)
    with pytest.raises(ToolError, match="comes twice"):
        read(ended(b"a") * 2, tmp_path)


def test_a_program_that_asks_for_tls_is_told_apart_from_one_that_stands_still_for_nobody(tmp_path: Path) -> None:
    """Nothing would be known of what it asks then."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        with relayed(str(tmp_path / "s"), lambda _: None) as relay, socket.socket(socket.AF_UNIX) as program:
            program.connect(str(relay.path))
            program.sendall(struct.pack("<I", 32 | 1 << 24) + struct.pack("<I", 0x0AA0 | 0x800) + bytes(28))
            assert program.recv(1) == b"", "it is over"
            assert isinstance(relay.failure, ConnectionError) and "TLS" in str(relay.failure)
