"""The policy's section on alerts, resolved: built-in rules changed, people and channels by name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cto_backups.config import alert_models
from cto_backups.config.building import Builder
from cto_backups.config.mistakes import closest
from cto_backups.config.secrets import SecretReference
from cto_backups.config.windows import window
from cto_backups.core.alerts import (
    DEFAULT_RULES,
    DRILL_RULE,
    AlertPolicy,
    AlertRule,
    ChannelPolicy,
    Person,
    QuietHours,
    Reach,
    Trouble,
)
from cto_backups.core.duration import parse_duration

_SMTP_PORTS = {"starttls": 587, "tls": 465, "none": 25}


def built_alerts(builder: Builder, given: alert_models.Alerts | None, timezone: str) -> AlertPolicy:
    """Who is told of what; what does not fit together is objected to."""
    if given is None:
        return AlertPolicy()
    channels = {name: _channel(builder, name, channel) for name, channel in given.channels.items()}
    people = {name: _person(builder, name, person, channels) for name, person in given.people.items()}
    quiet = None
    if given.quiet is not None:
        if given.quiet.begin == given.quiet.end:
            builder.refuse(("alerts", "quiet"), "quiet hours begin when they end", "Leave them out, or correct them.")
        quiet = QuietHours(window(given.quiet), given.quiet.timezone or timezone)
    return AlertPolicy(
        channels=channels,
        people=people,
        rules=_rules(builder, given.rules, people),
        quiet=quiet,
        tested_within=parse_duration(given.tested_within),
    )


def _channel(builder: Builder, name: str, channel: alert_models.Channel) -> ChannelPolicy:
    options: dict[str, object]
    match channel:
        case alert_models.SmtpChannel():
            if (channel.user is None) != (channel.password is None):
                builder.refuse(
                    ("alerts", "channels", name),
                    f"channel '{name}' has a user without a password, or a password without a user",
                    "Give both, or none.",
                )
            if channel.security == "none" and channel.password is not None:
                builder.refuse(
                    ("alerts", "channels", name, "security"),
                    f"channel '{name}' would send its password unencrypted",
                    "Use starttls or tls.",
                )
            options = {
                "host": channel.host,
                "port": channel.port or _SMTP_PORTS[channel.security],
                "security": channel.security,
                "user": channel.user,
                "password": _reference(channel.password),
                "sender": channel.sender,
            }
        case alert_models.WebhookChannel():
            options = {"url": _reference(channel.url), "key": _reference(channel.key)}
        case alert_models.AppriseChannel():
            options = {"url": _reference(channel.url)}
    return ChannelPolicy(name, channel.kind, channel.pages, options)


def _reference(written: str | None) -> SecretReference | None:
    return None if written is None else SecretReference.parse(written)


def _person(builder: Builder, name: str, person: alert_models.Person, channels: Mapping[str, ChannelPolicy]) -> Person:
    reach = []
    for number, written in enumerate(person.reach):
        channel, _, address = written.strip().partition(" ")
        place = ("alerts", "people", name, "reach", number)
        known = channels.get(channel)
        if known is None:
            near = closest(channel, channels)
            hint = f"Did you mean {near}? " if near else ""
            builder.refuse(
                place, f"there is no channel named '{channel}'", f"{hint}Declare it under alerts: channels:."
            )
        elif known.kind == "smtp" and "@" not in address:
            builder.refuse(
                place, f"'{written}' says no address", f"Write the person's, such as: {channel} {name}@example.com"
            )
        reach.append(Reach(channel, address.strip() or None))
    return Person(name, tuple(reach), person.title or "")


def _rules(
    builder: Builder, given: Mapping[str, alert_models.AlertRule], people: Mapping[str, Person]
) -> tuple[AlertRule, ...]:
    built = {rule.name: rule for rule in DEFAULT_RULES}
    for name, written in given.items():
        place = ("alerts", "rules", name)
        if name == DRILL_RULE.name:
            builder.refuse(place, f"'{name}' is the name of exercises", "Give the rule another name.")
            continue
        base = built.get(name)
        if base is None and (written.when is None or not written.tell):
            builder.refuse(
                place,
                f"rule '{name}' is none of the built-in ones, and does not say when it applies or whom it tells",
                f"Add when: and tell:, or name one of: {', '.join(built)}.",
            )
            continue
        for setting in ("tell", "then"):
            for number, person in enumerate(getattr(written, setting) or ()):
                if person not in people:
                    near = closest(person, people)
                    hint = f"Did you mean {near}? " if near else ""
                    builder.refuse(
                        (*place, setting, number),
                        f"there is nobody named '{person}'",
                        f"{hint}Declare the person under alerts: people:.",
                    )
        built[name] = _changed(name, written, base)
    return tuple(built.values())


def _changed(name: str, written: alert_models.AlertRule, base: AlertRule | None) -> AlertRule:
    values: dict[str, Any] = {}
    if written.when is not None:
        values["when"] = Trouble(written.when)
    for setting in ("tell", "then"):
        if (people := getattr(written, setting)) is not None:
            values[setting] = tuple(people)
    for setting in ("after", "repeat", "step_up"):
        if (length := getattr(written, setting)) is not None:
            values[setting] = parse_duration(length)
    for setting in ("category", "urgent"):
        if (value := getattr(written, setting)) is not None:
            values[setting] = value
    return replace(base, **values) if base else AlertRule(name=name, **values)
