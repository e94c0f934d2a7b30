"""`make bench`: our command line and stock restic on the same data, in alternating runs; prints a table of medians."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks import data, measure, report, tools

OPERATIONS = ("first backup", "unchanged", "1 % changed", "restore", "verify")
COMMANDS = {"first backup": "backup", "unchanged": "backup", "1 % changed": "backup"}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="little data, one run: shows that it works, no more")
    parser.add_argument("--data", type=Path, default=Path("bench-data"), help="where the data is kept between runs")
    parser.add_argument("--set", dest="sets", action="append", choices=data.DATA_SETS, help="only these data sets")
    parser.add_argument(
        "--operation",
        dest="operations",
        action="append",
        choices=OPERATIONS[1:],
        help="only these, and the first backup",
    )
    parser.add_argument("--files", type=int, help="files of the source tree")
    parser.add_argument("--mib", type=int, help="size of each large file")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each")
    parser.add_argument("--warm-up", type=int, default=1, help="runs before those")
    parser.add_argument("--peer", action="append", help="only peers whose name has this in it")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.runs, arguments.warm_up = 1, 0
    size = data.SMOKE if arguments.smoke else data.FULL
    size = data.Size(arguments.files or size.files, arguments.mib * data.MIB if arguments.mib else size.large_bytes)
    operations = [
        one for one in OPERATIONS if not arguments.operations or one in (OPERATIONS[0], *arguments.operations)
    ]
    ours, *peers = tools.all_tools()
    chosen = [ours, *(peer for peer in peers if not arguments.peer or any(p in peer.name for p in arguments.peer))]
    about = _about(chosen, arguments.runs, arguments.warm_up)
    for line in about.items():
        print(f"{line[0]}: {line[1]}", flush=True)
    rows = []
    for name in arguments.sets or data.DATA_SETS:
        original = data.make(arguments.data.absolute(), name, size)
        rows += _compare(name, original, chosen, operations, arguments.runs, arguments.warm_up)
        print("\n" + report.table(rows, [tool.name for tool in chosen]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report.document(rows, about), indent=1))
    if len(chosen) > 1:
        print(f"\nJudged by {chosen[1].name}:", flush=True)
        print("\n".join(f"- {miss}" for miss in report.misses(rows, ours.name, chosen[1].name)) or "- no row is a miss")


def _about(chosen: list[tools.Tool], runs: int, warm_up: int) -> dict[str, str]:
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "versions": "; ".join(tool.version for tool in chosen),
        "settings": "zstd level 3 (restic: --compression auto, its default level); every sealed blob re-checked by us; "
        "file data in the page cache; fsync as each program does it",
        "runs": f"median of {runs} after {warm_up} uncounted, the programs in turn",
    }


def _compare(
    name: str, original: Path, chosen: list[tools.Tool], operations: list[str], runs: int, warm_up: int
) -> list[report.Row]:
    """Every operation on one data set, the tools in turn, on a scratch copy of the data."""
    counted: dict[tuple[str, str], list[measure.Figures]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=original.parent, prefix=".scratch-") as scratch:
        copy = Path(scratch) / "data"
        shutil.copytree(original, copy)
        for number in range(warm_up + runs):
            round_place = Path(scratch) / f"round-{number}"
            round_place.mkdir()
            for tool in chosen:
                tool.prepare(round_place / tool.name.replace(" ", "-"), copy)
            for operation in operations:
                if operation == "1 % changed":
                    data.change_one_percent(copy, name, number)
                # Who goes first changes with every round.
                for tool in chosen if number % 2 == 0 else reversed(chosen):
                    figures = _one(tool, operation, round_place / tool.name.replace(" ", "-"), copy)
                    if number >= warm_up:
                        counted[tool.name, operation].append(figures)
                    print(f"  {name}, {operation}, {tool.name}: {figures.wall:.2f} s", flush=True)
            if "restore" in operations and number == 0:
                for tool in chosen:
                    _same(copy, round_place / tool.name.replace(" ", "-") / "restored")
            # Never between two measured runs: the file system works on a large deletion for long.
            shutil.rmtree(round_place)
            measure.settle(patience=60)
    return [
        report.Row(name, operation, {tool.name: report.medians(counted[tool.name, operation]) for tool in chosen})
        for operation in operations
    ]


def _one(tool: tools.Tool, operation: str, place: Path, copy: Path) -> measure.Figures:
    measure.settle()
    command = tool.command(COMMANDS.get(operation, operation), place, copy)
    figures = measure.run(command, tool.environment)
    size = measure.size_of(tool.repository(place)) if COMMANDS.get(operation) else 0
    return measure.Figures(figures.wall, figures.cpu, figures.peak_bytes, size)


def _same(original: Path, restored: Path) -> None:
    """A restore that is quick because it is wrong is not to be measured."""
    compared = ["diff", "--recursive", "--brief", "--no-dereference", str(original), f"{restored}{original}"]
    if subprocess.run(compared, check=False).returncode != 0:
        raise SystemExit(f"What was restored below {restored} is not what was backed up.")


if __name__ == "__main__":
    main()
