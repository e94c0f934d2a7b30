"""BigQuery projects as a source, on an emulator of it."""

import io
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import fastavro
import pytest
from fakes.points import MemoryPoint
from source_contract import SourceContract, Subject, captured

from cto_backups.core.database_restore import DatabaseRestored, DatabaseWish
from cto_backups.core.limits import Limit
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, Silent
from cto_backups.core.trees import Before, Entry
from cto_backups.errors import NotFoundError, RestoreError, SourceError, VerificationError
from cto_backups.errors import RefusedError as RefusedRestore
from cto_backups.providers import pauses
from cto_backups.sources.bigquery.source import BigQuerySource
from servers import bigquery, bigquery_avro
from servers.bigquery import BASE, PROJECT, Dataset, datasets
from servers.bigquery_front import Front
from servers.bigquery_wire import RefusedError
from servers.google_stores import GoogleStore

ORDERS: list[dict[str, Any]] = [
    {"name": "id", "type": "INTEGER", "mode": "REQUIRED", "description": "counts up"},
    {"name": "day", "type": "DATE"},
    {"name": "total", "type": "NUMERIC"},
    {"name": "paid", "type": "BOOLEAN"},
    {"name": "weight", "type": "FLOAT"},
    {"name": "photo", "type": "BYTES"},
    {"name": "at", "type": "TIMESTAMP"},
    {"name": "local", "type": "DATETIME"},
    {"name": "opens", "type": "TIME"},
    {"name": "more", "type": "JSON"},
    {"name": "tags", "type": "STRING", "mode": "REPEATED"},
    {
        "name": "buyer",
        "type": "RECORD",
        "fields": [{"name": "name", "type": "STRING"}, {"name": "mails", "type": "STRING", "mode": "REPEATED"}],
    },
    {"name": "every", "type": "INTERVAL"},
    {"name": "days", "type": "RANGE", "rangeElementType": {"type": "DATE"}},
    {"name": "shift", "type": "RANGE", "rangeElementType": {"type": "DATETIME"}},
    {"name": "valid", "type": "RANGE", "rangeElementType": {"type": "TIMESTAMP"}},
    {
        "name": "lines",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [{"name": "what", "type": "STRING"}, {"name": "price", "type": "NUMERIC"}],
    },
]
SHELF = [{"name": "id", "type": "INTEGER"}]
BY_DAY = {"timePartitioning": {"type": "DAY", "field": "day"}}


SPANS: list[dict[str, Any]] = [
    {"name": "id", "type": "INTEGER"},
    {"name": "every", "type": "INTERVAL"},
    {"name": "rest", "type": "RECORD", "fields": [{"name": "pause", "type": "INTERVAL"}]},
    {
        "name": "shifts",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [{"name": "what", "type": "STRING"}, {"name": "lasts", "type": "INTERVAL"}],
    },
]
SPAN = (
    "(1, INTERVAL '1-2 3 4:5:6.789' YEAR TO SECOND, STRUCT(INTERVAL 5 MINUTE AS pause),"
    " [STRUCT('early' AS what, INTERVAL 8 HOUR AS lasts), STRUCT('late' AS what, INTERVAL '-1' DAY AS lasts)])"
)


def order(number: int, day: str | None, **other: Any) -> dict[str, Any]:
    """A row of every type; those of an odd number have no more than they must."""
    row: dict[str, Any] = {"id": number, "day": day, "tags": [], "lines": []}
    if number % 2 == 0:
        row |= {
            "total": "12345678901234567890.123456789",
            "paid": True,
            "weight": 0.1,
            "photo": "AP/+",
            "at": "2024-02-29T23:59:59.999999Z",
            "local": "2024-02-29T23:59:59.999999",
            "opens": "07:00:00.000001",
            "more": '{"a":[1,null,"ü"]}',
            "tags": ["x", "y,\n"],
            "buyer": {"name": "Ada", "mails": ["a@example.com"]},
            "every": "1-2 3 4:5:6.789",
            "days": {"start": "2024-02-29", "end": "2024-03-01"},
            "shift": {"start": "2024-02-29T22:00:00"},
            "valid": {"start": "2024-02-29T22:00:00.5Z", "end": "2024-03-01T06:00:00Z"},
            "lines": [{"what": "pen", "price": "1.5"}, {"what": None, "price": None}],
        }
    return row | other


