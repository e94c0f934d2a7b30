"""The nouns: recovery points, copies, fingerprints, evidence, runs, and the facts that plan and assurance read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from cto_backups.core.alerts import Telling
from cto_backups.core.change import Change
from cto_backups.core.governance import Approval
from cto_backups.core.keeping import Hold, Mark, RetentionSeen
from cto_backups.core.streams import StreamFacts
from cto_backups.core.watched import Noticed


class Rung(IntEnum):
    """How strongly a copy is proven; a rung holds all below it."""

    DECLARED = 0
    RECORDED = 1
    STORED = 2
    READ = 3
    RESTORED = 4
    PROVEN = 5
    SERVING = 6


class Status(StrEnum):
    """The one word for a source."""

    HEALTHY = "HEALTHY"
    OVERDUE = "OVERDUE"
    FAILED_TEST = "FAILED_TEST"
    UNPROTECTED = "UNPROTECTED"


class ActionKind(StrEnum):
    """What a worker can be asked to do."""

    BACKUP = "backup"
    COPY = "copy"
    VERIFY = "verify"
    RESTORE_TEST = "restore_test"
    EXPIRE = "expire"
    PRUNE = "prune"
    REPAIR = "repair"


class Outcome(StrEnum):
    """How a run ended; `RUNNING` until it did, `INTERRUPTED` when its process died."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that could not be captured or restored: where, and why in a few words.

    `kind` is one of: vanished, unreadable, permission, changed-while-read, unsupported, damaged; of a restore also
    missing (the vault did not give it), altered (what was read back from the disk is not what was restored) and
    extraneous (the point does not have it, and it could not be removed).
    """

    path: str
    kind: str
    detail: str

    @property
    def elsewhere(self) -> bool:
        """Whether another vault may have it whole."""
        return self.kind in ("damaged", "missing")


@dataclass(frozen=True, slots=True)
class Sample:
    """One record, picked reproducibly, whose fields are compared one by one."""

    key: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a source said about its content at the moment of a recovery point.

    `algorithm` names how it was computed (``files/1``); `checksums` maps a part's name to a hex digest,
    `counts` a part's name to a number. All three parts must agree for a restore test to pass.
    """

    algorithm: str
    checksums: Mapping[str, str]
    counts: Mapping[str, int]
    samples: tuple[Sample, ...] = ()


NO_FINGERPRINT = Fingerprint("none", {}, {})
"""Of a point that was taken over: nobody asked its source what it held at the time, so nothing can prove it."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing found inside a source: a folder, a repository, a database.

    `changed_at` is when it was last changed in any way, as far as that can be told without reading it. One that is not
    `covered` was come upon by the source beside what it protects.
    """

    name: str
    kind: str
    location: str
    size_bytes: int | None = None
    changed_at: datetime | None = None
    covered: bool = True


@dataclass(frozen=True, slots=True)
class Disappearance:
    """What one look at a source found no more: all of `resources`, of the `before` that the look before it found."""

    last_found_at: datetime
    resources: tuple[Resource, ...]
    before: int


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """A catalogued moment to which a source can be returned; `id` is the backup id.

    `captured_at` is the moment of the content, `finished_at` when it was safe in its first vault. `size_bytes` counts
    the content as a restore would write it, `added_bytes` what the first vault grew by. `root` identifies the content
    (for snapshots: the restic tree id), the same in every vault. `label` says why a point made by hand exists.
    `newest_content_at` is the moment of the newest content in it, by the source's own dates; None: not known.
    `change` is None where its figures are not known; `suspicions` say why it was marked when it was made.
    """

    id: str
    source: str
    kind: str
    category: str
    business: str
    started_at: datetime
    captured_at: datetime
    finished_at: datetime
    size_bytes: int
    added_bytes: int
    entry_count: int
    root: str
    paths: tuple[str, ...]
    fingerprint: Fingerprint
    policy_digest: str
    domain: str = "main"
    parent: str | None = None
    label: str | None = None
    keep_until: datetime | None = None
    problems: tuple[Problem, ...] = ()
    newest_content_at: datetime | None = None
    change: Change | None = None
    suspicions: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything that the source should hold was captured."""
        return not self.problems

    @property
    def taken_over(self) -> bool:
        """Whether another program made it, so that no fingerprint of its source is known."""
        return self.fingerprint.algorithm == NO_FINGERPRINT.algorithm


@dataclass(frozen=True, slots=True)
class Copy:
    """A recovery point's presence in one vault; `reference` is what the payload calls it (restic: the snapshot id)."""

    point: str
    vault: str
    reference: str
    stored_at: datetime
    added_bytes: int


@dataclass(frozen=True, slots=True)
class TakenPoint:
    """A point as signed records tell of it: its copies, and when and why it expired (None while it is kept)."""

    point: RecoveryPoint
    copies: tuple[Copy, ...]
    expired_at: datetime | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a verification or a restore test, with its figures."""

    name: str
    started_at: datetime
    seconds: float
    passed: bool
    detail: str = ""
    figures: Mapping[str, int | float | str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The stored result of a verification (`kind` "verify") or a restore test; `point` None means a whole vault.

    `read_since`: of a verification, since when every byte that the vault held as it began has been read and found
    intact, by this one or by earlier ones; None when that is not so.
    """

    id: str
    kind: str
    source: str | None
    point: str | None
    vault: str
    started_at: datetime
    finished_at: datetime
    passed: bool
    rung: Rung
    steps: tuple[Step, ...]
    reason: str = ""
    read_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at an action."""

    id: int
    action: ActionKind
    source: str | None
    vault: str | None
    point: str | None
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome
    error_code: str = ""
    message: str = ""
    figures: Mapping[str, int | float | str | bool] = field(default_factory=dict)


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
    place. `oldest_at` is of its oldest kept point, `stream` what follows its log, `noticed` what a watch saw.
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

    `last_run` and `failures` are those of verifications, `prune_run` and `prune_failures` those of prunes.
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


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last sign of life of a worker: when, by when the next is owed, and from which process of which host.

    `busy_with` is the key of the action that it was about to do; empty when none. `name` tells the workers of an
    installation apart.
    """

    at: datetime
    next_by: datetime
    host: str
    pid: int
    busy_with: str = ""
    name: str = ""


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


@dataclass(frozen=True, slots=True)
class Action:
    """Something that is due, why, and the key under which doing it twice is doing it once."""

    kind: ActionKind
    key: str
    reason: str
    due_at: datetime
    source: str | None = None
    vault: str | None = None
    point: str | None = None
