"""Chains in vaults: all is judged on a walk, and only what is sound and follows goes on after a known record."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import DamageError, VaultMissingError
from cto_backups.evidence.records import Record, SigningKey, sign
from cto_backups.flows import record_check
from cto_backups.flows.chains import Chain, expired_by_others, grouped
from cto_backups.flows.evidence import check_vault
from cto_backups.flows.protect import protect
from cto_backups.flows.record_files import RecordFiles

from .conftest import VAULTS

KEY = SigningKey(bytes(range(32)))
AT = datetime(2026, 3, 1, tzinfo=UTC)


def made(length: int, kind: str = "expiry") -> list[Record]:
    """The beginning of a chain by a signer whom this installation does not know."""
    records: list[Record] = []
    for number in range(1, length + 1):
        previous = records[-1].digest if records else None
        records.append(sign(KEY, kind, {"point": f"p-{number}"}, sequence=number, previous=previous, written_at=AT))
    return records


def path(workshop: Any, vault: str, record: Record) -> Path:
    return Path(workshop.vault_root(vault) / record.key)


def write(workshop: Any, vault: str, *records: Record) -> None:
    for record in records:
        path(workshop, vault, record).parent.mkdir(parents=True, exist_ok=True)
        workshop.seal(vault, path(workshop, vault, record), record.to_bytes())


def chain(workshop: Any, *vaults: str) -> Chain:
    """The signer's chain as these vaults have it."""
    listed = {name: RecordFiles(workshop.installation, name).sizes("records") for name in vaults}
    return grouped(workshop.installation, listed)[KEY.signer]


def test_a_sound_chain_is_the_same_on_both_ways(workshop: Any) -> None:
    write(workshop, "one", *(records := made(4)))
    walked = chain(workshop, "one").walk()
    assert walked.digests == tuple(record.digest for record in records) and walked.faults == ()
    assert walked.head is not None
    assert (walked.head.fingerprint, walked.head.sequence) == (KEY.fingerprint, 4)
    continuation = chain(workshop, "one").after(0, None)
    assert list(continuation) == records
    assert (continuation.faults, continuation.broken, continuation.previous) == ([], False, records[-1].digest)
    assert list(chain(workshop, "one").after(2, records[1].digest)) == records[2:]
    assert list(chain(workshop, "one").after(4, records[3].digest)) == []


def test_a_walk_goes_on_after_what_is_not_sound_and_a_continuation_does_not(workshop: Any) -> None:
    records = made(5)
    write(workshop, "one", *records)
    workshop.seal("one", path(workshop, "one", records[2]), b"no record at all")
    walked = chain(workshop, "one").walk()
    assert len(walked.digests) == 4 and any("place 3 is no record" in fault for fault in walked.faults)
    continuation = chain(workshop, "one").after(0, None)
    assert list(continuation) == records[:2] and continuation.sequence == 2
    assert continuation.broken
    assert [damage.detail for damage in continuation.faults][1:] == ["2 records after it, up to 5, cannot be trusted"]


def test_a_chain_whose_last_record_is_not_sound_is_broken_and_one_that_was_cut_is_not(workshop: Any) -> None:
    records = made(3)
    write(workshop, "one", *records)
    workshop.seal("one", path(workshop, "one", records[2]), b"no record at all")
    continuation = chain(workshop, "one").after(0, None)
    assert list(continuation) == records[:2] and continuation.broken
    path(workshop, "one", records[2]).unlink()
    continuation = chain(workshop, "one").after(0, None)
    assert list(continuation) == records[:2] and not continuation.broken and continuation.faults == []


def test_what_one_vault_lost_another_may_have_and_the_first_sound_one_serves(workshop: Any) -> None:
    records = made(5)
    for vault in VAULTS:
        write(workshop, vault, *records)
    path(workshop, "one", records[1]).unlink()
    path(workshop, "two", records[3]).unlink()
    workshop.seal("one", path(workshop, "one", records[3]), b"no record at all")
    everywhere = chain(workshop, *VAULTS)
    continuation = everywhere.after(0, None)
    assert list(continuation) == records and not continuation.broken
    (fault,) = continuation.faults
    assert records[3].key in fault.what and "vault one" in fault.what
    assert {vault: everywhere.whole_up_to(vault, 5) for vault in VAULTS} == {"one": 1, "two": 3, "three": 5}
    assert list(everywhere.only_in(["one"]).after(0, None)) == records[:1]
    read = Counter(vault for vault, _ in reads(workshop, everywhere))
    assert read == {"one": 4, "two": 1, "three": 1}, "a vault is asked for what those before it lack, and for no more"


