"""Word shares as people give them: typed without being shown, from files, or one on each line of standard input."""

import itertools
import sys
from collections.abc import Sequence
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.cli.screen import Screen
from cto_backups.errors import KeyProblemError

if TYPE_CHECKING:
    from cto_backups.config.shares import WordShare

_LARGEST_BYTES = 64 * 1024


def gathered(screen: Screen, files: Sequence[Path]) -> "tuple[WordShare, ...]":
    """Shares until there are enough. Raises KeyProblemError for one that is none, or of another set, or too few."""
    from cto_backups.config.shares import WordShare, joined

    shares: tuple[WordShare, ...] = ()
    for path in files:
        shares = joined(shares, _from_page(path))
    if sys.stdin.isatty():
        while not files and (not shares or len(shares) < shares[0].threshold):
            shares = _typed(screen, shares)
    elif not files:
        for line in sys.stdin.read(_LARGEST_BYTES).splitlines():
            if line.strip():
                shares = joined(shares, WordShare.parse(line))
    return shares


def _typed(screen: Screen, shares: "tuple[WordShare, ...]") -> "tuple[WordShare, ...]":
    """One more share; a mistake is told, and can be put right. An empty line ends it."""
    from cto_backups.config.shares import WordShare, joined

    asked = f" of {shares[0].threshold}" if shares else ""
    text = getpass(f"Words of share {len(shares) + 1}{asked} (not shown): ")
    if not text.strip():
        raise KeyProblemError("The shares are not all given", why="an empty line ends it", todo="Nothing was opened.")
    try:
        more = joined(shares, WordShare.parse(text))
    except KeyProblemError as error:
        screen.problem(error)
        return shares
    screen.note(f"Share {more[-1].number} of set {more[-1].identifier} is sound.")
    return more


def _from_page(path: Path) -> "WordShare":
    """The share on a page that `key escrow --pages` wrote, or alone in a file."""
    from cto_backups.config.shares import WordShare

    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise KeyProblemError(f"The share {path} cannot be read", why=f"{error.strerror}") from None
    numbered = _numbered(content)
    try:
        return WordShare.parse(" ".join(numbered) if numbered else content)
    except KeyProblemError as error:
        raise KeyProblemError(f"{path} holds no share", why=error.why, todo=error.todo) from None


def _numbered(content: str) -> list[str]:
    """The words that have numbers before them, as pages show them, in the order of the numbers."""
    tokens = content.split()
    found = {
        int(number[:-1]): word
        for number, word in itertools.pairwise(tokens)
        if number.endswith(".") and number[:-1].isdecimal() and len(number) <= 3 and word.isalpha()
    }
    return [found[number] for number in sorted(found)]
