"""The figures that benchmarks print are what was measured, and a miss is called one."""

import shlex
import sys
from pathlib import Path

import pytest
from benchmarks import data, measure, report
from benchmarks.measure import Figures


def row(data_set: str, ours: Figures, peer: Figures) -> report.Row:
    return report.Row(data_set, "first backup", {"ours": ours, "peer": peer})


def test_each_median_is_taken_by_itself() -> None:
    runs = [Figures(1, 30, 200, 5), Figures(3, 10, 100, 5), Figures(2, 20, 300, 5)]
    assert report.medians(runs) == Figures(2, 20, 200, 5)


def test_a_ratio_is_ours_by_theirs_and_unknown_where_they_have_none() -> None:
    compared = row("random", Figures(1, 3, 1), Figures(4, 1, 1))
    assert compared.ratio("wall", "ours", "peer") == 0.25
    assert compared.ratio("cpu", "ours", "peer") == 3
    assert compared.ratio("repository_bytes", "ours", "peer") != compared.ratio("repository_bytes", "ours", "peer")


@pytest.mark.parametrize(
    ("data_set", "wall", "size", "missed"),
    [
        ("source-tree", 1.0, 105, []),
        ("source-tree", 1.01, 100, ["wall time"]),
        ("random", 0.5, 100, []),
        ("random", 0.51, 100, ["wall time"]),
        ("database", 0.4, 106, ["repository"]),
        ("database", 2.0, 200, ["wall time", "repository"]),
    ],
)
def test_a_miss_is_named_and_marked(data_set: str, wall: float, size: int, missed: list[str]) -> None:
    compared = row(data_set, Figures(wall, 1, 1, size), Figures(1, 1, 1, 100))
    found = report.misses([compared], "ours", "peer")
    assert len(found) == len(missed)
    assert all(what in sentence for what, sentence in zip(missed, found, strict=True))
    assert report.table([compared], ["ours", "peer"]).count("(aim") == len(missed)


def test_the_table_has_a_line_for_each_row_and_a_cell_for_each_heading() -> None:
    compared = row("random", Figures(1, 2, 3 << 20, 4 << 20), Figures(1, 2, 3, 4))
    head, rule, line = report.table([compared, compared], ["ours", "peer"]).splitlines()[:3]
    assert head.count("|") == rule.count("|") == line.count("|")
    assert "1.00 / 2.00 / 3 / 4" in line


def test_memory_and_time_of_a_command_are_its_own() -> None:
    ballast = bytearray(200 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    small = measure.run([sys.executable, "-c", "pass"], {})
    large = measure.run([sys.executable, "-c", "b = bytearray(120 << 20); b[::4096] = b'x' * len(b[::4096])"], {})
    assert small.peak_bytes < 100 << 20, "what this process holds is not the command's"
    assert large.peak_bytes > 120 << 20
    busy = measure.run(["sh", "-c", f"{shlex.quote(sys.executable)} -c 'sum(range(3_000_000))'"], {})
    assert busy.cpu > small.cpu, "children count too"


def test_a_command_that_fails_stops_the_benchmark_with_its_words() -> None:
    with pytest.raises(SystemExit, match="no such luck"):
        measure.run(["sh", "-c", "echo no such luck; exit 3"], {})


@pytest.mark.parametrize("name", ["database", "random"])
def test_data_and_its_changes_are_the_same_each_time(tmp_path: Path, name: str) -> None:
    size = data.Size(files=10, large_bytes=2 << 20)
    places = [data.make(tmp_path / folder, name, size) for folder in ("one", "two")]
    first, second = ([path.read_bytes() for path in sorted(place.iterdir())] for place in places)
    assert first == second
    for place in places:
        data.change_one_percent(place, name, 5)
    changed, again = ([path.read_bytes() for path in sorted(place.iterdir())] for place in places)
    assert changed == again != first


def test_no_two_files_of_the_source_tree_are_equal(tmp_path: Path) -> None:
    place = data.make(tmp_path, "source-tree", data.Size(files=300, large_bytes=0))
    contents = [path.read_bytes() for path in place.rglob("*") if path.is_file()]
    assert len(contents) == 300 + 1
    assert len(set(contents)) == len(contents)