def filled(front: Front) -> Dataset:
    """A dataset with a table of all types by day, an unpartitioned one, one that is empty, a view and a function."""
    made = Dataset.new(front, description="what is sold", labels={"team": "sales"})
    rows = [order(1, "2024-01-01"), order(2, "2024-01-01"), order(3, "2024-01-02"), order(4, None)]
    made.table("orders", ORDERS, rows, **BY_DAY, description="every order", labels={"kept": "long"})
    made.table("shelf", SHELF, [{"id": number} for number in range(20)])
    made.table("nothing", SHELF)
    made.view("paid", f"SELECT id FROM `{PROJECT}.{made.name}.orders` WHERE paid")
    made.sql("CREATE FUNCTION `{}.twice`(x INT64) RETURNS INT64 AS (x * 2)")
    return made


def small(front: Front) -> Dataset:
    """A dataset with a table by day, and one that has no partitions: a table of all types takes an emulator long."""
    made = Dataset.new(front)
    rows = [{"id": 1, "day": "2024-01-01"}, {"id": 3, "day": "2024-01-02"}, {"id": 4, "day": None}]
    made.table("orders", ORDERS[:2], rows, **BY_DAY)
    made.table("shelf", SHELF, [{"id": number} for number in range(20)])
    return made


def small_with_view(front: Front) -> Dataset:
    """The same, with a view."""
    made = small(front)
    made.view("early", f"SELECT id FROM `{PROJECT}.{made.name}.orders` WHERE id < 3")
    return made


@pytest.fixture(scope="module")
def bucket(bqemulator: Front) -> str:
    """The bucket on the way, for all tests."""
    return bqemulator.store.bucket()


@pytest.fixture
def front(bqemulator: Front) -> Iterator[Front]:
    """The front as it is at first, and as it is left."""
    was = dict(vars(bqemulator))
    yield bqemulator
    for name in ("polls", "seconds", "shard_bytes", "refuse", "transfers", "codec", "lost_rows"):
        setattr(bqemulator, name, was[name])


Make = Callable[..., BigQuerySource]


@pytest.fixture
def shop(front: Front) -> Iterator[Dataset]:
    made = small(front)
    yield made
    made.drop()


@pytest.fixture
def make(front: Front, bucket: str, shop: Dataset, tmp_path: Path) -> Make:
    """Makes the source of the dataset, with other options where they are given."""
    return making(front, bucket, shop, tmp_path)


def making(front: Front, bucket: str, shop: Dataset, tmp_path: Path) -> Make:
    def source(**options: Any) -> BigQuerySource:
        given = {
            "project": PROJECT,
            "location": "US",
            "staging": f"gs://{bucket}/way",
            "datasets": (shop.name,),
            "credentials": lambda: front.store.logins.key_file,
            "endpoint": front.endpoint,
            "storage_endpoint": front.store.endpoint,
        }
        return BigQuerySource("sales", {**given, **options}, state=tmp_path / "state")

    return source


def staged(front: Front, bucket: str) -> list[str]:
    """What lies in the bucket, and in datasets of ours."""
    found = [each["name"] for each in front.store.ask("GET", f"/storage/v1/b/{bucket}/o").get("items", ())]
    for name in datasets(front):
        if name.startswith(("cto_backups_staging_", "cto_backups_test_")):
            tables = front.ask("GET", f"{BASE}/datasets/{name}/tables").get("tables", ())
            found += [each["id"] for each in tables]
            found += [name] if "_test_" in name else []
    return found


def avro(place: Path) -> list[Path]:
    found = sorted(place.rglob("*.avro"))
    assert found
    return found


def _without_a_row(place: Path) -> None:
    (state,) = place.glob("*/tables/shelf/state.json")
    told = json.loads(state.read_text())
    told["partitions"]["all"]["rows"] = 19
    state.write_text(json.dumps(told))


def _other_definition(place: Path) -> None:
    (file,) = place.glob("*/tables/orders/table.json")
    file.write_text(file.read_text().replace("counts up", "counts down"))


def _swapped(place: Path) -> None:
    """The rows of one day as those of another: the same file twice, and one not at all."""
    first, second = sorted(place.glob("*/tables/orders/data/2024*/*.avro"))
    second.write_bytes(first.read_bytes())


