"""Words in messages: the closest correct one, and counted things."""

from collections.abc import Iterable
from difflib import get_close_matches

from cto_backups.errors import NotFoundError

LISTING_GOES_ON = "its store says that the listing goes on, and does not tell how to ask for the rest"
"""Why a listing of a store is not taken for whole."""

NO_SUCH_STORE = "See what stands between here and the store; or take another store, or a newer version of it."
"""What to do about a store that lists what cannot be."""

_SHORTEST_BEGINNING = 2
_MOST_SUGGESTED = 3


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about a wrong word: "; did you mean 'daily'?", or nothing when no allowed word is near.

    Near are the words that it begins, at most three, and the one that is most like it.
    """
    lowered, names = word.lower(), sorted(dict.fromkeys(allowed), key=len)
    begun = [name for name in names if name.lower().startswith(lowered) and len(word) >= _SHORTEST_BEGINNING]
    close = get_close_matches(lowered, names, n=3, cutoff=0.6)
    # People rarely get the first letter wrong: 'munday' is meant to be monday, although sunday is as near.
    close.sort(key=lambda candidate: candidate[0] != word[0].lower())
    likely = list(dict.fromkeys([*begun, *close[:1]]))[:_MOST_SUGGESTED]
    quoted = " or ".join(f"'{name}'" for name in likely)
    return f"; did you mean {quoted}?" if likely else ""


def not_declared(what: str, name: str, declared: Iterable[str]) -> NotFoundError:
    """The error of a name that the policy does not declare; `what` is "source" or "vault"."""
    names = sorted(declared)
    return NotFoundError(
        f"There is no {what} named '{name}'{did_you_mean(name, names)}",
        why=f"the policy declares: {', '.join(names) or 'none'}",
        todo=f"Use one of these names, or add the {what} to backups.yaml.",
    )


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun: "1 copy", "3 copies"; `many` defaults to `one` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(things: Iterable[str]) -> str:
    """Things in a sentence: "a", "a and b", "a, b and c"."""
    every = list(things)
    return " and ".join([", ".join(every[:-1]), every[-1]] if len(every) > 1 else every)
