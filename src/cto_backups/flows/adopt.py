"""Adopt: catalogue what another program stored in a repository, without writing to what it stored.

A point that is taken over has no fingerprint of its source: it can be restored and read, but not proven.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cto_backups import clock
from cto_backups.core.model import NO_FINGERPRINT, Copy, RecoveryPoint
from cto_backups.core.payloads import Committed, PayloadStore
from cto_backups.evidence.payloads import copy_to_payload, point_to_payload
from cto_backups.flows import records
from cto_backups.flows.installation import Installation

KEPT = timedelta(days=90)
"""How long retention drops no point that was taken over: time to look at what it would drop."""


@dataclass(frozen=True)
class Group:
    """Snapshots of the same paths of the same host, oldest first: what a source is to us."""

    host: str
    paths: tuple[str, ...]
    snapshots: tuple[Committed, ...]


def groups(committed: Iterable[Committed]) -> tuple[Group, ...]:
    """The readable snapshots by host and paths, in the order of their newest ones."""
    found: dict[tuple[str, tuple[str, ...]], list[Committed]] = {}
    for snapshot in committed:
        if snapshot.root and not any(tag.startswith("point:") for tag in snapshot.tags):
            found.setdefault((snapshot.hostname, tuple(sorted(snapshot.paths))), []).append(snapshot)
    made = [Group(host, paths, tuple(sorted(each, key=lambda one: one.time))) for (host, paths), each in found.items()]
    return tuple(sorted(made, key=lambda group: group.snapshots[-1].time, reverse=True))


def catalogue(
    installation: Installation, vault_name: str, taken: Mapping[str, Sequence[Committed]]
) -> tuple[RecoveryPoint, ...]:
    """Make recovery points of snapshots in a vault, by source; those that are known already are left as they are.

    Raises DamageError when the tree of one cannot be read: those before it are taken over, and the rest by a next run.
    """
    store = installation.store(vault_name)
    store.clear_leftovers(own=True)  # such as the lock of a run that was killed
    known = {copy.reference for copy in installation.catalog.copies_in(vault_name)}
    made = []
    for source, snapshots in taken.items():
        for snapshot in snapshots:
            if snapshot.reference not in known:
                made.append(_catalogue(installation, store, source, snapshot))
    return tuple(made)


def _catalogue(installation: Installation, store: PayloadStore, source: str, snapshot: Committed) -> RecoveryPoint:
    policy = installation.source_policy(source)
    entries = size_bytes = 0
    for _, entry in store.reader(snapshot.reference).listing():
        entries, size_bytes = entries + 1, size_bytes + entry.size
    now = clock.now()
    tags = f", tags {', '.join(snapshot.tags)}" if snapshot.tags else ""
    point_id = f"{source}-{snapshot.time:%Y%m%dT%H%M%SZ}-{snapshot.reference[:8]}"
    # A run that was killed may have signed it already, and shown it not yet.
    signed_point, signed_copy = installation.catalog.signed(installation.signer.signer, point_id)
    point = signed_point or RecoveryPoint(
        id=point_id,
        source=source,
        kind=policy.kind,
        category=policy.category.name,
        business=installation.policy.business,
        started_at=snapshot.time,
        captured_at=snapshot.time,
        finished_at=now,
        size_bytes=size_bytes,
        added_bytes=0,
        entry_count=entries,
        root=snapshot.root,
        paths=snapshot.paths,
        fingerprint=NO_FINGERPRINT,
        policy_digest=installation.policy.digest,
        label=f"taken over: restic snapshot {snapshot.reference[:8]} of {snapshot.hostname}{tags}",
        keep_until=now + KEPT,
    )
    copy = signed_copy or Copy(point.id, store.vault.name, snapshot.reference, now, 0)
    if signed_point is None:
        records.write(installation, "recovery-point", point_to_payload(point))
    if signed_copy is None:
        records.write(installation, "copy", copy_to_payload(copy))
    installation.catalog.add_point_with_copy(point, copy, records.bring(installation, copy.vault))
    return point