@pytest.fixture(scope="module")
def standing(bqemulator: Front) -> Iterator[Dataset]:
    """One dataset for all tests of the contract: each of them compares with what it found itself."""
    made = small_with_view(bqemulator)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def first(
    bqemulator: Front, bucket: str, standing: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MemoryPoint, Fingerprint]:
    """What was captured of it once."""
    return captured(making(bqemulator, bucket, standing, tmp_path_factory.mktemp("state"))())


class TestBigQuerySource(SourceContract):
    faults: ClassVar = {
        "a damaged file": lambda place: avro(place)[-1].write_bytes(avro(place)[-1].read_bytes()[:-30]),
        "a lost file": lambda place: avro(place)[0].unlink(),
        "one day's rows as another's": _swapped,
        "a row less than was counted": _without_a_row,
        "another definition": _other_definition,
        "a lost view": lambda place: next(place.glob("*/views/early.json")).unlink(),
    }

    @pytest.fixture
    def taken(self, first: tuple[MemoryPoint, Fingerprint]) -> tuple[MemoryPoint, Fingerprint]:
        return first

    def test_reading_on_several_threads_in_blocks_and_at_once_gives_the_same(self, subject: Subject) -> None:
        """It comes in an order of its own: what may differ is how many jobs there are at once."""
        point, expected = captured(subject.source)
        other, fingerprint = captured(self.make(jobs=1))
        assert fingerprint == expected
        assert set(other.entries) == set(point.entries)

    def test_what_is_known_need_not_be_read_and_counts_the_same(self, subject: Subject, tmp_path: Path) -> None:
        point, expected = captured(subject.source)
        second, fingerprint, kept = again(subject.make(), point)
        assert kept
        assert fingerprint == expected
        second.restore(tmp_path / "restored")
        assert subject.source.probe(tmp_path / "restored", expected) == expected

    @pytest.fixture
    def subject(self, front: Front, bucket: str, standing: Dataset, tmp_path: Path) -> Subject:
        make = self.make = making(front, bucket, standing, tmp_path)

        def change() -> None:
            standing.insert("shelf", {"id": 99})

        return Subject(make(), make, change, make(datasets=("nowhere",)))


@pytest.fixture(scope="module")
def first_of_the_other(
    bigquery_emulator_program: Path, fake_gcs_server: GoogleStore, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MemoryPoint, Fingerprint]:
    """What was captured once on the other emulator."""
    with bigquery.bigquery_emulator(bigquery_emulator_program, fake_gcs_server) as front:
        shop = small_with_view(front)
        return captured(making(front, fake_gcs_server.bucket(), shop, tmp_path_factory.mktemp("state"))())


class TestBigQuerySourceOnTheOtherEmulator(TestBigQuerySource):
    """One of its own for each test: it gives no memory back, and breaks down after some hundreds of queries."""

    @pytest.fixture
    def taken(self, first_of_the_other: tuple[MemoryPoint, Fingerprint]) -> tuple[MemoryPoint, Fingerprint]:
        return first_of_the_other

    @pytest.fixture
    def subject(
        self, bigquery_emulator_program: Path, fake_gcs_server: GoogleStore, tmp_path: Path
    ) -> Iterator[Subject]:
        with bigquery.bigquery_emulator(bigquery_emulator_program, fake_gcs_server) as front:
            shop = small_with_view(front)
            make = self.make = making(front, fake_gcs_server.bucket(), shop, tmp_path)
            yield Subject(make(), make, lambda: shop.insert("shelf", {"id": 99}), make(datasets=("nowhere",)))


def test_every_type_is_proven_and_everything_on_the_way_is_removed(front: Front, bucket: str, tmp_path: Path) -> None:
    shop = filled(front)
    front.polls = 2
    front.shard_bytes = 200
    front.store.put(bucket, "way/cto_backups_sales/extracts/s1/1/0.avro", b"left by a capture that was killed")
    source = making(front, bucket, shop, tmp_path)()
    point, expected = captured(source)
    assert staged(front, bucket) == []
    assert expected.counts == {"tables": 3, "rows": 24, "files": 7}
    shards = [path for path in point.entries if b"/shelf/" in path and path.endswith(b".avro")]
    assert len(shards) > 1
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected
    assert "scanned" in source.notes[-1]
    assert staged(front, bucket) == []
    shop.drop()


