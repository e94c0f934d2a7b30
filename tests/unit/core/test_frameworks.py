"""Clauses of control frameworks, and what every control is mapped to."""

import pytest

from cto_backups.core.controls import CONTROLS
from cto_backups.core.frameworks import CLAUSES, Framework, by_framework, cited, clauses


def test_clauses_are_named_by_their_numbers():
    backup, testing = clauses("A.8.13; CP-4")
    assert (backup.framework, backup.title) == (Framework.ISO27001, "Information backup")
    assert (testing.framework, testing.number) == (Framework.NIST, "CP-4")
    with pytest.raises(KeyError, match=r"A\.99"):
        clauses("A.99")


def test_clauses_are_ordered_as_their_frameworks_number_them():
    found = by_framework(clauses("CP-9;CP-4;A1.3;CP-9"))
    numbers = {framework: [clause.number for clause in each] for framework, each in found.items()}
    assert numbers == {Framework.SOC2: ["A1.3"], Framework.NIST: ["CP-4", "CP-9"]}
    assert list(numbers) == [Framework.SOC2, Framework.NIST]


def test_clauses_are_cited_by_framework():
    assert cited(clauses("CP-9;A1.3;CP-4")) == "SOC 2 A1.3; NIST SP 800-53 rev. 5 CP-4, CP-9"
    assert cited(()) == ""


def test_every_control_is_evidence_for_a_clause_and_every_clause_has_a_control():
    assert all(control.clauses for control in CONTROLS)
    assert {clause for control in CONTROLS for clause in control.clauses} == set(CLAUSES.values())


@pytest.mark.parametrize(
    ("control", "numbers"),
    [
        ("restore-test", {"A1.3", "A.5.30", "CP-4", "11.5", "Art. 12(2)", "164.308(a)(7)(ii)(D)"}),
        ("rpo", {"A1.2", "A.8.13", "CP-9", "11.2", "Art. 12(6)", "164.308(a)(7)(ii)(A)"}),
    ],
)
def test_a_control_is_mapped_to_what_auditors_ask_for(control, numbers):
    (found,) = (each for each in CONTROLS if each.id == control)
    assert numbers <= {clause.number for clause in found.clauses}
