"""A vault with a schedule is tried out by the worker, which keeps the evidence, and tells when a rule is broken."""

import json
import sqlite3

import pytest

from cto_backups.errors import ExitStatus
from cto_backups.vaults.local import LocalVault
from integration.cli.conftest import Home

WORK = ("worker", "--once")


def scheduled(home: Home) -> None:
    text = home.policy.read_text()
    assert "storage: disk\n" in text
    home.policy.write_text(text.replace("storage: disk\n", "storage: disk\n    checks: every 7 d\n", 1))


def checks(home: Home) -> list[tuple[str, bool]]:
    with sqlite3.connect(home.root / "catalog.db") as catalog:
        found = catalog.execute("SELECT vault, passed FROM evidence WHERE kind = 'vault_check'").fetchall()
    return [(vault, bool(passed)) for vault, passed in found]


def about(home: Home) -> list[str]:
    findings = json.loads(home("audit", "--json").out)["findings"]
    return [each["detail"] for each in findings if each["control"] == "vault-checked"]


def test_the_worker_tries_a_vault_out_once_and_not_again_before_its_time(home: Home) -> None:
    scheduled(home)
    assert home("backup").status is ExitStatus.SUCCESS
    assert about(home) == ["what its store enforces was never tried out"]
    worked = home(*WORK)
    assert worked.status is ExitStatus.SUCCESS, worked
    assert "rules in two" in worked.out
    ((vault, passed),) = checks(home)
    assert (vault, passed) == ("two", True)
    assert about(home) == []
    home(*WORK)
    assert len(checks(home)) == 1


def test_a_vault_that_breaks_a_rule_is_told_by_the_worker_and_by_the_audit(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled(home)
    assert home("backup").status is ExitStatus.SUCCESS
    put = LocalVault.put
    monkeypatch.setattr(LocalVault, "put", lambda self, key, parts, **_: put(self, key, parts, overwrite=True))
    worked = home(*WORK)
    assert worked.status is ExitStatus.VERIFICATION, worked
    assert "not what policy relies on" in worked.err + worked.out
    assert checks(home) == [("two", False)]
    (told,) = about(home)
    assert "overwrite: not enforced" in told