def test_what_no_extract_writes_comes_as_the_documented_text(front: Front, bucket: str, tmp_path: Path) -> None:
    shop = filled(front)
    source = making(front, bucket, shop, tmp_path)()
    point, expected = captured(source)
    found = {
        row["id"]: [row[name] for name in ("every", "days", "shift", "valid")]
        for path, (_, content) in point.entries.items()
        if b"/orders/" in path and path.endswith(b".avro")
        for row in bigquery_avro.read(content)
    }
    assert found[2] == [
        "1-2 3 4:5:6.789",
        "[2024-02-29, 2024-03-01)",
        "[2024-02-29 22:00:00, UNBOUNDED)",
        "[2024-02-29 22:00:00.5+00, 2024-03-01 06:00:00+00)",
    ]
    assert found[1] == [None] * 4
    (path,) = [path for path in point.entries if path.endswith(b"orders/state.json")]
    assert json.loads(point.entries[path][1])["texts"] is True
    point.restore(tmp_path / "restored")
    _other_text(tmp_path / "restored")
    with pytest.raises(VerificationError):
        source.probe(tmp_path / "restored", expected)
    assert staged(front, bucket) == []
    shop.drop()


def _other_text(place: Path) -> None:
    """A month less, in a file that is whole."""
    for file in avro(place):
        reader = fastavro.reader(io.BytesIO(file.read_bytes()))
        rows: list[Any] = list(reader)
        for row in rows:
            if row.get("every"):
                row["every"] = "1-1 3 4:5:6.789"
        with file.open("wb") as stored:
            fastavro.writer(stored, reader.writer_schema, rows, codec="snappy")


def test_a_capture_that_fails_leaves_nothing_on_the_way(make: Make, front: Front, bucket: str) -> None:
    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        extract = ((body or {}).get("configuration") or {}).get("extract")
        if extract and "$" in extract["sourceTable"]["tableId"]:
            return RefusedError(403, "accessDenied", "Permission bigquery.tables.export denied on table t")
        return None

    front.refuse = refuse
    with pytest.raises(SourceError) as raised, make().capture() as capture:
        MemoryPoint.of(capture.tree)
    assert "bigquery.tables.export" in raised.value.why
    assert "protect-bigquery.md" in raised.value.todo
    assert staged(front, bucket) == []


def test_what_could_not_be_removed_is_by_the_next_capture(make: Make, front: Front, bucket: str) -> None:
    front.refuse = lambda method, path, body: RefusedError(403, "forbidden", "no") if method == "DELETE" else None
    captured(make())
    assert staged(front, bucket), "the tables' snapshots; files in the bucket are removed by another service"
    front.refuse = lambda method, path, body: None
    captured(make())
    assert staged(front, bucket) == []


def test_a_snapshot_goes_as_soon_as_its_table_was_extracted(make: Make, front: Front) -> None:
    asked: list[str] = []
    front.refuse = lambda method, path, body: asked.append(f"{method} {path}")  # type: ignore[func-returns-value]
    captured(make(jobs=1))
    below = f"{BASE}/datasets/cto_backups_staging_sales/tables"
    removed = [number for number, each in enumerate(asked) if each.startswith(f"DELETE {below}/s")]
    last_look = len(asked) - asked[::-1].index(f"GET {below}") - 1
    assert len(removed) == 2
    assert max(removed) < last_look, "nothing is left to be removed when the backup ends"


def test_slow_jobs_of_a_busy_service_are_waited_for(make: Make, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "pause", lambda *_, **__: time.sleep(0.02))
    refused: set[str] = set()

    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        is_looked_at = method == "GET" and ("/jobs" in path or "/queries/" in path)
        if is_looked_at and path not in refused:
            refused.add(path)
            return RefusedError(*((503, "backendError"), (403, "rateLimitExceeded"))[len(refused) % 2], "later")
        return None

    expected = captured(make())[1]
    front.seconds, front.polls, front.refuse = 0.2, 1, refuse
    assert captured(make())[1] == expected
    assert len(refused) > 3


def test_an_extract_that_lacks_a_row_fails_the_backup(make: Make, front: Front) -> None:
    front.lost_rows = 1
    with pytest.raises(SourceError, match="not extracted whole") as raised:
        captured(make())
    assert "rows" in raised.value.why


