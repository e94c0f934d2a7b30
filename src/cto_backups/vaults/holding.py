"""Legal holds on what a vault in a bucket stores; its locks, and what both keep from being deleted."""

from collections.abc import Callable, Iterator

from cto_backups import clock
from cto_backups.core.object_locks import (
    FileLock,
    FormerVersion,
    Locking,
    gives_up_its_hold,
    is_lockable,
    may_be_held,
    may_be_withdrawn,
    whole_second,
)
from cto_backups.core.policy import LockMode
from cto_backups.errors import VaultError
from cto_backups.vaults.object_store import AbsentError, ObjectStore, Versioned


class BucketHolds:
    """Implements `core.vaults.StoreHolds`; `gone` says of an absent object whether it is the vault that is absent."""

    def __init__(self, store: ObjectStore, gone: Callable[[AbsentError], VaultError]) -> None:
        self._store = store
        self._gone = gone

    def is_on(self, key: str) -> bool:
        """Whether one is on a stored file, read from the store. Raises VaultMissingError."""
        try:
            return self._store.legal_holds.is_on(key)
        except AbsentError as error:
            raise self._gone(error) from error

    def put_on(self, key: str) -> bool:
        """Put one on a stored file; whether the store then tells of it. Raises VaultMissingError."""
        self._set(key, on=True)
        return self.is_on(key)

    def take_off(self, key: str) -> bool:
        """Take it off a stored file; whether the store tells of none then. Raises VaultMissingError."""
        self._set(key, on=False)
        return not self.is_on(key)

    def former(self) -> Iterator[FormerVersion]:
        """Versions below what is read now; at Google, what is held is not replaced, nor deleted."""
        if not isinstance(self._store, Versioned):
            return
        for found in self._store.versions():
            if may_be_held(found[0].key):
                yield from (FormerVersion(each.key, each.id) for each in found if not each.current and not each.marker)

    def is_on_former(self, former: FormerVersion) -> bool:
        """Whether one is on such a version. Raises VaultMissingError."""
        return self._store.legal_holds.is_on(former.key, former.version)

    def take_off_former(self, former: FormerVersion) -> None:
        """Take it off such a version. Raises VaultMissingError."""
        self._store.legal_holds.set(former.key, on=False, version=former.version)

    def _set(self, key: str, *, on: bool) -> None:
        try:
            self._store.legal_holds.set(key, on=on)
        except AbsentError as error:
            raise self._gone(error) from error


def lock_anew(store: ObjectStore, locking: Locking, key: str) -> None:
    """Lock a file for a whole window from now. Raises AbsentError, VaultError.

    A lock that stands is made longer as it is where its mode cannot be changed: nobody makes a stronger one a weaker
    one, and most stores want the right to take locks away of who makes a weaker one stronger.
    """
    until = whole_second(clock.now() + locking.window)
    if locking.mode is LockMode.COMPLIANCE:
        try:
            store.lock(key, until, locking.mode)
        except AbsentError:
            raise
        except VaultError as refused:
            try:
                standing = _standing(store, key)
            except VaultError:
                raise refused from None
            if standing is None or standing.mode is locking.mode:
                raise
            store.lock(key, until, standing.mode)
    else:
        standing = _standing(store, key)
        store.lock(key, until, locking.mode if standing is None else standing.mode)


def _standing(store: ObjectStore, key: str) -> FileLock | None:
    lock = store.lock_of(key)
    return lock if lock is not None and lock.stands(clock.now()) else None


def see_free(store: ObjectStore, locking: Locking, key: str) -> None:
    """Raise VaultLockedError while a lock or hold keeps what is to be deleted, where we delete nothing that is kept.

    A store may hide what it keeps, and what our own deletions hid could not be told from what an intruder's did. A key
    that is taken back, and a file of the index that was written anew, go all the same: their hold is taken off.
    """
    try:
        if is_lockable(key) and not may_be_withdrawn(key):
            lock = store.lock_of(key)
            if lock is not None and lock.stands(clock.now()):
                raise store.say.locked(key, lock.until)
        if locking.holds and may_be_held(key) and store.legal_holds.is_on(key):
            if not gives_up_its_hold(key):
                raise store.say.held(key, clock.now() + locking.renewed_every)
            store.legal_holds.set(key, on=False)
    except AbsentError:
        return
