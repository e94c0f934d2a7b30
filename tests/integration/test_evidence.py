"""Records in vaults and in the catalog: each tampering is found, and delivery that lags behind is none."""

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.errors import DamageError, RefusedError, UsageError
from cto_backups.evidence import bundle
from cto_backups.evidence.index import Scope
from cto_backups.evidence.records import Record, SigningKey, sign
from cto_backups.flows.evidence import Checked, check_catalog, check_export, check_vault, write_export
from cto_backups.flows.protect import protect
from cto_backups.flows.restore_test import restore_test

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def protected(workshop: Any) -> Any:
    protect(workshop.installation, "documents")
    protect(workshop.installation, "ledger")
    return workshop


def records(workshop: Any, vault: str = "one") -> list[Path]:
    return sorted((workshop.vault_root(vault) / "records" / workshop.installation.signer.signer).iterdir())


def checked(workshop: Any, vault: str = "one", pinned: tuple[str, ...] = ()) -> Checked:
    return check_vault(workshop.installation, vault, pinned)


def history(workshop: Any, key: SigningKey, of: list[Path]) -> list[Record]:
    """The same words, signed by a key in a chain of its own."""
    made: list[Record] = []
    for path in of:
        record = Record.from_bytes(workshop.opened("one", path))
        previous, number = made[-1].digest if made else None, len(made) + 1
        payload = {**record.payload, "forged": True}
        made.append(sign(key, record.kind, payload, sequence=number, previous=previous, written_at=LONG_AGO))
    return made


def test_what_was_written_is_intact_in_the_catalog_and_in_each_vault(protected: Any) -> None:
    fingerprint = protected.installation.signer.fingerprint
    for found in (check_catalog(protected.installation, (fingerprint,)), checked(protected, "two", (fingerprint,))):
        assert found.faults == () and found.records >= len(records(protected)) > 3
        assert found.heads[0].fingerprint == fingerprint


def test_a_key_that_the_policy_does_not_pin_is_a_fault(protected: Any) -> None:
    (fault,) = checked(protected, pinned=("0" * 64,)).faults
    assert protected.installation.signer.fingerprint in fault
    assert check_catalog(protected.installation, ("0" * 64,)).faults != ()
    assert checked(protected, pinned=("0" * 64, protected.installation.signer.fingerprint)).faults == ()


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_removed_record_is_found_at_the_end_too(protected: Any, which: int) -> None:
    records(protected)[which].unlink()
    assert any("removed" in fault for fault in checked(protected).faults)
    assert checked(protected, "two").faults == ()


def test_an_altered_record_is_found(protected: Any) -> None:
    path = records(protected)[1]
    content = protected.opened("one", path)
    altered = content.replace(b"acme", b"ACME") if b"acme" in content else content.replace(b'"one"', b'"two"')
    protected.seal("one", path, altered)
    assert altered != content
    assert any("altered" in fault for fault in checked(protected).faults)


def test_reordered_records_are_found(protected: Any) -> None:
    first, second = records(protected)[:2]
    one, two = first.read_bytes(), second.read_bytes()
    for path, content in ((first, two), (second, one)):
        path.chmod(0o600)
        path.write_bytes(content)
    assert checked(protected).faults != ()


def test_a_repeated_record_is_found(protected: Any) -> None:
    last = records(protected)[-1]
    number = len(records(protected)) + 1
    last.with_name(last.name.replace(last.name[:8], f"{number:08d}")).write_bytes(last.read_bytes())
    assert checked(protected).faults != ()


def test_a_record_under_the_name_of_another_kind_is_found(protected: Any) -> None:
    first = records(protected)[0]
    first.rename(first.with_name("00000001-expiry.sealed"))
    assert checked(protected).faults != ()


def test_a_record_signed_by_another_key_is_found(protected: Any) -> None:
    path = records(protected)[1]
    (forged,) = history(protected, SigningKey.generate(), [path])
    protected.seal("one", path, forged.to_bytes())
    assert checked(protected).faults != ()


def test_a_new_history_by_the_same_key_parts_from_the_catalog_and_other_vaults(protected: Any) -> None:
    forged = history(protected, protected.installation.signer, records(protected))
    for path, record in zip(records(protected), forged, strict=True):
        protected.seal("one", path, record.to_bytes())
    found = checked(protected).faults
    assert any("than the catalog" in fault for fault in found)
    assert any("than vault 'two'" in fault for fault in found)


