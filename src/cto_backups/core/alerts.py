"""The nouns of escalation: who is told of what, by which channel, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

from cto_backups.core.windows import Window


class Trouble(StrEnum):
    """What somebody is to be told of; the subject is a source, a vault, a channel, or the worker."""

    NO_BACKUP = "no-backup"
    TEST_FAILED = "test-failed"
    RECOVERY_LATE = "recovery-late"
    VAULT_DAMAGED = "vault-damaged"
    SUSPICION = "suspicion"
    WORKER_SILENT = "worker-silent"
    QUARANTINED = "quarantined"
    CHANNEL_FAILED = "channel-failed"
    DRILL = "drill"


@dataclass(frozen=True, slots=True)
class ChannelPolicy:
    """One way to reach people. `pages` says that it rings until a human acknowledges: e-mail does not.

    `options` are the kind's own; secrets in them are references.
    """

    name: str
    kind: str
    pages: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reach:
    """How one person is reached: a channel and, where it serves many, the person's address on it."""

    channel: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is told; `reach` in the order in which channels are tried."""

    name: str
    reach: tuple[Reach, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When whom to tell. `category` None: of any category; `after` None: after the RPO of the source's category.

    `tell` are told at once, `then` one more after each `step_up` in which nobody acknowledged, and all of them again
    every `repeat`. `urgent` does not wait for the end of quiet hours.
    """

    name: str
    when: Trouble
    tell: tuple[str, ...]
    then: tuple[str, ...] = ()
    category: str | None = None
    after: timedelta | None = None
    repeat: timedelta = timedelta(hours=12)
    step_up: timedelta = timedelta(hours=1)
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class QuietHours:
    """The time of day in which only what is urgent is told, by the clocks of `zone`."""

    window: Window
    zone: str

    def covers(self, moment: datetime) -> bool:
        """Whether it is quiet then."""
        return self.window.holds(moment, ZoneInfo(self.zone))


RED_PHONE = "red-phone"

DEFAULT_RULES = (
    AlertRule(
        "no-backup-a",
        Trouble.NO_BACKUP,
        (RED_PHONE,),
        ("cto", "ceo"),
        category="A",
        after=timedelta(hours=24),
        repeat=timedelta(minutes=15),
        step_up=timedelta(minutes=30),
        urgent=True,
    ),
    AlertRule("no-backup-b", Trouble.NO_BACKUP, ("cto", "cio"), category="B", after=timedelta(hours=48)),
    AlertRule("rpo-missed", Trouble.NO_BACKUP, ("cto",)),
    AlertRule("test-failed", Trouble.TEST_FAILED, ("cto", "ceo")),
    AlertRule("recovery-late", Trouble.RECOVERY_LATE, ("ceo",), repeat=timedelta(hours=1), urgent=True),
    AlertRule("vault-damaged", Trouble.VAULT_DAMAGED, ("cto",)),
    AlertRule("suspicion", Trouble.SUSPICION, (RED_PHONE,), ("cto", "ceo"), repeat=timedelta(hours=1), urgent=True),
    AlertRule("worker-silent", Trouble.WORKER_SILENT, ("cto",), repeat=timedelta(hours=1)),
    AlertRule("quarantined", Trouble.QUARANTINED, ("cto",), repeat=timedelta(hours=24)),
    AlertRule("channel-failed", Trouble.CHANNEL_FAILED, ("cto",), repeat=timedelta(hours=24)),
)
"""What holds where the policy says nothing else; the file may replace a rule by its name, or add some."""

DRILL_RULE = AlertRule(
    "drill",
    Trouble.DRILL,
    (RED_PHONE,),
    ("cto", "ceo"),
    repeat=timedelta(minutes=15),
    step_up=timedelta(minutes=30),
    urgent=True,
)
"""An exercise: it is what the gravest alert does, until somebody acknowledges."""


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """Who is told of what. Without people nobody is, and the audit says so.

    `tested_within` is how long ago the last message that reached each person may be.
    """

    channels: Mapping[str, ChannelPolicy] = field(default_factory=dict)
    people: Mapping[str, Person] = field(default_factory=dict)
    rules: tuple[AlertRule, ...] = DEFAULT_RULES
    quiet: QuietHours | None = None
    tested_within: timedelta = timedelta(days=90)

    def rule(self, name: str) -> AlertRule | None:
        """The rule of this name, the drill's among them."""
        return next((rule for rule in (*self.rules, DRILL_RULE) if rule.name == name), None)

    def first(self, rule: AlertRule) -> tuple[str, ...]:
        """Who is told at once: those of the rule whom the policy knows, or else who comes next, or else everybody."""
        known = tuple(name for name in rule.tell if name in self.people)
        return known or tuple(name for name in rule.then if name in self.people)[:1] or tuple(self.people)

    def next(self, rule: AlertRule, told: tuple[str, ...]) -> str | None:
        """Who is told when those before did not answer; None when there is nobody left."""
        return next((name for name in rule.then if name in self.people and name not in told), None)


@dataclass(frozen=True, slots=True)
class Happening:
    """A rule's condition that holds now: of what, and in words."""

    rule: str
    subject: str
    detail: str
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """What was raised, and how far it has come.

    `told` are the people whom it concerns by now, `told_at` when they were told last (None: nobody could be reached, or
    it was quiet), `stepped_at` when the last of them was added.
    """

    id: str
    rule: str
    trouble: Trouble
    subject: str
    detail: str
    raised_at: datetime
    category: str | None = None
    told: tuple[str, ...] = ()
    told_at: datetime | None = None
    stepped_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    note: str | None = None
    closed_at: datetime | None = None
    cause: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is about: of two open alerts, never the same."""
        return self.rule, self.subject

    @property
    def answered_after(self) -> timedelta | None:
        """How long it took until somebody acknowledged."""
        return None if self.acknowledged_at is None else self.acknowledged_at - self.raised_at


@dataclass(frozen=True, slots=True)
class Telling:
    """One attempt to tell a person something: `problem` says why it failed, None that the channel accepted it."""

    at: datetime
    person: str
    channel: str
    alert: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What a person is told: `event` is raised, repeated, stepped-up, closed, test or drill; `alert` its id, if any.

    `title` fits on one line; `text` says everything, also what to do.
    """

    event: str
    at: datetime
    business: str
    title: str
    text: str
    alert: str | None = None
    rule: str | None = None
    subject: str | None = None
    urgent: bool = False


class Channel(Protocol):
    """One way to reach people."""

    def send(self, message: Message, address: str | None) -> None:
        """Hand a message over; within half a minute. Raises ChannelError, without any secret in it."""
