"""What is known of all that the policy names, as the catalog keeps it: plans, verdicts and audits are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cto_backups.core.alerts import Telling
from cto_backups.core.governance import Approval
from cto_backups.core.keeping import Hold, Mark, RetentionSeen
from cto_backups.core.model import ActionKind, Copy, Disappearance, Evidence, RecoveryPoint, Resource, Run, Rung
from cto_backups.core.streams import StreamFacts
from cto_backups.core.watched import Noticed


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """What is known of one copy of a point, and of its vault.

    `read_at`, `read_passed` and `read_since` are of the last verification that began after the copy was stored: when it
    ended, whether it found no damage, and since when every byte has been read (None: not every one). `test_rung` is
    what the copy's last restore test reached; `read_evidence` and `test_evidence` are the ids of both.
    """

    copy: Copy
    read_at: datetime | None = None
    read_passed: bool | None = None
    tested_at: datetime | None = None
    test_passed: bool | None = None
    read_since: datetime | None = None
    test_rung: Rung | None = None
    read_evidence: str | None = None
    test_evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a vault is behind a source: the newest complete kept point with a copy there, and what came after it.

    `point`, its `captured_at` and when its copy was stored are None where no point has a copy there. `behind` counts
    the complete kept points after it, up to a thousand; `waiting_since` is when the oldest of these was finished.
    """

    vault: str
    point: str | None = None
    captured_at: datetime | None = None
    stored_at: datetime | None = None
    behind: int = 0
    waiting_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class TimedRestore:
    """What the restore of one passed restore test took, and how much came back."""

    evidence: str
    seconds: float
    size_bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """All that plan and assurance need to know of one source.

    `newest` is the newest *complete* point, `newest_any` the newest of all. `confirmed_at` is when a scan last
    confirmed that the source still equals `newest`. `copies` are those of `newest`. `proven` is the newest point with
    a passed restore test. `last_runs` holds the latest run of each action kind, `failures` how many runs of it
    have failed in a row. `proven_copies` are those of `proven`, `restores` those of the last passed restore tests,
    newest first. `discovered_at` is when its resources were last looked for. `proven_until` is up to when
    restore tests prove the source: when `proven` passed its last one, but no later than a newer complete point took its
    place. `oldest_at` is of its oldest kept point, `stream` what follows its log, `noticed` what a watch saw. `lags`
    says how far each vault of the policy is behind, by its name. `current` is the newest complete point that a clock
    that was wrong did not date in the future, where `newest` is one that it did; `current_copies` are its copies.
    """

    source: str
    newest: RecoveryPoint | None = None
    newest_any: RecoveryPoint | None = None
    confirmed_at: datetime | None = None
    copies: tuple[CopyFacts, ...] = ()
    proven: RecoveryPoint | None = None
    proven_at: datetime | None = None
    last_test: Evidence | None = None
    last_runs: Mapping[ActionKind, Run] = field(default_factory=dict)
    failures: Mapping[ActionKind, int] = field(default_factory=dict)
    point_count: int = 0
    first_seen: datetime | None = None
    restores: tuple[TimedRestore, ...] = ()
    proven_copies: tuple[CopyFacts, ...] = ()
    discovered_at: datetime | None = None
    proven_until: datetime | None = None
    oldest_at: datetime | None = None
    stream: StreamFacts | None = None
    noticed: Noticed | None = None
    lags: Mapping[str, Lag] = field(default_factory=dict)
    current: RecoveryPoint | None = None
    current_copies: tuple[CopyFacts, ...] = ()

    @property
    def fresh_at(self) -> datetime | None:
        """Until when all that was written is in a vault, as far as is known; None without a complete point."""
        if self.newest is None:
            return None
        streamed = self.stream.reached_at if self.stream is not None else None
        at = self.newest.captured_at
        return max(at, self.confirmed_at or at, streamed or at)


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """What is known of one vault: when its last verification, of all or of a part, ended, and whether it passed.

    `last_run` and `failures` are those of verifications, `prune_run` and `prune_failures` those of prunes,
    `renew_run` and `renew_failures` those of renewals of locks, `check_run` and `check_failures` those of checks.
    `check` is what its last check came to, `settings` how its bucket was set when somebody last looked.
    `read_since` is the latest moment since which every byte that was there has been read and found intact.
    """

    vault: str
    read_at: datetime | None = None
    read_passed: bool | None = None
    last_run: Run | None = None
    failures: int = 0
    copy_count: int = 0
    first_copy_at: datetime | None = None
    read_since: datetime | None = None
    prune_run: Run | None = None
    prune_failures: int = 0
    renew_run: Run | None = None
    renew_failures: int = 0
    check_run: Run | None = None
    check_failures: int = 0
    check: Evidence | None = None
    settings: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last sign of life of a worker: when, by when the next is owed, and from which process of which host.

    `busy_with` is the key of the action that it was about to do; empty when none. `name` tells the workers of an
    installation apart. It has `version`, does `running` actions of at `most` so many at once, under the policy with
    this digest, on a `machine` that calls itself so since it was started: two may have one name.
    """

    at: datetime
    next_by: datetime
    host: str
    pid: int
    busy_with: str = ""
    name: str = ""
    version: str = ""
    running: int = 0
    most: int = 0
    policy: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalog knows, as the pure functions see it.

    `resources` is the inventory: what discovery found, by the source that claims it ("" where none does), `vanished`
    what it found once and no more, the latest first. Both also tell of sources that have left the policy.
    `kept_points` lists the points of each source that are not expired, newest first, and `holds` the legal holds in
    force on it or on one of them; `verified_copies` are, by complete kept point, the vaults whose last verification
    began after its copy was stored, found no damage, and leaves no byte unread (all for retention; where asked for).
    `heartbeats` are the last signs of life of each worker, by name; empty when none ever worked.
    `last_tellings` are the last attempts to tell somebody, by channel; `reached` is when a channel last took a message
    to a person, by the person's name. `marks` are the points under suspicion of each source, oldest first.
    `retentions` are those that policy gave each source, from the last settled one on, the oldest first (where kept
    points are asked for). `approvals` are all there ever were (for audits). `vaults_away` says why a vault cannot be
    read now; None: nobody looked.
    """

    sources: Mapping[str, SourceFacts] = field(default_factory=dict)
    vaults: Mapping[str, VaultFacts] = field(default_factory=dict)
    resources: Mapping[str, tuple[Resource, ...]] = field(default_factory=dict)
    vanished: Mapping[str, tuple[Disappearance, ...]] = field(default_factory=dict)
    kept_points: Mapping[str, tuple[RecoveryPoint, ...]] = field(default_factory=dict)
    holds: Mapping[str, tuple[Hold, ...]] = field(default_factory=dict)
    verified_copies: Mapping[str, frozenset[str]] = field(default_factory=dict)
    heartbeats: tuple[Heartbeat, ...] = ()
    last_tellings: Mapping[str, Telling] = field(default_factory=dict)
    reached: Mapping[str, datetime] = field(default_factory=dict)
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    retentions: Mapping[str, tuple[RetentionSeen, ...]] = field(default_factory=dict)
    approvals: tuple[Approval, ...] = ()
    vaults_away: Mapping[str, str] | None = None
