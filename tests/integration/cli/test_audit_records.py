"""Audits in the signed chain: a lost catalog knows again since when findings are open, an auditor that audits ran."""

import contextlib
import json
import re
import shutil
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.audit_comparison import FindingKey, KeptAudit, KeptFinding
from cto_backups.core.findings import Severity
from cto_backups.errors import ExitStatus
from cto_backups.evidence.audits import ToldAudit, audit_to_payload
from cto_backups.evidence.records import SigningKey
from integration.cli.conftest import Home
from integration.cli.test_audit_comparison import of, own
from integration.cli.test_governance import Later, later, records
from integration.cli.test_recollect import lose, rebuild_from_nothing, signers

__all__ = ["later"]

DAY = timedelta(days=1)


@pytest.fixture
def home(home: Home) -> Home:
    """An installation in which no source has an owner."""
    home.policy.write_text(re.sub(r"    owner: .*\n", "", home.policy.read_text()))
    return home


def audited(home: Home, *options: str) -> Any:
    answer = home("audit", "--json", *options)
    assert answer.status is ExitStatus.SUCCESS, answer
    return answer.document


def files(home: Home, vault: str = "one") -> list[Path]:
    """The signed records of audits in a vault, in order."""
    return sorted((home.vault(vault) / "records").rglob("*-audit.sealed"))


def sign(home: Home, payload: dict[str, Any]) -> None:
    """Sign, with the installation's own key, what it did not say."""
    key = SigningKey.load((home.root / "keys" / "evidence.key").read_text().strip())
    with contextlib.closing(Catalog.open(f"sqlite:{home.root / 'catalog.db'}", now=clock.now())) as catalog:
        catalog.append_record(key, "audit", payload, clock.now())


def told(document: Any) -> Any:
    """What does not depend on what only the lost catalog knew: owners, and sources that cannot be reached."""
    findings = {control: of(document, control) for control in ("owner", "reachable")}
    fixed = [(each["control"], each["subject"], each["since"], each["title"]) for each in document["fixed"]]
    return findings, [each for each in fixed if each[0] in findings], document["compared_with"], document["history"]


def three_days(home: Home, later: Later) -> list[Any]:
    """Audits on three days: a source gets an owner, a database goes, and comes back."""
    ledger, away = home.data / "ledger.db", home.data / "elsewhere.db"
    first = audited(home)
    own(home, "data-files")
    ledger.rename(away)
    later(DAY)
    second = audited(home)
    away.rename(ledger)
    later(DAY)
    return [first, second, audited(home)]


def test_audits_come_back_with_since_when_each_finding_is_open(home: Home, later: Later) -> None:
    first, second, third = three_days(home, later)
    (home.data / "ledger.db").rename(home.data / "elsewhere.db")
    before = told(audited(home, "--no-save"))
    rebuilt = rebuild_from_nothing(home)
    assert rebuilt["audits"] == 3
    after = audited(home, "--no-save")
    assert told(after) == before
    assert [each["at"] for each in after["history"]] == [third["at"], second["at"], first["at"]]
    assert of(after, "owner") == {name: ("open", first["at"]) for name in ("app-repository", "ledger-database")}
    assert of(after, "reachable") == {"ledger-database": ("new", None)}, "it was fixed in between"
    compared = audited(home, "--no-save", "--since", second["at"])
    assert of(compared, "reachable") == {"ledger-database": ("open", second["at"])}
    assert "past audits: 3" not in home("catalog", "rebuild").out
    assert home("catalog", "rebuild", "--json").document["audits"] == 0, "they are there"
    lose(home)
    assert "past audits: 3" in home("catalog", "rebuild").out


def test_what_was_fixed_since_is_told_after_a_rebuild(home: Home, later: Later) -> None:
    first, *_ = three_days(home, later)
    rebuild_from_nothing(home)
    own(home, "app-repository")
    fixed = [each for each in audited(home)["fixed"] if each["control"] == "owner"]
    assert [(each["subject"], each["since"]) for each in fixed] == [("app-repository", first["at"])]
    assert "app-repository" not in of(audited(home), "owner")


