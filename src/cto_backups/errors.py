"""Everything that can go wrong and that a user is told about.

::

    BackupsError                     exit status
    ├── UsageError                    2   the command line asks for something that does not exist or fit
    ├── PolicyError                   3   backups.yaml is wrong
    ├── SourceError                   5   a source cannot be read
    │   ├── IncompleteError           6   a recovery point was saved, but some of its data could not be read
    │   └── PointNeededError          5   its log leads on from its newest recovery point no longer
    ├── VaultError                    7   a vault cannot do what is asked
    │   ├── VaultMissingError         7   it is not there, or a stored file is not
    │   ├── VaultExistsError          7   the stored file is there already
    │   ├── VaultFullError            7   no space
    │   ├── NotCopiedError            7   its provider does not copy an object by itself
    │   └── VaultReadOnlyError        7   not writable
    │       └── VaultLockedError      7   a lock stands, which ends by itself
    ├── KeyProblemError               8   a key is missing, unreadable or wrong
    │   └── KeyServiceAwayError       8   a key service does not answer
    ├── DamageError                   9   stored bytes are not what they were
    │   └── ForeignRepositoryError    9   a repository is not the one that belongs here
    ├── CatalogError                 10   the catalog is damaged, or of an unknown version
    │   └── CatalogAwayError         10   the server that keeps it cannot be reached now
    │       ├── CatalogBehindError   10   it lacks what it had confirmed, since another server took over
    │       └── CatalogFullError     10   its disk has no room left
    ├── VerificationError            11   a restore test or a verification failed
    ├── NotFoundError                12   no such recovery point, source, vault or path
    ├── RefusedError                 13   it would overwrite or destroy, and nobody said so
    │   └── GovernanceError          13   a governing document or the lack of an approval stands against it
    │       └── ApprovalNeededError  13   somebody has to approve it first
    ├── BusyError                    14   another run holds the lock
    │   └── ClaimLostError           14   another run has taken over, since this one gave no sign of life
    ├── RestoreError                 15   a restore did not complete
    ├── CrashError                    1   the process of an action ended in the middle of it
    └── ChannelError                 16   a channel did not take a message
        └── ReportError              16   what is known could not be reported where policy wants it

Status 0 is success, 1 a defect of this program, 4 "red": a status or audit finding that the caller asked to fail on;
130 an interruption. `docs/reference/exit-status.md` lists them for users; a test compares the two.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar


class ExitStatus(IntEnum):
    """Exit statuses of every command."""

    SUCCESS = 0
    DEFECT = 1
    USAGE = 2
    POLICY = 3
    RED = 4
    SOURCE = 5
    INCOMPLETE = 6
    VAULT = 7
    KEY = 8
    DAMAGE = 9
    CATALOG = 10
    VERIFICATION = 11
    NOT_FOUND = 12
    REFUSED = 13
    BUSY = 14
    RESTORE = 15
    CHANNEL = 16
    INTERRUPTED = 130


class BackupsError(Exception):
    """What happened, why, and what to do next; raised for anything that is not a defect of this program.

    `what` names the source, vault or recovery point concerned. No secret goes into any of the three.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[ExitStatus] = ExitStatus.DEFECT
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, why: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process is told: what a user is. Other particulars stay here."""
        return _told, (type(self), self.what, self.why, self.todo)

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


def _told(kind: type[BackupsError], what: str, why: str, todo: str) -> BackupsError:
    """The error that another process told of; its own way of being made may ask for more."""
    error = kind.__new__(kind)
    BackupsError.__init__(error, what, why=why, todo=todo)
    return error


class UsageError(BackupsError):
    """The command line asks for something that does not exist or fit."""

    code = "usage"
    exit_status = ExitStatus.USAGE


class PolicyError(BackupsError):
    """The policy file is wrong."""

    code = "policy"
    exit_status = ExitStatus.POLICY


class SourceError(BackupsError):
    """A source cannot be read at all."""

    code = "source"
    exit_status = ExitStatus.SOURCE
    retryable = True


class IncompleteError(SourceError):
    """A recovery point was saved, but part of its data could not be read."""

    code = "incomplete"
    exit_status = ExitStatus.INCOMPLETE


class PointNeededError(SourceError):
    """A source's log leads on from its newest recovery point no longer: it can be followed from a new one."""

    code = "point-needed"


