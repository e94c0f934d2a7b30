"""`make bench`: our command line and its peers on the same data, in alternating runs; prints a table of medians."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import data, measure, report, tools
from benchmarks.tools import BACKUPS, CHANGED, COPY, IN_PLACE, OPERATIONS, PRUNE, RESTORE, Places, Tool

NEEDS = {IN_PLACE: {RESTORE}, COPY: {PRUNE}}
"""Operations that work on what others leave; all of them on what the backups leave."""
SIZED = {*BACKUPS, PRUNE, COPY}


@dataclass(frozen=True)
class Plan:
    """What is compared, on what, how often."""

    tools: list[Tool]
    operations: list[str]
    runs: int
    warm_up: int
    quiet: bool
    """Whether each run waits until the machine is quiet; without, figures mean nothing."""


def main() -> None:
    """Parse, run, print."""
    arguments = _parse()
    size = data.SMOKE if arguments.smoke else data.FULL.scaled(arguments.scale)
    runs, warm_up = (1, 0) if arguments.smoke else (arguments.runs, arguments.warm_up)
    (ours, *peers), missing = tools.all_tools()
    plan = Plan(
        tools=[ours, *(peer for peer in peers if not arguments.peers or peer.name in arguments.peers)],
        operations=_with_what_they_need(arguments.operations or OPERATIONS),
        runs=runs,
        warm_up=warm_up,
        quiet=not arguments.smoke,
    )
    about = _about(plan, size, missing)
    for what, words in about.items():
        print(f"{what}: {words}", flush=True)
    rows: list[report.Row] = []
    for name in arguments.sets or data.DATA_SETS:
        rows += _compare(name, data.make(arguments.data.absolute(), name, size), plan)
        print("\n" + report.table(rows, [tool.name for tool in plan.tools]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report.document(rows, about), indent=1))
    if peers:
        print("\nMisses:", flush=True)
        print("\n".join(f"- {miss}" for miss in report.misses(rows)) or "- none")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="little data, one run: shows that it works, no more")
    parser.add_argument("--data", type=Path, default=Path("bench-data"), help="where the data is kept between runs")
    parser.add_argument("--set", dest="sets", action="append", choices=data.DATA_SETS, help="only these data sets")
    parser.add_argument(
        "--operation",
        dest="operations",
        action="append",
        choices=OPERATIONS,
        help="only these, the backups, and what these need",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the data (1)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each (3)")
    parser.add_argument("--warm-up", type=int, default=1, help="runs before those (1)")
    parser.add_argument("--peer", dest="peers", action="append", help="only this peer; may be repeated")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    return parser.parse_args()


def _with_what_they_need(chosen: list[str] | tuple[str, ...]) -> list[str]:
    wanted = set(chosen) | set(BACKUPS)
    for operation in chosen:
        wanted |= NEEDS.get(operation, set())
    return [operation for operation in OPERATIONS if operation in wanted]


def _about(plan: Plan, size: data.Size, missing: list[str]) -> dict[str, str]:
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "data": f"source-tree: {size.source_files} files; tiny: {size.tiny_files} files of 1 kB; "
        f"database: {size.database_mib} MiB; random: {size.random_mib} MiB",
        "versions": "; ".join(tool.version for tool in plan.tools),
        "not here": ", ".join(missing) or "none",
        "settings": "; ".join(f"{tool.name}: {tool.settings}" for tool in plan.tools),
        "state": "encryption on; every file read into the page cache beforehand; fsync as each program does it",
        "runs": f"median of {plan.runs} after {plan.warm_up} uncounted, the programs in turn",
        "cells": "wall seconds / CPU seconds / peak MiB of the process tree / MiB of the repository",
    }


def _compare(name: str, original: Path, plan: Plan) -> list[report.Row]:
    """Every operation on one data set, the tools in turn, on a scratch copy of the data."""
    counted: dict[tuple[str, str], list[measure.Figures]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=original.parent, prefix=".scratch-") as scratch:
        copy, second = Path(scratch) / "data", Path(scratch) / "second"
        shutil.copytree(original, copy)
        shutil.copytree(original, second)
        data.change(second, name, -1, percent=5)
        for number in range(plan.warm_up + plan.runs):
            round_place = Path(scratch) / f"round-{number}"
            at = {tool.name: Places(round_place / tool.name, copy, second) for tool in plan.tools}
            for tool in plan.tools:
                tool.prepare(at[tool.name])
            for operation in plan.operations:
                if operation == CHANGED:
                    data.change(copy, name, number)
                # Who goes first changes with every round.
                for tool in plan.tools if number % 2 == 0 else reversed(plan.tools):
                    if operation == IN_PLACE:
                        data.change(_restored(at[tool.name]), name, 1000 + number)
                    figures = _one(tool, operation, at[tool.name], quiet=plan.quiet)
                    if figures and number >= plan.warm_up:
                        counted[tool.name, operation].append(figures)
                    if figures:
                        print(f"  {name}, {operation}, {tool.name}: {figures.wall:.2f} s", flush=True)
                    if number == 0 and operation in (RESTORE, IN_PLACE):
                        _same(copy, _restored(at[tool.name]), tool.name)
            # Never between two measured runs: the file system works on a large deletion for long.
            shutil.rmtree(round_place)
            if plan.quiet:
                measure.settle(patience=60)
    return [
        report.Row(name, operation, {tool.name: report.medians(counted[tool.name, operation]) for tool in plan.tools})
        for operation in plan.operations
    ]


def _restored(at: Places) -> Path:
    return at.restored / at.data.relative_to("/")


def _one(tool: Tool, operation: str, at: Places, *, quiet: bool) -> measure.Figures | None:
    """What an operation cost; None when the tool has none such."""
    commands = tool.commands(operation, at)
    if not commands:
        return None
    source = {tools.SECOND: at.second}.get(operation, at.data)
    if quiet:
        measure.read_through(source if operation in BACKUPS else tool.repository(at))
        measure.settle()
    environment = tool.environment(at)
    figures = measure.run(commands[0], environment)
    for command in commands[1:]:
        figures = figures.then(measure.run(command, environment))
    tool.carry_out(tool.afterwards(operation, at), at)
    if operation not in SIZED:
        return figures
    place = tool.second_repository(at) if operation == COPY else tool.repository(at)
    return replace(figures, repository_bytes=measure.size_of(place))


def _same(original: Path, restored: Path, tool: str) -> None:
    """A restore that is quick because it is wrong is not to be measured."""
    compared = ["diff", "--recursive", "--brief", "--no-dereference", str(original), str(restored)]
    if subprocess.run(compared, check=False).returncode != 0:
        raise SystemExit(f"What {tool} restored to {restored} is not what was backed up.")


if __name__ == "__main__":
    main()
