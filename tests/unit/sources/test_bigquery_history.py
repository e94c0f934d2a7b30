"""The ways back to a moment of a BigQuery dataset: its own history, snapshots that are kept, files from a vault."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.points import MemoryPoint
from source_contract import captured

from cto_backups import clock
from cto_backups.core.database_restore import DatabaseRestored, DatabaseWish
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, Silent
from cto_backups.core.trees import Entry
from cto_backups.errors import SourceError
from cto_backups.sources.bigquery.source import BigQuerySource
from servers.bigquery import BASE, PROJECT, Dataset, datasets
from servers.bigquery_front import Front
from servers.bigquery_wire import RefusedError

FIELDS = [{"name": "id", "type": "INTEGER", "mode": "REQUIRED"}, {"name": "day", "type": "DATE"}]
BY_DAY = {"timePartitioning": {"type": "DAY", "field": "day"}}
TOLD = "it came by the point's files, which BigQuery loads"


@pytest.fixture
def front(bqemulator: Front) -> Iterator[Front]:
    was = dict(vars(bqemulator))
    yield bqemulator
    bqemulator.refuse = was["refuse"]


@pytest.fixture
def shop(front: Front) -> Iterator[Dataset]:
    made = Dataset.new(front)
    made.table("orders", FIELDS, [{"id": 1, "day": "2024-01-01"}, {"id": 2, "day": "2024-01-02"}], **BY_DAY)
    made.table("shelf", FIELDS, [{"id": number} for number in range(5)], description="what is there")
    made.view("early", f"SELECT id FROM `{PROJECT}.{made.name}.orders` WHERE id < 2")
    yield made
    made.drop()


Make = Callable[..., BigQuerySource]


@pytest.fixture
def make(front: Front, shop: Dataset, tmp_path: Path) -> Make:
    bucket = front.store.bucket()

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
        return BigQuerySource("history", {**given, **options}, state=tmp_path / "state")

    return source


class Fetched:
    """Implements `core.database_restore.Fetch` over a point in memory; remembers how many rows were read."""

    def __init__(self, point: MemoryPoint) -> None:
        self.files = 0
        self._point = point

    def listing(self) -> Iterable[tuple[bytes, Entry]]:
        return self._point.listing()

    def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
        spared = tuple(spare)
        kept = {
            path: found
            for path, found in self._point.entries.items()
            if not any(path == each or path.startswith(each + b"/") for each in spared)
        }
        self.files += sum(path.endswith(b".avro") for path in kept)
        MemoryPoint(kept).restore(place, only=only)


class Taken:
    """A point of the shop, and what is made of it."""

    def __init__(self, source: BigQuerySource) -> None:
        self.source = source
        with source.capture() as capture:
            self.point = MemoryPoint.of(capture.tree)
            self.told: Fingerprint = capture.fingerprint()
            self.at = capture.captured_at
        self.files = 0

    def back(self, database: str, **wished: Any) -> DatabaseRestored:
        wish = DatabaseWish(database, **{"moment": self.at, **wished})
        planned = self.source.plan_database(self.point, self.told, wish)
        fetch = Fetched(self.point)
        stage = lambda _: nullcontext(Silent())  # noqa: E731
        restored = self.source.restore_database(fetch, self.told, wish, stage)
        assert (restored.name, restored.place) == (planned.name, planned.place)
        self.planned, self.files = planned, fetch.files
        return restored


def test_within_its_window_a_point_comes_by_time_travel_and_no_file_is_read(
    front: Front, shop: Dataset, make: Make
) -> None:
    taken = Taken(make())
    was = shop.rows("orders"), shop.rows("shelf")
    shop.sql("DELETE FROM `{}.orders` WHERE TRUE")
    restored = taken.back(shop.name, verify=True)
    assert (restored.way, restored.at, restored.size_bytes) == ("time travel", None, 0)
    assert taken.planned.way == "time travel"
    assert taken.files == 0
    back = Dataset(front, restored.name)
    assert (back.rows("orders"), back.rows("shelf")) == was
    assert back.sql("SELECT * FROM `{}.early`") == [{"f": [{"v": "1"}]}], "what is beside comes from the point"
    made = front.ask("GET", f"{BASE}/datasets/{back.name}/tables/shelf")
    assert made["description"] == "what is there"
    back.drop()


def test_any_moment_since_comes_by_time_travel(front: Front, shop: Dataset, make: Make) -> None:
    taken = Taken(make())
    shop.table("newer", FIELDS, [{"id": 7}])
    shop.insert("shelf", {"id": 50})
    shop.sql("DROP TABLE `{}.orders`")
    meant = datetime.now(UTC)
    was = shop.rows("shelf"), shop.rows("newer")
    shop.sql("DELETE FROM `{}.shelf` WHERE TRUE")
    shop.table("newest", FIELDS)
    restored = taken.back(shop.name, meant=meant, verify=True)
    assert (restored.way, restored.at) == ("time travel", meant)
    assert restored.name == f"{shop.name}_{meant:%Y%m%dT%H%M%S}"
    back = Dataset(front, restored.name)
    assert (back.rows("shelf"), back.rows("newer")) == was
    there = {
        each["tableReference"]["tableId"] for each in front.ask("GET", f"{BASE}/datasets/{back.name}/tables")["tables"]
    }
    assert "newest" not in there, "it was made later"
    assert "orders" not in there
    assert any("orders was in the point, and is not there any more" in note for note in restored.notes)
    assert any("were not compared" in note for note in restored.notes)
    back.drop()


def test_what_is_asked_of_a_vault_comes_from_there(front: Front, shop: Dataset, make: Make) -> None:
    taken = Taken(make(keep_snapshots_seconds=86_400.0))
    restored = taken.back(shop.name, from_vault=True)
    assert (restored.way, restored.notes[0]) == ("export", TOLD)
    assert taken.files
    Dataset(front, restored.name).drop()
    _drop_snapshots(front)


def test_beyond_its_window_the_point_comes_and_no_history(
    front: Front, shop: Dataset, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Taken(make())
    later = taken.at + timedelta(hours=168)
    monkeypatch.setattr(clock, "now", lambda: later)
    restored = taken.back(shop.name, meant=taken.at + timedelta(seconds=1))
    assert (restored.way, restored.at) == ("export", None)
    Dataset(front, restored.name).drop()


def test_snapshots_that_are_kept_come_next_and_expire_by_themselves(
    front: Front, shop: Dataset, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = set(front.jobs)
    taken = Taken(make(keep_snapshots_seconds=14 * 86_400.0))
    second = Taken(make(keep_snapshots_seconds=14 * 86_400.0))
    listed = front.ask("GET", f"{BASE}/datasets/cto_backups_snapshots_history/tables")["tables"]
    assert len(listed) == 4, "of two tables, at two moments"
    copied = [job["configuration"].get("copy", {}) for name, job in front.jobs.items() if name not in known]
    ends = {str(copy["destinationExpirationTime"])[:10] for copy in copied if copy.get("operationType") == "SNAPSHOT"}
    assert ends == {f"{(taken.at + timedelta(days=14)).astimezone():%Y-%m-%d}"}
    was = shop.rows("orders")
    shop.sql("DELETE FROM `{}.orders` WHERE TRUE")
    later = second.at + timedelta(hours=168)
    monkeypatch.setattr(clock, "now", lambda: later)
    for each in (taken, second):
        restored = each.back(shop.name, verify=True, name="beside")
        assert (restored.way, each.files) == ("kept snapshots", 0)
        assert Dataset(front, "beside").rows("orders") == was
        Dataset(front, "beside").drop()
    _drop_snapshots(front)
    assert taken.back(shop.name, name="beside").way == "export"
    Dataset(front, "beside").drop()


def test_a_capture_that_fails_keeps_no_snapshots(front: Front, shop: Dataset, make: Make) -> None:
    def refuse(_method: str, _path: str, body: Any) -> RefusedError | None:
        is_extract = "extract" in ((body or {}).get("configuration") or {})
        return RefusedError(403, "accessDenied", "no") if is_extract else None

    front.refuse = refuse
    with pytest.raises(SourceError):
        captured(make(keep_snapshots_seconds=86_400.0))
    front.refuse = lambda *_: None
    assert not front.ask("GET", f"{BASE}/datasets/cto_backups_snapshots_history/tables").get("tables")
    _drop_snapshots(front)


def test_where_a_faster_way_is_refused_a_slower_one_is_gone_and_both_are_told(
    front: Front, shop: Dataset, make: Make
) -> None:
    taken = Taken(make())
    was = shop.rows("shelf")
    shop.sql("DROP TABLE `{}.shelf`")
    shop.table("shelf", FIELDS, [{"id": 99}])  # its history begins anew
    before = set(datasets(front))
    restored = taken.back(shop.name, meant=taken.at + timedelta(milliseconds=1), name="beside")
    assert (restored.way, restored.at) == ("export", None)
    assert "did not come by time travel" in restored.notes[0]
    assert "Invalid time travel timestamp" in restored.notes[0]
    assert Dataset(front, "beside").rows("shelf") == was
    assert set(datasets(front)) - before == {"beside"}
    Dataset(front, "beside").drop()


def test_in_place_too_what_stands_there_is_kept_apart(front: Front, shop: Dataset, make: Make) -> None:
    taken = Taken(make())
    was = shop.rows("shelf")
    shop.sql("DELETE FROM `{}.shelf` WHERE id > 2")
    restored = taken.back(shop.name, in_place=True, existing=Existing.OVERWRITE)
    assert restored.way == "time travel"
    assert shop.rows("shelf") == was
    assert restored.kept_as is not None
    apart = Dataset(front, restored.kept_as)
    assert len(apart.rows("shelf")) == 3
    apart.drop()


def test_one_table_comes_alone(front: Front, shop: Dataset, make: Make) -> None:
    taken = Taken(make())
    restored = taken.back(shop.name, tables=("shelf",), name="beside")
    assert restored.way == "time travel"
    listed = front.ask("GET", f"{BASE}/datasets/beside/tables")["tables"]
    assert [each["tableReference"]["tableId"] for each in listed] == ["shelf"]
    Dataset(front, "beside").drop()


def test_the_audit_is_told_how_far_back_each_dataset_leads(front: Front, shop: Dataset, make: Make) -> None:
    asked: list[str] = []
    front.refuse = lambda method, path, body: asked.append(path)  # type: ignore[func-returns-value]
    (window,) = make().windows()
    assert not [path for path in asked if path.endswith("/tables")], "nobody asked for what is in them"
    assert window.place == f"{PROJECT}.{shop.name}"
    assert window.reaches == timedelta(days=7), "BigQuery's own, where nothing is set"
    assert window.is_enough
    assert not replace(window, reaches=timedelta(hours=48)).is_enough


def _drop_snapshots(front: Front) -> None:
    front.ask("DELETE", f"{BASE}/datasets/cto_backups_snapshots_history?deleteContents=true")
