"""The rules of a check that are asked of a store itself: what it refuses, locks, and lets this login do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cto_backups import clock
from cto_backups.core.object_locks import whole_second
from cto_backups.core.policy import LockMode
from cto_backups.core.vault_check import CLOCKS_AGREE, Answer, Told
from cto_backups.errors import VaultError
from cto_backups.vaults.trial import Reply, Said, Trial

Answered = tuple[Answer, str, bool]
Attempt = Callable[[], Answered]

_LOCKED = timedelta(minutes=2)
_LONGER = timedelta(minutes=3)
_SHORTER = timedelta(seconds=30)
_SHORTEST = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Relied:
    """What policy says of a vault, which it then relies on: it only adds; it locks, how strongly; a key encrypts.

    `holds`: what is under a legal hold gets the store's own.
    """

    append_only: bool = False
    lock: LockMode = LockMode.NONE
    kms_key: str | None = None
    holds: bool = False

    @property
    def locks(self) -> bool:
        """Whether it locks what it stores."""
        return self.lock is not LockMode.NONE


class Trying:
    """One store tried out in a scratch folder. `locked_until`: when the last lock that was set ends."""

    def __init__(self, trial: Trial, relied: Relied, place: str) -> None:
        self._trial = trial
        self._relied = relied
        self._place = place
        self._mode = relied.lock if relied.locks else LockMode.GOVERNANCE
        self._locked: tuple[str, str] | None = None
        self._holdable = False
        self.locked_until: datetime | None = None

    def told(self, *, may_delete: bool) -> Iterator[Told]:
        """Every rule, tried once."""
        for rule, attempt in (
            ("checksum", self._checksum),
            ("tls", self._tls),
            ("clock", self._clock),
            ("encryption", self._encryption),
            ("versions", self._versions),
        ):
            yield self._timed(rule, attempt)
        attacked = self._timed("role-delete", self._role_delete)
        yield attacked
        yield self._timed("role-hide", self._role_hide)
        yield self._timed("role-replace", self._role_replace)
        deletes = attacked.answer is Answer.NOT_ENFORCED or (may_delete and attacked.answer is Answer.NOT_ASKED)
        yield self._timed("lock-at-write", self._lock)
        yield from self._locks(deletes)
        yield self._timed("hold-set", self._hold)
        yield self._timed("hold-delete", lambda: self._hold_delete(deletes))

    def _locks(self, deletes: bool) -> Iterator[Told]:
        """What keeps what was locked."""
        if self._locked is None:
            nothing = "no lock was set on what was to be tried"
            for rule in ("lock-extend", "lock-shorten", "lock-delete"):
                yield Told(rule, Answer.NOT_OFFERED, nothing, wanted=self._relied.locks)
            yield Told("role-shorten", Answer.NOT_OFFERED, nothing, self._relied.locks and self._relied.append_only)
            return
        extended = self._timed("lock-extend", self._extend)
        yield extended
        yield self._timed("lock-shorten", lambda: self._shorten(extended.answer is Answer.ENFORCED))
        yield self._timed("role-shorten", self._role_shorten)
        yield self._timed("lock-delete", lambda: self._lock_delete(deletes))

    def _timed(self, rule: str, attempt: Attempt) -> Told:
        begun = clock.monotonic()
        try:
            answer, detail, wanted = attempt()
        except VaultError as error:
            answer, detail, wanted = Answer.NOT_ASKED, error.why or error.what, rule not in _REMARKS
        return Told(rule, answer, detail, wanted, clock.monotonic() - begun)

    # -- the way there, and what is stored ----------------------------------------------------------------------------

    def _checksum(self) -> Answered:
        """Nothing relies on it: each write is compared with what the store then tells."""
        reply = self._trial.put_damaged(f"{self._place}damaged")
        if reply.said is Said.DONE:
            return Answer.NOT_ENFORCED, "it took content under a checksum of other content; we compare ours", False
        return _refusal(reply, wanted=False)

    def _tls(self) -> Answered:
        version = self._trial.tls()
        if version is None:
            return Answer.NOT_ENFORCED, "policy lets requests travel unencrypted", False
        return Answer.ENFORCED, version.replace("v", " "), True

    def _clock(self) -> Answered:
        there = self._trial.clock()
        if there is None:
            return Answer.NOT_OFFERED, "it dates none of its answers", False
        apart = abs(there - clock.now())
        held = Answer.ENFORCED if apart <= CLOCKS_AGREE else Answer.NOT_ENFORCED
        return held, f"{int(apart.total_seconds())} s apart", True

    def _encryption(self) -> Answered:
        key, wanted = f"{self._place}encrypted", self._relied.kms_key
        self._trial.put(key, b"x")
        how, named = self._trial.encryption(key)
        if wanted and named != wanted:
            return Answer.NOT_ENFORCED, f"policy names key {wanted}, and it tells of {named or how or 'none'}", True
        if not how:
            return Answer.NOT_OFFERED, "it tells of none; what is stored was sealed before it left", False
        return Answer.ENFORCED, f"{how}, {named}" if named else how, bool(wanted)

    def _versions(self) -> Answered:
        """S3 keeps what is locked as a version: there, locks rely on it."""
        key, wanted = f"{self._place}version", self._relied.locks and self._trial.hides
        first = self._trial.put(key, b"first")
        second = self._trial.put(key, b"second", over=True)
        if second.said is not Said.DONE:
            return Answer.NOT_ASKED, f"nothing can be replaced: {second.why}", False
        kept = self._trial.former_kept(key, first.version)
        if kept.said is Said.DENIED:
            return Answer.ENFORCED, f"told by its name; {kept.why}", wanted
        return (Answer.ENFORCED, "", wanted) if kept.said is Said.DONE else (Answer.NOT_OFFERED, kept.why, wanted)

    # -- locks --------------------------------------------------------------------------------------------------------

    def _lock(self) -> Answered:
        key, wanted = f"{self._place}locked", self._relied.locks
        until = whole_second(clock.now() + _LOCKED)
        reply = self._trial.put(key, b"locked", until=until, mode=self._mode)
        if reply.said is Said.UNKNOWN:
            return Answer.NOT_OFFERED, reply.why, wanted
        if reply.said is not Said.DONE:
            return Answer.NOT_ASKED, reply.why, wanted
        told = self._trial.locked_until(key)
        if told is None:
            return Answer.NOT_ENFORCED, "it took what was to be locked, and tells of no lock", wanted
        self._locked, self.locked_until = (key, reply.version), told
        if told < until:
            return Answer.NOT_ENFORCED, f"it tells of {told:%H:%M:%S} UTC, and was asked for {until:%H:%M:%S}", wanted
        return Answer.ENFORCED, f"as {self._mode}, for 2 minutes", wanted

    def _extend(self) -> Answered:
        until = whole_second(clock.now() + _LONGER)
        reply = self._relock(until)
        told = self._told_now()
        if reply.said is Said.DONE and told is not None and told >= until:
            self.locked_until = told
            return Answer.ENFORCED, "to 3 minutes", self._relied.locks
        if reply.said is Said.DENIED:
            return Answer.NOT_ASKED, reply.why, self._relied.locks
        return Answer.NOT_ENFORCED, reply.why or "it said yes, and the lock ends as before", self._relied.locks

    def _shorten(self, may: bool) -> Answered:
        """`may`: this login could make it longer, so that what keeps it from the opposite is the lock."""
        before = self._told_now()
        reply = self._relock(whole_second(clock.now() + _SHORTER))
        if self._shortened(before):
            return Answer.NOT_ENFORCED, "it is shorter now", self._relied.locks
        if reply.said is Said.DENIED and not may:
            return Answer.NOT_ASKED, reply.why, self._relied.locks
        return Answer.ENFORCED, "", self._relied.locks

    def _lock_delete(self, deletes: bool) -> Answered:
        assert self._locked is not None
        reply = self._trial.delete(*self._locked)
        if reply.said is Said.DONE and not self._there():
            self.locked_until = None
            return Answer.NOT_ENFORCED, "it is gone, with its lock", self._relied.locks
        if reply.said is Said.DENIED and not deletes:
            return Answer.NOT_ASKED, f"{reply.why}, whether it is locked or not", False
        return Answer.ENFORCED, "", self._relied.locks

    # -- legal holds --------------------------------------------------------------------------------------------------

    def _hold(self) -> Answered:
        """It is taken off at once: what is not taken off stays for ever."""
        key, wanted = f"{self._place}held", self._relied.holds
        stored = self._trial.put(key, b"held")
        if stored.said is not Said.DONE:
            return Answer.NOT_ASKED, stored.why, wanted
        put_on, told = self._held(key, stored.version)
        off = self._trial.hold(key, stored.version, on=False)
        if put_on.said is not Said.DONE:
            return _not_put(put_on, wanted)
        self._holdable = True
        if told.said is not Said.DONE:
            return Answer.NOT_ENFORCED, told.why, wanted
        if off.said is not Said.DONE or self._trial.is_held(key, stored.version).said is Said.DONE:
            return Answer.NOT_ENFORCED, off.why or "it was taken off, and is still told", wanted
        return Answer.ENFORCED, "", wanted

    def _hold_delete(self, deletes: bool) -> Answered:
        key, wanted = f"{self._place}held-delete", self._relied.holds
        if not self._holdable:
            return Answer.NOT_OFFERED, "no hold was put on what was to be tried", wanted
        stored = self._trial.put(key, b"held")
        if stored.said is not Said.DONE:
            return Answer.NOT_ASKED, stored.why, wanted
        _, told = self._held(key, stored.version)
        deleted = self._trial.delete(key, stored.version)
        try:
            there = self._trial.is_held(key, stored.version).said is Said.DONE
        except VaultError:
            there = False
        if there:
            self._trial.hold(key, stored.version, on=False)
        if told.said is not Said.DONE:
            return Answer.NOT_ASKED, told.why, wanted
        if deleted.said is Said.DONE and not there:
            return Answer.NOT_ENFORCED, "it is gone, with its hold", wanted
        if deleted.said is Said.DENIED and not deletes:
            return Answer.NOT_ASKED, f"{deleted.why}, whether it is held or not", wanted
        gone = self._trial.delete(key, stored.version)
        if deletes and gone.said is not Said.DONE:
            return Answer.NOT_ENFORCED, f"it stays once the hold is taken off: {gone.why}", wanted
        return Answer.ENFORCED, "until it is taken off" if deletes else "", wanted

    def _held(self, key: str, version: str) -> tuple[Reply, Reply]:
        """What the store says to a hold, and what it then tells of it."""
        put_on = self._trial.hold(key, version, on=True)
        return put_on, self._trial.is_held(key, version) if put_on.said is Said.DONE else put_on

    # -- what whoever takes over this host may do ---------------------------------------------------------------------

    def _role_delete(self) -> Answered:
        key = f"{self._place}attacked-delete"
        stored = self._trial.put(key, b"x")
        if stored.said is not Said.DONE:
            return Answer.NOT_ASKED, stored.why, self._relied.append_only
        return self._attacked(self._trial.delete(key, stored.version), "it deletes what is not locked")

    def _role_hide(self) -> Answered:
        if not self._trial.hides:
            return Answer.NOT_OFFERED, "a deletion hides nothing that is locked here", False
        key = f"{self._place}attacked-hide"
        self._trial.put(key, b"x")
        return self._attacked(self._trial.hide(key), "it deletes; versions below are kept where the bucket has them")

    def _role_shorten(self) -> Answered:
        assert self._locked is not None
        before = self._told_now()
        reply = self._trial.relock(self._locked[0], whole_second(clock.now() + _SHORTEST), self._mode, bypass=True)
        wanted = self._relied.append_only and self._relied.locks
        if self._shortened(before):
            self.locked_until = self._told_now()
            return Answer.NOT_ENFORCED, "it has the right to take locks away, and took one", wanted
        return Answer.ENFORCED, reply.why, wanted

    def _role_replace(self) -> Answered:
        key = f"{self._place}attacked-replace"
        first = self._trial.put(key, b"first")
        second = self._trial.put(key, b"encrypted; pay here", over=True)
        if second.said is not Said.DONE:
            return Answer.ENFORCED, second.why, self._relied.append_only
        kept = self._trial.former_kept(key, first.version).said in (Said.DONE, Said.DENIED)
        if kept:
            return Answer.NOT_ENFORCED, "it stores above it; the former version stays below", False
        return Answer.NOT_ENFORCED, "what was there is lost", self._relied.append_only

    def _attacked(self, reply: Reply, done: str) -> Answered:
        if reply.said is Said.DONE:
            return Answer.NOT_ENFORCED, done, self._relied.append_only
        return Answer.ENFORCED, reply.why, self._relied.append_only

    # -- how ----------------------------------------------------------------------------------------------------------

    def _relock(self, until: datetime) -> Reply:
        assert self._locked is not None
        return self._trial.relock(self._locked[0], until, self._mode)

    def _told_now(self) -> datetime | None:
        assert self._locked is not None
        return self._trial.locked_until(self._locked[0])

    def _shortened(self, before: datetime | None) -> bool:
        told = self._told_now()
        return before is not None and (told is None or told < before)

    def _there(self) -> bool:
        """Whether a lock is still told of what was locked: some stores say yes, and delete nothing."""
        try:
            return self._told_now() is not None
        except VaultError:
            return False


def _refusal(reply: Reply, *, wanted: bool) -> Answered:
    """What it is when a store does not do what it should refuse."""
    match reply.said:
        case Said.DENIED:
            return Answer.NOT_ASKED, reply.why, wanted
        case Said.UNKNOWN:
            return Answer.NOT_OFFERED, reply.why, wanted
    return Answer.ENFORCED, "", wanted


def _not_put(reply: Reply, wanted: bool) -> Answered:
    """What it is when a hold cannot be put on."""
    if reply.said is Said.REFUSED:
        return Answer.NOT_ENFORCED, reply.why, wanted
    return _refusal(reply, wanted=wanted)


_REMARKS = ("checksum", "encryption", "versions", "role-hide")
