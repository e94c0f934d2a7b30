"""The figures that benchmarks print are what was measured, and a miss is called one."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import data, measure, report
from benchmarks.collected import Collected
from benchmarks.measure import Figures
from benchmarks.tools import OPERATIONS


def row(ours: Figures, restic: Figures | None, other: Figures | None = None) -> report.Row:
    return report.Row("random", "first backup", {"ours": ours, "restic": restic, "other": other})


def aim(figure: str, against: str) -> report.Aim:
    return next(one for one in report.AIMS if (one.figure, one.against) == (figure, against))


def test_each_median_is_taken_by_itself() -> None:
    runs = [Figures(1, 30, 200, 5), Figures(3, 10, 100, 5), Figures(2, 20, 300, 5)]
    assert report.medians(runs) == Figures(2, 20, 200, 5)
    assert report.medians([]) is None


def test_runs_that_belong_together_add_up_but_for_their_peak() -> None:
    assert Figures(1, 2, 30).then(Figures(10, 20, 3, 7)) == Figures(11, 22, 30, 7)


def test_a_ratio_is_ours_by_theirs_and_unknown_where_they_have_none() -> None:
    compared = row(Figures(1, 3, 1), Figures(4, 1, 1), Figures(2, 1, 1))
    assert compared.ratio(aim("wall", "restic")) == 0.25
    assert compared.ratio(aim("wall", "best")) == 0.5
    assert compared.ratio(aim("repository_bytes", "restic")) is None
    alone = row(Figures(1, 3, 1), None, Figures(2, 1, 1))
    assert alone.ratio(aim("wall", "restic")) is None
    assert alone.ratio(aim("wall", "best")) == 0.5


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        (Figures(0.5, 9, 100, 103), []),
        (Figures(0.51, 9, 100, 103), ["wall is 0.51 x that of restic"]),
        (Figures(0.5, 9, 101, 103), ["memory is 1.01"]),
        (Figures(0.5, 9, 100, 104), ["size is 1.04"]),
        (Figures(0.9, 9, 90, 90), ["wall is 0.90 x that of restic", "wall is 0.90 x that of the best peer"]),
    ],
)
def test_a_miss_is_named_and_marked(ours: Figures, missed: list[str]) -> None:
    compared = row(ours, Figures(1, 1, 100, 100), Figures(3, 1, 1, 1))
    found = report.misses([compared])
    assert len(found) == len(missed)
    assert all(what in sentence for what, sentence in zip(missed, found, strict=True))
    assert report.table([compared], ["ours", "restic", "other"]).count("**") == 2 * len(missed)


def test_the_table_has_a_line_for_each_row_and_a_cell_for_each_heading() -> None:
    compared = row(Figures(1, 2, 3 << 20, 4 << 20), Figures(1, 2, 3, 4))
    head, rule, line = report.table([compared, compared], ["ours", "restic", "other"]).splitlines()[:3]
    assert head.count("|") == rule.count("|") == line.count("|")
    assert "1.00 / 2.00 / 3 / 4" in line
    assert "not offered" in line


def test_every_operation_of_ours_and_of_stock_restic_runs(stock_restic: Path, tmp_path: Path) -> None:
    """The whole benchmark on little data: what is restored is compared, and no operation is left out."""
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--set", "tiny", "--peer", "restic", "--json", written]
    done = subprocess.run(
        [*command, "--data", tmp_path / "data"],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PATH": f"{stock_restic.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(written.read_bytes())["rows"]
    assert [row["operation"] for row in rows] == list(OPERATIONS)
    assert all(figures["wall"] > 0 for row in rows for figures in row["tools"].values())


def test_rounds_of_several_occasions_make_one_table(tmp_path: Path) -> None:
    about = {"machine": "two cores", "versions": "1.0"}
    kept = tmp_path / "figures.json"
    first = Collected(about)
    for tool, wall in (("ours", 3.0), ("restic", 8.0)):
        first.add("random", "first backup", tool, Figures(wall, 1, 1, 1))
    first.save(kept, ["ours", "restic"])
    second = Collected.load(kept)
    second.check(about)
    for tool, wall in (("ours", 1.0), ("restic", 4.0), ("ours", 2.0), ("restic", 9.0)):
        second.add("random", "first backup", tool, Figures(wall, 1, 1, 1))
    second.save(kept, ["ours", "restic"])
    (found,) = Collected.load(kept).rows(second.tools)
    assert found.ratio(aim("wall", "restic")) == 0.25
    assert found.spreads["restic"] == report.Spread(3, 4.0, 9.0)


def test_rounds_of_other_programs_or_machines_are_not_mixed(tmp_path: Path) -> None:
    there = Collected({"machine": "two cores", "versions": "1.0"})
    with pytest.raises(SystemExit, match=r"versions: 1\.0, now 2\.0"):
        there.check({"machine": "two cores", "versions": "2.0"})
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match="no figures of this benchmark"):
        Collected.load(tmp_path / "other.json")


def test_memory_and_time_of_a_command_are_its_own() -> None:
    ballast = bytearray(200 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    small = measure.run([sys.executable, "-c", "pass"], {})
    large = measure.run([sys.executable, "-c", "b = bytearray(120 << 20); b[::4096] = b'x' * len(b[::4096])"], {})
    assert small.peak_bytes < 100 << 20, "what this process holds is not the command's"
    two = f"{sys.executable} -c 'import time; b = b\"1\" * (60 << 20); time.sleep(1)'"
    assert measure.run(["sh", "-c", f"{two} & {two}; wait"], {}).peak_bytes > 120 << 20, "children at one time add up"
    assert large.peak_bytes > 120 << 20
    busy = measure.run(["sh", "-c", f"{shlex.quote(sys.executable)} -c 'sum(range(3_000_000))'"], {})
    assert busy.cpu > small.cpu, "children count too"


def test_a_command_that_fails_stops_the_benchmark_with_its_words() -> None:
    with pytest.raises(SystemExit, match="no such luck"):
        measure.run(["sh", "-c", "echo no such luck; exit 3"], {})


@pytest.mark.parametrize("name", data.DATA_SETS)
def test_data_and_its_changes_are_the_same_each_time(tmp_path: Path, name: str) -> None:
    places = [data.make(tmp_path / folder, name, data.SMOKE) for folder in ("one", "two")]
    first, second = (contents(place) for place in places)
    assert first == second
    for place in places:
        data.change(place, name, 5)
    changed, again = (contents(place) for place in places)
    assert changed == again != first
    if name in data.TREES:
        assert sum(changed[path] != first[path] for path in first) == data.SMOKE.of(name) // 100


@pytest.mark.parametrize("name", data.TREES)
def test_no_two_files_of_a_tree_are_equal(tmp_path: Path, name: str) -> None:
    found = contents(data.make(tmp_path, name, data.SMOKE))
    assert len(found) == data.SMOKE.of(name) + 1
    assert len(set(found.values())) == len(found)


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
