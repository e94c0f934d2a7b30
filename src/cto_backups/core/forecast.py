"""The forecast RTO: how long a restore would take, from what the last restore tests took; pure.

A test's time is scaled to the newest point twice, by its bytes and by its entries: which of the two a restore takes its
time for differs from source to source. The least and the most of all tests make the range.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from cto_backups.core.duration import roughly
from cto_backups.core.facts import Facts, SourceFacts, TimedRestore
from cto_backups.core.policy import Policy
from cto_backups.core.wording import counted

TESTS_WANTED = 3
"""From how many tests on their own spread is the range."""

WIDENED_BY = 2
"""How many times shorter and longer than measured a restore may be while there are fewer tests than that."""

LONGEST = timedelta(days=36500)
"""Nothing longer is forecast: figures of a few bytes scaled up to petabytes say no more than "very long"."""

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a restore would take, at least and at most, judged from so many passed restore tests."""

    least: timedelta
    most: timedelta
    tests: int

    @property
    def wide(self) -> bool:
        """Whether there are too few tests to know how much their times differ, so that the range is a guess."""
        return self.tests < TESTS_WANTED

    def __str__(self) -> str:
        """The range in words: "2 minutes to 8 minutes (wide: measured by 1 restore test)"."""
        least, most = _told(self.least), _told(self.most)
        span = most if least == most else f"{least} to {most}"
        return f"{span} ({'wide: ' if self.wide else ''}measured by {counted(self.tests, 'restore test')})"


@dataclass(frozen=True, slots=True)
class CategoryForecast:
    """How long it would take to restore every source of a category, one after the other in the policy's order.

    `done_after` says of each source after what time it would be back. `unknown` names the sources of which no restore
    was ever measured; they are not in the figures. `forecast` None: there is no other source.
    """

    category: str
    forecast: Forecast | None
    done_after: Mapping[str, Forecast]
    unknown: tuple[str, ...]


def forecast(facts: SourceFacts) -> Forecast | None:
    """The forecast for the newest complete point of a source; None without one, or when no restore was measured."""
    newest = facts.newest
    if newest is None or not facts.restores:
        return None
    times = [time for restore in facts.restores for time in _scaled(restore, newest.size_bytes, newest.entry_count)]
    least, most = min(times), max(times)
    if len(facts.restores) < TESTS_WANTED:
        least, most = least / WIDENED_BY, most * WIDENED_BY
    return Forecast(_length(least), _length(most), len(facts.restores))


def of_category(policy: Policy, facts: Facts, category: str) -> CategoryForecast:
    """The forecast for all sources of a category, one after the other in the policy's order."""
    done_after: dict[str, Forecast] = {}
    unknown: list[str] = []
    total: Forecast | None = None
    for source in policy.sources.values():
        if source.category.name != category:
            continue
        own = forecast(facts.sources.get(source.name, SourceFacts(source.name)))
        if own is None:
            unknown.append(source.name)
            continue
        total = own if total is None else _after(total, own)
        done_after[source.name] = total
    return CategoryForecast(category, total, done_after, tuple(unknown))


def _after(before: Forecast, own: Forecast) -> Forecast:
    """Both together; known no better than the one that fewer tests have measured."""
    least, most = before.least + own.least, before.most + own.most
    return Forecast(min(least, LONGEST), min(most, LONGEST), min(before.tests, own.tests))


def _scaled(restore: TimedRestore, size_bytes: int, entries: int) -> list[float]:
    ratios = [
        wanted / measured
        for wanted, measured in ((size_bytes, restore.size_bytes), (entries, restore.entries))
        if measured
    ]
    return [restore.seconds * ratio for ratio in ratios] or [restore.seconds]


def _length(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, LONGEST.total_seconds()))


def _told(length: timedelta) -> str:
    return roughly(length) if length >= _SECOND else "under 1 second"