def test_an_older_catalog_learns_of_later_audits(home: Home, later: Later) -> None:
    first = audited(home)
    copy = {file: file.read_bytes() for file in home.root.glob("catalog.db*")}
    own(home, "data-files")
    later(DAY)
    second = audited(home)
    lose(home)
    for file, content in copy.items():
        file.write_bytes(content)
    assert home("catalog", "rebuild", "--json").document["audits"] == 1
    after = audited(home, "--no-save")
    assert [each["at"] for each in after["history"]] == [second["at"], first["at"]]
    assert "data-files" not in of(after, "owner")


def test_every_vault_gets_the_record_at_once_and_says_what_changed(home: Home) -> None:
    document = audited(home)
    own(home, "data-files")
    audited(home)
    audited(home)
    assert [len(files(home, name)) for name in ("one", "two", "three")] == [2, 2, 2], "nothing changed in the third"
    first, second = records(home, "audit")
    assert (first["at"], first["score"], first["compared_with"]) == (document["at"], document["score"], None)
    assert first["counts"] == {name: str(number) for name, number in document["counts"].items()}
    assert int(first["new_count"]) == len(first["new"]) == len(document["findings"])
    details = {(each["control"], each["subject"], each["detail"]) for each in first["new"]}
    assert details == {(each["control"], each["subject"], each["detail"]) for each in document["findings"]}
    assert [(each["control"], each["subject"]) for each in second["fixed"]] == [("owner", "data-files")]
    assert (second["new"], second["compared_with"]) == ([], document["at"])
    assert first["policy"] != second["policy"], "it was written anew"
    assert (home.vault("one") / "policies" / f"{second['policy']}.sealed").exists()


def test_an_audit_that_is_not_kept_leaves_no_record(home: Home) -> None:
    audited(home, "--no-save")
    assert files(home) == []
    home.policy.write_text(home.policy.read_text().replace("state: state", "state: /dev/null/x"))
    assert audited(home)["kept"] is False, "the installation can only be read"
    assert files(home) == []


def test_an_audit_does_not_fail_for_a_vault_that_is_away_which_gets_the_record_later(home: Home) -> None:
    away = home.root / "away"
    home.vault("two").rename(away)
    answer = home("audit", "--json")
    assert (answer.status, answer.err) == (ExitStatus.SUCCESS, "")
    assert (answer.document["kept"], answer.document["vault_errors"]) == (True, {}), "a finding tells of it"
    away.rename(home.vault("two"))
    assert (len(files(home)), files(home, "two")) == (1, [])
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert home("verify", "two").status is ExitStatus.SUCCESS
    assert [file.name for file in files(home, "two")] == [file.name for file in files(home)]


def test_a_vault_that_cannot_take_the_record_is_named(home: Home) -> None:
    audited(home)
    (theirs,) = files(home, "two")
    theirs.parent.rename(theirs.parent.with_name("aside"))
    theirs.parent.write_text("no folder")
    own(home, "data-files")
    answer = home("audit")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert "The signed record of this audit is not in two yet: " in answer.err
    own(home, "app-repository")
    assert list(audited(home)["vault_errors"]) == ["two"]


def test_where_a_vault_has_a_record_of_the_next_number_nothing_is_signed_that_contradicts_it(home: Home) -> None:
    """Whoever wrote it: the catalog may have gone back, or somebody else is at work there."""
    audited(home)
    (theirs,) = files(home, "two")
    number = int(theirs.name[:8]) + 1
    home.seal(theirs.with_name(f"{number:08}-audit.sealed"), b"somebody else's")
    own(home, "data-files")
    answer = home("audit")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert "This audit is not kept for the next one to compare with: The catalog has gone back in time" in answer.err
    assert f"Vault 'two' has record {number}" in answer.err
    assert len(files(home)) == 1


# -- whom to believe ---------------------------------------------------------------------------------------------------


