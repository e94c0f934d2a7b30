"""Sizes, lengths of time and moments as people read them in tables and sentences."""

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from cto_backups.core.wording import counted

if TYPE_CHECKING:
    from cto_backups.flows.store_holds import InStore

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def size(size_bytes: float) -> str:
    """A number of bytes in the unit that leaves one to three digits before the point: "999 B", "1.2 GB"."""
    if size_bytes < 999.5:
        return f"{round(size_bytes)} B"
    value = float(size_bytes)
    for unit in _UNITS:
        value /= 1000
        # From here on it would be shown as 1000: the next unit's 1.0 says the same.
        if value < 999.5 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def rate(size_bytes: float, seconds: float) -> str:
    """How fast bytes went: "120 MB/s"; empty when it was too quick to tell."""
    return f"{size(size_bytes / seconds)}/s" if seconds > 0.01 and size_bytes else ""


def duration(seconds: float) -> str:
    """How long something took: "0.4 s", "12 s", "3 min 5 s", "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole // 60, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def age(length: timedelta) -> str:
    """A length of time in its leading unit, never rounded up: "45 s", "59 min", "2 h", "9 d"."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 3 * 86400:
        return f"{seconds // 3600} h"
    if seconds < 3 * 365 * 86400:
        return f"{seconds // 86400} d"
    return f"{seconds // (365 * 86400)} y"


def relative(moment: datetime, now: datetime) -> str:
    """A moment as seen from now: "in 2 h", "5 min ago", "now" within a few seconds."""
    away = moment - now
    if abs(away) < timedelta(seconds=5):
        return "now"
    return f"in {age(away)}" if away > timedelta() else f"{age(-away)} ago"


def local(moment: datetime, zone: tzinfo) -> str:
    """A moment on the clocks of a zone, to the minute: "2026-11-23 10:00"."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"


def count(number: int) -> str:
    """A number with its thousands set apart: "12,345"."""
    return f"{number:,}"


def entries(number: int) -> str:
    """Entries of a tree, counted: "1 entry", "12,345 entries"."""
    return f"{count(number)} {'entry' if number == 1 else 'entries'}"


def held(found: "InStore") -> str:
    """How the store's own legal holds are, in a sentence."""
    off = f", {found.taken_off} taken off what nothing needs to be held" if found.taken_off else ""
    return f"legal holds on {counted(found.held, 'file')}, {found.anew} of them put on now{off}"
