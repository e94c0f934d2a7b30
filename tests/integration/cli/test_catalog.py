"""The catalog is never the only copy of itself: any one vault's signed records bring it back."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.errors import ExitStatus

from .conftest import Home, environment, run
from .test_write_only import keep_one_version, only_add_to

FACTS = ("points", "copies", "evidence", "records", "source_vaults", "policies")
NOTICED = ("first_seen", "expired_at")
SOURCE = "data-files"


def catalog_file(home: Home) -> Path:
    (found,) = home.root.rglob("catalog.db")
    return found


@contextmanager
def catalog_of(home: Home) -> Iterator[Catalog]:
    with Catalog.open(f"sqlite:{catalog_file(home)}", now=clock.now()) as opened:
        yield opened


def facts(home: Home) -> Any:
    """What the pure functions judge by, but for attempts, looks, scans without a change, and copies that are gone."""
    with catalog_of(home) as catalog:
        found = catalog.facts(clock.now(), kept_points=True)
        sources = {
            name: replace(source, last_runs={}, failures={}, confirmed_at=None, first_seen=None, discovered_at=None)
            for name, source in found.sources.items()
        }
        vaults = {
            name: replace(vault, last_run=None, failures=0, prune_run=None, prune_failures=0, first_copy_at=None)
            for name, vault in found.vaults.items()
        }
        points = catalog.points(include_expired=True)
        copies = {point.id: catalog.copies(point.id) for point in points}
        return sources, vaults, found.kept_points, points, copies, catalog.evidence(limit=1000)


def rows(home: Home) -> dict[str, list[Any]]:
    """Every row of the tables that records speak of, but when it was noticed."""
    connection = sqlite3.connect(catalog_file(home))
    try:
        connection.row_factory = sqlite3.Row
        return {
            table: sorted(
                (
                    tuple((name, meaning(value)) for name, value in dict(row).items() if name not in NOTICED)
                    for row in found
                ),
                key=repr,
            )
            for table in FACTS
            for found in [connection.execute(f"SELECT * FROM {table}").fetchall()]
        }
    finally:
        connection.close()


def meaning(value: Any) -> Any:
    """JSON in canonical form has its names in another order."""
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def in_vault(found: dict[str, list[Any]], vault: str) -> list[Any]:
    return [copy for copy in found["copies"] if ("vault", vault) in copy]


def words(home: Home) -> dict[str, str]:
    return {source["source"]: source["status"] for source in home("status", "--json").document["sources"]}


def lose_catalog(home: Home) -> None:
    file = catalog_file(home)
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()


def lose_vaults(home: Home, *names: str) -> None:
    for name in names:
        shutil.rmtree(home.vault(name))


def own_records(home: Home, vault: str) -> list[Path]:
    (folder,) = (home.vault(vault) / "records").iterdir()
    return sorted(folder.iterdir())


def alter(home: Home, path: Path) -> None:
    home.seal(path, home.opened(path).replace(b"acme", b"ACME").replace(b'"point"', b'"punkt"'))


@pytest.fixture
def proven(home: Home) -> Home:
    """With points that expired, with restore tests, and with verified vaults."""
    keep_one_version(home)
    for text in ("second\n", "third\n"):
        home.change(text)
        assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    assert home("test", SOURCE).status is ExitStatus.SUCCESS
    assert home("expire").status is ExitStatus.SUCCESS
    for vault in ("one", "two", "three"):
        assert home("verify", vault).status is ExitStatus.SUCCESS
    # Some vault has everything up to here; the last words reach every vault with the next copy.
    home.change("fourth\n")
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    return home


@pytest.mark.parametrize("lost", [(), ("two", "three"), ("one", "two")])
def test_a_lost_catalog_comes_back_from_any_one_vault(proven: Home, lost: tuple[str, ...]) -> None:
    before = facts(proven), rows(proven), words(proven)
    lose_catalog(proven)
    lose_vaults(proven, *lost)
    assert proven("points").status is ExitStatus.NOT_FOUND
    left = next(name for name in ("three", "one") if name not in lost)
    answer = proven("catalog", "rebuild", "--from", left, "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert answer.document["new_catalog"] and answer.document["expired"] and answer.document["points"]
    assert answer.document["damages"] == []
    if left == "three":  # which has the last words
        assert rows(proven) == before[1]
        assert facts(proven) == before[0]
    else:
        after = rows(proven)
        assert all(after[table] == before[1][table] for table in ("points", "evidence", "source_vaults", "policies"))
        assert in_vault(after, left) == in_vault(before[1], left)
        assert set(after["records"]) < set(before[1]["records"]), "its last copies to others were signed later"
    if not lost:
        assert words(proven) == before[2]
        # The chain goes on in every vault.
        proven.change("fifth\n")
        assert proven("backup", SOURCE).status is ExitStatus.SUCCESS
        assert all(proven("verify", vault).status is ExitStatus.SUCCESS for vault in ("one", "two", "three"))


def test_done_again_it_adds_nothing(proven: Home) -> None:
    before = rows(proven)
    for _ in range(2):
        answer = proven("catalog", "rebuild", "--json")
        assert answer.status is ExitStatus.SUCCESS, answer
        document = answer.document
        assert not document["new_catalog"]
        assert (document["records"], document["points"], document["copies"], document["evidence"]) == ({}, [], {}, 0)
        assert rows(proven) == before


def test_of_all_vaults_those_that_are_away_are_named(proven: Home) -> None:
    lose_catalog(proven)
    lose_vaults(proven, "two")
    answer = proven("catalog", "rebuild", "--json")
    assert answer.status is ExitStatus.VAULT
    assert [away["vault"] for away in answer.document["away"]] == ["two"]
    assert answer.document["points"]
    assert proven("catalog", "rebuild", "--from", "nine").status is ExitStatus.NOT_FOUND
    assert proven("catalog", "rebuild", "--from", "two").status is ExitStatus.VAULT


def test_an_altered_record_is_named_and_another_vaults_serves(proven: Home) -> None:
    before = rows(proven)
    alter(proven, own_records(proven, "one")[0])
    lose_catalog(proven)
    answer = proven("catalog", "rebuild", "--from", "one")
    assert answer.status is ExitStatus.DAMAGE
    assert own_records(proven, "one")[0].name in answer.err
    assert rows(proven) == before
    assert proven("repair", "one").status is ExitStatus.SUCCESS, "and it can be put back from the catalog"
    assert proven("verify", "one").status is ExitStatus.SUCCESS


@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_after_a_record_that_no_vault_has_whole_nothing_of_its_signer_is_trusted(proven: Home, harm: str) -> None:
    lose_vaults(proven, "two", "three")
    records = own_records(proven, "one")
    middle = len(records) // 2
    signer = records[0].parent.name
    if harm == "altered":
        alter(proven, records[middle])
    else:
        records[middle].unlink()
    lose_catalog(proven)
    answer = proven("catalog", "rebuild", "--from", "one", "--json")
    assert answer.status is ExitStatus.DAMAGE
    document = answer.document
    assert document["records"] == {signer: middle}
    said = json.dumps(document["damages"])
    assert f"record {middle + 1} of signer {signer}" in said and "cannot be trusted" in said
    kept = {json.loads(proven.opened(path))["body"]["payload"].get("id") for path in records[:middle]}
    assert set(document["points"] + document["expired"]) <= kept
    assert any("of which no record speaks" in remark for remark in document["remarks"])

    # A new key goes on where the old chain cannot.
    assert "move its evidence key away" in proven("catalog", "rebuild", "--from", "one").err
    (proven.root / "keys/evidence.key").rename(proven.root / "keys/evidence.broken")
    again = proven("catalog", "rebuild", "--from", "one", "--trust", signer, "--json")
    assert again.document["new_evidence_key"] == str(proven.root / "keys/evidence.key")
    proven.change("fifth\n")
    assert "evidence" not in proven("backup", SOURCE, "--json").document.get("error", {})
    assert len(list((proven.vault("one") / "records").iterdir())) == 2


def test_with_a_lost_evidence_key_the_old_signer_counts_when_it_is_trusted(proven: Home) -> None:
    before = facts(proven)
    signer = own_records(proven, "one")[0].parent.name
    lose_catalog(proven)
    (proven.root / "keys/evidence.key").unlink()
    answer = proven("catalog", "rebuild", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert answer.document["points"] and answer.document["evidence"] == 0
    assert any(f"--trust {signer}" in remark for remark in answer.document["remarks"])
    trusting = proven("catalog", "rebuild", "--trust", signer, "--json")
    assert trusting.status is ExitStatus.SUCCESS and trusting.document["evidence"]
    assert facts(proven) == before
    assert proven("catalog", "rebuild", "--trust", "0123456789abcdef").status is ExitStatus.NOT_FOUND
    assert all(proven("verify", vault).status is ExitStatus.SUCCESS for vault in ("one", "two", "three"))


def test_legal_holds_come_back_with_the_catalog(proven: Home) -> None:
    """What a court asks for must outlive the disk that the catalog lay on; what was released stays released."""
    source = str(proven("status", "--json").document["sources"][0]["source"])
    kept = proven("hold", "add", source, "--reason", "case 42", "--json")
    gone = proven("hold", "add", source, "--reason", "case 43", "--json")
    assert (kept.status, gone.status) == (ExitStatus.SUCCESS, ExitStatus.SUCCESS), kept
    name = str(gone.document["hold"]["id"])
    assert proven("hold", "release", name, "--reason", "settled").status is ExitStatus.SUCCESS
    before = proven("hold", "list", "--all", "--json").document["holds"]
    assert len(before) == 2
    lose_catalog(proven)
    assert proven("catalog", "rebuild").status is ExitStatus.SUCCESS
    assert proven("hold", "list", "--all", "--json").document["holds"] == before
    assert [each["reason"] for each in proven("hold", "list", "--json").document["holds"]] == ["case 42"]


def test_a_rebuild_that_is_killed_leaves_no_half_catalog(proven: Home) -> None:
    before = rows(proven)
    place = catalog_file(proven)
    lose_catalog(proven)
    for method in ("keep_records", "take_points", "take_evidence"):
        child = (
            "import os, signal, sys\n"
            "from cto_backups.catalog.takeover import Takeover\n"
            f"Takeover.{method} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            "from cto_backups.cli import main\n"
            "main.run(['catalog', 'rebuild'])\n"
        )
        killed = subprocess.run(
            [sys.executable, "-c", child],
            env=environment(CTO_BACKUPS_POLICY=str(proven.policy)),
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed
        assert not place.exists()
        assert proven("points").status is ExitStatus.NOT_FOUND
    assert proven("catalog", "rebuild").status is ExitStatus.SUCCESS
    assert rows(proven) == before
    assert [file.name for file in place.parent.glob(".catalog*")] == []


def test_what_the_catalog_holds_is_shown(home: Home) -> None:
    answer = home("catalog", "--json")
    assert answer.status is ExitStatus.SUCCESS
    assert answer.document["points"] >= 3
    (number,) = answer.document["records"].values()
    assert number == len(own_records(home, "three"))
    assert "(this one)" in home("catalog").out


# -- the owner of a vault that a host may only add to ------------------------------------------------------------------


@pytest.fixture
def owner(home: Home, tmp_path: Path) -> Home:
    """An installation of its own, whose vault `three` is the one that `home` may only add to."""
    only_add_to(home, "three")
    keep_one_version(home)
    made = Home(tmp_path / "owner", tmp_path / "theirs" / "data")
    made.data.mkdir(parents=True)
    (made.data / "notes.txt").write_text("the owner's own\n")
    answer = run("init", str(made.root), "--protect", str(made.data), "--business", "acme", cwd=tmp_path)
    assert answer.status is ExitStatus.SUCCESS, answer
    text = made.policy.read_text()
    assert text.count("file:vaults/three") == 1
    made.policy.write_text(text.replace("file:vaults/three", f"file:{home.vault('three')}"))
    (made.root / "keys/repository.key").write_bytes((home.root / "keys/repository.key").read_bytes())
    shutil.rmtree(made.vault("one"))
    shutil.rmtree(made.vault("two"))
    assert made("vault", "init", "one").status is ExitStatus.SUCCESS
    assert made("vault", "init", "two").status is ExitStatus.SUCCESS
    return made


def test_the_owner_of_a_write_only_vault_lists_restores_verifies_expires_and_prunes(
    home: Home, owner: Home, tmp_path: Path
) -> None:
    for text in ("second\n", "third\n"):
        home.change(text)
        assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    assert home("expire", SOURCE).status is ExitStatus.REFUSED, "and it is recorded"
    assert home("test", SOURCE, "--vault", "three").status is ExitStatus.SUCCESS
    assert home("verify", "three").status is ExitStatus.SUCCESS

    answer = owner("catalog", "rebuild", "--from", "three", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    document = answer.document
    assert document["expired"] == [] and document["evidence"] == 0, "the host's word does not count for these"
    assert set(document["copies"]) == {"three"}, "a vault of the same name is not the same vault"
    with catalog_of(home) as catalog:
        every = {point.id for point in catalog.points(include_expired=True)}
        newest = catalog.points(SOURCE)[0].id
    assert set(document["points"]) == every
    # A source of a name that the owner's policy has, and those that it has not.
    listed = {point["id"] for point in owner("points", "--json").document["points"]}
    assert every == listed
    assert set(words(owner)) == {SOURCE}

    to = tmp_path / "restored"
    assert owner("restore", newest, "--to", str(to)).status is ExitStatus.SUCCESS
    assert next(to.rglob("report.txt")).read_text() == "third\n"
    assert owner("verify", "three").status is ExitStatus.SUCCESS

    # The host goes on meanwhile, and the owner's vault does not look damaged for it.
    home.change("fourth\n")
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    assert owner("verify", "three").status is ExitStatus.SUCCESS
    assert len(owner("catalog", "rebuild", "--from", "three", "--json").document["points"]) == 1

    keep_one_version(owner)
    there = {file.name for file in (home.vault("three") / "repositories/main/snapshots").iterdir()}
    expired = owner("expire", SOURCE, "--json")
    assert expired.status is ExitStatus.SUCCESS, expired
    (dropped,) = expired.document["sources"]
    assert len(dropped["dropped"]) >= 3
    gone = there - {file.name for file in (home.vault("three") / "repositories/main/snapshots").iterdir()}
    assert len(gone) == len(dropped["dropped"])
    assert owner("prune", "three").status is ExitStatus.SUCCESS
    assert owner("verify", "three").status is ExitStatus.SUCCESS
    again = owner("catalog", "rebuild", "--from", "three", "--json").document
    assert (again["points"], again["copies"]) == ([], {}), "what the owner expired does not come back"

    # The host copes: what the owner dropped is no damage, and the next runs work.
    assert home("verify", "three").status is ExitStatus.SUCCESS
    home.change("fifth\n")
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    assert home("expire").status in (ExitStatus.SUCCESS, ExitStatus.REFUSED)
    assert home("verify", "three").status is ExitStatus.SUCCESS
    assert home("catalog", "rebuild", "--json").document["points"] == []


def test_the_host_copes_with_points_that_it_counts_on_and_the_owner_has_expired(home: Home, owner: Home) -> None:
    """The owner keeps less than the host does: the host is told nothing false, and forgets those copies."""
    text = home.policy.read_text()
    home.policy.write_text(text.replace("retention: 1 version", "retention: 9 versions"))
    home.change("second\n")
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    assert owner("catalog", "rebuild", "--from", "three").status is ExitStatus.SUCCESS
    keep_one_version(owner)
    assert owner("expire", SOURCE).status is ExitStatus.SUCCESS
    with catalog_of(home) as catalog:
        held = {copy.point for copy in catalog.copies_in("three")}
    answer = home("verify", "three")
    assert answer.status is ExitStatus.SUCCESS, answer
    with catalog_of(home) as catalog:
        kept = {copy.point for copy in catalog.copies_in("three")}
    assert kept < held
    assert home("verify", "three").status is ExitStatus.SUCCESS

    # One that nobody has expired is missed as before.
    (reference, *_) = [copy.reference for copy in _copies(home) if copy.point in kept]
    (home.vault("three") / "repositories/main/snapshots" / reference).unlink()
    assert home("verify", "three").status is ExitStatus.DAMAGE


def _copies(home: Home) -> Any:
    with catalog_of(home) as catalog:
        return catalog.copies_in("three")


def test_an_older_copy_of_the_catalog_is_told_of_before_it_signs_what_vaults_contradict(home: Home) -> None:
    old = {path.name: path.read_bytes() for path in home.root.glob("catalog.db*")}
    assert home("status", "--json").document["catalog_behind"] is None
    home.change("the figures of the day after\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    whole = home("points", "--all", "--json").document["points"]
    for path in home.root.glob("catalog.db*"):
        path.unlink()
    for name, content in old.items():
        (home.root / name).write_bytes(content)
    stored = set(home.vault("one").rglob("*"))

    answer = home("status")
    assert answer.status is ExitStatus.RED
    assert "The catalog has gone back in time: vault 'one' has record" in answer.out
    assert "Next: Run 'cto.backups catalog rebuild'" in answer.out
    audited = home("audit", "--json", "--fail-on", "critical")
    assert audited.status is ExitStatus.RED
    found = {finding["control"]: finding["severity"] for finding in audited.document["findings"]}
    assert found["catalog-behind"] == "critical"
    assert audited.document["not_kept"]["code"] == "catalog-behind"
    assert set(home.vault("one").rglob("*")) == stored, "nothing was signed"

    assert home("catalog", "rebuild").status is ExitStatus.SUCCESS
    assert home("points", "--all", "--json").document["points"] == whole
    assert home("status", "--json").document["catalog_behind"] is None
    assert "catalog-behind" not in [each["control"] for each in home("audit", "--json").document["findings"]]
