"""Whether a recovery point changed its source as ransomware, a wiper or an accident would: a verdict, with reasons.

A point is judged by the figures of its own change and by the history of its source. What is usual there is told by
medians and median absolute deviations, which a few odd days do not move; floors keep small sources and young
histories quiet. A point that is not what it should be for reasons that are known (incomplete) is not judged by what
it lacks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from cto_backups.core.change import Change
from cto_backups.core.log_range import log_range
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.rows import lost_most, rows_in, rows_of

HISTORY = 60
"""By so many of its points a source's history is told."""

KIB, MIB = 1 << 10, 1 << 20
LEAST_HISTORY = 3
LEAST_BYTES = 16 * KIB
LEAST_ENTRIES = 50
LEAST_LOSS_BYTES = MIB
LEAST_GROWTH_BYTES = 64 * MIB

SCRAMBLED_EXCESS = 0.25
SCRAMBLED_SHARE = 0.10
ENTROPY_EXCESS = 0.3
UNKNOWN_STORED_SHARE = 0.5
DENSE_FROM = 0.75
DENSE_SHARE = 0.3
DENSE_HISTORY = 7
BLANK_SHARE = 0.25
LOST_SHARE = 1 / 3
RENAMED_SHARE = 0.5
COLLAPSED_TO = 0.5
EXPLODED_TO = 4.0

_DEVIATIONS = 6
_TO_SIGMA = 1.4826  # of a normal distribution, by its median absolute deviation


@dataclass(frozen=True, slots=True)
class Judged:
    """A point of the history (or the one to be judged) with its figures."""

    point: RecoveryPoint
    change: Change

    @property
    def replaced(self) -> float:
        """The share of the source before it whose content was replaced."""
        return self.change.replaced_share(self.point.size_bytes)

    @property
    def lost(self) -> float:
        """The share of its entries that are gone for nothing."""
        return self.change.lost_entries / self.change.parent_entries if self.change.parent_entries else 0.0

    @property
    def renamed(self) -> float:
        """The share of its entries that have another name."""
        return self.change.renamed_entries / self.change.parent_entries if self.change.parent_entries else 0.0

    @property
    def blank(self) -> float:
        """The share of the source before it (of itself, where it is the first) that is read as one repeated byte."""
        whole = self.change.parent_bytes or self.point.size_bytes
        return self.change.content.blank_bytes / whole if whole else 0.0

    @property
    def is_read_anew(self) -> bool:
        """Whether most of it was read, as a base is, and not what was logged since one."""
        return self.change.content.read_bytes * 2 >= self.point.size_bytes


def suspicions(point: RecoveryPoint, history: Sequence[RecoveryPoint]) -> tuple[str, ...]:
    """Why a point is suspected, in words; nothing when it is not, or when there is nothing to compare it with.

    `history` are earlier points of the source that are not under suspicion themselves, in any order; of those without
    figures only the size counts.
    """
    if point.change is None or not point.change.parent_entries:
        return ()
    # What a log adds to a base is another matter than the base: each is judged by its like.
    logged = log_range(point) is not None
    history = [each for each in history if (log_range(each) is not None) == logged]
    this = Judged(point, point.change)
    past = [Judged(each, each.change) for each in history if each.change is not None]
    found = [_scrambled(this, past), _blanked(this, past, logged=logged)]
    if history and point.complete:
        found += _emptied(point, history)
    if len(history) >= LEAST_HISTORY and point.complete:
        found += [_lost(this, past), _renamed(this, past)]
        if not logged:  # how much a log grows says nothing of the source
            found += _resized(this, history)
    return tuple(reason for reason in found if reason)


def _scrambled(this: Judged, past: Sequence[Judged]) -> str:
    """Content was replaced by such as compresses less, and looks more like chance, than what the source has had."""
    change = this.change
    if change.replaced_bytes(this.point.size_bytes) < LEAST_BYTES:
        return ""
    telling = [each.change for each in past if each.change.content.new_bytes >= LEAST_BYTES]
    usual, usual_entropy = _usual_stored_share(telling), _usual_entropy(telling)
    if usual > DENSE_FROM:
        return _restless(this, past)
    entropy = change.content.entropy
    more_like_chance = not entropy or entropy >= usual_entropy + ENTROPY_EXCESS
    if this.replaced < SCRAMBLED_SHARE or change.stored_share < usual + SCRAMBLED_EXCESS or not more_like_chance:
        return ""
    return (
        f"mass change of content that no longer compresses: {_percent(this.replaced)} of the source was replaced by "
        f"what compresses to {_percent(change.stored_share)}, where {_percent(usual)} is usual"
    )


def _usual_stored_share(telling: Sequence[Change]) -> float:
    """To what new content of the source has compressed: all of it taken together, or its common upper bound."""
    if not telling:
        return UNKNOWN_STORED_SHARE
    together = sum(each.content.stored_bytes for each in telling) / sum(each.content.new_bytes for each in telling)
    return min(1.0, max(together, _bound([each.stored_share for each in telling], deviations=3)))


def _usual_entropy(telling: Sequence[Change]) -> float:
    """The entropy of what the source has had, in bits a byte; 0 when it is not known."""
    sampled = [each.content for each in telling if each.content.entropy]
    weight = sum(content.new_bytes for content in sampled)
    return sum(content.entropy * content.new_bytes for content in sampled) / weight if sampled else 0.0