class VaultError(BackupsError):
    """A vault cannot do what is asked."""

    code = "vault"
    exit_status = ExitStatus.VAULT
    retryable = True


class VaultMissingError(VaultError):
    """The vault, or a stored file in it, is not there."""

    code = "vault-missing"


class VaultExistsError(VaultError):
    """The stored file is there already; stored files are never rewritten in passing."""

    code = "vault-exists"
    retryable = False


class VaultFullError(VaultError):
    """The vault has no space left."""

    code = "vault-full"


class NotCopiedError(VaultError):
    """The vault's provider does not copy an object by itself; it can be sent instead.

    `lasting`: it would not copy others from the same bucket either.
    """

    code = "not-copied"
    lasting = False


class VaultReadOnlyError(VaultError):
    """The vault cannot be written to."""

    code = "vault-read-only"


class VaultLockedError(VaultReadOnlyError):
    """A stored file is not deleted, since its lock stands; `until` when. Of several, `left` says so of each."""

    code = "vault-locked"
    until: datetime | None = None
    left: Mapping[str, datetime] = MappingProxyType({})


class KeyProblemError(BackupsError):
    """A key is missing, unreadable or wrong."""

    code = "key"
    exit_status = ExitStatus.KEY


class KeyServiceAwayError(KeyProblemError):
    """A key service cannot be reached, or does not answer in time."""

    code = "key-service-away"
    retryable = True


class DamageError(BackupsError):
    """Stored bytes are not what they were when they were written."""

    code = "damage"
    exit_status = ExitStatus.DAMAGE


class ForeignRepositoryError(DamageError):
    """The repository in a vault is not the one that belongs there."""

    code = "foreign-repository"


class CatalogError(BackupsError):
    """The catalog is damaged, or of a version that this program does not know."""

    code = "catalog"
    exit_status = ExitStatus.CATALOG


class CatalogAwayError(CatalogError):
    """The server that keeps the catalog cannot be reached now; what was not confirmed by it has not happened."""

    code = "catalog-away"
    retryable = True


class CatalogBehindError(CatalogAwayError):
    """The catalog lacks what vaults have of it: another server has taken its place, or an older copy was put back."""

    code = "catalog-behind"


class CatalogFullError(CatalogAwayError):
    """The disk that the catalog lies on has no room left; what did not fit has not happened."""

    code = "catalog-full"


class VerificationError(BackupsError):
    """A restore test or a verification failed."""

    code = "verification"
    exit_status = ExitStatus.VERIFICATION


class NotFoundError(BackupsError):
    """There is no such recovery point, source, vault or path."""

    code = "not-found"
    exit_status = ExitStatus.NOT_FOUND


class RefusedError(BackupsError):
    """It would overwrite or destroy something, and nobody said that it may."""

    code = "refused"
    exit_status = ExitStatus.REFUSED


class GovernanceError(RefusedError):
    """What the policy's governance asks for is not given: a document forbids it or cannot be read."""

    code = "governance"


class ApprovalNeededError(GovernanceError):
    """Somebody has to approve it first."""

    code = "approval-needed"


class BusyError(BackupsError):
    """Another run holds the lock."""

    code = "busy"
    exit_status = ExitStatus.BUSY
    retryable = True


class ClaimLostError(BusyError):
    """Another run has taken over what this one was at, since it gave no sign of life; nothing more of it is written."""

    code = "claim-lost"


class RestoreError(BackupsError):
    """A restore did not complete."""

    code = "restore"
    exit_status = ExitStatus.RESTORE


class CrashError(BackupsError):
    """The process of an action ended in the middle of it, by a signal or by a defect of this program."""

    code = "crash"


class ChannelError(BackupsError):
    """A channel did not take a message for somebody."""

    code = "channel"
    exit_status = ExitStatus.CHANNEL
    retryable = True


class ReportError(ChannelError):
    """What is known could not be written where policy wants it reported."""

    code = "report"
