"""Medians of alternating runs, and ratios, as a table for people and JSON for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.measure import Figures

MIB = 1 << 20
LARGE_FILES = ("database", "random")
SIZE_AIM = 1.05  # of the peer's repository


@dataclass(frozen=True)
class Row:
    """One operation on one data set: the medians of each tool, the first tool being ours."""

    data_set: str
    operation: str
    medians: Mapping[str, Figures]

    def ratio(self, figure: str, ours: str, peer: str) -> float:
        """Ours divided by the peer's; below 1 is better."""
        other = getattr(self.medians[peer], figure)
        return getattr(self.medians[ours], figure) / other if other else float("nan")


def medians(runs: Sequence[Figures]) -> Figures:
    """The median of each figure over the runs."""
    return Figures(
        wall=median(run.wall for run in runs),
        cpu=median(run.cpu for run in runs),
        peak_bytes=round(median(run.peak_bytes for run in runs)),
        repository_bytes=round(median(run.repository_bytes for run in runs)),
    )


def wall_aim(row: Row) -> float:
    """The part of a peer's wall time that we mean to need at most: half on large files, all of it elsewhere."""
    return 0.5 if row.data_set in LARGE_FILES else 1.0


def table(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """Markdown: seconds of wall and CPU, peak MiB, repository MiB for each tool; the ratio of wall time to each peer.

    A ratio above its aim is marked as a miss.
    """
    ours, *peers = tools
    head = ["data", "operation", *(f"{tool}: wall s / CPU s / peak MiB / repo MiB" for tool in tools)]
    head += [f"wall ÷ {peer}" for peer in peers] + [f"size ÷ {peer}" for peer in peers]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.data_set, row.operation, *(_cell(row.medians[tool]) for tool in tools)]
        cells += [_ratio(row.ratio("wall", ours, peer), wall_aim(row)) for peer in peers]
        cells += [_ratio(row.ratio("repository_bytes", ours, peer), SIZE_AIM) for peer in peers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def misses(rows: Sequence[Row], ours: str, judge: str) -> list[str]:
    """In sentences, which rows fall short of the aim against `judge`."""
    found = []
    for row in rows:
        for figure, what, aim in (("wall", "wall time", wall_aim(row)), ("repository_bytes", "repository", SIZE_AIM)):
            ratio = row.ratio(figure, ours, judge)
            if ratio > aim:
                found.append(f"{row.data_set}, {row.operation}: {what} is {ratio:.2f} x that of {judge}, aim {aim:g}")
    return found


def _cell(figures: Figures) -> str:
    size = f"{figures.repository_bytes / MIB:.0f}" if figures.repository_bytes else "-"
    return f"{figures.wall:.2f} / {figures.cpu:.2f} / {figures.peak_bytes / MIB:.0f} / {size}"


def _ratio(value: float, limit: float) -> str:
    if value != value:
        return "-"
    return f"**{value:.2f}** (aim {limit:g})" if value > limit else f"{value:.2f}"


def document(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, for JSON."""
    return {
        "about": dict(about),
        "rows": [
            {
                "data_set": row.data_set,
                "operation": row.operation,
                "tools": {tool: asdict(figures) for tool, figures in row.medians.items()},
            }
            for row in rows
        ],
    }
