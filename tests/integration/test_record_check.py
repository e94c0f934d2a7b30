"""What says of each snapshot what it is, must come back as well: records in a vault are compared with the catalog."""

from pathlib import Path
from typing import Any

import pytest

from cto_backups.core.payloads import Damage
from cto_backups.errors import DamageError
from cto_backups.evidence.records import SigningKey
from cto_backups.flows import record_check
from cto_backups.flows.evidence import check_vault
from cto_backups.flows.protect import protect
from cto_backups.flows.prune import plan as plan_prune
from cto_backups.flows.prune import prune
from cto_backups.flows.record_files import RecordFiles
from cto_backups.flows.repair import plan, repair
from cto_backups.flows.verify import verify


@pytest.fixture
def protected(workshop: Any) -> Any:
    protect(workshop.installation, "documents")
    protect(workshop.installation, "ledger")
    return workshop


def records(workshop: Any, vault: str = "one") -> list[Path]:
    return sorted((workshop.vault_root(vault) / "records" / workshop.installation.signer.signer).iterdir())


def found(workshop: Any, vault: str = "one", *, read_data: bool = True) -> tuple[Damage, ...]:
    return verify(workshop.installation, vault, read_data=read_data).verified.damages


def alter(workshop: Any, path: Path) -> None:
    """The same number of bytes, and other words: by somebody who has the repository's key, and not the signer's."""
    workshop.seal("one", path, workshop.opened("one", path).replace(b"acme", b"ACME"))


def test_a_sound_vault_has_all_records(protected: Any) -> None:
    for vault in ("one", "two", "three"):
        assert record_check.check(protected.installation, vault) == ()
        assert found(protected, vault) == ()


def test_an_altered_record_is_named_with_its_point_and_put_back(protected: Any) -> None:
    path = records(protected)[0]
    before = protected.opened("one", path)
    alter(protected, path)
    assert protected.opened("one", path) != before
    (damage,) = found(protected)
    point = protected.catalog.points("documents")[0]
    assert point.id in damage.what and "recovery-point" in damage.what
    assert "signed" in damage.detail
    assert found(protected, read_data=False) == (), "of the same size: only reading shows it"
    assert not plan(protected.installation, "one").passed
    assert b"ACME" in protected.opened("one", path), "a plan writes nothing"
    repaired = repair(protected.installation, "one")
    assert repaired.passed and [one.what for one in repaired.records] == [damage.what]
    assert protected.opened("one", path) == before
    assert found(protected) == ()


def test_a_missing_and_a_cut_record_are_found_without_reading(protected: Any) -> None:
    first, second, *_ = records(protected)
    first.unlink()
    second.chmod(0o600)
    second.write_bytes(second.read_bytes()[:-10])
    missing, cut = found(protected, read_data=False)
    assert missing.detail == "it is missing"
    assert "bytes" in cut.detail
    assert repair(protected.installation, "one").passed
    assert found(protected) == ()


def test_the_last_records_of_a_chain_are_missed_too(protected: Any) -> None:
    """Only somebody who knows how long the chain was can tell: the catalog does."""
    for path in records(protected)[-2:]:
        path.unlink()
    assert [damage.detail for damage in found(protected)] == ["it is missing", "it is missing"]


def test_records_that_the_catalog_does_not_have_are_named(protected: Any) -> None:
    """A catalog that was brought back from yesterday must not pass for all there is."""
    last = records(protected)[-1]
    (last.parent / "00000099-copy.sealed").write_bytes(last.read_bytes())
    (damage,) = found(protected, read_data=False)
    assert "older than the vault" in damage.detail and "00000099-copy.sealed" in damage.detail


def test_of_another_signers_records_the_chain_is_checked(protected: Any, tmp_path: Path) -> None:
    other = SigningKey.generate()
    folder = protected.vault_root("one") / "records" / other.signer
    from cto_backups import clock
    from cto_backups.evidence.records import sign

    previous = None
    for number in (1, 2, 3):
        record = sign(other, "run", {"number": number}, sequence=number, previous=previous, written_at=clock.now())
        previous = record.digest
        protected.seal("one", protected.vault_root("one") / record.key, record.to_bytes())
    assert found(protected) == ()
    (folder / "00000002-run.sealed").unlink()
    damages = found(protected)
    assert damages and all(other.signer in damage.what for damage in damages)
    assert not repair(protected.installation, "one").passed, "nobody here has what was in it"


