"""`make bench`: our command line and its peers on the same data, in alternating runs; prints a table of medians."""

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import data, measure, report, tools
from benchmarks.collected import Collected
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
    gate: Path | None
    """A file that is locked while something is measured, so that other work can wait for the pauses."""


def main() -> None:
    """Parse, run, print."""
    arguments = _parse()
    if arguments.table:
        _print(Collected.load(arguments.table))
        return
    size = data.SMOKE if arguments.smoke else data.FULL.scaled(arguments.scale)
    runs, warm_up = (1, 0) if arguments.smoke else (arguments.runs, arguments.warm_up)
    (ours, *peers), missing = tools.all_tools()
    plan = Plan(
        tools=[ours, *(peer for peer in peers if not arguments.peers or peer.name in arguments.peers)],
        operations=_with_what_they_need(arguments.operations or OPERATIONS),
        runs=runs,
        warm_up=warm_up,
        quiet=not arguments.smoke,
        gate=arguments.gate,
    )
    about = _about(plan, size, missing)
    collected = Collected.load(arguments.json) if arguments.add else Collected(about)
    collected.check(about)
    for what, words in about.items():
        print(f"{what}: {words}", flush=True)
    for name in arguments.sets or data.DATA_SETS:
        original = data.make(arguments.data.absolute(), name, size)
        for _ in _compare(name, original, plan, collected):
            if arguments.json:
                collected.save(arguments.json, [tool.name for tool in plan.tools])
    _print(collected)


def _print(collected: Collected) -> None:
    rows = collected.rows(collected.tools)
    print("\n" + "\n".join(f"{what}: {words}" for what, words in collected.about.items()))
    counts = sorted({spread.runs for row in rows for spread in row.spreads.values() if spread})
    print(f"counted runs of each: {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))}" if counts else "")
    print("\n" + report.table(rows, collected.tools))
    if len(collected.tools) > 1:
        print("\nMisses:")
        print("\n".join(f"- {miss}" for miss in report.misses(rows)) or "- none", flush=True)


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
    parser.add_argument("--json", type=Path, help="write the figures of all runs there, after each round")
    parser.add_argument("--add", action="store_true", help="add to what --json names: same programs, data and machine")
    parser.add_argument("--table", type=Path, metavar="JSON", help="only print the table of these figures")
    parser.add_argument("--gate", type=Path, help="lock this file while something is measured")
    arguments = parser.parse_args()
    if arguments.add and not arguments.json:
        parser.error("--add needs --json FILE")
    return arguments


def _with_what_they_need(chosen: list[str] | tuple[str, ...]) -> list[str]:
    wanted = set(chosen) | set(BACKUPS)
    for operation in chosen:
        wanted |= NEEDS.get(operation, set())
    return [operation for operation in OPERATIONS if operation in wanted]


def _about(plan: Plan, size: data.Size, missing: list[str]) -> dict[str, str]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "data": f"source-tree: {size.source_files} files; tiny: {size.tiny_files} files of 1 kB; "
        f"database: {size.database_mib} MiB; random: {size.random_mib} MiB",
        "versions": "; ".join(tool.version for tool in plan.tools),
        "commit": commit.stdout.strip() or "unknown",
        "not here": ", ".join(missing) or "none",
        "settings": "; ".join(f"{tool.name}: {tool.settings}" for tool in plan.tools),
        "state": "encryption on; every file read into the page cache beforehand; fsync as each program does it",
        "runs": f"medians; {plan.warm_up} uncounted before; the programs in turn",
        "cells": "wall seconds / CPU seconds / peak MiB of the process tree / MiB of the repository",
    }


def _compare(name: str, original: Path, plan: Plan, collected: Collected) -> Iterator[None]:
    """Every operation on one data set, the tools in turn, on a scratch copy of the data. Yields after each round."""
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
                if operation in BACKUPS and plan.quiet:
                    measure.read_through(_source(operation, at[plan.tools[0].name]))
                # Who goes first changes with every round.
                for tool in plan.tools if number % 2 == 0 else reversed(plan.tools):
                    if operation == IN_PLACE:
                        data.change(_restored(at[tool.name]), name, 1000 + number)
                    figures = _one(tool, operation, at[tool.name], plan)
                    if figures and number >= plan.warm_up:
                        collected.add(name, operation, tool.name, figures)
                    if figures:
                        print(f"  {name}, {operation}, {tool.name}: {figures.wall:.2f} s", flush=True)
                    if number == 0 and operation in (RESTORE, IN_PLACE):
                        _same(copy, _restored(at[tool.name]), tool.name)
            # The file system works on the deletion of many files for long: those are left until all is measured.
            if name in data.LARGE_FILES:
                shutil.rmtree(round_place)
            yield


def _source(operation: str, at: Places) -> Path:
    return at.second if operation == tools.SECOND else at.data


def _restored(at: Places) -> Path:
    return at.restored / at.data.relative_to("/")


def _one(tool: Tool, operation: str, at: Places, plan: Plan) -> measure.Figures | None:
    """What an operation cost; None when the tool has none such."""
    commands = tool.commands(operation, at)
    if not commands:
        return None
    tool.carry_out(tool.beforehand(operation, at), at)
    environment = tool.environment(at)
    with _gate(plan.gate):
        if plan.quiet:
            if operation not in BACKUPS:
                measure.read_through(tool.repository(at))
            measure.settle()
        figures = measure.run(commands[0], environment)
        for command in commands[1:]:
            figures = figures.then(measure.run(command, environment))
    tool.carry_out(tool.afterwards(operation, at), at)
    if operation not in SIZED:
        return figures
    place = tool.second_repository(at) if operation == COPY else tool.repository(at)
    return replace(figures, repository_bytes=measure.size_of(place))


@contextmanager
def _gate(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _same(original: Path, restored: Path, tool: str) -> None:
    """A restore that is quick because it is wrong is not to be measured."""
    compared = ["diff", "--recursive", "--brief", "--no-dereference", str(original), str(restored)]
    if subprocess.run(compared, check=False).returncode != 0:
        raise SystemExit(f"What {tool} restored to {restored} is not what was backed up.")


if __name__ == "__main__":
    main()
