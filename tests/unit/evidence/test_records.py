"""Records: whoever removes, alters, reorders or re-signs one is found out."""

import base64
import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.errors import DamageError, KeyProblemError
from cto_backups.evidence.records import Record, SigningKey, sign, verify_chain

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
FIXED = SigningKey(bytes(range(32)))
GOLDEN = Path(__file__).parents[2] / "golden" / "records"


def chain(length: int, key: SigningKey = FIXED) -> list[Record]:
    records: list[Record] = []
    for number in range(1, length + 1):
        previous = records[-1].digest if records else None
        records.append(sign(key, "run", {"number": number}, sequence=number, previous=previous, written_at=NOW))
    return records


def altered(record: Record, **changes: object) -> Record:
    return dataclasses.replace(record, body={**record.body, **changes})


PAYLOAD = {
    "point": "ledger-20260102T030405Z-0a1b",
    "vault": "near",
    "reference": "ab" * 32,
    "stored_at": "2026-01-02T03:04:05.000006Z",
    "added_bytes": "18446744073709551616",
    "odd": {"é\u2028\u0000": [1, 1.5, 1e21, True, None, "€𝄞"], "b": {}, "a": []},
}


@pytest.mark.parametrize(("sequence", "previous"), [(1, None), (99_999_999, "cd" * 32)])
def test_the_bytes_of_a_record_are_fixed_for_ever(sequence: int, previous: str | None) -> None:
    """Format 1: if this fails, old records can no longer be made or checked. Never change the golden files."""
    record = sign(FIXED, "copy", PAYLOAD, sequence=sequence, previous=previous, written_at=NOW)
    stored = (GOLDEN / f"{sequence:08d}-copy.json").read_bytes()
    assert record.to_bytes() == stored
    assert record.key == f"records/{FIXED.signer}/{sequence:08d}-copy.sealed"
    assert Record.from_bytes(stored) == record
    assert record.faults() == ()


def test_the_signer_is_named_by_the_digest_of_its_public_key() -> None:
    assert FIXED.public_key.hex() == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    assert FIXED.fingerprint == hashlib.sha256(FIXED.public_key).hexdigest()
    assert FIXED.signer == FIXED.fingerprint[:16]


def test_a_key_is_kept_as_text_and_never_shown() -> None:
    key = SigningKey.generate()
    secret = key.secret()
    assert SigningKey.load(secret).signer == key.signer != SigningKey.generate().signer
    assert secret.partition(":")[2] not in repr(key)
    assert repr(key) == f"SigningKey(signer='{key.signer}')"


@pytest.mark.parametrize(
    "secret", ["", "ed25519:", "ed25519:AAAA", "ed25519:hush!!", "rsa:" + "A" * 43 + "=", "ed25519:" + "é" * 44]
)
def test_a_wrong_key_is_told_without_repeating_it(secret: str) -> None:
    with pytest.raises(KeyProblemError) as caught:
        SigningKey.load(secret)
    error = caught.value
    rest = secret.partition(":")[2]
    assert not rest or rest not in f"{error} {error.todo}"
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_whole_chain_is_intact() -> None:
    records = chain(5)
    report = verify_chain(records, expected_head=records[-1].digest)
    assert report.intact
    assert (report.signer, report.records, report.head) == (FIXED.signer, 5, records[-1].digest)
    assert verify_chain([]).intact


@given(length=st.integers(2, 7), data=st.data())
def test_a_removed_record_is_missed(length: int, data: st.DataObject) -> None:
    records = chain(length)
    gone = data.draw(st.integers(0, length - 1))
    left = records[:gone] + records[gone + 1 :]
    assert not verify_chain(left, expected_head=records[-1].digest).intact
    if gone < length - 1:
        assert not verify_chain(left).intact, "only a cut at the end needs the known head"


@given(length=st.integers(2, 7), data=st.data())
def test_records_that_changed_places_are_noticed(length: int, data: st.DataObject) -> None:
    records = chain(length)
    order = data.draw(st.permutations(records).filter(lambda order: order != records))
    assert not verify_chain(order).intact


def test_a_repeated_record_is_noticed() -> None:
    first, second = chain(2)
    assert not verify_chain([first, second, second]).intact


