"""Wrapped secrets as files: their bytes stay as they are, and what is damaged or of another vault is passed over."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cto_backups.errors import DamageError
from cto_backups.repository.envelope import FOLDER, Envelope, Envelopes, canonical
from cto_backups.vaults.local import LocalVault

MADE = Envelope(
    "aws-kms:arn:aws:kms:us-west-2:111122223333:key/k", "one", "ab" * 32, datetime(2026, 11, 29, tzinfo=UTC), b"w"
)
BYTES = b"""{
  "format": 1,
  "service": "aws-kms:arn:aws:kms:us-west-2:111122223333:key/k",
  "vault": "one",
  "repository": "abababababababababababababababababababababababababababababababab",
  "created_at": "2026-11-29T00:00:00+00:00",
  "wrapped": "dw=="
}
"""


@pytest.fixture
def envelopes(tmp_path: Path) -> Envelopes:
    vault = LocalVault("one", tmp_path / "vault")
    vault.create()
    return Envelopes(vault, tmp_path / "state")


def test_the_bytes_of_format_1_are_these_for_ever() -> None:
    assert MADE.to_bytes() == BYTES
    assert Envelope.from_bytes(BYTES) == MADE


def test_the_context_is_these_bytes_for_ever() -> None:
    """Whatever is wrapped for other bytes, no service unwraps any more."""
    assert canonical(MADE.context) == b'{"cto-backups:repository":"' + b"ab" * 32 + b'","cto-backups:vault":"one"}'


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"\xff",
        BYTES.replace(b": 1,", b": 2,"),
        BYTES.replace(b"dw==", b"d"),
        BYTES.replace(b'"one"', b"1"),
        BYTES.replace(b"+00:00", b""),
        BYTES.replace(b'"vault"', b'"place"'),
    ],
)
def test_what_is_damaged_is_no_wrapped_secret(damage: bytes, envelopes: Envelopes) -> None:
    with pytest.raises(DamageError):
        Envelope.from_bytes(damage)
    envelopes.vault.put(f"{FOLDER}/{'0' * 64}.json", [damage])
    envelopes.put(MADE)
    assert list(envelopes) == [MADE]


def test_one_is_found_here_when_the_vault_is_away_and_in_the_vault_when_it_is_gone_here(
    envelopes: Envelopes, tmp_path: Path
) -> None:
    envelopes.put(MADE)
    (tmp_path / "vault").rename(tmp_path / "away")
    assert list(envelopes) == [MADE]
    (tmp_path / "away").rename(tmp_path / "vault")
    (tmp_path / "state" / FOLDER / MADE.name).unlink()
    assert list(envelopes) == [MADE]
    assert not envelopes.is_here(MADE)
    envelopes.remove(MADE)
    assert list(envelopes) == []


def test_one_for_another_vault_is_passed_over(envelopes: Envelopes) -> None:
    envelopes.put(Envelope(MADE.service, "two", MADE.repository, MADE.created_at, MADE.wrapped))
    assert list(envelopes) == []
