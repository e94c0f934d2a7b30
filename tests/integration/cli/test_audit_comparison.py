"""An audit of a real installation against the one before it, in every form."""

import csv
import io
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus

OWNED = "    owner: cto@example.com\n"


@pytest.fixture
def home(home: Any) -> Any:
    """An installation in which no source has an owner."""
    home.policy.write_text(re.sub(r"    owner: .*\n", "", home.policy.read_text()))
    return home


def own(home: Any, source: str) -> None:
    home.policy.write_text(home.policy.read_text().replace(f"  {source}:\n", f"  {source}:\n{OWNED}", 1))


def of(document: Any, control: str) -> dict[str, tuple[str | None, str | None]]:
    return {
        each["subject"]: (each["standing"], each["since"])
        for each in document["findings"]
        if each["control"] == control
    }


def test_the_next_audit_says_what_is_new_still_open_and_fixed(home: Any) -> None:
    first = home("audit", "--json").document
    assert set(of(first, "owner").values()) == {(None, None)}, "there is nothing to compare with"
    assert (first["compared_with"], first["fixed"], first["kept"]) == (None, [], True)
    own(home, "data-files")
    (home.data / "ledger.db").rename(home.data / "elsewhere.db")
    second = home("audit", "--json", "--no-save").document
    assert second["compared_with"]["at"] == first["at"]
    assert of(second, "owner") == {"app-repository": ("open", first["at"]), "ledger-database": ("open", first["at"])}
    assert of(second, "reachable") == {"ledger-database": ("new", None)}
    fixed = [(each["control"], each["subject"], each["since"]) for each in second["fixed"]]
    assert fixed == [("owner", "data-files", first["at"])]
    assert (second["kept"], [each["at"] for each in second["history"]]) == (False, [first["at"]])

    told = home("audit")
    assert re.search(r"Since the audit of \d{4}-\d\d-\d\d \d\d:\d\d: 1 new, \d+ still open, 1 fixed\.", told.out)
    assert "ledger-database: it could not be looked at" in told.out
    assert re.search(r"\(new\)", told.out) and re.search(r"it names no owner \(open since \d{4}-\d\d-\d\d\)", told.out)
    assert re.search(r"Fixed:\n  Every source has an owner: data-files \(open since", told.out)

    third = home("audit", "--json").document
    assert of(third, "reachable")["ledger-database"][0] == "open", "it was kept this time"
    assert third["fixed"] == []
    assert of(third, "owner")["app-repository"] == ("open", first["at"])


def test_every_form_of_the_report_tells_what_changed(home: Any) -> None:
    at = home("audit", "--json").document["at"]
    own(home, "data-files")
    (home.data / "ledger.db").rename(home.data / "elsewhere.db")
    lines = list(csv.DictReader(io.StringIO(home("audit", "--format", "csv", "--no-save").out)))
    about = {(each["control"], each["subject"]): each for each in lines}
    new, still, fixed = (
        about[key] for key in (("reachable", "ledger-database"), ("owner", "app-repository"), ("owner", "data-files"))
    )
    assert (new["result"], new["standing"], new["since"]) == ("failed", "new", "")
    assert (still["result"], still["standing"], still["since"]) == ("failed", "open", at)
    assert ("fixed", at) in {(each["standing"], each["since"]) for each in lines if each["result"] == "fixed"}
    assert fixed["standing"] == "fixed"
    assert {each["standing"] for each in lines if each["result"] == "passed"} == {""}
    sarif = home("audit", "--format", "sarif", "--no-save").document["runs"][0]["results"]
    states = {
        (each["ruleId"], each["locations"][0]["logicalLocations"][0]["name"]): each["baselineState"] for each in sarif
    }
    assert states["reachable", "ledger-database"] == "new"
    assert states["owner", "app-repository"] == "unchanged"
    assert ("owner", "data-files") not in states
    page = home("audit", "--format", "html").out
    assert "<h2>Since the last audit</h2>" in page
    assert "<h3>Fixed</h3>" in page
    assert '<span class="faint">(new)</span>' in page
    assert '<span class="faint">(open since ' in page


def test_what_only_a_look_can_find_is_not_called_fixed_by_an_audit_that_does_not_look(
    home: Any, tmp_path: Path
) -> None:
    stray = tmp_path / "look" / "stray"
    subprocess.run(["git", "init", "-q", str(stray)], check=True)
    look = ("--look", str(tmp_path / "look"))
    first = home("audit", "--json", *look).document
    assert f"git:{stray}" in of(first, "coverage")
    blind = home("audit", "--json").document
    assert (blind["fixed"], [each["subject"] for each in blind["not_looked_at"]]) == ([], [f"git:{stray}"])
    assert "Not looked at this time:" in home("audit").out
    again = home("audit", "--json", *look).document
    assert of(again, "coverage")[f"git:{stray}"] == ("open", first["at"])
    (stray / ".git").rename(tmp_path / "gone")
    assert [each["subject"] for each in home("audit", "--json", *look).document["fixed"]] == [f"git:{stray}"]


def test_an_audit_may_be_compared_with_an_earlier_one(home: Any) -> None:
    refused = home("audit", "--since", "yesterday")
    assert refused.status is ExitStatus.NOT_FOUND
    assert "None was kept yet" in refused.err
    home("audit")
    refused = home("audit", "--since", "yesterday")
    assert refused.status is ExitStatus.NOT_FOUND
    assert "The oldest is of" in refused.err
    assert home("audit", "--since", "now", "--json").document["compared_with"] is not None
    assert home("audit", "--since", "whenever").status is ExitStatus.USAGE
