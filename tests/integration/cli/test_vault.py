"""A vault that was added to the policy later: made, filled, and made no second time."""

import shutil
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault

from .conftest import Home
from .test_repair import flip

FOUR = "  four: {url: file:vaults/four, provider: local-disk, region: this-machine, storage: disk}\n"


@pytest.fixture
def larger(home: Home) -> Home:
    """The policy names one more vault."""
    home.policy.write_text(home.policy.read_text().replace("vaults:\n", "vaults:\n" + FOUR, 1))
    return home


def polynomial(home: Home, name: str) -> int:
    secret = (home.root / "keys" / "repository.key").read_text().strip()
    return RepositoryStore.open(LocalVault(name, home.vault(name)), "repositories/main", secret).polynomial


def test_a_new_vault_is_made_and_gets_every_point_that_it_lacks(larger: Home, tmp_path: Path) -> None:
    larger.change()
    larger("backup", "data-files")
    points = len(larger("points", "--all", "--json").document["points"])
    answer = larger("vault", "init", "four", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert (answer.document["made"], answer.document["lacks"]) == (True, points)
    assert polynomial(larger, "four") == polynomial(larger, "one")
    assert {len(list(larger.vault(name).glob("records/*/*.sealed"))) for name in ("one", "four")} != {0}
    filled = larger("vault", "fill", "four", "--json")
    assert filled.status is ExitStatus.SUCCESS, filled
    assert len(filled.document["vaults"][0]["copies"]) == points
    listed = {each["vault"]: each for each in larger("vault", "--json").document["vaults"]}
    assert (listed["four"]["points"], listed["four"]["lacks"]) == (points, 0)
    shutil.rmtree(larger.vault("one"))
    assert (
        larger("restore", "data-files", "--vault", "four", "--to", str(tmp_path / "out")).status is ExitStatus.SUCCESS
    )
    assert larger("vault", "fill", "four").out == "four: lacks nothing\n"


def test_a_new_vault_gets_all_of_a_point_whatever_a_damaged_one_gave_before(larger: Home) -> None:
    """The first vault has packs of each point that are sound, and one that is not: the second one is copied from."""
    packs = [path for path in larger.vault("one").glob("repositories/main/data/*/*") if path.is_file()]
    for pack in sorted(packs, key=lambda path: path.stat().st_size)[::2]:
        flip(pack, 100 % pack.stat().st_size)
    larger("vault", "init", "four")
    filled = larger("vault", "fill", "four", "--json")
    assert filled.status is ExitStatus.SUCCESS, filled
    assert {copy["origin"] for copy in filled.document["vaults"][0]["copies"]} >= {"two"}
    read = larger("verify", "four")
    assert read.status is ExitStatus.SUCCESS, read


def test_what_one_vault_does_not_give_whole_is_said_to_be_in_others(home: Home, tmp_path: Path) -> None:
    """Another point is the second best: this one is whole elsewhere."""
    packs = [path for path in home.vault("one").glob("repositories/main/data/*/*") if path.is_file()]
    flip(max(packs, key=lambda pack: pack.stat().st_size), 100)  # that of the source with the most
    where = ("restore", "data-files", "--to", str(tmp_path / "out"))
    answer = home(*where, "--vault", "one")
    assert answer.status is ExitStatus.RESTORE and "Leave out --vault" in answer.err, answer
    assert "another point" not in answer.err
    assert home(*where, "--overwrite", "--verify").status is ExitStatus.SUCCESS


def test_while_no_vault_that_has_a_point_is_there_nothing_is_called_damaged(larger: Home) -> None:
    """It has not come to harm: `repair` would not bring it, the vaults would."""
    larger("vault", "init", "four")
    for name in ("one", "two", "three"):
        larger.vault(name).rename(larger.root / f"{name}-unmounted")
    filled = larger("vault", "fill", "four")
    assert filled.status is ExitStatus.VAULT, filled
    assert "Bring one of these vaults back" in filled.err and "repair" not in filled.err
    for name in ("one", "two", "three"):
        (larger.root / f"{name}-unmounted").rename(larger.vault(name))
    assert larger("vault", "fill", "four").status is ExitStatus.SUCCESS


def test_the_next_backup_brings_a_new_vault_the_newest_points_by_itself(larger: Home) -> None:
    larger("vault", "init", "four")
    assert larger("backup").status is ExitStatus.SUCCESS
    listed = {each["vault"]: each["points"] for each in larger("vault", "--json").document["vaults"]}
    assert listed["four"] == 3


def test_until_it_is_made_every_error_says_how_to_make_it(larger: Home) -> None:
    assert "vault init four" in larger("backup", "data-files").err
    (larger.root / "vaults" / "four").mkdir()
    assert "vault init four" in larger("verify", "four").err
    LocalVault("four", larger.vault("four")).create()
    assert "vault init four" in larger("verify", "four").err


def test_a_vault_that_is_there_is_not_made_again(larger: Home) -> None:
    larger("vault", "init", "four")
    before = {file: file.read_bytes() for file in larger.vault("four").rglob("*") if file.is_file()}
    again = larger("vault", "init", "four", "--json")
    assert (again.status, again.document["made"]) == (ExitStatus.SUCCESS, False)
    assert {file: file.read_bytes() for file in larger.vault("four").rglob("*") if file.is_file()} == before


def test_a_vault_that_is_lost_is_not_replaced_under_its_name(home: Home) -> None:
    shutil.rmtree(home.vault("two"))
    answer = home("vault", "init", "two")
    assert answer.status is ExitStatus.REFUSED
    assert "another name" in answer.err
    assert not home.vault("two").exists()


def test_a_vault_is_not_made_while_no_other_one_says_how_it_has_to_cut(larger: Home, tmp_path: Path) -> None:
    (larger.root / "vaults").rename(tmp_path / "away")
    answer = larger("vault", "init", "four")
    assert answer.status is ExitStatus.VAULT
    assert "none of them opens" in answer.err
    assert not larger.vault("four").exists()


def test_a_vault_that_the_policy_does_not_name_is_not_made(home: Home) -> None:
    assert home("vault", "init", "nine").status is ExitStatus.NOT_FOUND