def test_records_of_an_unknown_signer_are_pinned_or_not_and_compared_with_other_vaults(protected: Any) -> None:
    key = SigningKey.generate()
    made = history(protected, key, records(protected))
    for vault in ("one", "two"):
        for record in made:
            protected.seal(vault, protected.vault_root(vault) / record.key, record.to_bytes())
    assert checked(protected).faults == (), "another installation's, or those of a lost key"
    pinned = (protected.installation.signer.fingerprint,)
    assert any(key.fingerprint in fault for fault in checked(protected, pinned=pinned).faults)
    (protected.vault_root("one") / made[-1].key).unlink()
    assert any("vault 'two' has" in fault and "cut off" in fault for fault in checked(protected).faults)
    shutil.rmtree(protected.vault_root("one") / "records" / key.signer)
    assert any(key.signer in fault for fault in checked(protected).faults)


def test_a_vault_that_lags_behind_is_intact(protected: Any) -> None:
    protected.catalog.append_record(protected.installation.signer, "evidence", {"id": "later"}, clock.now())
    assert checked(protected).faults == () == checked(protected, "two").faults


def test_a_catalog_whose_end_was_cut_off_is_found_by_a_vault(protected: Any) -> None:
    database = sqlite3.connect(protected.root / "catalog.db")
    with database:
        database.execute("DELETE FROM records WHERE sequence >= ?", (len(records(protected)),))
    database.close()
    assert any("got" in fault for fault in check_catalog(protected.installation, ()).faults)
    assert any("the catalog only" in fault for fault in checked(protected).faults)


def test_an_altered_record_in_the_catalog_is_found_and_not_exported(protected: Any, tmp_path: Path) -> None:
    database = sqlite3.connect(protected.root / "catalog.db")
    with database:
        ((content,),) = database.execute("SELECT content FROM records WHERE sequence = 2")
        altered = content.replace(b'"format":1', b'"format":1').replace(b"2026", b"2025")
        database.execute("UPDATE records SET content = ? WHERE sequence = 2", (altered,))
    database.close()
    assert altered != content
    assert check_catalog(protected.installation, ()).faults != ()
    with pytest.raises(DamageError, match="not exported"):
        write_export(protected.installation, tmp_path / "e.zip", Scope(LONG_AGO, clock.now()))
    assert list(tmp_path.glob("*e.zip*")) == []


def exported(workshop: Any, path: Path, until: datetime | None = None) -> bundle.Bundle:
    write_export(workshop.installation, path, Scope(LONG_AGO, until or clock.now()))
    return bundle.check(path)


def test_an_export_stays_intact_while_records_are_added(protected: Any, tmp_path: Path) -> None:
    restore_test(protected.installation, "documents")
    found = exported(protected, path := tmp_path / "e.zip")
    assert (found.faults, found.evidence, path.stat().st_mode & 0o777) == ([], 1, 0o600)
    assert check_export(protected.installation, found, path, ()).notes == ()
    restore_test(protected.installation, "ledger")
    later = check_export(protected.installation, bundle.check(path), path, ())
    assert later.faults == () and any("written since" in note for note in later.notes)
    assert check_export(None, bundle.check(path), path, ("0" * 64,)).faults != ()


def test_an_export_that_was_cut_and_packed_again_lacks_what_the_catalog_has(protected: Any, tmp_path: Path) -> None:
    from cto_backups.evidence import export

    signer = protected.installation.signer.signer
    kept = list(protected.catalog.records_after(signer, 0))[:-2]
    path = tmp_path / "cut.zip"
    with path.open("w+b") as file:
        export.write(file, {signer: kept}, Scope(LONG_AGO, clock.now()))
    assert bundle.check(path).faults == []
    (fault,) = check_export(protected.installation, bundle.check(path), path, ()).faults
    assert "cut off" in fault and "2 records" in fault


def test_an_export_of_another_history_parts_from_the_catalog(protected: Any, tmp_path: Path) -> None:
    from cto_backups.evidence import export

    forged = history(protected, protected.installation.signer, records(protected))
    path = tmp_path / "forged.zip"
    with path.open("w+b") as file:
        export.write(file, {forged[0].signer: forged}, Scope(LONG_AGO, clock.now() - timedelta(days=400)))
    assert any(
        "than the catalog's" in fault
        for fault in check_export(protected.installation, bundle.check(path), path, ()).faults
    )


def test_an_export_replaces_nothing_unless_told(protected: Any, tmp_path: Path) -> None:
    path = tmp_path / "e.zip"
    path.write_text("the last one")
    with pytest.raises(RefusedError, match="there already"):
        exported(protected, path)
    assert path.read_text() == "the last one" and [each.name for each in tmp_path.glob("*e.zip*")] == ["e.zip"]
    scope = Scope(LONG_AGO, clock.now())
    write_export(protected.installation, path, scope, overwrite=True)
    assert bundle.check(path).faults == [] and path.stat().st_mode & 0o777 == 0o600
    first = path.read_bytes()
    write_export(protected.installation, path, scope, overwrite=True)
    assert path.read_bytes() == first
    with pytest.raises(UsageError, match="cannot be written"):
        exported(protected, tmp_path / "nowhere" / "e.zip")
