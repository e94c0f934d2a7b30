"""Locks, as restic writes and honours them: files in `locks/`, refreshed while held, stale after thirty minutes.

Shared locks go together; an exclusive one stands alone. Every program that respects the format sees ours.
"""

import contextlib
import os
import pwd
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import orjson

from cto_backups import clock, process
from cto_backups.core.payloads import LeftBy
from cto_backups.errors import (
    BackupsError,
    BusyError,
    DamageError,
    NotFoundError,
    VaultError,
    VaultFullError,
    VaultMissingError,
    VaultReadOnlyError,
)
from cto_backups.repository.gotime import format_time, parse_time
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.together import each

STALE_AFTER = timedelta(minutes=30)
REFRESH_EVERY = timedelta(minutes=5)
# Lost to us before it is stale to others, whose clocks may differ a little.
LOST_AFTER = STALE_AFTER - REFRESH_EVERY * 3 / 2
_BETWEEN_CHECKS = 100  # deletions for which a lock is trusted to stand
_LOADED = clock.now()  # an older lock under our process number is of a dead process that had it before


@dataclass(frozen=True, slots=True)
class LockFile:
    """A lock that stands in the repository."""

    name: str
    time: datetime
    exclusive: bool
    hostname: str
    username: str
    pid: int

    def stale(self, now: datetime, hostname: str) -> bool:
        """Whether whoever made it is gone: it was not refreshed, or its process on this host is dead."""
        if now - self.time > STALE_AFTER:
            return True
        if self.hostname != hostname or self.pid <= 0:
            return False
        if self.pid == os.getpid():
            return self.time < _LOADED
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return False

    def __str__(self) -> str:
        kind = "an exclusive" if self.exclusive else "a shared"
        return f"{kind} lock of {self.username}@{self.hostname}, process {self.pid}, since {format_time(self.time)}"


def read_locks(files: StoredFiles, *, but: str = "") -> tuple[list[LockFile], list[tuple[str, str]]]:
    """Every lock, and the names of lock files that make no sense with the reason; one is left out, if it is named."""
    found = list(each(files.vault, partial(_read, files), (name for name in files.names("locks") if name != but)))
    locks = [read for read in found if isinstance(read, LockFile)]
    return locks, [read for read in found if isinstance(read, tuple)]


def _read(files: StoredFiles, name: str) -> LockFile | tuple[str, str] | None:
    """A lock; the name and the reason of one that makes no sense; None for one that was released meanwhile."""
    try:
        document = files.load("locks", name)
        return LockFile(
            name=name,
            time=parse_time(document["time"]),
            exclusive=bool(document["exclusive"]),
            hostname=str(document.get("hostname", "?")),
            username=str(document.get("username", "?")),
            pid=int(document.get("pid", 0)),
        )
    except NotFoundError:
        return None
    except DamageError as error:
        return name, error.why or error.what
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return name, "it makes no sense"


