"""What lies in a bucket below what somebody deleted or replaced, while its lock stands.

A store with versions hides what is deleted behind a marker, and what is replaced below what took its place; what is
locked cannot go for good. Our own code deletes nothing whose lock stands, so that what is hidden is another's doing.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from cto_backups.core.object_locks import Hidden, is_lockable, may_be_withdrawn
from cto_backups.errors import RefusedError
from cto_backups.vaults.object_store import Holds, ObjectStore, Version, Versioned


def versioned(name: str, store: ObjectStore) -> Versioned:
    """The store, as one that keeps versions. Raises RefusedError for one that needs none to keep what is locked."""
    if isinstance(store, Versioned):
        return store
    raise RefusedError(
        f"Vault {name} hides nothing that is locked",
        why="its store refuses to delete or replace an object while its retention stands",
        todo="What was deleted without a lock is brought back by 'gcloud storage restore', where the bucket has soft "
        "deletion.",
    )


def hidden(store: Versioned, now: datetime, holds: Holds | None = None) -> Iterator[Hidden]:
    """What is deleted or replaced, of each key the first that was stored and is still locked, or held.

    A key file that was taken back stays so, as long as another is there: whoever takes one back means it.
    """
    withdrawn: dict[str, list[Hidden]] = {}
    there: set[str] = set()
    for found in store.versions():
        current = next((version for version in found if version.current and not version.marker), None)
        folder = found[0].key.rpartition("/")[0]
        if current is not None:
            there.add(folder)
        first = _hidden(store, found, current, now, holds) if is_lockable(found[0].key) else None
        if first is None:
            continue
        if may_be_withdrawn(first.key) and current is None:
            withdrawn.setdefault(folder, []).append(first)
        else:
            yield first
    for folder, keys in withdrawn.items():
        if folder not in there:
            yield from keys


def _hidden(
    store: Versioned, found: Sequence[Version], current: Version | None, now: datetime, holds: Holds | None
) -> Hidden | None:
    """The first version that is locked or held, unless it is what is read now, or the same."""
    for version in reversed(found):
        if version.marker:
            continue
        if version is current:
            return None
        lock = store.lock_of_version(version)
        until = lock.until if lock is not None and lock.stands(now) else None
        if until is None and (holds is None or not holds.is_on(version.key, version.id)):
            continue
        if current is not None and _same(store, version, current):
            return None
        above = found[: found.index(version)]
        others = [each for each in above if not each.marker]
        replaced = bool(others) and not _same(store, version, others[0])
        markers = tuple(each.id for each in above if each.marker)
        return Hidden(version.key, version.id, markers, replaced, version.size_bytes, until)
    return None


def _same(store: Versioned, one: Version, other: Version) -> bool:
    if one.size_bytes != other.size_bytes:
        return False
    # A store that encrypts with keys of a service tells other tags for the same content.
    return one.tag == other.tag or store.read_version(one.key, one.id) == store.read_version(other.key, other.id)
