"""The catalog's interface: every fact is written here in one transaction, or not at all."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from cto_backups.catalog import (
    chain,
    claims,
    database,
    due_times,
    heartbeat,
    holdings,
    holds,
    inventory,
    ledger,
    queries,
    runs,
    thinning,
)
from cto_backups.catalog.alerts import AlertBook
from cto_backups.catalog.approvals import Approvals
from cto_backups.catalog.claims import Begun, ClaimBook, ClaimedDatabase
from cto_backups.catalog.database import Connection, Password
from cto_backups.catalog.fleet import FleetBook
from cto_backups.catalog.hosts import HostBook, sources_of_hosts
from cto_backups.catalog.marks import Marks
from cto_backups.catalog.reader import Reader
from cto_backups.catalog.retentions import Retentions
from cto_backups.catalog.rows import copy_from_row, moment_to_column, run_from_row, words_to_column
from cto_backups.catalog.streams import StreamBook
from cto_backups.catalog.takeover import Takeover
from cto_backups.catalog.traffic import TrafficBook
from cto_backups.core.claims import Claim, subject_of
from cto_backups.core.facts import Heartbeat
from cto_backups.core.keeping import Hold
from cto_backups.core.model import ActionKind, Copy, Evidence, Outcome, RecoveryPoint, Resource, Run
from cto_backups.core.policy import Policy
from cto_backups.core.verification import Ledger, Readings
from cto_backups.evidence.payloads import figures_to_payload
from cto_backups.evidence.records import Head, Record, SigningKey

if TYPE_CHECKING:
    from cto_backups.catalog.audits import Audits
    from cto_backups.catalog.reports import ReportBook

_Done = TypeVar("_Done")
_TRIES = 5

Figures = Mapping[str, int | float | str | bool]


class Catalog(Reader):
    """The facts of one installation. Safe between threads and between processes; moments are aware datetimes.

    Every method raises CatalogError when the catalog is damaged or unusable, BusyError when it stays locked.
    """

    def __init__(self, opened: database.Database) -> None:
        self._database: ClaimedDatabase = ClaimedDatabase(opened)

    @classmethod
    def create(cls, url: str, *, now: datetime, password: Password | None = None) -> "Catalog":
        """Make a new catalog. Raises RefusedError when one is there."""
        return cls(database.make(url, password))

    @classmethod
    def open(cls, url: str, *, now: datetime, write: bool = True, password: Password | None = None) -> "Catalog":
        """Open a catalog; an older version is brought up to date. Raises NotFoundError when there is none.

        Without `write` it may also lie where nothing can be written: on a full disk, or one mounted read-only.
        """
        return cls(database.open_existing(url, now, write=write, password=password))

    def close(self) -> None:
        """Let go of it."""
        self._database.close()

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _writing(self) -> AbstractContextManager[Connection]:
        return self._database.writing()

    def _written(self, do: Callable[[Connection], _Done]) -> _Done:
        """What rests on what others write too, and is done anew where they did so while the server was away."""
        for _ in range(_TRIES - 1):
            with suppress(database.ChangedMeanwhileError), self._writing() as connection:
                return do(connection)
        with self._writing() as connection:
            return do(connection)

    def check(self) -> tuple[str, ...]:
        """What the database's own means of checking find wrong; nothing when all is well."""
        return self._database.check()

    # -- policy and inventory ------------------------------------------------------------------------------------------

    def sync_policy(self, policy: Policy, text: bytes, now: datetime, *, keep: Collection[str] = ()) -> None:
        """Bring the sources of the policy in; those that are gone become inactive, their points stay.

        Those to `keep` stay active although they are gone.
        """
        with self.reading() as connection:
            if inventory.is_known(connection, policy, keep):
                return
        with self._writing() as connection:
            inventory.sync_policy(connection, policy, text, now, keep)

    def active_sources(self) -> tuple[str, ...]:
        """The sources that policy names, or named until their removal is approved; not those of enrolled hosts."""
        with self.reading() as connection:
            active = connection.scalars("SELECT name FROM sources WHERE active = 1 ORDER BY name")
            return tuple(name for name in active if name not in sources_of_hosts(connection))

    @property
    def hosts(self) -> HostBook:
        """The hosts that have a trust domain of their own."""
        return HostBook(self._database)

    @property
    def approvals(self) -> Approvals:
        """What somebody has to approve, or had to."""
        return Approvals(self._database)

    @property
    def retentions(self) -> Retentions:
        """Which retentions policy gave each source, and since when."""
        return Retentions(self._database)

    @property
    def claims(self) -> ClaimBook:
        """Who may do what, and until when."""
        return ClaimBook(self._database)

    @property
    def due_times(self) -> due_times.DueTimes:
        """When each source and vault is due."""
        return due_times.DueTimes(self._database)

    @property
    def streams(self) -> StreamBook:
        """What follows the logs of sources, and how far it is."""
        return StreamBook(self._database)

    @property
    def fleet(self) -> FleetBook:
        """What the hosts of a fleet know of each other."""
        return FleetBook(self._database)

    @property
    def reports(self) -> "ReportBook":
        """What there is to report elsewhere."""
        from cto_backups.catalog.reports import ReportBook

        return ReportBook(self._database)

    @property
    def traffic(self) -> TrafficBook:
        """What travelled to and from vaults, and how much lies there."""
        return TrafficBook(self._database)

    @property
    def audits(self) -> "Audits":
        """Past audits, and since when what they found is open."""
        from cto_backups.catalog.audits import Audits  # needed by audits alone, as all that these rest on

        return Audits(self._database)

    def record_resources(self, source: str, resources: Iterable[Resource], now: datetime) -> None:
        """Remember what discovery found in a source, at this moment."""
        with self._writing() as connection:
            inventory.record_resources(connection, source, resources, now)

    def record_inventory(self, found: Mapping[str, Iterable[Resource]], now: datetime) -> None:
        """The same for many sources at once."""
        with self._writing() as connection:
            for source, resources in found.items():
                inventory.record_resources(connection, source, resources, now)

    def beat(self, sign: Heartbeat, alive: Callable[[int], bool]) -> None:
        """Note a worker's sign of life; the one before it is forgotten. See `core.heartbeat.name_for`."""
        with self._writing() as connection:
            heartbeat.write(connection, sign, alive)

    def forget_worker(self, name: str) -> bool:
        """Forget a worker; false when there is none of this name."""
        with self._writing() as connection:
            return heartbeat.forget(connection, name)

    def repository_of(self, vault: str) -> str | None:
        """The id of the repository that belongs to a vault, once it is known."""
        with self.reading() as connection:
            return inventory.repository_of(connection, vault)

    def note_away(self, vaults: Collection[str], now: datetime, *, but: Collection[str] = ()) -> None:
        """Note which vaults cannot be read now; nothing of those that were not looked at (`but`)."""
        with self.reading() as connection:
            if inventory.away(connection) - frozenset(but) == frozenset(vaults):
                return
        with self._writing() as connection:
            inventory.note_away(connection, vaults, now, but)

    def expect_repository(self, vault: str, repository: str) -> None:
        """Remember which repository belongs to a vault, the first time; raise ForeignRepositoryError for another."""
        with self.reading() as connection:
            if inventory.repository_of(connection, vault) == repository:
                return
        with self._writing() as connection:
            inventory.expect_repository(connection, vault, repository)

    # -- runs ----------------------------------------------------------------------------------------------------------

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
        """Begin a run, and claim what it is at. Raises BusyError while another run has that.

        Another has it as long as its process gives signs of life; `alive` knows the processes of this host. Without,
        nothing is claimed. With `planned_at`, also where the same has ended since.
        """
        row: dict[str, Any] = {
            "action": action.value,
            "source": source,
            "vault": vault,
            "point": point,
            "host": host,
            "pid": pid,
            "started_at": moment_to_column(now),
            "outcome": Outcome.RUNNING.value,
            "error_code": "",
            "message": "",
            "figures": "{}",
        }
        if alive is None:
            return Begun(self._written(lambda connection: runs.begin(connection, row)))
        subject = subject_of(action, source, vault)
        begun = self._written(lambda connection: claims.begin(connection, row, subject, now, alive, planned_at))
        if not isinstance(begun, Begun):
            raise claims.busy(begun)
        return begun

    def finish_run(
        self,
        run_id: int,
        *,
        outcome: Outcome,
        now: datetime,
        error_code: str = "",
        message: str = "",
        figures: Figures | None = None,
        claim: Claim | None = None,
    ) -> None:
        """End a run, and give back what it has claimed."""
        with self._writing() as connection:
            if claim is not None:
                claims.give_back(connection, claim)
            ended = {
                "outcome": outcome.value,
                "finished_at": moment_to_column(now),
                "error_code": error_code,
                "message": words_to_column(message),
                "figures": json.dumps(figures_to_payload(figures or {})),
            }
            runs.end(connection, run_id, ended)

    def note_crash(self, run: Run, host: str, pid: int) -> None:
        """Note that a process ended in the middle of an action: in the run that it began since, or else as this one."""
        self._written(lambda connection: runs.note_crash(connection, run, host, pid))

    def interrupt_dead_runs(self, host: str, alive: Callable[[int], bool], now: datetime) -> tuple[Run, ...]:
        """Mark this host's running runs whose process is gone as interrupted; those runs."""
        # The outcome as literal text: an index of some rows only serves statements whose condition SQLite sees.
        running = "SELECT * FROM runs WHERE host = :host AND outcome = 'running'"
        with self.reading() as connection:
            dead = [dict(row) for row in connection.execute(running, {"host": host}) if not alive(row["pid"])]
        if not dead:
            return ()
        ended = {"outcome": Outcome.INTERRUPTED.value, "finished_at": moment_to_column(now)}
        with self._writing() as connection:
            for row in dead:
                runs.end(connection, row["id"], {**ended, "message": "its process was killed"}, unless_ended=True)
        return tuple(run_from_row({**row, **ended}) for row in dead)

    def thin_runs(self, before: datetime, after: int = 0) -> int | None:
        """Drop runs of before a moment that nothing rests on, of some after this number: the last; None at the end."""
        with self._writing() as connection:
            return thinning.thin(connection, before, after)

    # -- records -------------------------------------------------------------------------------------------------------

    def append_record(self, signer: SigningKey, kind: str, payload: Mapping[str, Any], now: datetime) -> Record:
        """Sign a record at the next place of the signer's chain; two processes never get the same place."""
        return self.append_records(signer, [(kind, payload)], now)[0]

    def append_records(self, signer: SigningKey, said: Collection[chain.Said], now: datetime) -> tuple[Record, ...]:
        """Sign records, each a kind and what it says, one after the other: all of them, or none."""
        return self._written(lambda opened: tuple(chain.append(opened, signer, *each, now) for each in said))

    def records_after(self, signer: str, sequence: int, *, lasting: bool = False) -> Iterator[Record]:
        """A signer's records after this number, in order; with `lasting`, of those that no crash can take back."""
        for number, _, content in self.record_files(signer, sequence, lasting=lasting):
            yield Record.from_bytes(content, name=f"Record {number} in the catalog")

    def record_files(
        self, signer: str, sequence: int = 0, *, lasting: bool = False
    ) -> Iterator[tuple[int, str, bytes]]:
        """A signer's records after this number, in order, as they are stored: number, key in a vault, bytes."""
        batch: Sequence[tuple[int, str, bytes]] = ()
        while not batch or len(batch) == chain.AT_ONCE:
            with self._database.reading(lasting=lasting) as connection:
                batch = chain.contents(connection, signer, sequence)
            if not batch:
                return
            yield from batch
            sequence = batch[-1][0]

    def signers(self) -> tuple[str, ...]:
        """Whose records this catalog has."""
        with self.reading() as connection:
            return tuple(chain.signers(connection))

    def record_of_evidence(self, evidence_id: str) -> Record | None:
        """The record that a verification or a restore test was signed as; None when there is none."""
        with self.reading() as connection:
            return chain.of_evidence(connection, evidence_id)

    @property
    def takeover(self) -> Takeover:
        """What records in vaults say and this catalog lacks is brought in here."""
        return Takeover(self._database)

    @property
    def marks(self) -> Marks:
        """The points under suspicion."""
        return Marks(self._database)

    def unshown_points(self, signer: str) -> tuple[tuple[RecoveryPoint, Copy], ...]:
        """Points that were signed as safe in a vault by a backup that then broke off before they were shown here."""
        with self.reading() as connection:
            return queries.unshown_points(connection, signer)

    def signed(self, signer: str, point_id: str) -> tuple[RecoveryPoint | None, Copy | None]:
        """What was signed of a point and of its first copy, shown or not; None for what was not."""
        with self.reading() as connection:
            return queries.signed(connection, signer, point_id)

    def vault_head(self, vault: str, signer: str) -> int:
        """Up to which number a vault has a signer's records; 0 for none."""
        with self.reading() as connection:
            return chain.head(connection, vault, signer)

    def vault_heads(self, vault: str) -> Mapping[str, int]:
        """Up to which number a vault has the records of each signer that this catalog knows."""
        with self.reading() as connection:
            return chain.heads(connection, vault)

    def advance_vault_head(self, vault: str, signer: str, sequence: int) -> None:
        """Note that a vault has the records up to this number; never goes back."""
        with self._writing() as connection:
            chain.advance_head(connection, vault, signer, sequence)

    # -- points, copies, evidence --------------------------------------------------------------------------------------

    def add_point_with_copy(self, point: RecoveryPoint, copy: Copy, head: Head | None = None) -> None:
        """Show a new point, with its first copy, whose vault has records up to `head`; twice is once."""
        with self._writing() as connection:
            holdings.add_point(connection, point)
            holdings.add_copy(connection, copy, head)

    def add_copy(self, copy: Copy, head: Head | None = None) -> None:
        """Show a copy, whose vault has records up to `head`; one made anew replaces the one known before."""
        with self._writing() as connection:
            holdings.add_copy(connection, copy, head)

    def add_evidence(self, evidence: Evidence) -> None:
        """Show evidence, passed or failed; doing it twice is doing it once."""
        with self._writing() as connection:
            holdings.add_evidence(connection, evidence)

    def ledger(self, vault: str) -> Ledger:
        """When each pack of a vault was last read."""
        with self.reading() as connection:
            return ledger.read(connection, vault)

    def note_readings(self, vault: str, readings: Readings) -> None:
        """Note what a verification read; packs that are not there any more are forgotten."""
        with self._writing() as connection:
            ledger.note(connection, vault, readings)

    def confirm(self, source: str, now: datetime) -> None:
        """Note that a scan found the source equal to its newest point."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE sources SET confirmed_at = :now WHERE name = :source",
                {"source": source, "now": moment_to_column(now)},
            )
            due_times.touch(connection, source)

    def expire_point(self, point_id: str, now: datetime, reasons: Iterable[str], signer: SigningKey) -> bool:
        """Sign that a point is dropped and stop showing it; whether that was done: not to one under a legal hold.

        Its copies are to be deleted, which the caller does afterwards.
        """
        with self._writing() as connection:
            return holdings.expire_point(connection, point_id, now, reasons, signer)

    @property
    def alerts(self) -> AlertBook:
        """What somebody was told, or is to be told."""
        return AlertBook(self._database)

    def place_hold(self, hold: Hold, signer: SigningKey) -> None:
        """Sign and keep a legal hold. Raises RefusedError when its point was dropped meanwhile."""
        with self._writing() as connection:
            holds.place(connection, hold, signer)

    def release_hold(self, name: str, *, by: str, because: str, signer: SigningKey, now: datetime) -> Hold:
        """Sign and note that a hold is released; the hold as it is then. Raises NotFoundError, RefusedError."""
        with self._writing() as connection:
            return holds.release(connection, name, by, because, signer, now)

    def holds(self, *, released: bool = False) -> tuple[Hold, ...]:
        """The legal holds in force, or with the released ones, in the order they were placed."""
        with self.reading() as connection:
            return holds.listed(connection, released=released)

    def copies_in(self, vault: str) -> tuple[Copy, ...]:
        """The copies of kept points in a vault."""
        with self.reading() as connection:
            wanted = "SELECT * FROM copies WHERE vault = :vault AND to_delete = 0"
            return tuple(map(copy_from_row, connection.execute(wanted, {"vault": vault})))

    def strays(self, vault: str, found: Mapping[str, str]) -> tuple[str, ...]:
        """Of references in a vault, with the points that they are of, those that nothing stands for or ever will."""
        with self._database.reading(lasting=True) as connection:
            return holdings.strays(connection, vault, found)

    def expired_copies_to_delete(self, *, lasting: bool = False) -> tuple[Copy, ...]:
        """Copies of expired points that vaults may still hold; with `lasting`, those that no crash can show again."""
        with self._database.reading(lasting=lasting) as connection:
            return tuple(map(copy_from_row, connection.execute("SELECT * FROM copies WHERE to_delete = 1")))

    def forget_copy(self, point: str, vault: str) -> None:
        """Note that a vault no longer holds a copy."""
        with self._writing() as connection:
            holdings.forget_copy(connection, point, vault)
