"""The catalog, as flows read and write it; `catalog.catalog.Catalog` is its implementation."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from cto_backups.core.alerts import Alert, Telling
from cto_backups.core.claims import Claim
from cto_backups.core.facts import CopyFacts, Facts, Heartbeat
from cto_backups.core.keeping import Hold, Mark
from cto_backups.core.model import ActionKind, Copy, Evidence, Outcome, RecoveryPoint, Resource, Run, TakenPoint
from cto_backups.core.policy import Policy
from cto_backups.core.streams import StreamFacts
from cto_backups.core.traffic import Traffic
from cto_backups.core.verification import Ledger, Readings
from cto_backups.evidence.records import Head, Record, SigningKey
from cto_backups.flows.claims_port import Begun, Claims
from cto_backups.flows.governance_port import Approvals, Retentions
from cto_backups.flows.host_port import Hosts
from cto_backups.flows.planning_port import DueTimes, Fleet
from cto_backups.flows.report_port import Reports

if TYPE_CHECKING:
    from cto_backups.core.audit_comparison import KeptAudit, KeptFinding
    from cto_backups.evidence.audits import ToldAudit

Figures = Mapping[str, int | float | str | bool]


class Takeover(Protocol):
    """Where what records in vaults say, and the catalog lacks, is brought in; see `catalog.takeover.Takeover`."""

    def look_first(self, whom: str, look: Callable[[Collection[str]], Collection[str]]) -> None:
        """Do this before anything is written to a server that took another's place; see `catalog.database.First`."""

    def last_record(self, signer: str) -> tuple[int, str | None]:
        """The number and digest of a signer's last record here; 0 and None when there is none."""

    def keep_records(self, records: Iterable[Record]) -> None:
        """Keep records that were read in a vault and found sound."""

    def delivered_records(self, signer: str, kind: str, *, all: bool = False) -> Iterator[Record]:
        """A signer's records of a kind that some vault is known to have, in order; with `all`, the others too."""

    def known(self, table: Literal["points", "evidence", "policies"]) -> frozenset[str]:
        """The ids of all points or evidence, or the digests of all policies."""

    def activate(self, sources: Iterable[str]) -> None:
        """Take sources for ones that the policy had when it was seen last."""

    def policy(self, digest: str) -> bytes | None:
        """The text of a policy that was in force once; None for one that is not known."""

    def take_points(self, points: Iterable[TakenPoint], now: datetime) -> None:
        """Show points that records tell of: all of these, or none."""

    def take_evidence(self, evidence: Iterable[Evidence]) -> None:
        """Show evidence that records hold: all of it, or none."""

    def keep_policy(self, digest: str, text: bytes, now: datetime) -> None:
        """Keep the text of a policy that was in force once."""

    def take_holds(self, records: Iterable[Record]) -> int:
        """Place the legal holds that records tell of, and release those that were; how many were not known."""


class TrafficNotes(Protocol):
    """What travelled to and from vaults; see `catalog.traffic.TrafficBook`."""

    def note(self, action: str, travelled: Mapping[str, Traffic], now: datetime) -> None:
        """Add what travelled for an action, by vault, to what is known of this day."""

    def since(self, moment: datetime) -> Mapping[str, Mapping[str, Traffic]]:
        """What travelled from the day of this moment on, by vault and by action."""

    def stored(self) -> Mapping[str, int]:
        """How many bytes lie in each vault, as far as is known."""


