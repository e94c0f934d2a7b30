"""Legal holds in the stores of vaults: on every file that a held point needs, and on nothing else below the prefix.

The catalog knows the holds; what is in a store follows it, and is seen to follow it whenever locks are looked at. A
hold is placed in the catalog first, then in stores; it is released there first, then taken off. Killed at any moment,
the next run does the rest.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TypeVar

from cto_backups.core.keeping import Hold
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.object_locks import FormerVersion, may_be_held
from cto_backups.core.payloads import Needed, TellingNeeds
from cto_backups.core.streams import joinable, needless
from cto_backups.core.vaults import MARKER, HoldingVault, StoreHolds, locking_of, store_holds
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, VaultMissingError, VerificationError
from cto_backups.flows.installation import Installation
from cto_backups.flows.pieces import PieceFiles
from cto_backups.repository.envelope import FOLDER as WRAPPED

_AT_ONCE = 16  # requests to the store, each of which waits for its answer
_BATCH = 1000
_OF_REPOSITORIES = ("repositories", "exports", "streams")  # folders in which each repository of a vault has one

_Thing = TypeVar("_Thing")


@dataclass(slots=True)
class InStore:
    """What was found and done in one vault's store: files that holds need and that are held, how many of them anew,
    how many holds were taken off, and the keys of files that are not held although the store took the request, that are
    `gone`, and of which the store still tells of a hold that was taken off (`stuck`).

    `unread`: references of held points of which it cannot be read what they need; all packs are held then.
    """

    held: int = 0
    anew: int = 0
    taken_off: int = 0
    unheld: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unread: tuple[str, ...] = ()

    def failure(self, vault: str) -> VerificationError | None:
        """What is said where not all that holds need is held; None where it is."""
        looked = f"Run 'cto.backups vault renew {vault}' again; "
        if self.unread:
            count = counted(len(self.unread), "held recovery point")
            why = f"of {count} it cannot be read which; all packs are held, and nothing was taken off"
            todo = f"Run 'cto.backups verify {vault}', then 'cto.backups repair {vault}'."
        elif self.gone:
            why = f"{counted(len(self.gone), 'file')} that holds need are not there; the first is {self.gone[0]}"
            todo = f"Run 'cto.backups vault undelete {vault}', then 'cto.backups repair {vault}'."
        elif self.unheld:
            why = f"the store took {counted(len(self.unheld), 'request')}, and tells of no hold: {self.unheld[0]}"
            todo = f"{looked}see whether the bucket has Object Lock: 'cto.backups vault check {vault}' tries holds."
        elif self.stuck:
            why = f"{counted(len(self.stuck), 'hold')} to be taken off stayed; the first is on {self.stuck[0]}"
            todo = f"{looked}see what the store's own records say of it."
        else:
            return None
        return VerificationError(f"In vault '{vault}' legal holds are not as the catalog has them", why=why, todo=todo)


Held = dict[str, frozenset[str]]
"""The references in a vault that holds in force are on, by their source; of a point with pieces alone, none."""


def follow(installation: Installation, vault_name: str) -> InStore | None:
    """Have all that holds in force need held by a vault's store, and nothing else; None where policy wants none there.

    Raises VaultError, and what keeps its repository from opening.
    """
    holds = store_holds(installation.vault(vault_name))
    return None if holds is None else _follow(installation, vault_name, holds)


def follow_everywhere(installation: Installation, hold: Hold) -> tuple[dict[str, InStore], dict[str, BackupsError]]:
    """Put a hold that was placed on what it needs in each vault, or take off what one that was released has left.

    What came of it by vault; and what went wrong, which the next run that looks at the locks there does again.
    """
    done: dict[str, InStore] = {}
    problems: dict[str, BackupsError] = {}
    for name in installation.policy.vaults:
        try:
            holds = store_holds(installation.vault(name))
            if holds is None:
                continue
            installation.check_readable(name)
            with installation.progress(f"Legal holds in {name}"):
                if hold.released_at is None:
                    done[name] = _put_on(installation, name, holds, _held(installation, name, [hold]))
                else:
                    done[name] = _follow(installation, name, holds)
        except BackupsError as error:
            problems[name] = error
    return done, problems


def take_all_off(installation: Installation, vault_name: str) -> InStore | None:
    """Take off what holds have left in the store of a vault in which policy wants none any more."""
    vault = installation.vault(vault_name)
    if locking_of(vault) is None or not isinstance(vault, HoldingVault):
        return None
    return _cleared(installation, vault_name, vault.legal_holds, Needed(frozenset()))


def _follow(installation: Installation, vault_name: str, holds: StoreHolds) -> InStore:
    known = _held(installation, vault_name)
    done = _cleared(installation, vault_name, holds, _needed(installation, vault_name, known))
    # A hold that was placed meanwhile may need what was just let go of: whoever placed it may have been the first.
    fresh = _held(installation, vault_name)
    later = {source: found - known.get(source, frozenset()) for source, found in fresh.items()}
    if any(later.values()) or fresh.keys() - known.keys():
        more = _put_on(installation, vault_name, holds, fresh)
        done.held, done.anew, done.unread = more.held, done.anew + more.anew, more.unread
        done.unheld, done.gone = more.unheld, more.gone
    elif done.gone:  # a prune has written packs anew meanwhile, or the index
        more = _put_on(installation, vault_name, holds, fresh)
        done.held, done.anew, done.gone = more.held, done.anew + more.anew, more.gone
    return done


def _put_on(installation: Installation, vault_name: str, holds: StoreHolds, held: Held) -> InStore:
    needed = _needed(installation, vault_name, held)
    done = InStore(unread=needed.unread)
    for key, came in _each(needed.keys, partial(_see_on, holds)):
        _note(done, key, came)
    return done


def _cleared(installation: Installation, vault_name: str, holds: StoreHolds, needed: Needed) -> InStore:
    """See that what is needed is held, and take holds off all else, former versions too.

    Where it cannot be read what is needed, nothing is taken off.
    """
    done = InStore(unread=needed.unread)
    there: set[str] = set()

    def look(key: str) -> _Came:
        if key in needed.keys:
            return _see_on(holds, key)
        return _Came.SPARED if needed.unread else _see_off(holds, key)

    for key, came in _each(_may_be_held(installation, vault_name), look):
        if key in needed.keys:
            there.add(key)
        _note(done, key, came)
    done.gone += sorted(needed.keys - there)
    if not needed.unread:
        is_ours = _ours(installation, vault_name)
        below = (each for each in holds.former() if each.key not in needed.keys and is_ours(each.key))
        for former, came in _each(below, partial(_see_off_former, holds)):
            _note(done, former.key, came)
    return done


class _Came(Enum):
    """What came of one file."""

    HELD = "a hold was on it"
    PUT_ON = "one was put on"
    UNHELD = "the store does not tell of the one that was put on"
    GONE = "it is needed, and not there"
    TAKEN_OFF = "one was taken off"
    STUCK = "the store still tells of the one that was taken off"
    SPARED = "nothing needs it, and nothing was done"


def _note(done: InStore, key: str, came: _Came) -> None:
    match came:
        case _Came.HELD | _Came.PUT_ON:
            done.held, done.anew = done.held + 1, done.anew + (came is _Came.PUT_ON)
        case _Came.UNHELD:
            done.unheld.append(key)
        case _Came.GONE:
            done.gone.append(key)
        case _Came.TAKEN_OFF:
            done.taken_off += 1
        case _Came.STUCK:
            done.stuck.append(key)


def _see_on(holds: StoreHolds, key: str) -> _Came:
    """See that a hold is on a file."""
    try:
        if holds.is_on(key):
            return _Came.HELD
        return _Came.PUT_ON if holds.put_on(key) else _Came.UNHELD
    except VaultMissingError:
        return _Came.GONE


def _see_off(holds: StoreHolds, key: str) -> _Came:
    """See that none is on a file."""
    try:
        if not holds.is_on(key):
            return _Came.SPARED
        return _Came.TAKEN_OFF if holds.take_off(key) else _Came.STUCK
    except VaultMissingError:
        return _Came.SPARED


def _see_off_former(holds: StoreHolds, former: FormerVersion) -> _Came:
    """See that none is on a former version."""
    try:
        if not holds.is_on_former(former):
            return _Came.SPARED
        holds.take_off_former(former)
        return _Came.STUCK if holds.is_on_former(former) else _Came.TAKEN_OFF
    except VaultMissingError:
        return _Came.SPARED


def _each(things: Iterable[_Thing], look: Callable[[_Thing], _Came]) -> Iterator[tuple[_Thing, _Came]]:
    """What came of each, so many at once."""
    batch: list[_Thing] = []
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="holds") as pool:
        for thing in things:
            batch.append(thing)
            if len(batch) == _BATCH:
                yield from zip(batch, pool.map(look, batch), strict=True)
                batch = []
        yield from zip(batch, pool.map(look, batch), strict=True)


def _may_be_held(installation: Installation, vault_name: str) -> Iterator[str]:
    yield MARKER
    is_ours = _ours(installation, vault_name)
    for stored in installation.vault(vault_name).list(""):
        if may_be_held(stored.key) and is_ours(stored.key):
            yield stored.key


def _ours(installation: Installation, vault_name: str) -> Callable[[str], bool]:
    """Whether a file may be of this vault's repository: of another one beside it, or in it, others know the holds."""
    repository, inner = installation.policy.vaults[vault_name].repository, installation.policy.within(vault_name)
    place = repository.rpartition("/")[2]

    def is_ours(key: str) -> bool:
        if key.startswith(inner):
            return False
        if key.startswith(f"{repository}/"):
            return True
        top, _, below = key.partition("/")
        return top not in _OF_REPOSITORIES or below.partition("/")[0] == (place if place != "." else "main")

    return is_ours


