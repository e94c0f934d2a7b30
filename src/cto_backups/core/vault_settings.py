"""How the bucket of a vault is to be set, against how it is; what is to be changed, why, and what cannot be undone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.model import Step
from cto_backups.core.policy import LockMode, VaultPolicy, VaultSettings
from cto_backups.core.wording import counted

LOCKED = "locked"
"""The word for a bucket whose retention nobody can shorten or take away, at Google."""

SETTINGS = "vault_settings"
"""The kind of evidence that a look at the settings is."""


class Setting(StrEnum):
    """What is looked at; the values stand in evidence."""

    VERSIONING = "versioning"
    NONCURRENT = "noncurrent-days"
    PUBLIC = "public-access"
    SOFT_DELETE = "soft-delete"
    KEY = "encryption-key"
    LOGS = "access-logs"
    LOCKS = "object-lock"
    RETENTION = "bucket-retention"
    REPLICATED = "replication"
    REGION = "region"
    LIFECYCLE = "lifecycle"


WHY: Mapping[Setting, str] = {
    Setting.VERSIONING: "Without them, what is overwritten or deleted there is gone at once.",
    Setting.NONCURRENT: "Sooner, and nothing can be brought back; never, and it is paid for.",
    Setting.PUBLIC: "What is stored is sealed, and still nobody else is to fetch it.",
    Setting.SOFT_DELETE: "For so long what was deleted can be had back, versions or not.",
    Setting.KEY: "Policy names the key under which the provider encrypts.",
    Setting.LOGS: "Without logs nobody can tell who read or deleted what.",
    Setting.LOCKS: "Policy has the vault lock what it stores.",
    Setting.RETENTION: "It keeps all that is stored there, locks of repositories and what prune deletes among it.",
    Setting.REPLICATED: "Policy asks for several regions, kept by the provider.",
    Setting.REGION: "What is in one region can be lost together: policy counts on it.",
    Setting.LIFECYCLE: "A rule that deletes what is current takes backups away unseen.",
}

_BY_HAND: Mapping[Setting, str] = {
    Setting.REPLICATED: "it takes a second bucket and a role: docs/how-to/set-a-vaults-bucket.md has both",
    Setting.REGION: "a bucket stays where it was made: make another, or correct `region` in the policy",
    Setting.LIFECYCLE: "see who made the rule, and take it away",
}
_LOCKED_AT_GOOGLE = "it is locked, and nobody can take it away: make another bucket, and let the vault be there"
_LOCKS_FIRST = "Object Lock has to be on first: then run this again"
_LOCKS_AT_GOOGLE = "a bucket gets it when it is made, with --enable-per-object-retention"


@dataclass(frozen=True, slots=True)
class Desired:
    """How a bucket is to be set: what policy says under `settings`, and what follows from the vault itself."""

    settings: VaultSettings
    google: bool
    region: str
    lock_mode: LockMode = LockMode.NONE
    key: str | None = None

    @property
    def locks(self) -> bool:
        """Whether the vault locks what it stores."""
        return self.lock_mode is not LockMode.NONE


def desired(vault: VaultPolicy) -> Desired:
    """How policy has the bucket of a vault be set."""
    return Desired(vault.settings, vault.url.startswith("gs:"), vault.region, vault.lock_mode, vault.kms_key)


@dataclass(frozen=True, slots=True)
class Seen:
    """One setting: as it is (None: not known, `unknown` says why), and as it is to be. `value` is for who sets it."""

    setting: Setting
    current: str | None
    wanted: str
    holds: bool
    value: str = ""
    unknown: str = ""
    by_hand: str = ""

    @property
    def differs(self) -> bool:
        """Whether it is known to be other than it is to be."""
        return self.current is not None and not self.holds

    @property
    def irreversible(self) -> bool:
        """Whether nobody can turn it off again once it is on, the bucket's owner included."""
        return self.setting is Setting.LOCKS

    def told(self) -> str:
        """In a sentence."""
        if self.current is None:
            return f"{self.setting} is not known: {self.unknown}"
        return f"{self.setting} is {self.current}" + ("" if self.holds else f", and is to be {self.wanted}")

    def step(self, at: datetime) -> Step:
        """As a step of evidence."""
        figures: dict[str, int | float | str | bool] = {
            "current": self.current or "",
            "wanted": self.wanted,
            "known": self.current is not None,
        }
        return Step(self.setting, at, 0.0, self.holds, self.told(), figures)


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that is to be made, and to which value."""

    setting: Setting
    value: str


def seen(found: BucketSettings, desired: Desired) -> tuple[Seen, ...]:
    """Every setting that is asked for, in the order in which they are to be made: locks, which need versions, last."""
    return tuple(_seen(found, desired))


def changes(looked: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """What can be changed from here, of what differs; what cannot be read is not written either."""
    return tuple(each for each in looked if each.differs and not each.by_hand)


def _seen(found: BucketSettings, desired: Desired) -> Iterator[Seen]:
    asked, missing = desired.settings, found.unanswered

    def flag(setting: Setting, name: str, is_on: bool | None, *, on: bool = True, by_hand: str = "") -> Seen:
        current = None if is_on is None else _on(is_on)
        return Seen(setting, current, _on(on), is_on is on, _on(on), missing.get(name, ""), by_hand)

    if asked.versioning or (desired.locks and not desired.google):
        yield flag(Setting.VERSIONING, "versioning", found.versioning)
        if asked.noncurrent_days:
            yield _days(
                Setting.NONCURRENT,
                found.kept_days,
                asked.noncurrent_days,
                missing.get("kept_days", ""),
                lambda days: days >= asked.noncurrent_days,
            )
    if asked.retention_days or found.retention_days:
        yield _retention(found, desired)
    yield flag(Setting.PUBLIC, "public", found.public, on=False)
    if desired.google and asked.soft_delete_days:
        yield _days(
            Setting.SOFT_DELETE,
            found.soft_delete_days,
            asked.soft_delete_days,
            missing.get("soft_delete_days", "the store tells of none"),
            lambda days: days >= asked.soft_delete_days,
        )
    for setting, wanted, current, name in (
        (Setting.KEY, desired.key, found.key, "key"),
        (Setting.LOGS, asked.access_logs, found.log_bucket, "log_bucket"),
    ):
        if wanted:
            told = None if current is None else current or "none"
            why = missing.get(name) or missing.get({"key": "encryption", "log_bucket": "access_logs"}[name], "")
            yield Seen(setting, told, wanted, current == wanted, wanted, why)
    if asked.replicated:
        yield flag(Setting.REPLICATED, "replicated", found.replicated, by_hand=_BY_HAND[Setting.REPLICATED])
    yield Seen(
        Setting.REGION,
        found.region,
        desired.region,
        (found.region or "").lower() == desired.region.lower(),
        unknown=missing.get("region", "the store does not tell"),
        by_hand=_BY_HAND[Setting.REGION],
    )
    yield Seen(
        Setting.LIFECYCLE,
        None if found.ends is None else found.ends or "no rule touches what is current",
        "no such rule",
        found.ends == "",
        unknown=missing.get("ends") or missing.get("kept_days", ""),
        by_hand=_BY_HAND[Setting.LIFECYCLE],
    )
    if desired.locks:
        yield flag(Setting.LOCKS, "locks", found.locks, by_hand=_LOCKS_AT_GOOGLE if desired.google else "")


def _retention(found: BucketSettings, desired: Desired) -> Seen:
    """For how long the bucket keeps everything: no shorter, and no weaker, than asked; or not at all."""
    days, mode, asked = found.retention_days, found.retention_mode, desired.settings.retention_days
    strong = mode == desired.lock_mode or mode == LockMode.COMPLIANCE
    by_hand = _LOCKED_AT_GOOGLE if mode == LOCKED else _LOCKS_FIRST if asked and not found.locks else ""
    told = ", ".join(filter(None, (counted(days, "day"), mode))) if days else "none"
    return Seen(
        Setting.RETENTION,
        None if days is None else told,
        f"{counted(asked, 'day')}, {desired.lock_mode}" if asked else "none",
        days is not None and (days >= asked and strong if asked else not days),
        f"{desired.lock_mode} {asked}" if asked else "",
        found.unanswered.get("locks", "the store does not tell"),
        by_hand,
    )


def _on(is_on: bool) -> str:
    return "on" if is_on else "off"


def _days(setting: Setting, days: int | None, wanted: int, unknown: str, fits: Callable[[int], bool]) -> Seen:
    current = None if days is None else counted(days, "day") if days else "none"
    return Seen(setting, current, counted(wanted, "day"), days is not None and fits(days), str(wanted), unknown)


@runtime_checkable
class Settable(Protocol):
    """A vault whose bucket has settings. Every method raises VaultError when nobody answers."""

    def settings(self) -> BucketSettings:
        """How the bucket is set now."""

    def change(self, change: Change) -> str:
        """Make one change; why it could not be made, or "" once the store has taken it."""