class _Before:
    """Implements `core.trees.Before` over a point in memory."""

    def __init__(self, point: MemoryPoint) -> None:
        self._point = point

    def folder(self, path: bytes) -> Sequence[Entry]:
        return [entry for place, (entry, _) in self._point.entries.items() if place.rpartition(b"/")[0] == path]

    def content(self, path: bytes) -> bytes | None:
        found = self._point.entries.get(path)
        return found[1] if found else None

    def is_whole(self, path: bytes) -> bool:
        return path in self._point.entries


def again(
    source: BigQuerySource, before: MemoryPoint, notes: list[str] | None = None
) -> tuple[MemoryPoint, Fingerprint, set[str]]:
    """The point after another one, and which places of that are kept in it; `notes` gets what is told."""
    follows: Before = _Before(before)
    entries: dict[bytes, Any] = {}
    kept: set[str] = set()
    with source.capture() as capture:
        for arrival in capture.tree.arrivals(follows):  # type: ignore[union-attr]
            path = arrival.entry.path
            if arrival.kept:
                kept.add(path.decode())
                entries |= {each: was for each, was in before.entries.items() if (each + b"/").startswith(path + b"/")}
            else:
                content = b""
                if arrival.content is not None:
                    buffer = memoryview(bytearray(100))
                    while count := arrival.content.readinto(buffer):
                        content += buffer[:count]
                    arrival.content.close()
                entries[path] = arrival.entry, content
        if notes is not None:
            notes.extend(capture.notes)
        return MemoryPoint(entries), capture.fingerprint(), kept


def names(kept: set[str]) -> set[str]:
    """Tables and partitions, as in orders/20240101."""
    return {f"{path.split('/')[3]}/{path.split('/')[5]}" for path in kept}


def test_only_partitions_that_changed_are_read_again(make: Make, shop: Dataset, front: Front, tmp_path: Path) -> None:
    first, _ = captured(make())
    shop.insert("orders", {"id": 5, "day": "2024-01-02"}, {"id": 6, "day": "2024-01-03"})
    asked: list[str] = []

    def listening(method: str, path: str, body: Any) -> None:
        configuration = (body or {}).get("configuration") or {}
        if "extract" in configuration:
            asked.append(configuration["extract"]["sourceTable"]["tableId"].partition("$")[2])

    front.refuse = listening
    second, expected, kept = again(make(), first)
    assert names(kept) == {"orders/20240101", "orders/__NULL__", "shelf/all"}
    assert sorted(asked) == ["20240102", "20240103"]
    assert expected.counts["rows"] == 25
    whole, anew = captured(make())
    assert anew == expected
    second.restore(tmp_path / "restored")
    assert make().probe(tmp_path / "restored", expected) == expected
    assert set(whole.entries) == set(second.entries)


def test_tables_by_number_and_by_month_are_cut_as_bigquery_does(front: Front, bucket: str, tmp_path: Path) -> None:
    shop = Dataset.new(front)
    rule = {"field": "id", "range": {"start": "0", "end": "100", "interval": "10"}}
    shop.table("numbers", SHELF, [{"id": number} for number in (-5, 0, 9, 10, 55, 100, None)], rangePartitioning=rule)
    when = [*SHELF, {"name": "at", "type": "TIMESTAMP"}]
    months = [{"id": 1, "at": "2024-01-31T23:59:59.999999Z"}, {"id": 2, "at": "2024-02-01T00:00:00Z"}]
    shop.table("months", when, months, timePartitioning={"type": "MONTH", "field": "at"})
    make = making(front, bucket, shop, tmp_path)
    before, _ = captured(make())
    shop.insert("numbers", {"id": 12})
    shop.insert("months", {"id": 3, "at": "2024-02-29T12:00:00Z"})
    point, expected, kept = again(make(), before)
    assert names(kept) == {
        *(f"numbers/{part}" for part in ("0", "50", "__NULL__", "__UNPARTITIONED__")),
        "months/202401",
    }
    point.restore(tmp_path / "restored")
    assert make().probe(tmp_path / "restored", expected) == expected
    assert captured(make())[1] == expected
    shop.drop()