def test_an_altered_record_is_named_and_not_believed(home: Home, later: Later) -> None:
    three_days(home, later)
    for vault in ("one", "two", "three"):
        last = files(home, vault)[-1]
        said = home.opened(last)
        altered = re.sub(rb'"score":\d+', b'"score":100', said)
        assert altered != said
        home.seal(last, altered)
    checked = home("evidence", "verify", "--vault", "one", "--json")
    assert checked.status is ExitStatus.DAMAGE, checked
    lose(home)
    answer = home("catalog", "rebuild", "--json")
    assert answer.status is ExitStatus.DAMAGE, answer
    assert answer.document["audits"] == 2
    assert any("-audit" in each["what"] for each in answer.document["damages"]), answer.document["damages"]


def test_a_record_that_says_nothing_sensible_is_a_damage_and_the_others_count(home: Home, later: Later) -> None:
    audited(home)
    sign(home, {**records(home, "audit")[0], "at": "9999-12-31T00:00:00.000000Z"})
    later(DAY)
    own(home, "data-files")
    audited(home)
    lose(home)
    answer = home("catalog", "rebuild", "--json")
    assert answer.status is ExitStatus.DAMAGE, answer
    (damage,) = answer.document["damages"]
    assert damage["what"].endswith("-audit.sealed") and "says nothing readable" in damage["detail"]
    assert answer.document["audits"] == 2


def test_audits_of_another_key_count_where_it_is_trusted(home: Home, later: Later) -> None:
    first = audited(home)
    (before,) = signers(home)
    lose(home, key=True)
    answer = home("catalog", "rebuild", "--json").document
    assert answer["audits"] == 0
    assert any("1 of kind audit" in remark for remark in answer["remarks"]), answer["remarks"]
    assert audited(home, "--no-save")["compared_with"] is None
    lose(home)
    assert home("catalog", "rebuild", "--trust", before, "--json").document["audits"] == 1
    later(DAY)
    assert of(audited(home), "owner")["data-files"] == ("open", first["at"])
    lose(home)
    assert home("catalog", "rebuild", "--json").document["audits"] == 1, "the new key tells what is still open"
    assert of(audited(home, "--no-save"), "owner")["data-files"] == ("open", first["at"])
    lose(home)
    assert home("catalog", "rebuild", "--trust", before, "--json").document["audits"] == 2, "in the order of time"
    assert len(audited(home, "--no-save")["history"]) == 2


def test_a_record_that_lists_not_all_is_remarked_upon_once(home: Home) -> None:
    now = clock.now()
    new = tuple(
        KeptFinding(FindingKey("owner", f"source-{number}"), "Title", Severity.LOW, "no owner", None, now)
        for number in range(1500)
    )
    told = ToldAudit(KeptAudit(now, 7, {Severity.LOW: 1500}), policy="ef" * 32, by="ada", new=new)
    sign(home, audit_to_payload(told))
    answer = home("catalog", "rebuild", "--json").document
    assert answer["audits"] == 1
    (remark,) = answer["remarks"]
    assert remark.startswith("500 findings of past audits left out:")
    assert home("catalog", "rebuild", "--json").document["remarks"] == []
    assert {"source-0", "source-999"} <= {each["subject"] for each in audited(home)["fixed"]}


def test_any_one_vault_is_enough(home: Home) -> None:
    first = audited(home)
    shutil.rmtree(home.vault("one"))
    shutil.rmtree(home.vault("three"))
    lose(home)
    assert home("catalog", "rebuild", "--from", "two", "--json").document["audits"] == 1
    assert audited(home, "--no-save")["compared_with"]["at"] == first["at"]


def test_an_export_has_them_and_is_sound(home: Home, tmp_path: Path) -> None:
    first = audited(home)
    path = tmp_path / "auditor.zip"
    assert home("evidence", "export", "--since", "2020-01-01", "--for", str(path)).status is ExitStatus.SUCCESS
    assert home("evidence", "verify", str(path)).status is ExitStatus.SUCCESS
    with zipfile.ZipFile(path) as packed:
        names = [name for name in packed.namelist() if name.startswith("records/") and name.endswith(".json")]
        bodies = [packed.read(name) for name in names]
    found = [json.loads(body) for body in bodies if body.startswith(b'{"format":1,"kind":"audit"')]
    assert [body["payload"]["at"] for body in found] == [first["at"]], "as the guide for auditors says it is found"
