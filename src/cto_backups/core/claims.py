"""Claims: who may do an action now, and until when; so that who was only frozen does not do a second time what another
has taken over. Pure.

A claim is on a subject: a source, a copy of one in a vault, or a vault. It carries a token that each next one outdoes,
and a lease that its process extends while it lives. Clocks of hosts differ, and jump: a lease that is over, or ends
later than any can, is only doubted at first. Whoever lives clears the doubt with his next sign; who gives none until
its grace is over has lost the claim.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from cto_backups.core.model import ActionKind, Run

LEASE = timedelta(seconds=30)
"""How long a process that gives no sign keeps what it has claimed, undoubted."""
SIGN_EVERY = timedelta(seconds=10)
"""How often a process extends its leases."""
GRACE = timedelta(seconds=15)
"""How long it may still give one once it is doubted; longer than it is between two of its signs."""
CLOCKS_APART = timedelta(seconds=5)
"""By how much a lease may end later than by one's own clock it can: clocks of hosts that are set by the network differ
a little, and who has waited for the catalog has looked at his clock before.
"""

_IN_SOURCE = frozenset({ActionKind.BACKUP, ActionKind.RESTORE_TEST, ActionKind.EXPIRE})
_VAULT_ALONE = frozenset({ActionKind.PRUNE, ActionKind.REPAIR})


@dataclass(frozen=True, slots=True)
class Claim:
    """Who has claimed a subject. `leased_until` None: it was given back."""

    subject: str
    token: int
    run: int
    host: str
    pid: int
    leased_until: datetime | None
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Outdone:
    """A run that gave no sign of life for too long, and the process that was at it: it is ended for it."""

    run: Run
    host: str
    pid: int


class Standing(Enum):
    """What somebody else may do about a claim: take it, wait, or doubt it and wait."""

    FREE = auto()
    HELD = auto()
    DOUBTFUL = auto()


def subject_of(action: ActionKind, source: str | None, vault: str | None) -> str:
    """What an action claims. No name has a colon or an @."""
    if action in _IN_SOURCE:
        return f"source:{source}"
    if action is ActionKind.COPY:
        return f"copy:{source}@{vault}"
    return f"vault:{vault}" if action in _VAULT_ALONE else f"{action.value}:{vault}"


def doing(subject: str) -> str:
    """What a run does that has claimed a subject, in words."""
    kind, _, name = subject.partition(":")
    if kind == "source":
        return f"working on source '{name}'"
    if kind == "copy":
        source, _, vault = name.partition("@")
        return f"copying source '{source}' to vault '{vault}'"
    return f"at the {kind} of vault '{name}'" if kind != "vault" else f"at work alone in vault '{name}'"


def standing(claim: Claim | None, host: str, now: datetime, alive: Callable[[int], bool]) -> Standing:
    """How a claim stands for a process on a host, which can tell whether the processes there are `alive`."""
    if claim is None or claim.leased_until is None:
        return Standing.FREE
    if claim.host == host and not alive(claim.pid):
        return Standing.FREE
    longest = GRACE if claim.doubted else LEASE
    if now < claim.leased_until <= now + longest + CLOCKS_APART:
        return Standing.HELD
    return Standing.FREE if claim.doubted and claim.leased_until <= now else Standing.DOUBTFUL
