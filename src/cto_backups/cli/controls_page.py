"""`docs/reference/controls.md`, made from the registry of controls."""

from cto_backups.core.controls import CONTROLS
from cto_backups.core.findings import Control
from cto_backups.core.frameworks import CLAUSES, Framework, cited

PLACE = "docs/reference/controls.md"

_HEAD = """# Controls

<!-- made from the registry of controls; `tools/controls-reference` writes it anew -->

What `cto.backups audit` checks. Ids are for ever. A control is checked for each source, vault or resource that it is
about; where there is none, it is not applicable, and does not count.

Clauses of frameworks say which requirement a result is evidence for. That a control passed does not say that the
requirement is met: each asks for more than a program can see. Titles of clauses are shortened.
"""


def rendered() -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD, "| Control | Severity | What |", "|---|---|---|"]
    parts += [f"| [`{each.id}`](#{each.id}) | {each.severity} | {each.title} |" for each in CONTROLS]
    for control in CONTROLS:
        parts += ["", f"## {control.id}", "", *_told(control)]
    return "\n".join([*parts, "", "## Framework index", "", *_index(), ""])


def _told(control: Control) -> list[str]:
    return [
        f"{control.title}. Severity: {control.severity}.",
        "",
        f"- Why: {control.rationale}",
        f"- Next: {control.remedy}",
        f"- Frameworks: {cited(control.clauses)}.",
    ]


def _index() -> list[str]:
    lines = []
    for framework in Framework:
        lines += [f"### {framework}", "", "| Clause | About | Controls |", "|---|---|---|"]
        for clause in CLAUSES.values():
            if clause.framework is framework:
                names = ", ".join(f"[`{each.id}`](#{each.id})" for each in CONTROLS if clause in each.clauses)
                lines.append(f"| {clause.number} | {clause.title} | {names} |")
        lines.append("")
    return lines[:-1]
