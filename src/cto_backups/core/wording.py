"""Words in messages: the closest correct one, and counted things."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about a wrong word: "; did you mean 'daily'?", or nothing when no allowed word is near."""
    close = get_close_matches(word.lower(), list(allowed), n=3, cutoff=0.6)
    # People rarely get the first letter wrong: 'munday' is meant to be monday, although sunday is as near.
    close.sort(key=lambda candidate: candidate[0] != word[0].lower())
    return f"; did you mean '{close[0]}'?" if close else ""


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun: "1 copy", "3 copies"; `many` defaults to `one` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(things: Iterable[str]) -> str:
    """Things in a sentence: "a", "a and b", "a, b and c"."""
    every = list(things)
    return " and ".join([", ".join(every[:-1]), every[-1]] if len(every) > 1 else every)
