"""From the validated bandwidth limits of a vault to `core.bandwidth`; what does not fit together is objected to."""

from collections.abc import Iterator, Sequence

from cto_backups.config import bandwidth_models
from cto_backups.config.windows import is_half, window
from cto_backups.core.bandwidth import BandwidthLimit, BandwidthLimits, parse_rate


def bandwidth_limits(given: Sequence[bandwidth_models.BandwidthLimit]) -> BandwidthLimits:
    """The limits, in the file's order."""
    return tuple(_limit(each) for each in given)


def _limit(given: bandwidth_models.BandwidthLimit) -> BandwidthLimit:
    up, down = given.up or given.limit, given.down or given.limit
    times = window(given)
    return BandwidthLimit(
        up=parse_rate(up) if up else None,
        down=parse_rate(down) if down else None,
        begin=times.begin,
        end=times.end,
        weekdays=times.weekdays,
    )


def bandwidth_objections(name: str, given: Sequence[bandwidth_models.BandwidthLimit]) -> Iterator[tuple[int, str, str]]:
    """What does not fit together: in which limit, what, and what to do."""
    always = None
    for number, each in enumerate(given):
        if not (each.limit or each.up or each.down):
            yield number, f"a bandwidth limit of vault {name} limits nothing", "Add a limit, such as limit: 20 MiB/s."
        if is_half(each):
            yield (
                number,
                f"a bandwidth limit of vault {name} does not say from when to when it holds",
                'Write both, such as from: "08:00" and to: "18:00"; neither of them for the whole day.',
            )
        if always is not None:
            yield (
                number,
                f"a bandwidth limit of vault {name} never counts: the one before it always holds",
                "Put the one without times last: of several, the first that holds counts.",
            )
        if each.begin is None and each.end is None and each.days is None and each.limit:
            always = number