@pytest.mark.parametrize(
    "change",
    [
        {"payload": {"number": 7}},
        {"kind": "evidence"},
        {"written_at": "2025-01-02T03:04:05.000006Z"},
        {"previous": "00" * 32},
        {"sequence": 3},
        {"signer": "0123456789abcdef"},
        {"added": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_record_is_noticed_and_named(change: dict[str, object]) -> None:
    first, second, third = chain(3)
    report = verify_chain([first, altered(second, **change), third])
    assert not report.intact
    assert any("altered" in fault for fault in report.faults)


def test_a_digest_made_to_fit_an_altered_body_does_not_help() -> None:
    first, second, third = chain(3)
    other = sign(FIXED, "run", {"number": 7}, sequence=2, previous=first.digest, written_at=NOW)
    forged = dataclasses.replace(second, body=other.body, digest=other.digest)
    assert any("signature" in fault for fault in verify_chain([first, forged, third]).faults)


def test_a_record_signed_by_another_key_is_noticed() -> None:
    first, second, third = chain(3)
    stranger = SigningKey.generate()
    foreign = sign(stranger, "run", {"number": 2}, sequence=2, previous=first.digest, written_at=NOW)
    assert not verify_chain([first, foreign, third]).intact
    posing = dataclasses.replace(second, signature=stranger.sign(b"x"), public_key=stranger.public_key)
    faults = verify_chain([first, posing, third]).faults
    assert any("public key" in fault for fault in faults)


def test_a_rewritten_history_does_not_fit_the_known_head() -> None:
    """The owner of the key can sign another past; the digest that another vault knows gives it away."""
    old = chain(3)
    rewritten = [sign(FIXED, "run", {"number": 1, "passed": True}, sequence=1, previous=None, written_at=NOW)]
    assert verify_chain(rewritten).intact
    assert not verify_chain(rewritten, expected_head=old[-1].digest).intact


def test_a_well_signed_record_that_follows_another_one_is_noticed() -> None:
    """Two histories of one signer do not fit together, even where the numbers do."""
    _, second = chain(2)
    other_first = sign(FIXED, "run", {"number": 1, "passed": True}, sequence=1, previous=None, written_at=NOW)
    assert verify_chain([other_first]).intact
    report = verify_chain([other_first, second])
    assert report.faults == ("record 2: it does not follow the record before it",)


def test_a_well_signed_record_with_a_number_left_out_is_noticed() -> None:
    (first,) = chain(1)
    third = sign(FIXED, "run", {}, sequence=3, previous=first.digest, written_at=NOW)
    (fault,) = verify_chain([first, third]).faults
    assert "expected number 2" in fault


STORED = chain(1)[0].to_bytes()


def envelope(**changes: object) -> bytes:
    return json.dumps({**json.loads(STORED), **changes}, separators=(",", ":"), sort_keys=True).encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        STORED[:-10],
        STORED[:-1],
        STORED + b" ",
        STORED.replace(b'"body":{', b'"body": {'),
        STORED.replace(b'"number":1', b'"number":1.0'),
        STORED.replace(b'"number":1', b'"number":NaN'),
        b"[" * 100_000,
        envelope(body={}),
        envelope(body=[]),
        envelope(signature="?"),
        envelope(public_key=None),
        envelope(body={**json.loads(STORED)["body"], "format": 2}),
        envelope(body={**json.loads(STORED)["body"], "sequence": "1"}),
    ],
    ids=range(18),
)
def test_bytes_that_are_no_record_are_named(content: bytes) -> None:
    with pytest.raises(DamageError, match=r"records/x\.json is not a record"):
        Record.from_bytes(content, name="records/x.json")


def test_a_file_name_that_is_no_text_can_still_be_recorded() -> None:
    record = sign(FIXED, "run", {"path": "a\udc80b", "all": ["\udcff"]}, sequence=1, previous=None, written_at=NOW)
    assert record.faults() == ()
    assert Record.from_bytes(record.to_bytes()).payload == {"path": "a\\udc80b", "all": ["\\udcff"]}


def test_a_number_beyond_exact_integers_does_not_spoil_its_record() -> None:
    record = sign(FIXED, "run", {"rate": 5.049644991547094e16}, sequence=1, previous=None, written_at=NOW)
    read = Record.from_bytes(record.to_bytes())
    assert read.payload == {"rate": 5.049644991547094e16}
    assert verify_chain([read]).intact


def test_only_the_known_kinds_are_signed() -> None:
    with pytest.raises(ValueError, match="rumour"):
        sign(FIXED, "rumour", {}, sequence=1, previous=None, written_at=NOW)


def test_a_record_can_be_checked_with_stock_tools(tmp_path: Path, required_tool: Callable[..., Path]) -> None:
    """The commands of docs/reference/formats.md, word for word: no part of this product is needed."""
    required_tool("openssl", package="openssl")
    page = (Path(__file__).parents[3] / "docs" / "reference" / "formats.md").read_text()
    section = page.partition("## Records")[2].partition("\n## ")[0]
    commands = "\n".join(line.removeprefix("    ") for line in section.splitlines() if line.startswith("    "))
    assert "openssl pkeyutl -verify" in commands

    def check(record: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / "record.json").write_bytes(record)
        script = "set -e\n" + commands.replace("RECORD", "record.json")
        return subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    record = sign(FIXED, "copy", PAYLOAD, sequence=1, previous=None, written_at=NOW)
    good = check(record.to_bytes())
    assert good.returncode == 0, good.stderr
    assert record.digest in good.stdout
    assert check(record.to_bytes().replace(b'"near"', b'"nearer"')).returncode != 0


def test_the_envelope_holds_what_the_format_says() -> None:
    stored = json.loads(STORED)
    assert sorted(stored) == ["body", "digest", "public_key", "signature"]
    assert base64.b64decode(stored["public_key"]) == FIXED.public_key
    assert len(base64.b64decode(stored["signature"])) == 64