def test_what_changed_back_and_columns_that_changed_are_read_again(make: Make, shop: Dataset) -> None:
    first, told = captured(make())
    shop.sql("DELETE FROM `{}.orders` WHERE id = 3")
    second, _, _ = again(make(), first)
    assert not [path for path in second.entries if b"20240102" in path]
    shop.insert("orders", {"id": 3, "day": "2024-01-02"})
    third, expected, kept = again(make(), second)
    assert names(kept) == {"orders/20240101", "orders/__NULL__", "shelf/all"}
    assert expected == told
    shop.sql("ALTER TABLE `{}.shelf` ADD COLUMN room STRING")
    _, _, kept = again(make(), third)
    assert "shelf/all" not in names(kept)


def test_rows_that_this_login_does_not_see_fail_the_backup_and_name_what_to_grant(make: Make, shop: Dataset) -> None:
    shop.sql("CREATE ROW ACCESS POLICY few ON `{}.shelf` GRANT TO ('user:somebody@example.com') FILTER USING (id < 3)")
    with pytest.raises(SourceError) as raised:
        captured(make())
    assert "few" in raised.value.why
    assert "ROW ACCESS POLICY" in raised.value.todo


def test_a_budget_that_does_not_suffice_is_told_before_anything_is_scanned(
    make: Make, front: Front, tmp_path: Path
) -> None:
    point, expected = captured(make(budget_bytes=20_000_000))
    point.restore(tmp_path / "restored")
    small = make(budget_bytes=19_999_999)
    with pytest.raises(SourceError, match="budget"):
        captured(small)
    with pytest.raises(VerificationError, match="budget"):
        small.probe(tmp_path / "restored", expected)


def test_missing_rights_are_told_by_googles_names(make: Make, front: Front) -> None:
    front.refuse = lambda method, path, body: (
        RefusedError(403, "accessDenied", "Access Denied: Project proving: User does not have permission")
        if path.endswith("/jobs")
        else None
    )
    with pytest.raises(SourceError) as raised:
        captured(make())
    assert "bigquery.jobs.create" in raised.value.why
    front.refuse = lambda method, path, body: (
        RefusedError(403, "accessDenied", "Access Denied: no") if path.endswith("/datasets") else None
    )
    with pytest.raises(SourceError, match=r"bigquery\.datasets\.get"):
        make().discover()


def test_jobs_that_fail_for_a_while_are_tried_again(make: Make, front: Front) -> None:
    seen: dict[str, int] = {}

    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        if method == "POST" and path.endswith("/jobs"):
            seen["jobs"] = seen.get("jobs", 0) + 1
            return RefusedError(503, "backendError", "try later") if seen["jobs"] == 2 else None
        return None

    front.refuse = refuse
    captured(make())
    assert seen["jobs"] > 2


def test_a_backup_out_of_time_ends(make: Make, front: Front, bucket: str) -> None:
    class Over:
        def left(self) -> float | None:
            return 0.0

        def then(self, end: Callable[[], object]) -> None:
            end()

    front.polls = 1
    over: Limit = Over()
    with pytest.raises(SourceError, match="backup_timeout"), make().capture(over) as capture:
        MemoryPoint.of(capture.tree)


def test_what_nobody_protects_is_found_and_not_covered(make: Make, shop: Dataset, front: Front) -> None:
    other = Dataset.new(front)
    other.table("left", [{"name": "id", "type": "INTEGER"}])
    found = {each.location: each.covered for each in make(leave_out=(f"{shop.name}.sh*",)).discover()}
    top = f"{PROJECT}.{shop.name}"
    assert found[f"{PROJECT}"] and found[top] and found[f"{top}.orders"]
    assert not found[f"{top}.shelf"]
    assert not found[f"{PROJECT}.{other.name}"] and not found[f"{PROJECT}.{other.name}.left"]
    assert not any("cto_backups_" in location for location in found)
    other.drop()


def test_rows_that_still_stream_in_are_told_and_are_no_change_of_the_table(
    make: Make, shop: Dataset, front: Front
) -> None:
    before, _ = captured(make())
    front.streams(PROJECT, shop.name, "shelf", 7)
    with make().capture() as capture:
        point = MemoryPoint.of(capture.tree)
        capture.fingerprint()
        told = [note for note in capture.notes if "streaming buffer" in note]
    assert len(told) == 1 and told[0].startswith(f"about 7 rows of {shop.name}.shelf are still in its streaming buffer")
    path = f"/{shop.name}/tables/shelf/table.json".encode()
    assert point.entries[path][1] == before.entries[path][1]
    front.streams(PROJECT, shop.name, "shelf", 0)
    with make().capture() as capture:
        MemoryPoint.of(capture.tree)
        assert not any("streaming buffer" in note for note in capture.notes)


