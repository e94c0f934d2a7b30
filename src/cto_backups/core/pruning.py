"""Prune, decided: which packs of a repository stay, go, or are written anew; pure, and what a dry run shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from types import MappingProxyType

from cto_backups.core.duration import format_duration, parse_duration
from cto_backups.core.verification import parse_share

_MIB = 1 << 20
_KINDS = ("data", "tree")

LEAST_GRACE = timedelta(hours=1)
"""A lock lives for 30 minutes: a writer that slept for longer finds its lock lost, and commits nothing."""


@dataclass(frozen=True, slots=True)
class PruneRules:
    """When it is worth while.

    At most `unused_share` of what stays may be unused, or packs are written anew. A pack that no index lists is deleted
    once it has been so for `grace`, which is longer than any lock lives (30 minutes). Packs with less than
    `small_bytes` in use are joined once there are `small_packs` of a kind. Index files are joined when there are far
    more than one to `index_blobs` blobs.
    """

    unused_share: float = 0.05
    grace: timedelta = timedelta(hours=24)
    small_bytes: int = 4 * _MIB
    small_packs: int = 10
    index_blobs: int = 30_000

    def __post_init__(self) -> None:
        if not 0 <= self.unused_share < 1:
            raise ValueError("unused_share is at least 0 and below 1")


def parse_grace(text: str) -> timedelta:
    """A grace such as "24 h". Raises ValueError for one that a lock may outlive, or that is no length of time."""
    grace = parse_duration(text)
    if grace < LEAST_GRACE:
        least = format_duration(LEAST_GRACE)
        raise ValueError(f"a grace of {format_duration(grace)} is too short: write at least {least}")
    return grace


def parse_unused(text: str) -> Fraction:
    """How much may be unused, such as "5%". Raises ValueError."""
    share = parse_share(text)
    if share == 1:
        raise ValueError("if all may be unused, nothing is ever written anew: write a share below 100%")
    return share


@dataclass(frozen=True, slots=True)
class PackUse:
    """A pack that an index lists, and what of it is needed: so many blobs, with `used_bytes` together.

    `kind` is data, tree or mixed. Of a blob in several packs only one counts as needed.
    """

    name: str
    kind: str
    size_bytes: int
    used_bytes: int
    unused_bytes: int
    used_blobs: int


@dataclass(frozen=True, slots=True)
class UnlistedPack:
    """A pack that no index lists, and since when that is known."""

    name: str
    size_bytes: int
    since: datetime


@dataclass(frozen=True, slots=True)
class LockedPack:
    """A pack that would be deleted, had the store not locked it `until` then: a prune after that deletes it."""

    pack: UnlistedPack
    until: datetime


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune does, at the moment `made_at`.

    Packs to `keep` as they are; to `drop` (nothing in them is needed) and to `repack` (what is needed of them is
    written anew): both are taken out of the index now, and deleted by a later prune. `waiting` packs are in no index
    and wait for their grace to end, for `overdue` ones it has: they are deleted now; but `locked` ones stay, and cost,
    until their locks end. `gone` are packs that an index
    lists, but that are not there, or too short; nothing needs them. `relisted` are packs that no index listed, and that
    hold what a snapshot needs. `taken_over` are packs that rustic has marked in the index as to be deleted: the new
    index does not name them, and they wait as others do. `duplicate_blobs` is how many places needed blobs have beyond
    one each. `crowded`: the index is in too many files.
    """

    made_at: datetime
    keep: tuple[PackUse, ...] = ()
    drop: tuple[PackUse, ...] = ()
    repack: tuple[PackUse, ...] = ()
    waiting: tuple[UnlistedPack, ...] = ()
    overdue: tuple[UnlistedPack, ...] = ()
    locked: tuple[LockedPack, ...] = ()
    gone: tuple[str, ...] = ()
    relisted: tuple[str, ...] = ()
    taken_over: tuple[str, ...] = ()
    duplicate_blobs: int = 0
    crowded: bool = False

    @property
    def changes_index(self) -> bool:
        """Whether new index files take the place of the present ones."""
        return bool(self.drop or self.repack or self.gone or self.relisted or self.taken_over or self.crowded)

    @property
    def going(self) -> frozenset[str]:
        """The packs that are deleted, or taken out of the index."""
        return frozenset((*(pack.name for pack in self.overdue), *(use.name for use in (*self.drop, *self.repack))))

    @property
    def deleted_bytes(self) -> int:
        """What is deleted now."""
        return sum(pack.size_bytes for pack in self.overdue)

    @property
    def freed_bytes(self) -> int:
        """What a later prune will delete, beyond what is written anew now."""
        return sum(use.size_bytes for use in (*self.drop, *self.repack)) - self.rewritten_bytes

    @property
    def rewritten_bytes(self) -> int:
        """What is written anew."""
        return sum(use.used_bytes for use in self.repack)

    @property
    def unused_bytes(self) -> int:
        """What stays although nothing needs it."""
        return sum(use.unused_bytes for use in self.keep)

    @property
    def used_bytes(self) -> int:
        """All that snapshots need."""
        return sum(use.used_bytes for use in (*self.keep, *self.repack))

    @property
    def waiting_bytes(self) -> int:
        """What is in no index already, and waits for its grace to end."""
        return sum(pack.size_bytes for pack in self.waiting)

    @property
    def locked_bytes(self) -> int:
        """What would be deleted now, were it not locked."""
        return sum(each.pack.size_bytes for each in self.locked)

    @property
    def locked_until(self) -> datetime | None:
        """When the last of these locks ends; None without one."""
        return max((each.until for each in self.locked), default=None)

    def marks(self, now: datetime) -> dict[str, datetime]:
        """Every pack that no index lists once the plan is carried out, and since when: from `now` for new ones."""
        marks = {pack.name: pack.since for pack in (*self.waiting, *(each.pack for each in self.locked))}
        marks.update(dict.fromkeys((*(use.name for use in (*self.drop, *self.repack)), *self.gone), now))
        return marks


