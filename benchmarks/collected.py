"""Every single run's figures, kept in a file, so that rounds on several occasions make one table."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Figures

Key = tuple[str, str, str]
"""A data set, an operation, a tool."""


@dataclass
class Collected:
    """What was compared under which circumstances, and the figures of each run, in the order of the runs."""

    about: dict[str, str]
    runs: dict[Key, list[Figures]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def load(cls, path: Path) -> "Collected":
        """What `save` wrote. Raises SystemExit when that is not there or something else."""
        try:
            written = json.loads(path.read_bytes())
            found = cls(dict(written["about"]))
            for run in written["runs"]:
                key = run["data_set"], run["operation"], run["tool"]
                found.runs[key].append(Figures(**run["figures"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path} holds no figures of this benchmark: {error}") from None
        return found

    def add(self, data_set: str, operation: str, tool: str, figures: Figures) -> None:
        """Keep one run's figures."""
        self.runs[data_set, operation, tool].append(figures)

    def check(self, about: Mapping[str, str]) -> None:
        """Raise SystemExit, saying what differs, unless new runs would be like those that are here."""
        differing = [what for what in {**self.about, **about} if self.about.get(what) != about.get(what)]
        if differing:
            told = "\n".join(f"{what}: {self.about.get(what)}, now {about.get(what)}" for what in differing)
            raise SystemExit(f"These rounds do not belong to those that are there:\n{told}")

    def save(self, path: Path, tools: Sequence[str]) -> None:
        """Write all of it, with the medians and ratios that the table shows."""
        runs = [
            {"data_set": data_set, "operation": operation, "tool": tool, "figures": asdict(figures)}
            for (data_set, operation, tool), figures_of in self.runs.items()
            for figures in figures_of
        ]
        document = {**report.document(self.rows(tools), self.about), "runs": runs}
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(document, indent=1))
        new.rename(path)

    @property
    def tools(self) -> list[str]:
        """Ours first, the others in the order of their first run."""
        return list(dict.fromkeys(tool for _, _, tool in self.runs))

    def rows(self, tools: Sequence[str]) -> list[report.Row]:
        """A row for each operation on each data set."""
        pairs = dict.fromkeys((data_set, operation) for data_set, operation, _ in self.runs)
        return [
            report.Row(
                data_set,
                operation,
                {tool: report.medians(self.runs.get((data_set, operation, tool), ())) for tool in tools},
                {tool: report.spread(self.runs.get((data_set, operation, tool), ())) for tool in tools},
            )
            for data_set, operation in pairs
        ]
