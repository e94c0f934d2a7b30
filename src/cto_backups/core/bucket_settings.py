"""What the owner of a bucket has set, against what policy asks of a bucket that is a source; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cto_backups.core.policy import Tls
from cto_backups.core.wording import counted


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What is set; None where the store has no answer, or this login may not ask: `unanswered` then says why, by name.

    `kept_days`: after how many days versions that are no longer current are deleted; 0 for never. `public`: whether
    anybody may read it. `replicated`: whether its provider keeps it in several regions. `soft_delete_days`: for how
    long what was deleted can be had back, whatever versions there are. `log_bucket` gets the logs of access;
    `key` is the default key of the provider's key service; `locks`: objects can be locked; `ends`: what a rule does to
    objects that are current ("": nothing). `retention_days`: for how long the bucket itself keeps whatever is stored
    there (0: it does not); `retention_mode`: how strongly, by the provider's word: governance, compliance, locked.
    """

    versioning: bool | None = None
    kept_days: int | None = None
    public: bool | None = None
    replicated: bool | None = None
    encryption: str | None = None
    soft_delete_days: int | None = None
    access_logs: bool | None = None
    region: str | None = None
    log_bucket: str | None = None
    key: str | None = None
    locks: bool | None = None
    ends: str | None = None
    retention_days: int | None = None
    retention_mode: str = ""
    unanswered: Mapping[str, str] = field(default_factory=dict)

    def told(self) -> str:
        """The settings that policy asks nothing of, in words."""
        parts = [
            f"in {self.region}" if self.region else "",
            f"encrypted by {self.encryption}" if self.encryption else "",
        ]
        if self.soft_delete_days is not None:
            kept = counted(self.soft_delete_days, "day")
            parts.append(f"deleted objects kept for {kept}" if self.soft_delete_days else "no soft delete")
        if self.access_logs is not None:
            parts.append("access is logged" if self.access_logs else "access is not logged")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class WantedSettings:
    """What policy asks for; `noncurrent_days` 0 asks for no rule."""

    versioning: bool = True
    noncurrent_days: int = 365
    public: bool = False
    replicated: bool = False
    tls: Tls = Tls.V1_3


@dataclass(frozen=True, slots=True)
class SeenBucket:
    """One bucket as it was seen, and what is asked of it."""

    url: str
    settings: BucketSettings
    wanted: WantedSettings

    def judged(self) -> Iterator[tuple[bool, str]]:
        """Each thing that is asked for: whether it is so, and in words."""
        found, wanted, missing = self.settings, self.wanted, self.settings.unanswered
        if wanted.versioning:
            told = {
                True: "it keeps versions",
                False: "it keeps no versions: what is overwritten or deleted there is gone",
                None: f"whether it keeps versions is not known: {missing.get('versioning', '')}",
            }
            yield found.versioning is True, told[found.versioning]
        if wanted.versioning and wanted.noncurrent_days and found.versioning is not False:
            yield self._kept()
        if not wanted.public:
            told = {
                True: "anybody may read it",
                False: "only who is allowed to may read it",
                None: f"whether anybody may read it is not known: {missing.get('public', '')}",
            }
            yield found.public is False, told[found.public]
        if wanted.replicated:
            told = {
                True: "its provider keeps it in several regions",
                False: "its provider keeps it in one region alone",
                None: f"whether it is replicated is not known: {missing.get('replicated', '')}",
            }
            yield found.replicated is True, told[found.replicated]
        if wanted.tls is not Tls.V1_3:
            way = "unencrypted" if wanted.tls is Tls.NONE else f"with TLS {wanted.tls}"
            yield False, f"policy allows that it is read {way}"

    def _kept(self) -> tuple[bool, str]:
        days, asked = self.settings.kept_days, f"policy asks for {counted(self.wanted.noncurrent_days, 'day')}"
        if days is None:
            return False, f"when it deletes old versions is not known: {self.settings.unanswered.get('kept_days', '')}"
        if not days:
            return False, f"no rule deletes old versions, which pile up; {asked}"
        return days >= self.wanted.noncurrent_days, f"old versions are deleted after {counted(days, 'day')}; {asked}"


@runtime_checkable
class BucketTeller(Protocol):
    """A source that is a bucket, which has settings."""

    def seen(self) -> SeenBucket:
        """What is set there now. Raises SourceError."""
