"""PostgreSQL 17 and newer: base backups that read what changed, of which each point has whole files all the same."""

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.memory import MemoryVault
from payload_store_contract import label, walked

from cto_backups import _native
from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.core.payloads import Draft, PayloadStore
from cto_backups.exports.joined import JoinedStore
from cto_backups.flows.backup import backup
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.postgresql.manifest import listed
from cto_backups.sources.postgresql.source import PostgresqlSource
from integration.conftest import build
from servers import postgresql
from servers.postgresql import Server

Make = Callable[..., PostgresqlSource]
SETTINGS = {"wal_level": "logical", "summarize_wal": "on", "autovacuum": "off"}


@pytest.fixture(scope="module")
def shop(newer_postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(newer_postgresql_programs, **SETTINGS) as made:
        postgresql.fill(made, extensions=False)
        made.do("CREATE TABLE large AS SELECT n, sha512(n::text::bytea) AS what FROM generate_series(1, 60000) n")
        yield made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Make:
    def made(server: Server = shop, **options: Any) -> PostgresqlSource:
        given = {"host": str(server.place), "user": "postgres", "method": "physical", "tools": str(server.bin)}
        return PostgresqlSource("shop", {**given, **options}, state=tmp_path / "state")

    return made


class Points:
    """Points of a source, each made after the one before; the notes of the last."""

    def __init__(self) -> None:
        options = RepositoryOptions(scrypt=ScryptParameters(n=2))
        now = datetime.now(UTC)
        self.vault = MemoryVault()
        self.store = RepositoryStore.create(
            self.vault, "r", "secret", now=now, hostname="h", username="u", options=options
        )
        self.last: str | None = None
        self.notes = ""

    def make(self, source: PostgresqlSource) -> tuple[Draft, Fingerprint]:
        with source.capture() as capture, self.store.writing() as writing:
            draft = writing.write(capture.tree, parent=self.last)
            self.last = writing.commit(draft, label())
            capture.stored()
            self.notes = "; ".join(capture.notes)  # type: ignore[attr-defined]
            return draft, capture.fingerprint()

    def restore(self, place: Path) -> None:
        assert self.last is not None
        assert not self.store.reader(self.last).restore(place).problems


def is_full(draft: Draft) -> bool:
    return draft.read_bytes == draft.size_bytes


def compared_with_manifest(restored: Path) -> tuple[int, set[bytes]]:
    """How many files are what the manifest tells, down to their checksums, and those for which it has none."""
    right, without = 0, set()
    files = {path for path in (restored / "data").rglob("*") if path.is_file()}
    for path, told in listed((restored / "data" / "backup_manifest").read_bytes()).items():
        name = os.fsdecode(path)
        place = restored / "data" / name
        if name.startswith("pg_tblspc/"):
            place = restored / "tablespaces" / name.removeprefix("pg_tblspc/")
        files.discard(place)
        if name in ("postgresql.auto.conf", "tablespace_map"):
            continue  # what a recovery needs stands in them
        content = place.read_bytes()
        assert len(content) == told.size, name
        if told.checksum is None:
            without.add(path)
        else:
            assert _native.crc32c(content).to_bytes(4, "little") == told.checksum, name
            right += 1
    assert {path.name for path in files} <= {"backup_manifest", "recovery.signal"}, "all others are in it"
    return right, without


def path_of(server: Server, relation: str, database: str = "postgres") -> bytes:
    ((path,),) = server.do(f"SELECT pg_relation_filepath('{relation}')", database=database)
    return str(path).encode()


def test_each_point_has_whole_files_whatever_becomes_of_the_servers(shop: Server, make: Make, tmp_path: Path) -> None:
    """Under writes: tables that grow, shrink, come and go, are made anew, lie elsewhere or are unlogged."""
    spaces = shop.place / "elsewhere"
    spaces.mkdir()
    postgresql.give(spaces)
    rows = "SELECT n, repeat(md5(n::text), 8) AS words FROM generate_series(1, 20000) n"
    shop.do(
        f"CREATE TABLESPACE elsewhere LOCATION '{spaces}'",
        f"CREATE TABLE moved TABLESPACE elsewhere AS {rows}",
        *(f"CREATE TABLE {name} AS {rows}" for name in ("shrinks", "grows", "anew", "goes")),
        "CREATE INDEX ON moved (words)",
        f"CREATE UNLOGGED TABLE unlogged_rows AS {rows}",
        "VACUUM",
    )
    steps = (
        ("UPDATE moved SET words = 'other' WHERE n % 4000 = 1", f"INSERT INTO grows {rows}"),
        ("DELETE FROM shrinks WHERE n > 1000", "VACUUM shrinks", "TRUNCATE anew", f"INSERT INTO anew {rows}"),
        ("DROP TABLE goes", "CREATE TABLE comes AS SELECT 1 AS one", "UPDATE large SET n = n + 1 WHERE n % 30000 = 3"),
        ("VACUUM FULL grows", "UPDATE shrinks SET words = 'again'", "INSERT INTO unlogged_rows VALUES (1, 'word')"),
    )
    stop = threading.Event()

    def write() -> None:
        number = 0
        with shop.connect("my shop") as session:
            while not stop.is_set():
                number += 1
                session.execute("INSERT INTO twins VALUES (%s)", (f"word {number}",))
                session.execute("UPDATE sales.events SET what = what || '.' WHERE at = '2025-06-07'")

    points, source = Points(), make()
    first, _ = points.make(source)
    assert is_full(first)
    assert points.notes == ""
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number, step in enumerate(steps):
            shop.do(*step)
            draft, expected = points.make(source)
            assert points.notes.startswith("Of the files, what changed since"), points.notes
            assert draft.read_bytes < draft.size_bytes * 0.8
            if number in (1, 3):
                points.restore(tmp_path / f"restored {number}")
                right, without = compared_with_manifest(tmp_path / f"restored {number}")
                assert right > 1000
                # What was cut off is not at hand to be reckoned with; later all of it changed, and came.
                assert without == ({path_of(shop, "shrinks")} if number == 1 else set())
    finally:
        stop.set()
        writer.join()
    label_of_last = (tmp_path / "restored 3" / "data" / "backup_label").read_text()
    assert "START WAL LOCATION" in label_of_last
    assert "INCREMENTAL" not in label_of_last
    assert compare(expected, source.probe(tmp_path / "restored 3", expected)).differences == ()
    shop.do("DROP TABLE moved, shrinks, grows, anew, comes, unlogged_rows", "DROP TABLESPACE elsewhere")


def test_visibility_maps_are_as_the_server_has_them(shop: Server, make: Make, tmp_path: Path) -> None:
    """The server would not tell that a row that is gone was taken out of one: an index-only scan would find it."""
    shop.do("CREATE TABLE seen AS SELECT n, 'word' AS word FROM generate_series(1, 5000) n", "VACUUM seen")
    points, source = Points(), make()
    full, _ = points.make(source)
    shop.do("DELETE FROM seen WHERE n % 500 = 7")
    draft, _ = points.make(source)
    assert points.notes.startswith("Of the files, what changed since")
    assert draft.read_bytes < full.read_bytes / 4, "what is no relation, maps, and the log"
    points.restore(tmp_path / "restored")
    there = os.fsdecode(path_of(shop, "seen")) + "_vm"
    assert (tmp_path / "restored" / "data" / there).read_bytes() == (shop.place / "data" / there).read_bytes()
    shop.do("DROP TABLE seen")


def test_with_the_log_in_between_the_next_base_reads_what_changed(shop: Server, make: Make, tmp_path: Path) -> None:
    points = Points()
    points.make(make(base_every_seconds=3600.0))
    shop.do("CREATE TABLE logged AS SELECT 1 AS n")
    points.make(make(base_every_seconds=3600.0))
    assert points.notes == "", "it goes on from the base"
    shop.do("INSERT INTO logged VALUES (2)")
    source = make(base_every_seconds=0.001)
    draft, _ = points.make(source)
    assert points.notes.startswith("Of the files, what changed since")
    assert not is_full(draft)
    points.restore(tmp_path / "restored")
    compared_with_manifest(tmp_path / "restored")
    for (slot,) in shop.do("SELECT slot_name FROM pg_replication_slots WHERE NOT active"):
        shop.do(f"SELECT pg_drop_replication_slot('{slot}')", "DROP TABLE IF EXISTS logged")


def test_all_files_are_read_where_what_changed_would_not_do(
    shop: Server, newer_postgresql_programs: Path, make: Make
) -> None:
    """And each time it is said why."""
    settings = {name: value for name, value in SETTINGS.items() if name != "summarize_wal"}
    with postgresql.server(newer_postgresql_programs, **settings) as other:

        def summarize(value: str) -> None:
            other.do(f"ALTER SYSTEM SET summarize_wal = {value}", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.3)")

        summarize("on")
        points, source = Points(), make(other)

        def full(why: str, using: PostgresqlSource = source) -> None:
            draft, _ = points.make(using)
            assert is_full(draft)
            assert points.notes.startswith("All files of the server were read: "), points.notes
            assert why in points.notes

        points.make(make())
        full("another server")
        full("so they are every", make(other, full_every_seconds=0.001))
        (spaces := other.place / "elsewhere").mkdir()
        postgresql.give(spaces)
        other.do(f"CREATE TABLESPACE elsewhere LOCATION '{spaces}'")
        full("tablespaces were made")
        summaries = other.place / "data" / "pg_wal" / "summaries"
        other.do("CREATE TABLE made AS SELECT 1 AS one", "CHECKPOINT")
        # One that is written only after the others were taken away would do for the next backup.
        written = (
            "SELECT max(end_lsn) >= (SELECT redo_lsn FROM pg_control_checkpoint()) FROM pg_available_wal_summaries()"
        )
        while not other.do(written)[0][0]:
            time.sleep(0.05)
        for summary in summaries.iterdir():
            summary.unlink()
        full("summaries")
        for key in [key for key in points.vault.files if "/data/" in key][:1]:
            del points.vault.files[key]
        full("not whole")
        summarize("off")
        full("`summarize_wal` is off")
        summarize("on")
        identity = postgresql._identity()
        stop = [other.bin / "pg_ctl", "-D", other.place / "data", "-m", "fast", "-w", "stop"]
        subprocess.run(stop, check=True, capture_output=True, cwd=other.place, **identity)
        with postgresql.running(other.bin, other.place, **settings):
            full("started anew")
            draft, _ = points.make(source)
            assert not is_full(draft), points.notes


def test_a_relation_of_several_files_is_put_together_in_each_of_them(shop: Server, make: Make, tmp_path: Path) -> None:
    """A server cuts a relation at 1 GiB: what changed is told within each file, and a file may be new or longer."""
    # A row on each page: 1.1 GB that are soon written, and hardly take room in a vault.
    rows = "SELECT n, repeat('x', 900) FROM generate_series({}, {}) n"
    shop.do(
        "CREATE TABLE long (n int, word text STORAGE PLAIN) WITH (fillfactor = 10)",
        f"INSERT INTO long {rows.format(1, 131_000)}",
    )
    try:
        path = os.fsdecode(path_of(shop, "long"))
        points = Points()
        points.make(make())
        assert not (shop.place / "data" / f"{path}.1").exists()
        shop.do(f"INSERT INTO long {rows.format(131_001, 132_000)}", "UPDATE long SET n = -n WHERE n % 20000 = 0")
        assert 0 < (shop.place / "data" / f"{path}.1").stat().st_size < 1 << 24
        draft, _ = points.make(make())
        assert not is_full(draft), points.notes
        shop.do("UPDATE long SET word = 'changed' WHERE n IN (5, 131999)", "DELETE FROM long WHERE n = 131998")
        draft, expected = points.make(make())
        assert not is_full(draft), points.notes
        assert draft.read_bytes < draft.size_bytes // 10
        points.restore(tmp_path / "restored")
        names = [place.name for place in (tmp_path / "restored" / "data" / path).parent.glob(f"{Path(path).name}*")]
        assert {Path(path).name, f"{Path(path).name}.1"} <= set(names)
        compared_with_manifest(tmp_path / "restored")
        assert compare(expected, make().probe(tmp_path / "restored", expected)).differences == ()
    finally:
        shop.do("DROP TABLE long")


def test_a_point_before_that_is_damaged_is_done_without(shop: Server, tmp_path: Path) -> None:
    """The backup that meets it reads all, and says so."""
    shop.do("CREATE TABLE noise (n int, what bytea)")
    with shop.connect() as session:
        for number in range(200):
            session.execute("INSERT INTO noise VALUES (%s, %s)", (number, random.Random(number).randbytes(1900)))
        session.execute("VACUUM (FREEZE) noise")
    options = {"host": str(shop.place), "user": "postgres", "method": "physical", "tools": str(shop.bin)}
    workshop = build(tmp_path / "home", tmp_path, {"shop": ("postgresql", options)})
    try:
        first = backup(workshop.installation, "shop")
        store = workshop.installation.store("one")
        damage(store, first.point.root, b"/data/" + path_of(shop, "noise"), workshop.vault_root("one"))
        shop.do("UPDATE noise SET n = -1 WHERE n = 100")
        second = backup(workshop.installation, "shop")
        assert is_full(second.draft)
        assert any("damaged in one" in note and "verify" in note for note in second.notes), second.notes
    finally:
        workshop.catalog.close()
        shop.do("DROP TABLE noise")


def damage(store: PayloadStore, root: str, path: bytes, vault: Path) -> None:
    """Change one bit in the first blob of a file."""
    assert isinstance(store, JoinedStore)
    files = store.repository.files
    (blob, *_) = walked(store, bytes.fromhex(root))[path].content
    index = load_index(files)
    (place, *_) = index.locate(BlobKind.DATA, blob)
    file = vault / files.key("data", index.pack_name(place.pack).hex())
    content = bytearray(file.read_bytes())
    content[place.offset + place.length // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
