"""What an instance of Cloud SQL is set to, and what policy wants of it; pure.

The names are those of https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/instances.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, runtime_checkable

from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.wording import counted, listed

EVERYBODY: Final = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What policy wants an instance to be set to; empty, or None: whatever it is.

    `window` is when the window for automated backups begins, in UTC, as HH:MM. `newest_within` is how old the newest
    automated backup may be.
    """

    backups_kept: int = 30
    log_days: int = 7
    window: str = ""
    region: str = ""
    backup_location: str = ""
    newest_within: timedelta = timedelta(hours=26)
    deletion_protection: bool = True
    backups_survive: bool = True
    public_address: bool = False
    encrypted: bool = True


@dataclass(frozen=True, slots=True)
class Instance:
    """What the service says of an instance.

    `survive` says what stays of its backups once it is deleted ("" for nothing). `networks` are those that may come to
    its public address. `newest_at` is when its newest good automated backup ended, `failed` what the last one failed
    with since. `leftovers` are clones of restore tests that nobody deleted, though their test must be long over.
    """

    name: str
    region: str
    backups: bool = False
    backups_kept: int = 0
    point_in_time: bool = False
    log_days: int = 0
    window: str = ""
    backup_location: str = ""
    deletion_protection: bool = False
    survive: str = ""
    public_address: bool = False
    networks: tuple[str, ...] = ()
    encrypted: bool = False
    newest_at: datetime | None = None
    failed: str = ""
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackupRun:
    """One backup that the service made, or tried to make. `kind` is its type: AUTOMATED or ON_DEMAND."""

    number: str
    status: str
    kind: str
    ended_at: datetime | None
    location: str
    description: str
    error: str

    @property
    def is_good(self) -> bool:
        """Whether something comes back from it."""
        return self.status == "SUCCESSFUL"


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """What a backup of the service was restored to: the instance (`place`, at `host`), and the backup that was made of
    what it held before, None where there was nothing, or none was wanted.
    """

    place: str
    host: str
    before: BackupRun | None


ABOUT: Final = "cloudsql"
"""The sample of a fingerprint that tells of the instance."""


@dataclass(frozen=True, slots=True)
class KeptByService:
    """How many good backups the service had of an instance when a point was made, and the number of the newest."""

    backups: int
    newest: str


def kept_by_service(point: RecoveryPoint) -> KeptByService | None:
    """What a point says of that; None for points that are of no instance."""
    told = next((each.fields for each in point.fingerprint.samples if each.key == ABOUT), None)
    if point.kind != "cloudsql" or told is None:
        return None
    return KeptByService(int(told.get("backups", "0")), told.get("newest_backup", ""))


@runtime_checkable
class ServiceBackups(Protocol):
    """A source whose service keeps backups of its own, of all that it holds."""

    def service_backups(self) -> Sequence[BackupRun]:
        """Those that there are, the newest first. Raises SourceError."""

    def restore_service_backup(self, number: str, into: str | None, *, save_first: bool) -> BroughtBack:
        """Bring one back into a new instance, or with None over all that the instance itself holds.

        With `save_first` the service backs up first what would be lost. Raises SourceError.
        """


@runtime_checkable
class InstanceSource(Protocol):
    """A source that can tell what a service's instance is set to."""

    def instance(self) -> Instance:
        """What it is set to now. Raises SourceError."""


Told = Iterator[tuple[bool, str]]
"""Whether something is as policy wants it, and a sentence with figures."""


def backups(found: Instance, wanted: Wanted, now: datetime) -> Told:
    """Automated backups are made, kept for long enough, at the time that policy says, and the newest is fresh."""
    if not found.backups:
        yield False, "automated backups are off"
        return
    kept = f"{counted(found.backups_kept, 'automated backup is', 'automated backups are')} kept"
    yield found.backups_kept >= wanted.backups_kept, f"{kept}; policy wants {wanted.backups_kept}"
    if wanted.window:
        begins = f"the window for automated backups begins at {found.window or 'no stated time'} UTC"
        yield found.window == wanted.window, f"{begins}; policy wants {wanted.window}"
    if wanted.backup_location:
        lie = f"backups lie in {found.backup_location or 'the place that the service chose'}"
        yield found.backup_location == wanted.backup_location, f"{lie}; policy wants {wanted.backup_location}"
    if found.failed:
        yield False, f"the last automated backup failed: {found.failed}"
    elif found.newest_at is None:
        yield False, "there is no automated backup yet"
    else:
        age = f"the newest automated backup ended {roughly(now - found.newest_at)} ago"
        limit = format_duration(wanted.newest_within)
        yield now - found.newest_at <= wanted.newest_within, f"{age}; policy wants one within {limit}"


def point_in_time(found: Instance, wanted: Wanted) -> Told:
    """The log is kept, for as many days as policy says."""
    if wanted.log_days:
        if not found.point_in_time:
            yield False, f"point-in-time recovery is off; policy wants {counted(wanted.log_days, 'day')} of log"
        else:
            days = counted(found.log_days, "day")
            yield found.log_days >= wanted.log_days, f"the log is kept for {days}; policy wants {wanted.log_days}"


def region(found: Instance, wanted: Wanted) -> Told:
    """It stands where policy says."""
    if wanted.region:
        told = f"it stands in {found.region or 'a region that the service does not tell'}"
        yield found.region == wanted.region, f"{told}; policy wants {wanted.region}"


def deletion(found: Instance, wanted: Wanted) -> Told:
    """Nobody deletes it by mistake, and its backups do not go with it."""
    if wanted.deletion_protection:
        yield found.deletion_protection, f"deletion protection is {'on' if found.deletion_protection else 'off'}"
    if wanted.backups_survive:
        told = f"once it is deleted, {found.survive}" if found.survive else "its backups are deleted with it"
        yield bool(found.survive), told


def network(found: Instance, wanted: Wanted) -> Told:
    """Nobody reaches it who should not, and nobody in between reads along."""
    everybody = sorted({*found.networks} & {*EVERYBODY})
    if found.public_address and everybody:
        yield False, f"it has a public address that everybody may come to ({listed(everybody)})"
    elif found.public_address and not wanted.public_address:
        yield False, f"it has a public address; {counted(len(found.networks), 'network')} may come to it"
    else:
        yield True, "it has a public address, as policy allows" if found.public_address else "it has no public address"
    if wanted.encrypted:
        yield found.encrypted, f"connections without TLS are {'refused' if found.encrypted else 'let in'}"


def leftovers(found: Instance) -> Told:
    """No clone of a restore test was left behind."""
    if found.leftovers:
        yield False, f"clones of restore tests are still there, and cost money: {listed(found.leftovers)}"
    else:
        yield True, "no clone of a restore test was left behind"