class Alerts(Protocol):
    """What somebody was told, or is to be told."""

    def listed(self, *, closed: bool = False, limit: int | None = None) -> tuple[Alert, ...]:
        """The open alerts, or with the closed ones, newest first."""

    def one(self, name: str) -> Alert:
        """An alert by its id, or a unique beginning of one. Raises NotFoundError."""

    def tellings(self, alert: str) -> tuple[Telling, ...]:
        """Every attempt to tell somebody of an alert, oldest first."""

    def note(self, alert: Alert, event: str, signer: SigningKey, now: datetime) -> bool:
        """Sign and keep what has happened to an alert: raised, stepped-up or closed; no where somebody was faster."""

    def take(self, alerts: Sequence[Alert]) -> int:
        """Bring in alerts that signed records tell of; how many were unknown."""

    def told(self, alert: Alert | None, tellings: Iterable[Telling], now: datetime) -> None:
        """Keep attempts to tell somebody, and when that was done."""

    def acknowledge(self, name: str, *, by: str, note: str | None, signer: SigningKey, now: datetime) -> Alert:
        """Sign and keep that somebody takes care of an alert. Raises NotFoundError, RefusedError."""


class Marks(Protocol):
    """The points under suspicion; see `catalog.marks.Marks`."""

    def history(self, source: str, limit: int) -> tuple[RecoveryPoint, ...]:
        """By what a new point of a source is judged."""

    def listed(self, *, cleared: bool = False) -> tuple[Mark, ...]:
        """The points under suspicion, or with those that were cleared, the newest first."""

    def clear(self, name: str, *, by: str, because: str, signer: SigningKey, now: datetime) -> tuple[Mark, ...]:
        """Sign and note that a point's change was meant, or of all of a source. Raises NotFoundError, RefusedError."""

    def take(self, records: Sequence[Record]) -> int:
        """Note the clearances that records tell of; how many were not known."""


class Audits(Protocol):
    """Past audits, and since when what they found is open; see `catalog.audits.Audits`."""

    def last(self, at: datetime | None = None) -> "tuple[KeptAudit, tuple[KeptFinding, ...]] | None":
        """The last audit that is kept (of those until `at`), and what it found."""

    def history(self) -> "tuple[KeptAudit, ...]":
        """All audits that are kept, the last first."""

    def keep(
        self,
        audit: "KeptAudit",
        findings: "Sequence[KeptFinding]",
        looked: Sequence[str],
        *,
        policy: str,
        by: str,
        signer: SigningKey,
    ) -> bool:
        """Keep an audit and what it found; sign what it changed, or that a day began. Whether it was signed."""

    def take(self, told: "Sequence[ToldAudit]") -> int:
        """Keep the audits that signed records tell of, and that are later than the last one here; how many."""


class Streams(Protocol):
    """What follows the logs of sources."""

    def lease(self, source: str, holder: str, host: str, pid: int, now: datetime, alive: Callable[[int], bool]) -> int:
        """Take a stream for oneself; the number of this lease. Raises BusyError while another worker has it."""

    def report(self, facts: StreamFacts, now: datetime) -> bool:
        """Note how far a stream is, and keep it for longer; false when another has it by now."""

    def release(self, source: str, token: int) -> None:
        """Give a stream back; what is known of it stays."""


