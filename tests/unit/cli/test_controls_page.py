"""The reference page of the audit's controls is what their registry says."""

from pathlib import Path

from cto_backups.cli import controls_page
from cto_backups.core.controls import CONTROLS

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_in_the_documentation_is_made_from_the_registry() -> None:
    page = (ROOT / controls_page.PLACE).read_text(encoding="utf-8")
    assert page == controls_page.rendered(), "run tools/controls-reference"


def test_the_page_tells_all_of_every_control() -> None:
    page = controls_page.rendered()
    for control in CONTROLS:
        section = page.partition(f"\n## {control.id}\n")[2].partition("\n## ")[0]
        assert f"Severity: {control.severity}." in section
        assert all(text in section for text in (control.title, control.rationale, control.remedy))
        assert all(clause.number in section for clause in control.clauses)
