"""What bad input and bad luck get: one clear message, and the exit status that belongs to it."""

import os
import re
import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus

from .conftest import Home, copied


@pytest.fixture(scope="module")
def asked(template: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One installation for all requests that nothing comes of."""
    return copied(template, tmp_path_factory.mktemp("asked"))


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("status", "data"), ExitStatus.NOT_FOUND, "did you mean 'data-files'?"),
        (("backup", "nothing"), ExitStatus.NOT_FOUND, "data-files"),
        (("verify", "on"), ExitStatus.NOT_FOUND, "did you mean 'one'?"),
        (("test", "nothing"), ExitStatus.NOT_FOUND, "data-files"),
        *(
            ((*command, "data"), ExitStatus.NOT_FOUND, "did you mean 'data-files'?")
            for command in (("ls",), ("find", "x", "--source"), ("backup",), ("points",), ("test",), ("expire",))
        ),
        (("schedule", "set", "data", "hourly"), ExitStatus.NOT_FOUND, "did you mean 'data-files'?"),
        (("points", "nothing-20200101T000000Z-0000"), ExitStatus.NOT_FOUND, "nothing-2020"),
        (("restore", "nothing", "--to", "x"), ExitStatus.NOT_FOUND, "nothing"),
        (("restore", "latest", "--to", "x"), ExitStatus.USAGE, "--source"),
        (("restore", "data-files", "--to", "x", "--vault", "four"), ExitStatus.NOT_FOUND, "four"),
        (("restore", "data-files", "--to", "x", "--at", "soon"), ExitStatus.USAGE, "2 hours ago"),
        (("restore", "data-files", "--to", "x", "--at", "3 years ago"), ExitStatus.NOT_FOUND, "no recovery point"),
        (("restore", "data-files", "--to", "x", "--only", "/no/such"), ExitStatus.NOT_FOUND, "/no/such"),
        (("schedule", "--ahead", "soon"), ExitStatus.USAGE, "such as '1 day'"),
        (("schedule", "--ahead", "3 years"), ExitStatus.USAGE, "31 days"),
        (("schedule", "set", "data-files", "hourlyy"), ExitStatus.USAGE, "did you mean 'hourly'?"),
        (("schedule", "set", "data-file", "hourly"), ExitStatus.NOT_FOUND, "did you mean 'data-files'?"),
        (("schedule", "set", "ledger-database", "daily at 02:00"), ExitStatus.POLICY, "RPO"),
        (("audit", "--fail-on", "hihg"), ExitStatus.USAGE, "did you mean 'high'?"),
        (("audit", "--fail-on", "low"), ExitStatus.RED, "finding"),
    ],
)
def test_a_wrong_request_is_answered_with_what_there_is(
    asked: Home, arguments: tuple[str, ...], status: ExitStatus, told: str
) -> None:
    answer = asked(*arguments)
    assert answer.status is status, answer
    assert told in answer.out + answer.err


def test_a_mistake_in_the_policy_is_shown_with_its_line(home: Any) -> None:
    text = home.policy.read_text()
    home.policy.write_text(text.replace("    retention:", "    retentoin:"))
    answer = home("status")
    assert answer.status is ExitStatus.POLICY
    assert "retentoin" in answer.err
    assert "line " in answer.err
    document = home("status", "--json").document
    assert document["error"]["code"] == "policy"
    assert document["status"] == 3


def test_a_policy_that_is_not_there_is_named(home: Any) -> None:
    home.policy.unlink()
    answer = home("status")
    assert answer.status in (ExitStatus.NOT_FOUND, ExitStatus.POLICY)
    assert str(home.policy) in answer.err


def test_a_missing_vault_costs_only_its_own_copies(home: Any) -> None:
    home.vault("two").rename(home.root / "unplugged")
    home.change()
    answer = home("backup", "--json")
    assert answer.status is ExitStatus.VAULT
    saved = answer.document["sources"][0]
    assert saved["outcome"] == "saved"
    assert list(saved["vault_errors"]) == ["two"]
    assert [copy["vault"] for copy in saved["copies"]] == ["three"]
    assert home("verify", "two").status is ExitStatus.VAULT
    told = home("backup", "data-files")
    assert told.status is ExitStatus.VAULT
    assert "two" in told.err
    (home.root / "unplugged").rename(home.vault("two"))
    assert home("backup").status is ExitStatus.SUCCESS


def test_a_wrong_key_is_named_and_never_shown(home: Any) -> None:
    key = home.root / "keys" / "repository.key"
    other = "ab" * 32
    key.write_text(other + "\n")
    for command in (
        ("backup", "ledger-database"),
        ("verify", "one"),
        ("restore", "ledger-database", "--to", "x", "--vault", "one"),
    ):
        answer = home(*command)
        assert answer.status is ExitStatus.KEY, (command, answer)
        assert other not in answer.out + answer.err


def test_a_missing_key_says_what_is_lost_with_it(home: Any) -> None:
    (home.root / "keys" / "repository.key").unlink()
    answer = home("verify", "one")
    assert answer.status is ExitStatus.KEY
    assert "repository.key" in answer.err


def test_a_vault_is_verified_in_parts(home: Any) -> None:
    for _ in range(3):  # no pack alone is half of it
        (home.data / "files" / "more.bin").write_bytes(os.urandom(300_000))
        assert home("backup", "data-files").status is ExitStatus.SUCCESS
    first = home("verify", "one", "--part", "1/2")
    assert first.status is ExitStatus.SUCCESS
    assert "packs read" in first.out and "not every byte was read yet" in first.out
    document = home("verify", "one", "--part", "50%", "--json").document["vaults"][0]
    assert 0 < document["packs_read"] < document["packs_stored"]
    assert 0 < document["bytes_read"] < document["bytes_stored"]
    assert document["remarks"] == []
    assert document["evidence"]["rung"] == "read"
    assert document["evidence"]["read_since"] < document["evidence"]["started_at"]
    third = home("verify", "one", "--part", "1K")
    assert "every byte was read since" in third.out


def test_a_part_that_makes_no_sense_is_refused(home: Any) -> None:
    for arguments in (("--part", "7"), ("--part", "1/0"), ("--part", "1/7", "--structure-only")):
        answer = home("verify", "one", *arguments)
        assert answer.status is ExitStatus.USAGE, arguments
        assert "--part" in answer.err


def test_damage_is_found_named_and_healed_from_another_vault(home: Any, tmp_path: Path) -> None:
    packs = [path for path in (home.vault("one") / "repositories").rglob("data/*/*") if path.is_file()]
    largest = max(packs, key=lambda path: path.stat().st_size)
    largest.chmod(stat.S_IRUSR | stat.S_IWUSR)
    content = bytearray(largest.read_bytes())
    content[100] ^= 1
    largest.write_bytes(content)
    answer = home("verify", "one")
    assert answer.status is ExitStatus.DAMAGE, answer
    assert "Vault 'one' holds damaged data" in answer.err
    document = home("verify", "one", "--json").document
    assert document["status"] == 9
    assert document["vaults"][0]["damages"]
    red = home("status")
    assert red.status is ExitStatus.RED
    assert "FAILED_TEST" in red.out
    for source in ("data-files", "ledger-database", "app-repository"):
        assert home("restore", source, "--to", f"healed-{source}").status is ExitStatus.SUCCESS


def test_a_source_that_is_gone_fails_alone(home: Any) -> None:
    (home.data / "ledger.db").rename(home.data.parent / "elsewhere.db")
    answer = home("backup", "--json")
    assert answer.status is ExitStatus.SOURCE
    outcomes = {each["source"]: each["outcome"] for each in answer.document["sources"]}
    assert outcomes["ledger-database"] == "failed"
    assert outcomes["app-repository"] == "unchanged"


def test_what_is_not_there_makes_the_point_incomplete_and_is_listed(home: Any) -> None:
    missing = [str(home.data / f"gone-{number}") for number in range(25)]
    listed = ", ".join(f'"{path}"' for path in [home.data, *missing])
    text, changes = re.subn(r"paths: \[.*?\]", f"paths: [{listed}]", home.policy.read_text())
    assert changes == 1
    home.policy.write_text(text)
    answer = home("backup", "data-files")
    assert answer.status is ExitStatus.INCOMPLETE, answer
    assert "25 of data-files could not be captured" in answer.err
    assert answer.err.count("gone-") == 20
    assert "… and 5 more" in answer.err
    (see_all,) = [line.partition("cto.backups ")[2] for line in answer.err.splitlines() if "cto.backups points" in line]
    assert home(*see_all.split()).out.count("gone-") >= 25
    assert home("backup", "data-files", "--json").document["sources"][0]["outcome"] == "incomplete"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_makes_the_point_incomplete(home: Any) -> None:
    (home.data / "files" / "report.txt").chmod(0)
    answer = home("backup", "data-files")
    assert answer.status is ExitStatus.INCOMPLETE
    assert "report.txt: permission" in answer.err


def test_a_damaged_catalog_is_named(home: Any) -> None:
    (home.root / "catalog.db").write_bytes(b"this is no database" * 100)
    for suffix in ("-wal", "-shm"):
        (home.root / f"catalog.db{suffix}").unlink(missing_ok=True)
    answer = home("status")
    assert answer.status is ExitStatus.CATALOG
    assert "catalog.db" in answer.err


def test_an_installation_is_never_made_over_another(home: Any) -> None:
    before = home.policy.read_bytes()
    answer = home("init", str(home.root), "--protect", str(home.data))
    assert answer.status is ExitStatus.REFUSED
    assert home.policy.read_bytes() == before


def test_a_source_that_is_being_worked_on_is_busy(home: Any) -> None:
    until = f"{datetime.now(UTC) + timedelta(seconds=20):%Y-%m-%dT%H:%M:%S.%fZ}"
    with closing(sqlite3.connect(home.root / "catalog.db")) as catalog, catalog:
        held = ("source:data-files", 1, 1, "elsewhere", 7, until, 0)
        catalog.execute("REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)", held)
    answer = home("backup", "data-files")
    assert answer.status is ExitStatus.BUSY
    assert "process 7 on elsewhere" in answer.err


def test_a_failed_restore_test_ends_with_its_own_status(home: Any) -> None:
    shutil.rmtree(home.vault("one") / "repositories")
    answer = home("test", "ledger-database", "--vault", "one")
    assert answer.status is ExitStatus.VERIFICATION, answer
    assert "FAILED" in answer.out
