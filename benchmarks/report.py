"""Medians of alternating runs, and ratios, as a table for people and JSON for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.measure import Figures

MIB = 1 << 20
JUDGE = "restic"


@dataclass(frozen=True)
class Aim:
    """What a figure of ours, divided by that of one peer or of the best of all, may be at most."""

    figure: str
    words: str
    against: str
    most: float


AIMS = (
    Aim("wall", "wall", JUDGE, 0.5),
    Aim("wall", "wall", "best", 0.8),
    Aim("peak_bytes", "memory", JUDGE, 1.0),
    Aim("repository_bytes", "size", JUDGE, 1.03),
)


@dataclass(frozen=True)
class Spread:
    """How far the wall seconds of so many runs are apart."""

    runs: int
    least: float
    most: float


@dataclass(frozen=True)
class Row:
    """One operation on one data set: the medians of each tool, ours first; None where it has no such operation."""

    data_set: str
    operation: str
    medians: Mapping[str, Figures | None]
    spreads: Mapping[str, Spread | None] = field(default_factory=dict)

    def ratio(self, aim: Aim) -> float | None:
        """Ours divided by what the aim names; None when there is nothing to compare with."""
        ours, *peers = self.medians.values()
        others = peers if aim.against == "best" else [self.medians.get(aim.against)]
        figures = [getattr(other, aim.figure) for other in others if other]
        if ours is None or not any(figures):
            return None
        return float(getattr(ours, aim.figure) / min(filter(None, figures)))


def medians(runs: Sequence[Figures]) -> Figures | None:
    """The median of each figure over the runs, if there are any."""
    if not runs:
        return None
    return Figures(
        wall=median(run.wall for run in runs),
        cpu=median(run.cpu for run in runs),
        peak_bytes=round(median(run.peak_bytes for run in runs)),
        repository_bytes=round(median(run.repository_bytes for run in runs)),
    )


def spread(runs: Sequence[Figures]) -> Spread | None:
    """The shortest and the longest of the runs, if there are any."""
    walls = [run.wall for run in runs]
    return Spread(len(walls), min(walls), max(walls)) if walls else None


def table(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """Markdown. Cells: wall s / CPU s / peak MiB / repository MiB; then the ratios. One above its aim is bold."""
    head = ["data", "operation", *tools, *(f"{aim.words} ÷ {aim.against} (≤ {aim.most:g})" for aim in AIMS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.data_set, row.operation, *(_cell(row.medians[tool]) for tool in tools)]
        cells += [_ratio(row.ratio(aim), aim) for aim in AIMS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def misses(rows: Sequence[Row]) -> list[str]:
    """In sentences, which rows fall short of which aim."""
    return [
        f"{row.data_set}, {row.operation}: {aim.words} is {ratio:.2f} x that of {_whom(aim)}, aim {aim.most:g}"
        for row in rows
        for aim in AIMS
        if (ratio := row.ratio(aim)) is not None and ratio > aim.most
    ]


def _whom(aim: Aim) -> str:
    return "the best peer" if aim.against == "best" else aim.against


def _cell(figures: Figures | None) -> str:
    if figures is None:
        return "not offered"
    size = f"{figures.repository_bytes / MIB:.0f}" if figures.repository_bytes else "-"
    return f"{figures.wall:.2f} / {figures.cpu:.2f} / {figures.peak_bytes / MIB:.0f} / {size}"


def _ratio(value: float | None, aim: Aim) -> str:
    if value is None:
        return "-"
    return f"**{value:.2f}**" if value > aim.most else f"{value:.2f}"


def document(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, for JSON."""
    return {
        "about": dict(about),
        "rows": [
            {
                "data_set": row.data_set,
                "operation": row.operation,
                "tools": {tool: figures and asdict(figures) for tool, figures in row.medians.items()},
                "walls": {tool: spread and asdict(spread) for tool, spread in row.spreads.items()},
                "ratios": {f"{aim.words} to {aim.against}": row.ratio(aim) for aim in AIMS},
            }
            for row in rows
        ],
    }
