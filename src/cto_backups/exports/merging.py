"""What was found and done in several stores of one vault, as one result."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any

from cto_backups.core.payloads import Repaired, Verified
from cto_backups.core.pruning import Pruned, PrunePlan


def merged_verifications(found: Sequence[Verified]) -> Verified:
    """All that was read, and all that is damaged."""
    return reduce(_verified, found)


def _verified(one: Verified, other: Verified) -> Verified:
    readings = one.readings
    if readings is not None and other.readings is not None:
        readings = readings.joined(other.readings)
    return Verified(
        files_read=one.files_read + other.files_read,
        bytes_read=one.bytes_read + other.bytes_read,
        blobs_read=one.blobs_read + other.blobs_read,
        references=one.references + other.references,
        damages=one.damages + other.damages,
        packs=one.packs + other.packs,
        packs_read=one.packs_read + other.packs_read,
        pack_bytes=one.pack_bytes + other.pack_bytes,
        readings=readings,
        remarks=one.remarks + other.remarks,
    )


def merged_prunes(found: Sequence[Pruned]) -> Pruned:
    """One plan with what goes in each."""
    return reduce(
        lambda one, other: Pruned(
            merged_plans(one.plan, other.plan), one.done and other.done, one.added_bytes + other.added_bytes
        ),
        found,
    )


def merged_plans(one: PrunePlan, other: PrunePlan) -> PrunePlan:
    """One plan of what is done in both."""
    joined: dict[str, Any] = {}
    for field in fields(PrunePlan):
        mine = getattr(one, field.name)
        if isinstance(mine, tuple):
            joined[field.name] = mine + getattr(other, field.name)
    return replace(
        one,
        **joined,
        duplicate_blobs=one.duplicate_blobs + other.duplicate_blobs,
        crowded=one.crowded or other.crowded,
    )


def merged_repairs(found: Sequence[Repaired]) -> Repaired:
    """All that was put right, and all that is left."""
    return reduce(_repaired, found)


def _repaired(one: Repaired, other: Repaired) -> Repaired:
    joined: dict[str, Any] = {}
    for field in fields(Repaired):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, bool):
            joined[field.name] = mine and theirs
        elif isinstance(mine, tuple | int):
            joined[field.name] = mine + theirs
    fetched = dict(one.fetched_blobs)
    for vault, count in other.fetched_blobs.items():
        fetched[vault] = fetched.get(vault, 0) + count
    return replace(one, **joined, fetched_blobs=dict(sorted(fetched.items())))
