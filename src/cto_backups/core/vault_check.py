"""What the store of a vault really enforces, rule by rule, as a check of it came upon it; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from cto_backups.core.facts import VaultFacts
from cto_backups.core.model import Evidence, Step
from cto_backups.core.policy import VaultPolicy
from cto_backups.core.retries import last_done
from cto_backups.core.schedule import format_triggers, longest_gap, next_run

CHECK = "vault_check"
"""The kind of evidence that a check is."""


class Answer(StrEnum):
    """What came of trying a rule."""

    ENFORCED = "enforced"
    NOT_ENFORCED = "not enforced"
    NOT_OFFERED = "not offered"
    NOT_ASKED = "could not be asked"


RULES = {
    "write": "What is stored is read back as it was",
    "listing": "What is stored is listed at once, and what is deleted no more",
    "delete": "What is deleted is gone",
    "create-once": "Of writers of one name at once, exactly one wins",
    "overwrite": "What is there is not replaced in passing",
    "checksum": "What differs from its checksum is refused",
    "ranges": "Ranges are answered exactly, and none behind the end",
    "parts": "A large file comes whole, in parts",
    "tls": "The connection speaks the TLS that policy asks for",
    "clock": "The clocks here and there agree",
    "encryption": "The provider encrypts what it stores",
    "versions": "What is replaced stays as a former version",
    "lock-at-write": "A lock is set with what is stored, and told again",
    "lock-extend": "A lock is made longer",
    "lock-shorten": "A lock is not made shorter",
    "lock-delete": "What is locked is not deleted",
    "hold-set": "A legal hold is put on what is stored, told again, and taken off",
    "hold-delete": "What a legal hold is on is not deleted",
    "role-delete": "This login deletes nothing for good",
    "role-hide": "This login hides nothing behind a deletion",
    "role-shorten": "This login takes no lock away",
    "role-replace": "This login puts nothing over what is there",
    "copy": "Its provider copies objects of the sources into it by itself",
    "key": "A secret comes back from the key service as it was",
}
"""Every rule, in the order in which they are told; the names stand in evidence."""

CHECKED_WITHIN = timedelta(days=90)
"""How long what was seen of a vault counts that has no schedule: roles and settings are changed, and nobody tells."""

LONGEST_GRACE = timedelta(days=1)
"""How late a check on a schedule may be at most; otherwise a quarter of the time between two of them."""

CLOCKS_AGREE = timedelta(minutes=5)
"""By how much clocks may differ: more, and the ends of locks and the dates of points are not what they say."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one rule came to. `wanted`: the vault, as policy declares it, relies on the rule."""

    rule: str
    answer: Answer
    detail: str = ""
    wanted: bool = True
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing relies on a rule that was not seen to hold."""
        return self.answer is Answer.ENFORCED or not self.wanted

    def step(self, at: datetime) -> Step:
        """As a step of evidence."""
        figures: dict[str, int | float | str | bool] = {"answer": str(self.answer), "wanted": self.wanted}
        return Step(self.rule, at, self.seconds, self.passed, self.detail, figures)


def next_check(vault: VaultPolicy, facts: VaultFacts, zone: ZoneInfo, now: datetime) -> tuple[datetime, str] | None:
    """When a vault is next to be tried out, and why; None for one without a schedule, or that holds nothing yet."""
    if not vault.checks or facts.first_copy_at is None:
        return None
    written = format_triggers(vault.checks)
    last = last_done(facts.check.finished_at if facts.check is not None else None, facts.check_run, now)
    if last is None:
        return facts.first_copy_at, f"tried out {written}; it never was"
    asked = next_run(vault.checks, last=last, zone=zone, rpo=CHECKED_WITHIN)
    return asked.at, f"tried out {written}"


def counts_for(vault: VaultPolicy) -> timedelta:
    """How long what was seen of a vault counts: until its next check on schedule is done, or for `CHECKED_WITHIN`."""
    if not vault.checks:
        return CHECKED_WITHIN
    gap = longest_gap(vault.checks, CHECKED_WITHIN)
    return gap + min(gap / 4, LONGEST_GRACE)


def told_in(evidence: Evidence) -> tuple[Told, ...]:
    """What a check came upon, from its evidence."""
    return tuple(
        Told(step.name, Answer(str(step.figures["answer"])), step.detail, bool(step.figures["wanted"]), step.seconds)
        for step in evidence.steps
        if step.name in RULES
    )


def failing(told: Iterable[Told]) -> str:
    """Why a check did not pass, in a sentence; "" where it did."""
    return "; ".join(f"{each.rule}: {each.answer}" for each in told if not each.passed)