def reads(workshop: Any, of: Chain) -> list[tuple[str, str]]:
    """What is read in vaults when a chain is taken from its beginning."""
    seen: list[tuple[str, str]] = []

    class Watched:
        def __init__(self, name: str) -> None:
            self._name, self._vault = name, workshop.installation.vault(name)

        def read(self, key: str) -> bytes:
            seen.append((self._name, key))
            return bytes(self._vault.read(key))

    watched = dataclasses.replace(workshop.installation, vault=Watched)
    assert list(dataclasses.replace(of, installation=watched).after(0, None))
    return seen


def test_what_was_listed_and_is_gone_ends_a_walk_and_is_missing_to_a_continuation(workshop: Any) -> None:
    records = made(3)
    write(workshop, "one", *records)
    listed = chain(workshop, "one")
    path(workshop, "one", records[1]).unlink()
    with pytest.raises(VaultMissingError):
        listed.walk()
    continuation = listed.after(0, None)
    assert list(continuation) == records[:1]
    assert [damage.what for damage in continuation.faults] == [f"record 2 of signer {KEY.signer}"]


def test_what_keeps_a_repository_from_opening_is_no_fault_of_a_record(workshop: Any) -> None:
    write(workshop, "one", *made(2))
    listed = chain(workshop, "one")

    def closed(name: str) -> Any:
        raise DamageError(f"The config of vault {name} is damaged")

    shut = dataclasses.replace(listed, installation=dataclasses.replace(workshop.installation, store=closed))
    for reading in (shut.walk, lambda: list(shut.after(0, None))):
        with pytest.raises(DamageError, match="config of vault one"):
            reading()


def test_only_what_is_sound_expires_by_another_signer(workshop: Any) -> None:
    records = made(3)
    write(workshop, "one", *records)
    own = workshop.installation.signer
    write(workshop, "one", sign(own, "expiry", {"point": "own"}, sequence=1, previous=None, written_at=AT))
    assert expired_by_others(workshop.installation, "one") == {"p-1", "p-2", "p-3"}
    altered = records[1].to_bytes().replace(b"p-2", b"p-7")
    workshop.seal("one", path(workshop, "one", records[1]), altered)
    assert expired_by_others(workshop.installation, "one") == {"p-1"}


def test_a_record_numbered_zero_in_another_vault_is_compared_with_nothing(workshop: Any) -> None:
    """Whoever may write to a vault may name files as they like."""
    (nought,) = [sign(KEY, "run", {}, sequence=0, previous=None, written_at=AT)]
    write(workshop, "two", nought)
    junk = path(workshop, "one", made(1)[0])
    junk.parent.mkdir(parents=True)
    workshop.seal("one", junk, b"no record at all")
    faults = check_vault(workshop.installation, "one", ()).faults
    assert any("no record" in fault for fault in faults) and not any("vault 'two'" in fault for fault in faults)


def test_the_own_chain_is_read_once_by_a_check_of_records(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    protect(workshop.installation, "documents")
    asked: Counter[str] = Counter()
    record_files = type(workshop.catalog).record_files

    def counting(catalog: Any, signer: str) -> Iterator[tuple[int, str, bytes]]:
        asked[signer] += 1
        yield from record_files(catalog, signer)

    monkeypatch.setattr(type(workshop.catalog), "record_files", counting)
    assert record_check.check(workshop.installation, "one") == ()
    assert asked == {workshop.installation.signer.signer: 1}


def test_records_that_no_vault_has_yet_are_not_unknown(workshop: Any) -> None:
    """Signed while the vault was away, or by a run that is not done: the catalog has them, the vault need not."""
    protect(workshop.installation, "documents")
    own = workshop.installation.signer.signer
    later = workshop.catalog.append_record(workshop.installation.signer, "run", {}, AT)
    assert record_check.check(workshop.installation, "one") == ()
    write(workshop, "one", later)
    assert record_check.check(workshop.installation, "one") == (), "it came, and the head was not noted"
    folder = workshop.vault_root("one") / "records" / own
    (folder / f"{later.sequence:08d}-copy.sealed").write_bytes(b"x")
    (damage,) = record_check.check(workshop.installation, "one", read_data=False)
    assert damage.what == f"1 record of signer {own}"


def test_records_are_known_though_this_vault_is_not_known_to_have_any(workshop: Any) -> None:
    """A catalog that was rebuilt from another vault has not looked into this one."""
    first = workshop.catalog.append_record(workshop.installation.signer, "run", {}, AT)
    write(workshop, "one", first)
    assert workshop.catalog.vault_heads("one") == {}
    assert record_check.check(workshop.installation, "one") == ()


def test_records_in_a_folder_that_no_signer_can_be_called_are_a_fault_of_evidence(workshop: Any) -> None:
    (record,) = made(1)
    write(workshop, "one", record)
    assert check_vault(workshop.installation, "one", ()).faults == ()
    strange = workshop.vault_root("one") / "records" / "nobody" / Path(record.key).name
    workshop.seal("one", strange, record.to_bytes())
    assert any("no record" in fault for fault in check_vault(workshop.installation, "one", ()).faults)
