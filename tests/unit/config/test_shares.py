"""Word shares: enough of them give the secret, and every mistake in them is told before anything is opened."""

import itertools

import pytest
from shamir_mnemonic import combine_mnemonics, generate_mnemonics

from cto_backups.config.redaction import redact
from cto_backups.config.secrets import Secret
from cto_backups.config.shares import WordShare, combine, joined, new_secret, split
from cto_backups.errors import KeyProblemError


def test_any_shares_that_are_enough_give_the_secret_and_fewer_are_refused() -> None:
    secret = new_secret()
    shares = split(secret, threshold=3, count=5)
    for chosen in itertools.permutations(shares, 3):
        assert combine(chosen) == secret
    assert combine(shares) == secret
    with pytest.raises(KeyProblemError, match="2 shares are not enough"):
        combine(shares[:2])
    with pytest.raises(KeyProblemError, match="0 shares are not enough"):
        combine(())


def test_shares_of_two_sets_do_not_mix() -> None:
    first, second = (split(new_secret(), threshold=2, count=2) for _ in range(2))
    with pytest.raises(KeyProblemError, match="different sets"):
        combine((first[0], second[1]))


def test_a_share_counts_once() -> None:
    shares = split(new_secret(), threshold=2, count=2)
    with pytest.raises(KeyProblemError, match="counts once"):
        joined(shares[:1], WordShare.parse(" ".join(shares[0].words).upper()))


def test_each_mistyped_word_is_found_and_no_word_is_shown() -> None:
    share = split(new_secret(), threshold=2, count=3)[1]
    for number in range(len(share.words)):
        words = list(share.words)
        words[number] = "academic" if words[number] != "academic" else "zero"
        with pytest.raises(KeyProblemError) as raised:
            WordShare.parse(" ".join(words))
        assert words[number] not in str(raised.value)
    with pytest.raises(KeyProblemError, match="its 0 words"):
        WordShare.parse("")


def test_a_share_that_was_read_is_known_to_be_secret() -> None:
    share = split(new_secret(), threshold=2, count=2)[0]
    assert "[hidden]" in redact(f"words: {' '.join(share.words)}")
    assert share.words[5] not in repr(share)


def test_another_tool_for_slip_39_gives_the_password_for_restic() -> None:
    """The reference implementation's own reader takes our words, and gives the 64 digits."""
    secret = Secret("0f" * 32)
    shares = split(secret, threshold=2, count=3)
    assert combine_mnemonics([" ".join(share.words) for share in shares[1:]]).hex() == "0f" * 32


def test_shares_of_another_length_are_none_of_ours() -> None:
    ((theirs, _),) = generate_mnemonics(1, [(2, 2)], bytes(16))
    with pytest.raises(KeyProblemError, match="something else"):
        WordShare.parse(theirs)
