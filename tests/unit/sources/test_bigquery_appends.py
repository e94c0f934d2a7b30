"""Of tables to which rows are only added, those rows alone are extracted, where sums prove that it is all there is."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_contract import captured

from cto_backups.core.model import Fingerprint
from cto_backups.core.policy import Payload
from cto_backups.errors import VerificationError
from cto_backups.sources.bigquery import appends
from cto_backups.sources.bigquery.source import BigQuerySource
from cto_backups.sources.bigquery.state import Part, State
from cto_backups.sources.bigquery.sums import PartitionSums
from servers.bigquery import PROJECT, Dataset
from servers.bigquery_appends import History
from servers.bigquery_front import Front
from servers.bigquery_wire import RefusedError

from .test_bigquery import Make, MemoryPoint, again, avro, making
from .test_bigquery_exports import backed_up, exports, vaults

__all__ = ["vaults"]

LOG: list[dict[str, Any]] = [{"name": "id", "type": "INTEGER"}, {"name": "day", "type": "DATE"}]
BY_DAY = {"timePartitioning": {"type": "DAY", "field": "day", "expirationMs": "31536000000"}}


def entries(first: int, end: int, day: str = "2024-01-01") -> list[dict[str, Any]]:
    return [{"id": number, "day": day} for number in range(first, end)]


@pytest.fixture
def logs(bqemulator: Front) -> Iterator[Dataset]:
    """A table by day, one that has no partitions, both of 100 rows."""
    made = Dataset.new(bqemulator)
    made.table("byday", LOG, [*entries(0, 60), *entries(60, 100, "2024-01-02")], **BY_DAY)
    made.table("plain", LOG, entries(0, 100))
    yield made
    made.drop()


@pytest.fixture
def make(bqemulator: Front, logs: Dataset, tmp_path: Path) -> Iterator[Make]:
    made = making(bqemulator, bqemulator.store.bucket(), logs, tmp_path)
    was = bqemulator.refuse
    yield lambda **options: made(**{"appended": (f"{logs.name}.*",), **options})
    bqemulator.refuse = was


def extracts(front: Front) -> list[str]:
    """What extract jobs are asked for from now on: without the names that differ each time."""
    asked: list[str] = []

    def listening(method: str, path: str, body: Any) -> None:
        extract = ((body or {}).get("configuration") or {}).get("extract")
        if method == "POST" and extract:
            name = extract["sourceTable"]["tableId"]
            asked.append(f"{'appended' if '_appended' in name else 'whole'} {name.partition('$')[2]}".strip())

    front.refuse = listening
    return asked


def files(point: MemoryPoint, table: str) -> dict[str, int]:
    """The Avro files of a table, and their rows as state.json has them."""
    (path,) = [path for path in point.entries if path.endswith(f"/{table}/state.json".encode())]
    state = json.loads(point.entries[path][1])
    there = {each.decode() for each in point.entries if each.endswith(b".avro") and f"/{table}/".encode() in each}
    told = {
        f"{path.decode().rpartition('/')[0]}/data/{part}/{number:012}.avro": file["rows"]
        for part, each in state["partitions"].items()
        for number, file in enumerate(each["files"])
    }
    assert told.keys() == there
    return {"/".join(path.split("/")[4:]): rows for path, rows in told.items()}


def proved(source: BigQuerySource, point: MemoryPoint, expected: Fingerprint, place: Path) -> None:
    """A point comes back as it was captured, and not without one of its files."""
    point.restore(place)
    assert source.probe(place, expected) == expected
    avro(place)[-1].unlink()
    with pytest.raises(VerificationError):
        source.probe(place, expected)


def test_rows_that_were_added_are_extracted_alone_time_and_again(
    make: Make, logs: Dataset, bqemulator: Front, tmp_path: Path
) -> None:
    first, _ = captured(make())
    logs.insert("byday", *entries(100, 105, "2024-01-02"), *entries(105, 110, "2024-01-03"))
    logs.insert("plain", *entries(100, 103))
    asked = extracts(bqemulator)
    second, _, kept = again(make(), first)
    assert sorted(asked) == ["appended", "appended 20240102", "whole 20240103"]
    assert {path.rpartition("/tables/")[2] for path in kept} == {
        "byday/data/20240101",
        "byday/data/20240102/000000000000.avro",
        "plain/data/all/000000000000.avro",
    }
    logs.insert("plain", *entries(103, 104))
    asked.clear()
    third, expected, _ = again(make(), second)
    assert asked == ["appended"]
    assert files(third, "plain") == {f"data/all/{number:012}.avro": rows for number, rows in enumerate((100, 3, 1))}
    assert files(third, "byday")["data/20240102/000000000001.avro"] == 5
    _, anew = captured(make())
    assert anew == expected
    bqemulator.refuse = lambda method, path, body: None
    proved(make(), third, expected, tmp_path / "restored")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE `{}.plain` SET day = DATE '2025-01-01' WHERE id = 7",
        "DELETE FROM `{}.plain` WHERE id = 7",
    ],
)
def test_a_table_that_was_altered_as_well_is_extracted_whole_and_told(
    make: Make, logs: Dataset, bqemulator: Front, tmp_path: Path, statement: str
) -> None:
    first, _ = captured(make())
    logs.insert("plain", *entries(100, 105))
    logs.sql(statement)
    asked = extracts(bqemulator)
    told: list[str] = []
    second, expected, _ = again(make(), first, told)
    assert [note.partition(" (")[0] for note in told if "is `appended`" in note] == [
        f"{logs.name}.plain is `appended`, and rows of it were altered or deleted, or streamed in late"
    ]
    assert asked == ["whole"]
    assert list(files(second, "plain")) == ["data/all/000000000000.avro"]
    bqemulator.refuse = lambda method, path, body: None
    second.restore(tmp_path / "restored")
    assert make().probe(tmp_path / "restored", expected) == expected


def test_what_policy_does_not_name_is_extracted_whole(make: Make, logs: Dataset, bqemulator: Front) -> None:
    first, _ = captured(make())
    logs.insert("plain", *entries(100, 103))
    logs.insert("byday", *entries(100, 103))
    asked = extracts(bqemulator)
    again(make(appended=(f"{logs.name}.plain",)), first)
    assert sorted(asked) == ["appended", "whole 20240101"]


def test_history_that_is_refused_leaves_the_whole_table(
    make: Make, logs: Dataset, bqemulator: Front, tmp_path: Path
) -> None:
    first, _ = captured(make())
    logs.insert("plain", *entries(100, 103))

    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        query = ((body or {}).get("configuration") or {}).get("query") or {}
        if "APPENDS" in query.get("query", "") and "destinationTable" in query:
            return RefusedError(403, "accessDenied", "row access policies")
        return None

    bqemulator.refuse = refuse
    told: list[str] = []
    second, expected, _ = again(make(), first, told)
    assert any(f"{logs.name}.plain was extracted whole: it was not told" in note for note in told)
    assert list(files(second, "plain")) == ["data/all/000000000000.avro"]
    assert expected.counts["rows"] == 203


def test_a_budget_counts_what_history_is_read(make: Make, logs: Dataset, bqemulator: Front) -> None:
    first, _ = captured(make())
    logs.insert("plain", *entries(100, 103))
    dry: list[str] = []

    def listening(method: str, path: str, body: Any) -> None:
        configuration = (body or {}).get("configuration") or {}
        if configuration.get("dryRun"):
            dry.append(configuration["query"]["query"])

    bqemulator.refuse = listening
    again(make(budget_bytes=1 << 40), first)
    assert sum("APPENDS" in each for each in dry) == 1
    assert len(dry) == 3


@pytest.mark.parametrize("payload", [Payload.EXPORT, Payload.SNAPSHOT])
def test_points_of_a_vault_hold_all_files_of_a_partition(
    make: Make, logs: Dataset, bqemulator: Front, vaults: Any, tmp_path: Path, payload: Payload
) -> None:
    """What was added lies beside what an earlier point stored; both come back, and both points do."""
    source, into = make(), exports(vaults[0])
    _, first, before = backed_up(source, into, payload=payload)
    logs.insert("plain", *entries(100, 103))
    asked = extracts(bqemulator)
    _, second, expected = backed_up(source, into, first, payload)
    assert asked == ["appended"]
    assert into.verify().damages == ()
    bqemulator.refuse = lambda method, path, body: None
    for reference, told in ((first, before), (second, expected)):
        place = tmp_path / reference
        assert not into.reader(reference).restore(place).problems
        assert source.probe(place, told) == told


def test_the_other_emulator_tells_the_same(bigquery_emulator: Front, tmp_path: Path) -> None:
    shop = Dataset.new(bigquery_emulator)
    shop.table("plain", LOG, entries(0, 20))
    made = making(bigquery_emulator, bigquery_emulator.store.bucket(), shop, tmp_path)
    first, _ = captured(made(appended=("*.plain",)))
    shop.insert("plain", *entries(20, 25))
    second, expected, _ = again(made(appended=("*.plain",)), first)
    assert files(second, "plain") == {"data/all/000000000000.avro": 20, "data/all/000000000001.avro": 5}
    second.restore(tmp_path / "restored")
    assert made().probe(tmp_path / "restored", expected) == expected
    shop.drop()


def test_the_front_tells_what_the_documentation_says_of_its_example(bqemulator: Front) -> None:
    """A table of produce: what is deleted and altered later stands in APPENDS as it was added."""
    fields = [{"name": "product", "type": "STRING"}, {"name": "inventory", "type": "INTEGER"}]
    made = Dataset.new(bqemulator)
    began = time.time_ns() // 1000
    made.table("Produce", fields, [{"product": "apples", "inventory": 10}])
    made.insert("Produce", {"product": "bananas", "inventory": 20}, {"product": "carrots", "inventory": 30})
    made.sql("DELETE FROM `{}.Produce` WHERE product = 'apples'")
    made.sql("UPDATE `{}.Produce` SET inventory = inventory + 5 WHERE TRUE")
    told = bqemulator.history.told(
        f"SELECT `product`, `inventory` FROM APPENDS(TABLE `{PROJECT}.{made.name}.Produce`,"
        f" TIMESTAMP_MICROS({began}), TIMESTAMP_MICROS({time.time_ns() // 1000 + 1}))"
    )
    assert told is not None
    assert [(row["product"], row["inventory"]) for row in told[1]] == [("apples", 10), ("bananas", 20), ("carrots", 30)]
    made.drop()


def test_moments_before_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="time travel"):
        History().told("SELECT `a` FROM APPENDS(TABLE `p.d.t`, TIMESTAMP_MICROS(1), TIMESTAMP_MICROS(2))")


SUMS = st.builds(PartitionSums, st.integers(1, 99), st.tuples(st.integers(), st.integers()))


@given(SUMS, SUMS, st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3))
def test_a_partition_is_proven_by_rows_and_both_sums(
    before: PartitionSums, added: PartitionSums, rows: int, one: int, two: int
) -> None:
    (first, second), (more, other) = before.sums, added.sums
    there = PartitionSums(before.rows + added.rows + rows, (first + more + one, second + other + two))
    found = appends.proven({"p": Part("", before, ())}, {"p": added}, {"p": there})
    assert bool(found) is ((rows, one, two) == (0, 0, 0))
    assert appends.proven({"p": Part("", before, ())}, {}, {"p": there}).keys() == (
        {"p"} if before.pair == there.pair else set()
    )


@pytest.mark.parametrize(
    ("before", "now", "pieces", "expected"),
    [(100, 101, 0, True), (100, 200, 0, True), (100, 201, 0, False), (100, 100, 0, False), (100, 99, 0, False),
     (0, 0, 0, False), (100, 101, 99, True), (100, 101, 100, False)],
)  # fmt: skip
def test_what_grew_a_little_is_asked_for_until_it_is_in_too_many_files(
    before: int, now: int, pieces: int, expected: bool
) -> None:
    part = Part("", PartitionSums(before, (0, 0)), [{"rows": 1}, *[{appends.APPENDED: True}] * pieces])
    former = State("", {"p": part})
    assert bool(appends.candidates(former, {"p": PartitionSums(now, (0, 0)), "new": part.sums})) is expected
