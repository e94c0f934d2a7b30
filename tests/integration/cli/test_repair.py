"""`repair` as people use it: what it says, its exit status, its JSON."""

import stat
from pathlib import Path
from typing import Any

from cto_backups.errors import ExitStatus

VAULTS = ("one", "two", "three")


def packs(home: Any, vault: str) -> list[Path]:
    """The packs of a vault, the largest first."""
    found = (path for path in (home.vault(vault) / "repositories").rglob("data/*/*") if path.is_file())
    return sorted(found, key=lambda path: -path.stat().st_size)


def flip(path: Path, at: int) -> None:
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_damaged_vault_is_repaired_from_another_and_all_is_well_again(home: Any) -> None:
    for pack in packs(home, "one"):
        flip(pack, 100 % pack.stat().st_size)
    red = home("verify", "one")
    assert red.status is ExitStatus.DAMAGE
    assert "cto.backups repair one" in red.err
    shown = home("repair", "one", "--dry-run")
    assert shown.status is ExitStatus.DAMAGE
    assert "would be brought from two" in shown.out
    done = home("repair", "one")
    assert done.status is ExitStatus.SUCCESS, done
    assert "one: repaired" in done.out and "brought from two" in done.out
    assert home("verify", "one").status is ExitStatus.SUCCESS
    assert "FAILED_TEST" not in home("status").out
    again = home("repair")
    assert again.status is ExitStatus.SUCCESS
    assert again.out.count("nothing is damaged") == len(VAULTS)


def test_what_no_vault_has_comes_from_the_source_and_what_is_lost_is_named(home: Any) -> None:
    for vault in VAULTS:
        for pack in packs(home, vault):
            pack.unlink()
    (home.data / "ledger.db").unlink()
    answer = home("repair", "--json")
    assert answer.status is ExitStatus.DAMAGE
    document = answer.document
    assert (document["status"], document["dry_run"], document["scope"]) == (9, False, "everything")
    first = document["vaults"][0]
    assert (first["vault"], first["done"], first["clean"], first["passed"]) == ("one", True, False, False)
    assert {"data-files", "app-repository"} <= set(first["reread_sources"])
    assert "ledger-database" not in first["reread_sources"]
    assert any("source ledger-database could not be read again" in problem for problem in first["left"])
    assert any(point.startswith("ledger-database-") for point in first["verification"]["hurt_points"])
    last = home("repair", "one")
    assert last.status is ExitStatus.DAMAGE
    assert "could not be repaired whole" in last.err and "hurts ledger-database-" in last.err
    for source in ("data-files", "app-repository"):
        assert home("restore", source, "--to", f"back-{source}").status is ExitStatus.SUCCESS


def test_the_index_alone_and_options_that_exclude_each_other(home: Any) -> None:
    for index in (home.vault("two") / "repositories").rglob("index/*"):
        flip(index, 40)
    answer = home("repair", "two", "--index-only", "--json")
    assert answer.status is ExitStatus.SUCCESS
    (vault,) = answer.document["vaults"]
    assert vault["damaged_index_files"] and vault["listed_again"] and vault["passed"]
    assert vault["verification"]["evidence"]["rung"] == "stored"
    assert home("verify", "two").status is ExitStatus.SUCCESS
    assert home("repair", "--index-only", "--structure-only").status is ExitStatus.USAGE
    assert home("repair", "tow").status is ExitStatus.NOT_FOUND


def test_a_vault_that_is_away_is_told_and_the_others_are_repaired(home: Any) -> None:
    home.vault("two").rename(home.vault("two").with_name("away"))
    flip(packs(home, "one")[0], 100)
    answer = home("repair")
    assert answer.status is ExitStatus.VAULT
    assert "one: repaired" in answer.out and "brought from three" in answer.out
    assert "three: nothing is damaged" in answer.out
