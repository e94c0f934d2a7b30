"""The shape of the policy file's section on alerts; see `models`."""

from typing import Annotated, Literal

from pydantic import Field

from cto_backups.config.fields import CategoryName, Duration, Line, Name, Reference, TimeOfDay, TimeZone
from cto_backups.config.part import Part

TroubleName = Literal[
    "no-backup",
    "test-failed",
    "recovery-late",
    "vault-damaged",
    "suspicion",
    "worker-silent",
    "quarantined",
    "channel-failed",
]


class AnyChannel(Part):
    """What every channel has, beside its kind."""

    pages: bool = False
    """Whether it rings until a human acknowledges, as a call or a page does; e-mail does not."""


class SmtpChannel(AnyChannel):
    """E-mail through an SMTP server."""

    kind: Literal["smtp"]
    """What kind of channel it is."""
    host: Line = Field(examples=["mail.example.com"])
    """The server."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Its port; left out: 587 with `starttls`, 465 with `tls`, 25 with `none`."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is encrypted; `none` only for a server on this machine or in a network of your own."""
    user: Line | None = None
    """Who logs in; nobody does when left out."""
    password: Reference | None = None
    """Where the password of `user` is."""
    sender: Line = Field(examples=["backups@example.com"])
    """The address that messages come from."""


class WebhookChannel(AnyChannel):
    """A POST of JSON to an address, signed."""

    kind: Literal["webhook"]
    """What kind of channel it is."""
    url: Reference
    """Where the address is: such addresses are often secrets."""
    key: Reference | None = None
    """Where the key is that signs (HMAC-SHA-256), so that the receiver knows who speaks."""


class AppriseChannel(AnyChannel):
    """Any of the services of Apprise: calls, pages, chats; needs `pip install 'cto-backups[alerts]'`."""

    kind: Literal["apprise"]
    """What kind of channel it is."""
    url: Reference
    """Where Apprise's URL of the service is, which holds its secrets."""


CHANNEL_MODELS: dict[str, type[SmtpChannel | WebhookChannel | AppriseChannel]] = {
    "smtp": SmtpChannel,
    "webhook": WebhookChannel,
    "apprise": AppriseChannel,
}

Channel = Annotated[SmtpChannel | WebhookChannel | AppriseChannel, Field(discriminator="kind")]


class Person(Part):
    """Somebody who is told when something is wrong."""

    title: Line | None = Field(default=None, examples=["Chief Technology Officer"])
    """Who that is, in messages."""
    reach: Annotated[list[Line], Field(min_length=1)] = Field(examples=[["pager", "mail cto@example.com"]])
    """How, in the order to try: a channel and, where it serves many people, the person's address on it."""


class AlertRule(Part):
    """When whom to tell. What is left out of a built-in rule stays as it is."""

    when: TroubleName | None = None
    """The condition; needed for a rule of your own."""
    category: CategoryName | None = None
    """Only for sources of this category; of any when left out."""
    after: Duration | None = None
    """How long the condition may last; left out, the RPO (for `recovery-late` the RTO) of the source's category."""
    tell: list[Name] | None = None
    """The people who are told at once; needed for a rule of your own."""
    then: list[Name] | None = None
    """Who is told next, one after the other, while nobody acknowledges."""
    repeat: Duration | None = None
    """How often it is told again until somebody acknowledges."""
    step_up: Duration | None = None
    """After how long without an answer the next person is told."""
    urgent: bool | None = None
    """Whether it is told in quiet hours too."""


class QuietHours(Part):
    """The time of day in which only what is urgent is told."""

    begin: TimeOfDay
    """When it begins to be quiet."""
    end: TimeOfDay
    """When that ends; may be on the next day."""
    timezone: TimeZone | None = None
    """Where it is that time; the policy's time zone when left out."""


class Alerts(Part):
    """Who is told of what, and how."""

    channels: dict[Name, Channel] = {}
    """Ways to reach people, by name."""
    people: dict[Name, Person] = {}
    """The people, by the names that rules use: the built-in ones tell `red-phone`, `cto`, `cio` and `ceo`."""
    rules: dict[Name, AlertRule] = {}
    """Changes to the built-in rules, and rules of your own."""
    quiet: QuietHours | None = None
    """Hours in which only what is urgent is told."""
    tested_within: Duration = "90 d"
    """How long ago the last message that reached a person may be, before the audit doubts that it still does."""