def test_what_an_extract_loses_is_kept_beside_it(front: Front, bucket: str, tmp_path: Path) -> None:
    standing = filled(front)
    front.transfers = [{"name": "projects/1/transferConfigs/2", "params": {"query": "SELECT 1"}, "state": "SUCCEEDED"}]
    point, _ = captured(making(front, bucket, standing, tmp_path)())
    documents: Mapping[str, Any] = {
        path.decode().removeprefix(f"/{standing.name}/"): json.loads(content)
        for path, (_, content) in point.entries.items()
        if path.endswith(b".json")
    }
    assert documents["dataset.json"]["labels"] == {"team": "sales"}
    table = documents["tables/orders/table.json"]
    assert table["schema"]["fields"][0] == ORDERS[0]
    assert table["timePartitioning"]["field"] == "day"
    assert table["labels"] == {"kept": "long"}
    assert "SELECT id FROM" in documents["views/paid.json"]["view"]["query"]
    assert documents["routines/twice.json"]["definitionBody"] == "x * 2"
    assert documents["/transfers.json"] == [{"name": "projects/1/transferConfigs/2", "params": {"query": "SELECT 1"}}]
    state = documents["tables/shelf/state.json"]
    (file,) = state["partitions"]["all"]["files"]
    assert file["rows"] == 20
    assert file["bucket"] == bucket and file["key"].endswith(".avro") and file["generation"] and file["crc32c"]
    standing.drop()


def test_a_point_of_another_kind_is_refused(make: Make, first: tuple[MemoryPoint, Fingerprint], tmp_path: Path) -> None:
    other = replace(first[1], algorithm="stream/1")
    with pytest.raises(VerificationError):
        make().probe(tmp_path, other)
    with pytest.raises(RestoreError):
        make().plan_database(first[0], other, DatabaseWish("any", datetime.now(UTC)))


# -- bringing datasets back --------------------------------------------------------------------------------------------


class Fetched:
    """Implements `core.database_restore.Fetch` over a point in memory."""

    def __init__(self, point: MemoryPoint) -> None:
        self._point = point

    def listing(self) -> Iterable[tuple[bytes, Entry]]:
        return self._point.listing()

    def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
        self._point.restore(place, only=only)


def brought_back(
    source: BigQuerySource, taken: tuple[MemoryPoint, Fingerprint], wish: DatabaseWish
) -> DatabaseRestored:
    point, told = taken
    planned = source.plan_database(point, told, wish)
    stage = lambda _: nullcontext(Silent())  # noqa: E731
    restored = source.restore_database(Fetched(point), told, wish, stage)
    assert (restored.name, restored.place) == (planned.name, planned.place)
    return restored


MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_a_dataset_comes_back_beside_itself_with_all_that_it_had(front: Front, bucket: str, tmp_path: Path) -> None:
    shop = filled(front)
    source = making(front, bucket, shop, tmp_path)()
    taken = captured(source)
    restored = brought_back(source, taken, DatabaseWish(shop.name, MOMENT, verify=True))
    back = Dataset(front, restored.name)
    assert restored.name == f"{shop.name}_20240506T070809"
    assert restored.kept_as is None
    assert restored.notes == ("it came by the point's files, which BigQuery loads",)
    for table in ("orders", "shelf"):
        assert back.rows(table) == shop.rows(table)
        was, now = (front.table(_reference(each.name, table)) for each in (shop, back))
        kept = ("schema", "timePartitioning", "description", "labels")
        assert {name: now.get(name) for name in kept} == {name: was.get(name) for name in kept}
    assert back.sql("SELECT * FROM `{}.paid` ORDER BY id") == shop.sql("SELECT * FROM `{}.paid` ORDER BY id") != []
    assert back.sql("SELECT `{}.twice`(21)") == [{"f": [{"v": "42"}]}]
    assert front.ask("GET", f"{BASE}/datasets/{back.name}")["labels"] == {"team": "sales"}
    with pytest.raises(RefusedRestore):
        brought_back(source, taken, DatabaseWish(shop.name, MOMENT))
    with pytest.raises(RefusedRestore):
        source.restore(taken[0], None)
    shop.drop()
    source.restore(taken[0], None)
    assert shop.rows("orders") == back.rows("orders")
    shop.drop()
    back.drop()
    assert staged(front, bucket) == []