# -- what holds need --------------------------------------------------------------------------------------------------


def _held(installation: Installation, vault_name: str, holds: Collection[Hold] | None = None) -> Held:
    """The references of the copies in a vault that holds are on, those in force where none are named."""
    copies = {copy.point: copy.reference for copy in installation.catalog.copies_in(vault_name)}
    found: dict[str, set[str]] = {}
    for hold in installation.catalog.holds() if holds is None else holds:
        for point in _points(installation, hold):
            if point.id in copies:
                found.setdefault(point.source, set()).add(copies[point.id])
    return {source: frozenset(references) for source, references in found.items()}


def _points(installation: Installation, hold: Hold) -> Iterator[RecoveryPoint]:
    return (point for point in installation.catalog.points(hold.source) if hold.covers(point))


def _needed(installation: Installation, vault_name: str, held: Held) -> Needed:
    """All files in a vault that the held references need: the marker and wrapped keys, too, so that it opens."""
    references = sorted({reference for found in held.values() for reference in found})
    store, vault = installation.store(vault_name), installation.vault(vault_name)
    if not references or not isinstance(store, TellingNeeds):
        return Needed(frozenset())
    found = store.needed_by(references)
    keys = {MARKER, *found.keys, *(stored.key for stored in vault.list(WRAPPED))}
    for source, mine in held.items():
        keys.update(_pieces(installation, vault_name, source, mine))
    return Needed(frozenset(keys), found.unread)


def _pieces(installation: Installation, vault_name: str, source: str, references: frozenset[str]) -> Iterator[str]:
    """The pieces of a source's log that lead on from its held points; not those that are to be joined, and go then."""
    files = PieceFiles(installation, vault_name, source)
    pieces = tuple(files.listed())
    if not pieces:
        return
    logs = [told for reference, told in files.held() if reference in references]
    if not logs:
        return
    gone = set(needless(pieces, logs))
    gone.update(piece for group in joinable(files.wanted(pieces)) for piece in group)
    yield from (files.key(piece) for piece in pieces if piece not in gone)