def _restless(this: Judged, past: Sequence[Judged]) -> str:
    """A source that never compressed: only that much more of it changed than ever can be told."""
    shares = [each.replaced for each in past if each.change.parent_entries and each.change.compared]
    if not this.change.compared or len(shares) < DENSE_HISTORY or not _exceeds(this.replaced, shares, DENSE_SHARE):
        return ""
    return (
        f"mass change of content that does not compress: {_percent(this.replaced)} of the source was replaced, "
        f"where {_percent(median(shares))} is usual"
    )


def _blanked(this: Judged, past: Sequence[Judged], *, logged: bool) -> str:
    """Files were overwritten with nothing. A base has all the blank pages of a server, and what was logged has none."""
    if logged and this.is_read_anew:
        past = [each for each in past if each.is_read_anew]
        if not past:
            return ""
    if this.change.content.blank_bytes < LEAST_BYTES or not _exceeds(
        this.blank, [each.blank for each in past], BLANK_SHARE
    ):
        return ""
    share = _percent(this.blank)
    return f"mass change of content to nothing: {share} of the source was overwritten with one repeated byte"


def _lost(this: Judged, past: Sequence[Judged]) -> str:
    change = this.change
    lost = change.lost_entries
    if not change.compared or lost < LEAST_ENTRIES or not _exceeds(this.lost, _of(past, lambda p: p.lost), LOST_SHARE):
        return ""
    return f"mass deletion: {lost} of {change.parent_entries} entries are gone"


def _renamed(this: Judged, past: Sequence[Judged]) -> str:
    change = this.change
    usual = _of(past, lambda each: each.renamed)
    if change.renamed_entries < LEAST_ENTRIES or not _exceeds(this.renamed, usual, RENAMED_SHARE):
        return ""
    return f"mass rename: {change.renamed_entries} of {change.parent_entries} entries have another name"


def _resized(this: Judged, history: Sequence[RecoveryPoint]) -> list[str]:
    """The size against the point before, against those of the history, and by how much it has swung."""
    now, before = this.point.size_bytes, this.change.parent_bytes
    if not now or not before:
        return []
    usual = median(each.size_bytes for each in history)
    swings = [
        abs(math.log2(each.size_bytes / each.change.parent_bytes))
        for each in history
        if each.change is not None and each.size_bytes and each.change.parent_bytes
    ]
    swing = math.log2(now / before)
    lowest, highest = min(each.size_bytes for each in history), max(each.size_bytes for each in history)
    words = f"{_percent(now / before)} of what it was"
    if before - now >= LEAST_LOSS_BYTES and now <= COLLAPSED_TO * usual and now < lowest:
        return [f"size collapsed: {words}"] if _exceeds(-swing, swings, -math.log2(COLLAPSED_TO)) else []
    if now - before >= LEAST_GROWTH_BYTES and now >= EXPLODED_TO * highest:
        return [f"size exploded: {words}"] if _exceeds(swing, swings, math.log2(EXPLODED_TO)) else []
    return []


def _emptied(point: RecoveryPoint, history: Sequence[RecoveryPoint]) -> list[str]:
    """The rows of a database against those of the history: its files and its log do not shrink with them.

    Of a server with several, each is looked at by itself. What was as low once is no surprise.
    """
    said = []
    newest_first = sorted(history, key=lambda each: each.captured_at, reverse=True)
    now = rows_of(point.fingerprint)
    before = [rows for each in newest_first if (rows := rows_of(each.fingerprint)) is not None]
    if now is not None and (lost := _fewer(now, before)):
        said.append(f"rows are gone: {now:,} are there, where {lost}")
    past = [rows_in(each.fingerprint) for each in newest_first]
    for name, rows in rows_in(point.fingerprint).items():
        had = [each[name] for each in past if name in each]
        if not rows and had and min(had) > 0:
            said.append(f"database {name} is empty: no row is in it, where {_had(had)}")
        elif lost := _fewer(rows, had):
            said.append(f"rows of database {name} are gone: {rows:,} are there, where {lost}")
    return said


def _fewer(now: int, before: Sequence[int]) -> str:
    """What there was before, newest first, where most of it is gone now as it never was."""
    if before and now < min(before):
        if _is_told(before) and lost_most(int(median(before)), now):
            return _had(before)
        if lost_most(before[0], now):
            return _had(before[:1])
    return ""


def _had(before: Sequence[int]) -> str:
    """So many rows, newest first: those that are usual, or with a young history those of the newest point."""
    return f"{int(median(before)):,} are usual" if _is_told(before) else f"{before[0]:,} were before"


def _is_told(before: Sequence[int]) -> bool:
    return len(before) >= LEAST_HISTORY


def _of(past: Sequence[Judged], figure: Callable[[Judged], float]) -> list[float]:
    return [figure(each) for each in past if each.change.compared]


def _exceeds(value: float, past: Sequence[float], floor: float) -> bool:
    """Whether a value reaches the floor and is beyond what the history knows, by deviation and by example.

    What was of that order once, and is not under suspicion, is no surprise a second time.
    """
    return value >= floor and value > _bound(past, deviations=_DEVIATIONS) and value * 2 / 3 > max(past, default=0.0)


def _bound(values: Sequence[float], *, deviations: int) -> float:
    """The median and so many robust deviations; 0 without values."""
    if not values:
        return 0.0
    middle = median(values)
    return middle + deviations * _TO_SIGMA * median(abs(value - middle) for value in values)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