@dataclass(frozen=True, slots=True)
class Pruned:
    """A plan, whether it was carried out, and what that added (the packs written anew), in bytes."""

    plan: PrunePlan
    done: bool
    added_bytes: int = 0


def plan_prune(
    uses: Sequence[PackUse],
    *,
    unlisted: Mapping[str, int],
    marks: Mapping[str, datetime],
    now: datetime,
    rules: PruneRules,
    index_files: int = 1,
    listed_blobs: int = 0,
    gone: Iterable[str] = (),
    relisted: Iterable[str] = (),
    taken_over: Sequence[str] = (),
    duplicate_blobs: int = 0,
    locks: Mapping[str, datetime] = MappingProxyType({}),
) -> PrunePlan:
    """Decide. `uses` are the packs that the index lists; `unlisted` sizes of packs in no index.

    `marks` say since when a pack is known to be in no index; `listed_blobs` is how many blobs the index files list. A
    pack `taken_over` is deleted by a later prune only: no index may name what is not there. `locks` say until when the
    store keeps some of them, whatever is asked.
    """
    drop = [use for use in uses if not use.used_blobs]
    keep, repack = _divide([use for use in uses if use.used_blobs], rules)
    found = [UnlistedPack(name, size, min(marks.get(name, now), now)) for name, size in sorted(unlisted.items())]
    overdue = {pack.name for pack in found if now - pack.since >= rules.grace} - set(taken_over)
    locked = {name for name, until in locks.items() if until > now}
    return PrunePlan(
        made_at=now,
        keep=tuple(keep),
        drop=tuple(drop),
        repack=tuple(repack),
        waiting=tuple(pack for pack in found if pack.name not in overdue),
        overdue=tuple(pack for pack in found if pack.name in overdue - locked),
        locked=tuple(LockedPack(pack, locks[pack.name]) for pack in found if pack.name in overdue & locked),
        gone=tuple(gone),
        relisted=tuple(relisted),
        taken_over=tuple(taken_over),
        duplicate_blobs=duplicate_blobs,
        crowded=index_files > 8 + 2 * (listed_blobs // rules.index_blobs),
    )


def _divide(uses: Sequence[PackUse], rules: PruneRules) -> tuple[list[PackUse], list[PackUse]]:
    """Those to keep as they are, and those to write anew."""
    names = {use.name for use in uses if use.kind == "mixed"}  # written by old programs; slow to read trees from
    allowed = sum(use.used_bytes for use in uses) * rules.unused_share / (1 - rules.unused_share)
    unused = sum(use.unused_bytes for use in uses if use.name not in names)
    for use in sorted(uses, key=lambda use: (-use.unused_bytes / (use.unused_bytes + use.used_bytes), use.name)):
        if unused <= allowed:
            break
        if use.name not in names:
            names.add(use.name)
            unused -= use.unused_bytes
    for kind in _KINDS:
        small = {use.name for use in uses if use.kind == kind and use.used_bytes < rules.small_bytes}
        if len(small - names) >= rules.small_packs:
            names |= small
    return [use for use in uses if use.name not in names], [use for use in uses if use.name in names]
