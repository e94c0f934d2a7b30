"""What a host joins with: sealed with a passphrase, and with nothing else."""

import pytest

from cto_backups.config.bundle import Bundle, seal, unseal
from cto_backups.errors import KeyProblemError

BUNDLE = Bundle("web1", "version: 1\n", {"keys/repository.key": "a secret of the host"}, ("a step",))
PASSPHRASE = "twelve signs or more"


def test_it_opens_with_its_passphrase_alone() -> None:
    sealed = seal(BUNDLE, PASSPHRASE)
    assert unseal(sealed, PASSPHRASE) == BUNDLE
    assert b"secret of the host" not in sealed
    assert sealed != seal(BUNDLE, PASSPHRASE)
    with pytest.raises(KeyProblemError, match="does not open"):
        unseal(sealed, "another passphrase")


def test_a_changed_one_does_not_open() -> None:
    sealed = bytearray(seal(BUNDLE, PASSPHRASE))
    sealed[-8] ^= 1
    with pytest.raises(KeyProblemError):
        unseal(bytes(sealed), PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"anything", b"cto.backups enrolment 1\n{}", b"cto.backups enrolment 1\nx"])
def test_what_is_none_is_told_so(content: bytes) -> None:
    with pytest.raises(KeyProblemError, match="no enrolment that this version reads"):
        unseal(content, PASSPHRASE)


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(KeyProblemError, match="too short"):
        seal(BUNDLE, "short")
