"""Word shares of a secret, by SLIP-39 (https://github.com/satoshilabs/slips/blob/master/slip-0039.md).

The secret is 64 hexadecimal digits, and what is shared are the 32 bytes that they stand for: any SLIP-39 tool puts them
together again, without this program, and stock restic takes their hexadecimal digits as its password.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics

from cto_backups.config.redaction import remember
from cto_backups.config.secrets import Secret
from cto_backups.errors import KeyProblemError

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class WordShare:
    """One share. `identifier` is the set's number, `number` counts from one; the words are shown by `words` alone."""

    identifier: int
    number: int
    threshold: int
    _words: Secret

    @property
    def words(self) -> tuple[str, ...]:
        """The words themselves, for the page of the one custodian."""
        return tuple(self._words.reveal().split())

    @classmethod
    def parse(cls, text: str) -> "WordShare":
        """A share from its words, in any case and spacing. Raises KeyProblemError, which repeats none of them."""
        words = " ".join(text.lower().split())
        if words:
            remember(words)
        try:
            share = Share.from_mnemonic(words)
        except (MnemonicError, ValueError, LookupError):
            raise KeyProblemError(
                "This is no share",
                why=f"its {len(words.split())} words have a mistake in them: their own sum does not come out",
                todo="Compare each word with the page, and its place; then type them again.",
            ) from None
        if share.group_count != 1 or len(share.value) != SECRET_BYTES:
            raise KeyProblemError("This is no share of these vaults", why="it is a SLIP-39 share of something else")
        return cls(share.identifier, share.index + 1, share.member_threshold, Secret(words))


def new_secret() -> Secret:
    """A secret that exists nowhere else."""
    return Secret(secrets.token_hex(SECRET_BYTES))


def split(secret: Secret, *, threshold: int, count: int) -> tuple[WordShare, ...]:
    """Shares of a secret, any `threshold` of which are enough; fewer say nothing of it."""
    (mnemonics,) = generate_mnemonics(1, [(threshold, count)], bytes.fromhex(secret.reveal()))
    shares = tuple(map(WordShare.parse, mnemonics))
    for chosen in (shares[:threshold], shares[-threshold:]):
        if combine(chosen) != secret:  # before anybody writes a word down
            raise AssertionError("shares do not give the secret back")
    return shares


def joined(shares: Sequence[WordShare], share: WordShare) -> tuple[WordShare, ...]:
    """The shares with one more. Raises KeyProblemError for one of another set, and for one that is there already."""
    first = next(iter(shares), share)
    if share.identifier != first.identifier or share.threshold != first.threshold:
        raise KeyProblemError(
            f"Share {share.number} is of set {share.identifier}, and the others are of set {first.identifier}",
            why="shares of different sets do not fit together",
            todo="Take shares with one set number: it is on each page.",
        )
    if any(each.number == share.number for each in shares):
        raise KeyProblemError(
            f"Share {share.number} is there already",
            why="each share counts once",
            todo="Take the share of another custodian.",
        )
    return (*shares, share)


def combine(shares: Sequence[WordShare]) -> Secret:
    """The secret. Raises KeyProblemError when there are too few shares, or they do not fit together."""
    chosen: tuple[WordShare, ...] = ()
    for share in shares:
        chosen = joined(chosen, share)
    if not chosen or len(chosen) < chosen[0].threshold:
        asked = f"{chosen[0].threshold} are needed" if chosen else "none was given"
        raise KeyProblemError(
            f"{len(chosen)} {'share is' if len(chosen) == 1 else 'shares are'} not enough",
            why=asked,
            todo="Gather more custodians. Nothing was opened.",
        )
    words = [share._words.reveal() for share in chosen[: chosen[0].threshold]]
    try:
        return Secret(combine_mnemonics(words).hex())
    except MnemonicError:
        raise KeyProblemError(
            "These shares do not fit together",
            why="each is sound by itself, and they give no secret",
            todo="They may be of sets that bear one number by chance: take those of one day.",
        ) from None
