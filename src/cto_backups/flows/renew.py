"""Renew: read back the lock of every stored file of a vault that is needed, and lock anew what has too little left.

What is not needed any more is left to lapse: packs that a prune took out of the index, snapshots of expired points,
pieces of logs that nobody needs, or that are to be joined. A legal hold keeps its points, and so what they need is
locked anew for as long as it stands; from its release on, it lapses like the rest. Where policy has holds put on what
is stored, they are seen to be, see `store_holds`.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from cto_backups import clock
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.object_locks import FileLock, is_lockable, suffices
from cto_backups.core.payloads import Lapsing
from cto_backups.core.streams import joinable
from cto_backups.core.vaults import MARKER, LockingVault, locking_of
from cto_backups.core.wording import counted
from cto_backups.errors import RefusedError, VaultMissingError, VerificationError
from cto_backups.flows.installation import Installation
from cto_backups.flows.pieces import PieceFiles, pieces_in
from cto_backups.flows.runs import recorded
from cto_backups.flows.store_holds import InStore, follow, take_all_off

_AT_ONCE = 16  # files whose locks are asked for; each waits for the store's answer
_BATCH = 1000


@dataclass(frozen=True)
class Renewed:
    """What was found in one vault: files that are to be locked, how many of them were locked anew, and those that are
    not locked although they were asked to be, of which so many are `weaker`: locked long enough, and less strongly than
    policy asks. `lapsing`: files whose locks are left to end. `until`: the earliest end of a lock among the others;
    None without one. `holds`: what was seen of the store's own; None where it has to have none.
    """

    vault: str
    files: int
    renewed: int
    lapsing: int
    unlocked: tuple[str, ...]
    until: datetime | None
    seconds: float
    holds: InStore | None = None
    weaker: int = 0

    @property
    def failure(self) -> VerificationError | None:
        """What is said when some are not locked, or not held; None when all are."""
        if not self.unlocked:
            return self.holds.failure(self.vault) if self.holds is not None else None
        count = counted(len(self.unlocked), "file is", "files are")
        if self.weaker == len(self.unlocked):
            return VerificationError(
                f"In vault '{self.vault}' {count} locked less strongly than policy asks",
                why=f"the store changes the mode of no lock that stands; the first is {self.unlocked[0]}",
                todo="They are locked on as they are, and what is stored from now on as policy asks. A login with "
                "s3:BypassGovernanceRetention may change them: aws s3api put-object-retention.",
            )
        return VerificationError(
            f"In vault '{self.vault}' {count} not locked as policy asks",
            why=f"the store took the request, and does not show the lock; the first is {self.unlocked[0]}",
            todo="See whether the bucket has Object Lock (at Google: object retention), and the login may read it.",
        )


def renew(installation: Installation, vault_name: str) -> Renewed:
    """Look at every lock, renew what is due, read it back, and record the run: failed where a file is not locked.

    It only adds: hosts that may do no more do it as well. Killed at any moment, it is done again from the beginning.
    Raises RefusedError for a vault that locks nothing, VaultError, and what keeps its repository from opening.
    """
    vault = installation.vault(vault_name)
    if locking_of(vault) is None or not isinstance(vault, LockingVault):
        raise RefusedError(
            f"Vault '{vault_name}' locks nothing",
            why="the policy has no lock for it",
            todo="Write 'lock: governance' or 'lock: compliance' at the vault, where its bucket has Object Lock.",
        )
    with recorded(installation, ActionKind.RENEW, vault=vault_name) as run:
        started = clock.monotonic()
        installation.check_readable(vault_name)
        with installation.progress(f"Looking at the locks in {vault_name}"):
            renewed = _look(installation, vault_name, vault, started)
        with installation.progress(f"Looking at the legal holds in {vault_name}"):
            holds = follow(installation, vault_name)
            if holds is None and _held_once(installation, vault_name):
                holds = take_all_off(installation, vault_name)
        renewed = replace(renewed, holds=holds, seconds=clock.monotonic() - started)
        run.figures.update(
            files=renewed.files,
            renewed=renewed.renewed,
            lapsing=renewed.lapsing,
            unlocked=len(renewed.unlocked),
            until=renewed.until.isoformat() if renewed.until is not None else "",
            seconds=round(renewed.seconds, 3),
        )
        if holds is not None:
            run.figures.update(held=holds.held, held_anew=holds.anew, holds_taken_off=holds.taken_off)
        if (failure := renewed.failure) is not None:
            run.outcome, run.error_code, run.message = Outcome.FAILED, failure.code, str(failure)
        return renewed


def _look(installation: Installation, vault_name: str, vault: LockingVault, started: float) -> Renewed:
    lapsing = _lapsing(installation, vault_name)
    found: Counter[str] = Counter()
    unlocked: list[str] = []
    until: datetime | None = None
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for keys in _batches(installation, vault_name):
            wanted = [key for key in keys if key not in lapsing]
            found["lapsing"] += len(keys) - len(wanted)
            for key, state in zip(wanted, pool.map(partial(_locked, vault), wanted), strict=True):
                found["files"] += state is not None
                if state is None:
                    continue  # it was removed meanwhile
                found["renewed"] += state.anew
                if state.lock is None:
                    unlocked.append(key)
                    found["weaker"] += state.weaker
                else:
                    until = state.lock.until if until is None else min(until, state.lock.until)
    installation.check_readable(vault_name)  # where everything was removed meanwhile, it is the vault that is gone
    seconds = clock.monotonic() - started
    counts = found["files"], found["renewed"], found["lapsing"]
    return Renewed(vault_name, *counts, tuple(unlocked), until, seconds, weaker=found["weaker"])


def _held_once(installation: Installation, vault_name: str) -> bool:
    """Whether policy wanted holds in a vault's store, and wants none any more.

    Where this host may only add, or was enrolled, that is for the vault's owner to say, whose runs a fleet's catalog
    has, too.
    """
    policy = installation.policy
    if policy.append_only(vault_name) or policy.enrolled_as is not None:
        return False
    return installation.catalog.last_figure(ActionKind.RENEW, vault_name, "held") > 0


@dataclass(frozen=True, slots=True)
class _State:
    """The lock of a file as it was read last, None where it does not suffice; `anew`: after it was renewed.

    `weaker`: it does not since it is less strong than policy asks.
    """

    lock: FileLock | None
    anew: bool
    weaker: bool = False


def _locked(vault: LockingVault, key: str) -> _State | None:
    """See that a file is locked for long enough; None when it is gone."""
    locking = vault.locking
    assert locking is not None
    try:
        lock = vault.lock_of(key)
        anew = not suffices(lock, locking, clock.now())
        if anew:
            lock = vault.lock(key)
    except VaultMissingError:
        return None
    if suffices(lock, locking, clock.now()):
        return _State(lock, anew)
    weaker = lock is not None and suffices(lock, replace(locking, mode=lock.mode), clock.now())
    return _State(None, anew, weaker)


def _batches(installation: Installation, vault_name: str) -> Iterator[list[str]]:
    """The keys of all files that are to be locked; not those of another vault in this one, which lets its own lapse."""
    batch, others = [MARKER], installation.policy.within(vault_name)
    for stored in installation.vault(vault_name).list(""):
        if is_lockable(stored.key) and not stored.key.startswith(others):
            batch.append(stored.key)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


def _lapsing(installation: Installation, vault_name: str) -> set[str]:
    """The keys of files whose locks may end."""
    expired = [copy.reference for copy in installation.catalog.expired_copies_to_delete() if copy.vault == vault_name]
    store = installation.store(vault_name)
    lapsing = set(store.lapsing(expired)) if isinstance(store, Lapsing) else set()
    for source, found in pieces_in(installation, vault_name).items():
        if not installation.catalog.points(source, limit=1):
            continue  # another host's, perhaps
        files = PieceFiles(installation, vault_name, source)
        wanted = set(files.wanted(found))
        going = {piece for piece in found if piece not in wanted}
        going.update(piece for group in joinable(wanted) for piece in group)
        lapsing.update(files.key(piece) for piece in going)
    return lapsing
