"""From the validated times of a day and of a week to `core.windows`."""

from cto_backups.config.alert_models import QuietHours
from cto_backups.config.bandwidth_models import WEEKDAYS, BandwidthLimit
from cto_backups.config.worker_models import HeavyWindow
from cto_backups.core.windows import Window, parse_time_of_day


def window(given: BandwidthLimit | HeavyWindow | QuietHours) -> Window:
    """From when to when something holds."""
    days = () if isinstance(given, QuietHours) else given.days
    return Window(
        begin=parse_time_of_day(given.begin) if given.begin else None,
        end=parse_time_of_day(given.end) if given.end else None,
        weekdays=frozenset(WEEKDAYS.index(day) for day in days or WEEKDAYS),
    )


def is_half(given: BandwidthLimit | HeavyWindow) -> bool:
    """Whether it does not say from when to when."""
    return (given.begin is None) != (given.end is None) or (given.begin is not None and given.begin == given.end)