class Catalog(Protocol):
    """The facts, as flows read and write them; see `catalog.catalog.Catalog` for what each method promises."""

    def sync_policy(self, policy: Policy, text: bytes, now: datetime, *, keep: Collection[str] = ()) -> None:
        """Bring the sources of the policy in; those that are gone become inactive, but for those to `keep`."""

    def active_sources(self) -> tuple[str, ...]:
        """The sources that policy names, or named until their removal is approved."""

    def known_sources(self) -> tuple[str, ...]:
        """All sources that it knows, by name, those that have left the policy among them."""

    @property
    def hosts(self) -> Hosts:
        """The hosts that have a trust domain of their own."""

    @property
    def approvals(self) -> Approvals:
        """What somebody has to approve, or had to."""

    @property
    def retentions(self) -> Retentions:
        """Which retentions policy gave each source, and since when."""

    def forget_worker(self, name: str) -> bool:
        """Forget a worker; false when there is none of this name."""

    def beat(self, sign: Heartbeat, alive: Callable[[int], bool]) -> None:
        """Note the worker's sign of life."""

    def repository_of(self, vault: str) -> str | None:
        """The id of the repository that belongs to a vault, once it is known."""

    def noted_away(self) -> frozenset[str]:
        """The vaults that could not be read when a worker last looked."""

    def note_away(self, vaults: Collection[str], now: datetime, *, but: Collection[str] = ()) -> None:
        """Note which vaults cannot be read now; nothing of those that were not looked at (`but`)."""

    def record_resources(self, source: str, resources: Iterable[Resource], now: datetime) -> None:
        """Remember what discovery found in a source."""

    def record_inventory(self, found: Mapping[str, Iterable[Resource]], now: datetime) -> None:
        """The same for many sources at once."""

    @property
    def fleet(self) -> Fleet:
        """What the hosts of a fleet know of each other."""

    @property
    def reports(self) -> Reports:
        """What there is to report elsewhere."""

    @property
    def audits(self) -> Audits:
        """Past audits, and since when what they found is open."""

    def start_run(
        self,
        action: ActionKind,
        *,
        source: str | None,
        vault: str | None,
        point: str | None,
        now: datetime,
        pid: int,
        host: str,
        alive: Callable[[int], bool] | None = None,
        planned_at: datetime | None = None,
    ) -> Begun:
        """Begin a run, and with `alive` claim what it is at. Raises BusyError while, or where, another run has that."""

    def note_crash(self, run: Run, host: str, pid: int) -> None:
        """Note that a process ended in the middle of an action: in the run that it began since, or else as this one."""

    def thin_runs(self, before: datetime, after: int = 0) -> int | None:
        """Drop runs of before a moment that nothing rests on, of some after this number: the last; None at the end."""

    def finish_run(
        self,
        run_id: int,
        *,
        outcome: Outcome,
        now: datetime,
        error_code: str = "",
        message: str = "",
        figures: Figures = ...,
        claim: Claim | None = None,
    ) -> None:
        """End a run, and give back what it has claimed."""

    def interrupt_dead_runs(self, host: str, alive: Callable[[int], bool], now: datetime) -> tuple[Run, ...]:
        """Mark this host's running runs whose process is gone; those runs."""

    def append_record(self, signer: SigningKey, kind: str, payload: Mapping[str, object], now: datetime) -> Record:
        """Sign a record at the next place of the chain."""

    def append_records(
        self, signer: SigningKey, said: Collection[tuple[str, Mapping[str, object]]], now: datetime
    ) -> tuple[Record, ...]:
        """Sign records, each a kind and what it says, one after the other: all of them, or none."""

    def records_after(self, signer: str, sequence: int, *, lasting: bool = False) -> Iterator[Record]:
        """A signer's records after this number, in order; with `lasting`, of those that no crash can take back."""

    def record_files(self, signer: str) -> Iterator[tuple[int, str, bytes]]:
        """A signer's records in order, as they are stored: number, key in a vault, bytes."""

    def signers(self) -> tuple[str, ...]:
        """Whose records the catalog has."""

    def record_of_evidence(self, evidence_id: str) -> Record | None:
        """The record that evidence was signed as."""

    def evidence_for(self, source: str | None, *, failed: bool, limit: int | None) -> tuple[Evidence, ...]:
        """Evidence that concerns a source or any, newest first."""

    def one_evidence(self, name: str) -> Evidence:
        """Evidence by its id, or a unique beginning of one. Raises NotFoundError."""

    @property
    def takeover(self) -> Takeover:
        """Where what records in vaults say is brought in."""

    @property
    def marks(self) -> Marks:
        """The points under suspicion."""

    def unshown_points(self, signer: str) -> tuple[tuple[RecoveryPoint, Copy], ...]:
        """Points signed as safe by a backup that then broke off before they were shown."""

    def signed(self, signer: str, point_id: str) -> tuple[RecoveryPoint | None, Copy | None]:
        """What was signed of a point and of its first copy, shown or not."""

    def vault_head(self, vault: str, signer: str) -> int:
        """Up to which number a vault has a signer's records; 0 for none."""

    def vault_heads(self, vault: str) -> Mapping[str, int]:
        """Up to which number a vault has the records of each signer that is known."""

    def advance_vault_head(self, vault: str, signer: str, sequence: int) -> None:
        """Note that a vault has the records up to this number."""

    def add_point_with_copy(self, point: RecoveryPoint, copy: Copy, head: Head | None = None) -> None:
        """Show a new point, with its first copy; note that its vault has the records up to `head`."""

    def add_copy(self, copy: Copy, head: Head | None = None) -> None:
        """Show a copy; note that its vault has the records up to `head`."""

    def add_evidence(self, evidence: Evidence) -> None:
        """Show evidence."""

    def ledger(self, vault: str) -> Ledger:
        """When each pack of a vault was last read."""

    def note_readings(self, vault: str, readings: Readings) -> None:
        """Note what a verification read."""

    def confirm(self, source: str, now: datetime) -> None:
        """Note that a scan found the source equal to its newest point."""

    def expire_point(self, point_id: str, now: datetime, reasons: Iterable[str], signer: SigningKey) -> bool:
        """Sign that a point is dropped and stop showing it; whether that was done: not to one under a legal hold."""

    @property
    def traffic(self) -> TrafficNotes:
        """What travelled to and from vaults, and how much lies there."""

    @property
    def due_times(self) -> DueTimes:
        """When each source and vault is due."""

    @property
    def claims(self) -> Claims:
        """Who may do what, and until when."""

    @property
    def streams(self) -> Streams:
        """What follows the logs of sources, and how far it is."""

    @property
    def alerts(self) -> Alerts:
        """What somebody was told, or is to be told."""

    def place_hold(self, hold: Hold, signer: SigningKey) -> None:
        """Sign and keep a legal hold. Raises RefusedError."""

    def release_hold(self, name: str, *, by: str, because: str, signer: SigningKey, now: datetime) -> Hold:
        """Sign and note that a hold is released. Raises NotFoundError, RefusedError."""

    def holds(self, *, released: bool = False) -> tuple[Hold, ...]:
        """The legal holds in force, or with the released ones."""

    def last_figure(self, action: ActionKind, vault: str, name: str) -> int:
        """A figure of the last run of an action in a vault that has it; 0 without one."""

    def copies_in(self, vault: str) -> tuple[Copy, ...]:
        """The copies of kept points in a vault."""

    def strays(self, vault: str, found: Mapping[str, str]) -> tuple[str, ...]:
        """Of references in a vault, with their points, those that nothing stands for or ever will."""

    def expired_copies_to_delete(self, *, lasting: bool = False) -> tuple[Copy, ...]:
        """Copies of expired points that vaults still hold."""

    def forget_copy(self, point: str, vault: str) -> None:
        """Note that a vault no longer holds a copy."""

    def point(self, name: str) -> RecoveryPoint:
        """A point by its id, or a unique beginning of one. Raises NotFoundError."""

    def points(
        self, source: str | None = None, *, limit: int | None = None, include_expired: bool = False
    ) -> tuple[RecoveryPoint, ...]:
        """Points, newest first."""

    def latest(self, source: str, *, complete: bool = True) -> RecoveryPoint | None:
        """The newest (complete) point of a source."""

    def at(self, source: str, moment: datetime) -> RecoveryPoint | None:
        """The newest point of a source at or before a moment."""

    def after(self, source: str, moment: datetime) -> RecoveryPoint | None:
        """The oldest point of a source after a moment."""

    def leading_to(self, source: str, moment: datetime) -> RecoveryPoint | None:
        """Of the points of a source whose log holds a moment, the one whose log ends first."""

    def copies(self, point_id: str) -> tuple[CopyFacts, ...]:
        """The copies of a point, with what is proven of each."""

    def facts(
        self,
        now: datetime,
        sources: Iterable[str] | None = None,
        *,
        kept_points: bool = False,
        inventory: bool = True,
    ) -> Facts:
        """What the pure functions judge by; kept points, and what discovery found, where asked for."""
