"""The catalog, as flows read and write it; `catalog.catalog.Catalog` is its implementation."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal, Protocol

from cto_backups.core.model import (
    ActionKind,
    Copy,
    CopyFacts,
    Evidence,
    Facts,
    Heartbeat,
    Hold,
    Outcome,
    RecoveryPoint,
    Resource,
    Run,
    TakenPoint,
)
from cto_backups.core.policy import Policy
from cto_backups.core.verification import Ledger, Readings
from cto_backups.evidence.records import Record, SigningKey

Figures = Mapping[str, int | float | str | bool]


class Takeover(Protocol):
    """Where what records in vaults say, and the catalog lacks, is brought in; see `catalog.takeover.Takeover`."""

    def last_record(self, signer: str) -> tuple[int, str | None]:
        """The number and digest of a signer's last record here; 0 and None when there is none."""

    def keep_records(self, records: Iterable[Record]) -> None:
        """Keep records that were read in a vault and found sound."""

    def delivered_records(self, signer: str, kind: str) -> Iterator[Record]:
        """A signer's records of a kind that some vault is known to have, in order."""

    def known(self, table: Literal["points", "evidence", "policies"]) -> frozenset[str]:
        """The ids of all points or evidence, or the digests of all policies."""

    def take_points(self, points: Iterable[TakenPoint], now: datetime) -> None:
        """Show points that records tell of: all of these, or none."""

    def take_evidence(self, evidence: Iterable[Evidence]) -> None:
        """Show evidence that records hold: all of it, or none."""

    def keep_policy(self, digest: str, text: bytes, now: datetime) -> None:
        """Keep the text of a policy that was in force once."""

    def take_holds(self, records: Iterable[Record]) -> int:
        """Place the legal holds that records tell of, and release those that were; how many were not known."""


class Catalog(Protocol):
    """The facts, as flows read and write them; see `catalog.catalog.Catalog` for what each method promises."""

    def sync_policy(self, policy: Policy, text: bytes, now: datetime) -> None:
        """Bring the sources of the policy in; those that are gone become inactive."""

    def beat(self, sign: Heartbeat) -> None:
        """Note the worker's sign of life."""

    def repository_of(self, vault: str) -> str | None:
        """The id of the repository that belongs to a vault, once it is known."""

    def record_resources(self, source: str, resources: Iterable[Resource], now: datetime) -> None:
        """Remember what discovery found in a source."""

    def record_inventory(self, found: Mapping[str, Iterable[Resource]], now: datetime) -> None:
        """The same for many sources at once."""

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
    ) -> int:
        """Begin a run; its number."""

    def finish_run(
        self,
        run_id: int,
        *,
        outcome: Outcome,
        now: datetime,
        error_code: str = "",
        message: str = "",
        figures: Figures = ...,
    ) -> None:
        """End a run."""

    def interrupt_dead_runs(self, host: str, alive: Callable[[int], bool], now: datetime) -> tuple[Run, ...]:
        """Mark this host's running runs whose process is gone; those runs."""

    def append_record(self, signer: SigningKey, kind: str, payload: Mapping[str, object], now: datetime) -> Record:
        """Sign a record at the next place of the chain."""

    def records_after(self, signer: str, sequence: int) -> Iterator[Record]:
        """A signer's records after this number, in order."""

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

    def add_point_with_copy(self, point: RecoveryPoint, copy: Copy) -> None:
        """Show a new point, with its first copy."""

    def add_copy(self, copy: Copy) -> None:
        """Show a copy."""

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

    def place_hold(self, hold: Hold, signer: SigningKey) -> None:
        """Sign and keep a legal hold. Raises RefusedError."""

    def release_hold(self, name: str, *, by: str, because: str, signer: SigningKey, now: datetime) -> Hold:
        """Sign and note that a hold is released. Raises NotFoundError, RefusedError."""

    def holds(self, *, released: bool = False) -> tuple[Hold, ...]:
        """The legal holds in force, or with the released ones."""

    def copies_in(self, vault: str) -> tuple[Copy, ...]:
        """The copies of kept points in a vault."""

    def expired_copies_to_delete(self) -> tuple[Copy, ...]:
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

    def copies(self, point_id: str) -> tuple[CopyFacts, ...]:
        """The copies of a point, with what is proven of each."""

    def facts(self, now: datetime, sources: Iterable[str] | None = None, *, kept_points: bool = False) -> Facts:
        """What the pure functions judge by."""
