"""The inventory of a real installation: what vanishes, or is taken out of the policy, does not go unsaid."""

import re
import shutil
from typing import Any

import pytest

from cto_backups.catalog.catalog import Catalog
from cto_backups.errors import CatalogError, ExitStatus

EXCLUSION = """
exclude:
  - resource: "{resource}"
    reason: it was sold
    owner: cto@example.com
    until: {until}
"""


def findings(home: Any, control: str) -> dict[str, str]:
    """Details by subject. The installation was moved here: what vanished from its first place is left out."""
    found = home("audit", "--json").document["findings"]
    told = {each["subject"]: each["detail"] for each in found if each["control"] == control}
    return {subject: detail for subject, detail in told.items() if control != "vanished" or str(home.data) in subject}


def exclude(home: Any, resource: str, until: str = "2199-01-01") -> None:
    text = re.sub(r"\nexclude:\n(  .*\n)+", "\n", home.policy.read_text())
    home.policy.write_text(text + EXCLUSION.format(resource=resource, until=until))


@pytest.fixture
def folders(home: Any) -> list[Any]:
    """Eight folders that the files source now covers, one by one."""
    made = [home.data / "more" / f"folder-{number}" for number in range(8)]
    for folder in made:
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
    places = "".join(f"      - {folder}\n" for folder in made)
    text = re.sub(
        r"(  data-files:\n(?:    .*\n)*?    paths:)[^\n]*\n(?:      - .*\n)*", rf"\1\n{places}", home.policy.read_text()
    )
    assert text.count("folder-") == 8
    home.policy.write_text(text)
    return made


def test_a_resource_that_vanished_is_found_until_it_is_back_or_excluded(home: Any, folders: list[Any]) -> None:
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    exclude(home, f"files:{home.data}")  # what the source covered before its paths were changed
    assert findings(home, "vanished") == {}
    shutil.move(folders[3], home.data / "aside")
    lost = f"files:{folders[3]}"
    found = findings(home, "vanished")
    assert list(found) == [lost]
    assert re.search(r"was last found in source 'data-files' \d+ seconds? ago, and by no look since", found[lost])
    assert findings(home, "shrunk") == {}, "one of eight is not sudden"
    assert list(findings(home, "vanished")) == [lost], "a second look says so again"
    shutil.move(home.data / "aside", folders[3])
    assert findings(home, "vanished") == {}


def test_an_inventory_that_shrank_suddenly_is_found(home: Any, folders: list[Any]) -> None:
    assert home("audit").status is ExitStatus.SUCCESS
    for folder in folders[:2]:
        shutil.rmtree(folder)
    assert "2 of its 8 resources" in findings(home, "shrunk")["data-files"]
    exclude(home, f"files:{folders[0]}")
    assert findings(home, "shrunk") == {}


def test_what_a_source_covered_that_left_the_policy_is_found_until_it_is_excluded(home: Any) -> None:
    assert home("audit").status is ExitStatus.SUCCESS
    text = home.policy.read_text()
    home.policy.write_text(re.sub(r"  ledger-database:\n(?:    .*\n)+", "", text))
    lost = f"sqlite:{home.data / 'ledger.db'}"
    assert "source 'ledger-database', which covered it, is no longer in the policy" in findings(home, "coverage")[lost]
    exclude(home, lost)
    assert findings(home, "coverage") == {}


def test_an_exclusion_that_has_ended_is_found_and_so_is_what_it_left_out(home: Any) -> None:
    assert home("audit").status is ExitStatus.SUCCESS
    home.policy.write_text(re.sub(r"  ledger-database:\n(?:    .*\n)+", "", home.policy.read_text()))
    lost = f"sqlite:{home.data / 'ledger.db'}"
    exclude(home, lost, until="2020-01-01")
    assert "its exclusion ended" in findings(home, "exclusions")[lost]
    assert lost in findings(home, "coverage")


def test_a_source_out_of_reach_is_found_and_fails_a_pipeline(home: Any) -> None:
    (home.data / "ledger.db").rename(home.data / "elsewhere.db")
    assert "it could not be looked at" in findings(home, "reachable")["ledger-database"]
    assert findings(home, "vanished") == {}, "nobody knows what is in it"
    answer = home("audit", "--fail-on", "high")
    assert answer.status is ExitStatus.RED
    assert "Every source can be looked at" in answer.out


def test_what_vanished_is_found_though_the_catalog_cannot_be_written_to(
    home: Any, folders: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the catalog is full: the audit judges what it found, and says that nothing of it is kept."""
    assert home("audit").status is ExitStatus.SUCCESS
    for folder in folders[:2]:
        shutil.rmtree(folder)

    def full(*_: object) -> None:
        raise CatalogError("The catalog cannot be used", why="database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "record_inventory", full)
        assert {f"files:{folder}" for folder in folders[:2]} <= findings(home, "vanished").keys()
        assert "2 of its 8 resources" in findings(home, "shrunk")["data-files"]
        answer = home("audit")
    assert answer.status is ExitStatus.SUCCESS
    assert "This audit is not kept" in answer.err
    assert "disk is full" in answer.err
    assert len(home("audit", "--no-save", "--json").document["history"]) == 1