class Lock:
    """A lock that this process holds."""

    def __init__(self, files: StoredFiles, *, exclusive: bool) -> None:
        self._files = files
        self._exclusive = exclusive
        self._hostname = process.host()
        self._guard = threading.Lock()
        self._name = ""
        self._refreshed = clock.now()
        self._released = threading.Event()
        self._lost = False

    def acquire(self) -> None:
        """Take it. Raises BusyError naming who holds what stands in the way.

        A shared lock is written at once, and looked at once it stands: no look from before would show who comes
        between. An exclusive one, which would keep others out meanwhile, is not written where it cannot stand.
        """
        if self._exclusive:
            self._refuse_if_taken()
        try:
            self._name = self._write()
        except (VaultFullError, VaultReadOnlyError):
            self._refuse_if_taken()  # who can leave no lock minds those of others all the same
            raise
        try:
            self._refuse_if_taken()
        except BaseException:
            self._remove(self._name)
            raise
        threading.Thread(target=self._keep_fresh, name="lock-refresh", daemon=True).start()

    def check(self) -> None:
        """Raise BusyError unless the lock still stands (somebody may have taken it for a dead process's)."""
        with self._guard:
            standing = self._stands()
        if not standing:
            raise BusyError(
                f"The lock on {self._files.prefix} in vault {self._files.vault.name} was lost while writing",
                why="this run was suspended for too long, or somebody removed its lock",
                todo="run again: what is stored already is found and used",
            )

    def release(self) -> None:
        """Let go; a vault that fails now is not an error, since the lock goes stale by itself."""
        self._released.set()
        with self._guard:
            self._remove(self._name)

    def refresh(self) -> None:
        """Write a newer lock file in place of the present one, unless that is lost: it is not taken a second time.

        Whoever saw it stale may have pruned since, in an index that this process does not know.
        """
        with self._guard:
            if self._released.is_set() or not self._stands():
                return
            now = clock.now()
            old, self._name = self._name, self._write()
            self._refreshed = now
            self._remove(old)

    def _stands(self) -> bool:
        """Whether it was never lost; the caller holds the guard."""
        if not self._lost:
            try:
                self._files.vault.size(self._files.key("locks", self._name))
                self._lost = clock.now() - self._refreshed >= LOST_AFTER
            except VaultMissingError:
                self._lost = True
        return not self._lost

    def _refuse_if_taken(self) -> None:
        now = clock.now()
        locks, damaged = read_locks(self._files, but=self._name)
        place = f"{self._files.prefix} in vault {self._files.vault.name}"
        for lock in locks:
            if lock.stale(now, self._hostname):
                continue
            if lock.exclusive or self._exclusive:
                raise BusyError(
                    f"{place} is locked",
                    why=str(lock),
                    todo="wait until that run ends; the next command clears a lock whose process is gone",
                )
        if damaged and self._exclusive:
            raise BusyError(
                f"{place} has a lock file that cannot be read",
                why=f"locks/{damaged[0][0][:12]}: {damaged[0][1]}",
                todo="make sure that nobody uses the repository, then run 'cto.backups repair'",
            )

    def _write(self) -> str:
        document = {
            "time": format_time(clock.now()),
            "exclusive": self._exclusive,
            "hostname": self._hostname,
            "username": username(),
            "pid": os.getpid(),
            "uid": os.getuid(),
            "gid": os.getgid(),
        }
        name, sealed = self._files.sealed(orjson.dumps(document))
        try:
            self._files.vault.put(self._files.key("locks", name), [sealed])
        except VaultError:
            self._remove(name)  # it may be there all the same, and nobody would let go of it
            raise
        return name

    def _remove(self, name: str) -> None:
        for _ in range(2 if name else 0):  # a lock that stays keeps others out until it is stale: worth a second try
            with contextlib.suppress(VaultError):
                self._files.vault.delete(self._files.key("locks", name))
                return

    def _keep_fresh(self) -> None:
        wait = REFRESH_EVERY.total_seconds()
        while not self._released.wait(wait):
            try:
                self.refresh()
                wait = REFRESH_EVERY.total_seconds()
            except BackupsError:
                wait = REFRESH_EVERY.total_seconds() / 10  # `check` raises once it has gone stale


@contextlib.contextmanager
def locked(files: StoredFiles, *, exclusive: bool) -> Iterator[Lock]:
    """Hold a lock. Raises BusyError."""
    lock = Lock(files, exclusive=exclusive)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


@contextlib.contextmanager
def locked_for_reading(files: StoredFiles) -> Iterator[None]:
    """Hold a shared lock, except in a vault that cannot be written to or is full: what is there must come back.

    Nobody can prune a read-only vault. What a prune of a full one deletes meanwhile is missed, and named.
    """
    lock = Lock(files, exclusive=False)
    try:
        lock.acquire()
    except (VaultFullError, VaultReadOnlyError):
        yield
        return
    try:
        yield
    finally:
        # A vault that went away keeps the lock, which grows stale; what was read before is no less right.
        with contextlib.suppress(VaultError):
            lock.release()


def remove(files: StoredFiles, lock: Lock, folder: str, names: Sequence[str]) -> None:
    """Delete stored files, as long as the lock stands. Raises BusyError when it does not."""
    for number, name in enumerate(names):
        if number % _BETWEEN_CHECKS == 0:
            lock.check()
        files.vault.delete(files.key(folder, name))


def remove_stale(files: StoredFiles, *, own: bool = False, left: LeftBy | None = None) -> list[str]:
    """Remove locks whose process is gone, and lock files that make no sense; what was done, in sentences.

    With `own`, only locks that this user made on this host: nobody knows whose those are that make no sense. Locks that
    were `left` by a process which may write no more are removed whether it is gone or not.
    """
    done = []
    now, hostname = clock.now(), process.host()
    locks, damaged = read_locks(files)
    if own:
        locks = [lock for lock in locks if (lock.hostname, lock.username) == (hostname, username())]
        damaged = []
    for lock in locks:
        if lock.stale(now, hostname) or (left is not None and left.has_made(lock.hostname, lock.pid, lock.time)):
            files.vault.delete(files.key("locks", lock.name))
            done.append(f"Removed {lock} from {files.prefix} in vault {files.vault.name}: its process is gone.")
    for name, why in damaged:
        files.vault.delete(files.key("locks", name))
        done.append(f"Removed the lock file {name[:12]} from {files.prefix} in vault {files.vault.name}: {why}.")
    return done


def username() -> str:
    """Who runs this process, for people."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