def test_an_altered_policy_is_found_and_the_one_in_force_put_back(protected: Any) -> None:
    (path,) = (protected.vault_root("one") / "policies").iterdir()
    protected.seal("one", path, b"version: 1\nbusiness: somebody else's\n")
    (damage,) = found(protected)
    assert damage.what.startswith("policy ")
    assert repair(protected.installation, "one").passed
    assert protected.opened("one", path) == protected.installation.policy_text


def test_a_record_whose_seal_is_broken_is_named_and_put_back(protected: Any) -> None:
    path = records(protected)[1]
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    (damage,) = found(protected)
    assert damage.what.startswith("record 2 of signer")
    assert repair(protected.installation, "one").passed
    assert found(protected) == ()


def unsealed(workshop: Any, path: Path) -> Path:
    """The record or policy as earlier releases wrote it: in clear."""
    clear = path.with_suffix(".yaml" if path.parent.name == "policies" else ".json")
    clear.write_bytes(workshop.opened("one", path))
    path.unlink()
    return clear


def test_records_in_clear_are_read_named_and_sealed_by_a_repair(protected: Any) -> None:
    """Those of an earlier release, and of others who write to the vault as well."""
    folder = protected.vault_root("one")
    clear = [unsealed(protected, path) for path in (*records(protected), *(folder / "policies").iterdir())]
    assert check_vault(protected.installation, "one", ()).faults == ()
    for read_data in (False, True):
        (damage,) = found(protected, read_data=read_data)
        assert damage.what == f"{len(clear)} records and policies not encrypted" and "can read them" in damage.detail
    content = clear[0].read_bytes()
    clear[0].write_bytes(content.replace(b"acme", b"ACME"))
    assert any("signed" in damage.detail for damage in found(protected))
    clear[0].write_bytes(content)
    assert repair(protected.installation, "one").passed
    assert not any(path.exists() for path in clear)
    assert protected.opened("one", records(protected)[0]) == content
    assert found(protected) == () == check_vault(protected.installation, "one", ()).faults


def test_a_sealing_that_was_killed_is_done_again_and_a_sealed_record_stays(protected: Any) -> None:
    path = records(protected)[0]
    content = protected.opened("one", path)
    clear = path.with_suffix(".json")
    clear.write_bytes(b"anything that somebody put there")
    assert check_vault(protected.installation, "one", ()).faults == ()
    assert repair(protected.installation, "one").passed
    assert protected.opened("one", path) == content and not clear.exists()
    clear.write_bytes(content)
    path.chmod(0o600)
    path.write_bytes(bytes(100))
    RecordFiles(protected.installation, "one").seal(f"records/{path.parent.name}/{clear.name}")
    assert protected.opened("one", path) == content and not clear.exists()


def test_what_arrives_while_it_is_verified_is_not_missed(protected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(RecordFiles):
        def sizes(self, folder: str) -> dict[str, int]:
            answer = super().sizes(folder)
            protect(protected.installation, "ledger", label="meanwhile")
            return answer

    monkeypatch.setattr(record_check, "RecordFiles", Slow)
    assert record_check.check(protected.installation, "one", read_data=False) == ()


def test_a_prune_goes_no_further_when_a_snapshot_of_the_catalog_is_not_there(protected: Any) -> None:
    """An old listing looks the same as a snapshot that somebody removed by hand: both must be looked into first."""
    reference = protected.catalog.copies_in("one")[0].reference
    (snapshot,) = protected.vault_root("one").rglob(f"snapshots/{reference}")
    content = snapshot.read_bytes()
    snapshot.unlink()
    with pytest.raises(DamageError, match=reference[:12]):
        prune(protected.installation, "one")
    with pytest.raises(DamageError, match=reference[:12]):
        plan_prune(protected.installation, "one")
    snapshot.write_bytes(content)
    assert prune(protected.installation, "one").pruned.done
    snapshot.unlink()
    assert repair(protected.installation, "one").passed, "a lost snapshot is made again"
    assert prune(protected.installation, "one").pruned.done
