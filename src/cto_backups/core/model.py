"""The nouns: recovery points, copies, fingerprints, evidence and runs; `facts` has what plan and assurance read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from cto_backups.core.change import Change


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
    RENEW = "renew"
    CHECK = "check"


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
    missing (the vault did not give it), unwritable (the destination did not take it), altered (what was read back from
    the disk is not what was restored) and extraneous (the point does not have it, and it could not be removed).
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
    """One attempt at an action. `crashes`: how many of those that have failed in a row crashed, where facts tell."""

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
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """Something that is due, why, and the key under which doing it twice is doing it once.

    `planned_at`: of when the facts are that it was planned from. What has been done since need not be done again.
    """

    kind: ActionKind
    key: str
    reason: str
    due_at: datetime
    source: str | None = None
    vault: str | None = None
    point: str | None = None
    planned_at: datetime | None = field(default=None, compare=False)