def _reference(dataset: str, table: str) -> dict[str, str]:
    return {"projectId": PROJECT, "datasetId": dataset, "tableId": table}


def test_one_table_comes_back_and_one_that_is_not_there_is_told(
    make: Make, shop: Dataset, front: Front, tmp_path: Path
) -> None:
    source = make()
    taken = captured(source)
    restored = brought_back(source, taken, DatabaseWish(shop.name, MOMENT, tables=("shelf",), name="one_table"))
    back = Dataset(front, restored.name)
    assert len(back.rows("shelf")) == 20
    assert len(front.ask("GET", f"{BASE}/datasets/one_table/tables")["tables"]) == 1
    back.drop()
    for wish in (DatabaseWish("nowhere", MOMENT), DatabaseWish(shop.name, MOMENT, tables=("none",))):
        with pytest.raises(NotFoundError):
            source.plan_database(*taken, wish)
    kept = brought_back(source, taken, DatabaseWish(shop.name, MOMENT, folder=tmp_path / "files"))
    assert (tmp_path / "files" / kept.name / "tables" / "shelf" / "data" / "all" / "000000000000.avro").is_file()


def test_in_place_what_stands_there_is_kept_apart(make: Make, shop: Dataset, front: Front) -> None:
    source = make()
    taken = captured(source)
    was = shop.rows("shelf")
    shop.sql("DELETE FROM `{}.shelf` WHERE id > 3")
    wish = DatabaseWish(shop.name, MOMENT, in_place=True)
    with pytest.raises(RefusedRestore):
        source.plan_database(*taken, wish)
    restored = brought_back(source, taken, replace(wish, existing=Existing.OVERWRITE))
    assert restored.kept_as is not None
    assert shop.rows("shelf") == was
    apart = Dataset(front, restored.kept_as)
    assert len(apart.rows("shelf")) == 4
    apart.drop()
    assert not [name for name in datasets(front) if "_restored_" in name]


def test_nothing_stays_of_a_dataset_that_did_not_come_back_whole(make: Make, shop: Dataset, front: Front) -> None:
    source = make()
    point, told = captured(source)
    path = next(path for path in point.entries if b"/orders/data/20240102/" in path and path.endswith(b".avro"))
    entry, content = point.entries[path]
    point.entries[path] = entry, content[:-20]
    with pytest.raises(RestoreError):
        brought_back(source, (point, told), DatabaseWish(shop.name, MOMENT, name="half"))
    assert "half" not in datasets(front)


# -- the other emulator ------------------------------------------------------------------------------------------------


def test_on_the_other_emulator_too_only_what_changed_is_read_and_proven(
    bigquery_emulator: Front, tmp_path: Path
) -> None:
    front = bigquery_emulator
    shop = Dataset.new(front)
    fields = [field for field in ORDERS if field["type"] not in ("INTERVAL", "RANGE")]  # of one it knows nothing
    plain = {"photo": "plain", "lines": []}  # it decodes no bytes, and leaves numbers inside of rows as they came
    second = order(2, "2024-01-02", **plain)
    rows = [order(1, "2024-01-01"), {name: second[name] for name in second if any(f["name"] == name for f in fields)}]
    shop.table("orders", fields, rows, **BY_DAY)
    shop.table("shelf", SHELF, [{"id": number} for number in range(20)])
    shop.view("paid", f"SELECT id FROM `{PROJECT}.{shop.name}.orders` WHERE paid")
    shop.table("spans", SPANS)
    shop.sql(f"INSERT INTO `{{}}.spans` VALUES {SPAN}, (2, NULL, NULL, [])")
    bucket = front.store.bucket()
    make = making(front, bucket, shop, tmp_path)
    first, _ = captured(make())
    shop.insert("orders", order(3, "2024-01-02"))
    second, expected, kept = again(make(), first)
    assert names(kept) == {"orders/20240101", "shelf/all", "spans/all"}
    second.restore(tmp_path / "restored")
    assert make().probe(tmp_path / "restored", expected) == expected
    _swapped(tmp_path / "restored")
    with pytest.raises(VerificationError):
        make().probe(tmp_path / "restored", expected)
    assert staged(front, bucket) == []
