"""What signed records in vaults say comes into the catalog: whom it believes, and that it may break off anywhere."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.sqlite_file import FileDatabase
from cto_backups.core.model import Copy
from cto_backups.evidence.payloads import copy_to_payload, evidence_to_payload, point_to_payload
from cto_backups.evidence.records import SigningKey, sign
from cto_backups.flows import rebuilt as rebuilt_module
from cto_backups.flows.protect import protect
from cto_backups.flows.rebuild import rebuild
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.verify import verify

from .conftest import VAULTS, Workshop, build

TABLES = ("points", "copies", "evidence", "records", "vault_heads", "policies")


@pytest.fixture
def protected(workshop: Any) -> Any:
    protect(workshop.installation, "documents")
    protect(workshop.installation, "ledger")
    verify(workshop.installation, "three")
    return workshop


def counts(catalog_file: Path) -> dict[str, int]:
    connection = sqlite3.connect(catalog_file)
    try:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    finally:
        connection.close()


def without_catalog(workshop: Any) -> Workshop:
    """The same installation, whose catalog was lost."""
    workshop.catalog.close()
    for file in workshop.root.glob("catalog.db*"):
        file.unlink()
    Catalog.create(f"sqlite:{workshop.root / 'catalog.db'}", now=clock.now()).close()
    return build(workshop.root, workshop.data, workshop.sources)


def signs(workshop: Any, key: SigningKey, vault: str, *said: tuple[str, dict[str, Any]]) -> None:
    """Somebody with this key writes records into a vault."""
    previous = None
    for number, (kind, payload) in enumerate(said, start=1):
        record = sign(key, kind, payload, sequence=number, previous=previous, written_at=clock.now())
        previous = record.digest
        workshop.seal(vault, workshop.vault_root(vault) / record.key, record.to_bytes())


def test_broken_off_at_any_write_it_is_run_again_and_everything_is_there(
    protected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = counts(protected.root / "catalog.db")
    monkeypatch.setattr(rebuilt_module, "AT_ONCE", 3)
    writing: Callable[[FileDatabase], Any] = FileDatabase.writing
    left = [0]

    def failing(database: FileDatabase) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return writing(database)

    broken_off = 0
    for allowed in range(100):
        again = without_catalog(protected)
        left[0] = allowed
        monkeypatch.setattr(FileDatabase, "writing", failing)
        try:
            rebuild(again.installation, VAULTS)
        except KeyboardInterrupt:
            broken_off += 1
        else:
            break
        finally:
            monkeypatch.setattr(FileDatabase, "writing", writing)
            again.catalog.close()
        after = build(protected.root, protected.data, protected.sources)
        rebuild(after.installation, VAULTS)
        assert counts(protected.root / "catalog.db") == before
        assert after.catalog.check() == ()
        after.catalog.close()
    assert broken_off >= 4


def test_a_test_that_found_nothing_to_restore_comes_back_as_the_failed_one_that_it_was(workshop: Any) -> None:
    """It names no vault, since it came to none."""
    protect(workshop.installation, "documents")
    failed = restore_test(workshop.installation, "ledger")
    assert not failed.passed and failed.vault == ""
    protect(workshop.installation, "documents")
    again = without_catalog(workshop)
    rebuilt = rebuild(again.installation, VAULTS)
    assert rebuilt.damages == [] and failed in again.catalog.evidence(limit=10)
    again.catalog.close()


def test_nobody_else_can_expire_prove_or_move_a_point(protected: Any) -> None:
    """Whoever may write to a vault may sign records there."""
    point = protected.catalog.latest("documents")
    other = protected.catalog.latest("ledger")
    held = {facts.copy.vault: facts.copy.reference for facts in protected.catalog.copies(point.id)}
    elsewhere = next(facts.copy.reference for facts in protected.catalog.copies(other.id) if facts.copy.vault == "one")
    key = SigningKey.generate()
    (said,) = protected.catalog.evidence(limit=1)
    signs(
        protected,
        key,
        "one",
        ("recovery-point", {**point_to_payload(point), "label": "forged"}),
        ("copy", copy_to_payload(Copy(point.id, "one", elsewhere, clock.now(), 0))),
        ("expiry", {"point": point.id, "source": "documents", "reasons": ["forged"]}),
        ("evidence", {**evidence_to_payload(said), "id": "forged", "vault": "one"}),
    )
    again = without_catalog(protected)
    rebuilt = rebuild(again.installation, VAULTS)
    assert rebuilt.records[key.signer] == 4 and rebuilt.damages == []
    assert again.catalog.latest("documents") == point
    assert {facts.copy.vault: facts.copy.reference for facts in again.catalog.copies(point.id)} == held
    assert "forged" not in again.catalog.takeover.known("evidence")
    assert any(key.signer in remark and "do not count" in remark for remark in rebuilt.remarks)
    trusting = rebuild(again.installation, VAULTS, trusted=frozenset({key.signer}))
    assert trusting.evidence == 1 and "forged" in again.catalog.takeover.known("evidence")
    again.catalog.close()


def test_what_others_sign_must_make_sense_and_match_the_snapshot(protected: Any) -> None:
    point = protected.catalog.latest("documents")
    (reference,) = [facts.copy.reference for facts in protected.catalog.copies(point.id) if facts.copy.vault == "one"]
    key = SigningKey.generate()
    lie = {**point_to_payload(point), "id": "theirs-1", "root": "0" * 64}
    signs(
        protected,
        key,
        "one",
        ("recovery-point", lie),
        ("copy", copy_to_payload(Copy("theirs-1", "one", reference, clock.now(), 0))),
        ("recovery-point", {**point_to_payload(point), "id": "../../etc"}),
        ("copy", {**copy_to_payload(Copy("../../etc", "one", reference, clock.now(), 0))}),
        ("recovery-point", {"id": "theirs-2"}),
        ("copy", {"point": "theirs-2"}),
    )
    rebuilt = rebuild(protected.installation, ["one"])
    assert rebuilt.points == []
    assert protected.catalog.takeover.known("points") == {each.id for each in protected.catalog.points()}
    said = [f"{damage.what}: {damage.detail}" for damage in rebuilt.damages]
    assert any("holds something else" in each for each in said)
    assert sum("nothing readable" in each for each in said) == 4, said


def test_points_of_sources_that_the_policy_does_not_name_are_shown_and_nothing_of_them_is_due(protected: Any) -> None:
    del protected.sources["ledger"]
    again = without_catalog(protected)
    rebuilt = rebuild(again.installation, VAULTS)
    assert any(name.startswith("ledger-") for name in rebuilt.points)
    assert again.catalog.latest("ledger") is not None
    assert set(again.catalog.facts(clock.now()).sources) == {"documents", "app"}
    again.catalog.close()


def test_snapshots_of_which_no_record_speaks_are_named(protected: Any) -> None:
    shutil.rmtree(protected.vault_root("one") / "records")
    for name in ("two", "three"):
        shutil.rmtree(protected.vault_root(name))
    again = without_catalog(protected)
    rebuilt = rebuild(again.installation, ["one"])
    assert (rebuilt.records, rebuilt.points) == ({}, [])
    assert any(remark.startswith("one: 2 snapshots of which no record speaks") for remark in rebuilt.remarks)
    again.catalog.close()


def test_what_others_sign_after_their_records_were_taken_over_is_no_damage(protected: Any) -> None:
    """And what of it does not hang together is."""
    point = protected.catalog.latest("documents")
    key = SigningKey.generate()
    said = [("expiry", {"point": point.id, "source": "documents", "reasons": []})] * 3
    signs(protected, key, "one", *said)
    third = protected.vault_root("one") / "records" / key.signer / "00000003-expiry.sealed"
    content = third.read_bytes()
    third.unlink()
    assert rebuild(protected.installation, ["one"]).records[key.signer] == 2
    third.write_bytes(content)
    assert verify(protected.installation, "one").passed
    protected.seal("one", third, protected.opened("one", third).replace(b"documents", b"d0cuments"))
    assert not verify(protected.installation, "one").passed


def test_a_forged_record_far_ahead_does_not_part_the_own_chain(protected: Any) -> None:
    own = protected.installation.signer.signer
    records = sorted((protected.vault_root("one") / "records" / own).iterdir())
    theirs = sign(SigningKey.generate(), "copy", {}, sequence=9999, previous=None, written_at=clock.now())
    far = records[0].parent / "00009999-copy.sealed"
    protected.seal("one", far, theirs.to_bytes())
    rebuilt = rebuild(protected.installation, VAULTS)
    assert rebuilt.damages and not rebuilt.parted
    own_key = protected.installation.signer
    ours = sign(own_key, "copy", {}, sequence=9999, previous=None, written_at=clock.now())
    protected.seal("one", far, ours.to_bytes())
    assert rebuild(protected.installation, VAULTS).parted, "really signed: this catalog is older than the vault"


def test_a_record_that_does_not_follow_the_one_before_is_not_believed(protected: Any) -> None:
    """Its signature and number are right: its signer has signed two histories."""
    key = SigningKey.generate()
    signs(protected, key, "one", ("run", {}), ("run", {}), ("run", {}))
    other = sign(key, "run", {}, sequence=2, previous="0" * 64, written_at=clock.now())
    protected.seal("one", protected.vault_root("one") / other.key, other.to_bytes())
    rebuilt = rebuild(protected.installation, ["one"])
    assert rebuilt.records == {key.signer: 1}
    assert any("does not follow" in damage.detail for damage in rebuilt.damages)


def test_records_of_others_are_taken_from_the_vaults_that_were_named_and_own_ones_from_all(protected: Any) -> None:
    key = SigningKey.generate()
    signs(protected, key, "two", ("run", {}), ("run", {}))
    own = protected.installation.signer.signer
    numbers = {name: [int(path.name[:8]) for path in records_of(protected, name)] for name in VAULTS}
    records_of(protected, "one")[-1].unlink()
    again = without_catalog(protected)
    rebuilt = rebuild(again.installation, ["one"])
    assert set(rebuilt.records) == {own} and rebuilt.damages == []
    assert again.catalog.takeover.last_record(own)[0] == max(map(max, numbers.values())) > max(numbers["one"]) - 1
    assert again.catalog.vault_head("one", own) == max(numbers["one"]) - 1
    assert rebuild(again.installation, ["two"]).records == {key.signer: 2}
    again.catalog.close()


def records_of(workshop: Any, vault: str) -> list[Path]:
    """This installation's records in a vault, in order."""
    return sorted((workshop.vault_root(vault) / "records" / workshop.installation.signer.signer).iterdir())


def test_a_policy_that_the_catalog_has_is_not_read_again(protected: Any) -> None:
    (path,) = (protected.vault_root("one") / "policies").iterdir()
    protected.seal("one", path, b"version: 1\nbusiness: somebody else's\n")
    assert rebuild(protected.installation, ["one"]).damages == []


def test_policies_come_back_and_an_altered_one_is_named(protected: Any) -> None:
    once = b"version: 1\n"
    for name, content in ((hashlib.sha256(once).hexdigest(), once), ("0" * 64, b"another")):
        protected.seal("one", protected.vault_root("one") / "policies" / f"{name}.sealed", content)
    again = without_catalog(protected)
    rebuilt = rebuild(again.installation, ["one"])
    assert hashlib.sha256(once).hexdigest() in again.catalog.takeover.known("policies")
    assert "0" * 64 not in again.catalog.takeover.known("policies")
    assert ["0" * 64 in damage.what for damage in rebuilt.damages] == [True]
    again.catalog.close()
