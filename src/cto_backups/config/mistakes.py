"""Mistakes in a policy file, as people see them: where, what, what is allowed, and what was probably meant."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cto_backups.errors import PolicyError

MOST_SHOWN = 50
_WIDEST = 100  # characters of a source line that are shown


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `line` and `column` count from 1; 0 means the file as a whole.

    `setting` is the dotted name (``sources.checkout.retention``), `value` what stands there, `source_line` the line it
    stands on, both without secrets; the carets start `caret` characters into it and are `width` wide. `allowed` lists
    what may stand there, `closest` is the name that was probably meant.
    """

    message: str
    line: int = 0
    column: int = 0
    setting: str = ""
    value: str | None = None
    source_line: str = ""
    caret: int = 0
    width: int = 1
    allowed: tuple[str, ...] = ()
    closest: str | None = None
    todo: str = ""

    def render(self, path: Path | str) -> str:
        """The mistake in a few lines, with the source line and a caret below the offending part."""
        place = f"{path}, line {self.line}, column {self.column}" if self.line else str(path)
        lines = [f"{place}: {self.message}"]
        if self.line and self.source_line.strip():
            lines += _underlined(self)
        if self.closest:
            lines.append(f"  Did you mean {self.closest}?")
        if self.allowed:
            lines.append(f"  Allowed: {', '.join(self.allowed)}")
        if self.todo:
            lines.append(f"  {self.todo}")
        return "\n".join(printable(line) for line in lines)


class PolicyMistakesError(PolicyError):
    """A policy file does not say what it must; `mistakes` holds every mistake found in it, in their order.

    Only the first `MOST_SHOWN` are told: who has more has another kind of file.
    """

    def __init__(self, path: Path, mistakes: Iterable[Mistake], *, todo: str = "") -> None:
        self.path = path
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: (mistake.line, mistake.column)))
        count = len(self.mistakes)
        shown = "\n".join("\n".join([mistake.render(path.name), ""]) for mistake in self.mistakes[:MOST_SHOWN])
        rest = f"\n… and {count - MOST_SHOWN} more." if count > MOST_SHOWN else ""
        super().__init__(
            f"The policy {path} has {'a mistake' if count == 1 else f'{count} mistakes'}",
            why=f"\n{shown.rstrip()}\n{rest}".rstrip(),
            todo=todo or "Correct the file; nothing was run.",
        )


def closest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name most like `name`, when one is near enough to have been meant."""
    lowered = {candidate.lower(): candidate for candidate in allowed}
    found = difflib.get_close_matches(name.lower()[:100], lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def names(values: Sequence[str]) -> tuple[str, ...]:
    """Names to list as allowed: all of them, or the first of very many."""
    return tuple(values) if len(values) <= 30 else (*values[:30], f"… and {len(values) - 30} more")


def printable(text: str) -> str:
    """The text with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _underlined(mistake: Mistake) -> list[str]:
    text, start = mistake.source_line, mistake.caret
    if len(text) > _WIDEST:
        first = max(0, min(start - 20, len(text) - _WIDEST))
        before, after = "…" if first else "", "…" if first + _WIDEST < len(text) else ""
        text = before + text[first : first + _WIDEST] + after
        start += len(before) - first
    # Tabs are kept as they are, so that the caret stands below the same place however wide the terminal shows them.
    indent = "".join("\t" if char == "\t" else " " for char in text[:start].ljust(start))
    width = max(1, min(mistake.width, len(text) - start))
    return [f"  {mistake.line:>4} | {text}", f"       | {indent}{'^' * width}"]
