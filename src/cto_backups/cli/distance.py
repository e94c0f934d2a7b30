"""How far the point that `--at` means is from the moment that was asked for, and what is known of the time between."""

from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from cto_backups.cli import figures

if TYPE_CHECKING:
    from cto_backups.core.model import RecoveryPoint
    from cto_backups.flows.installation import Installation


def distance(installation: "Installation", point: "RecoveryPoint", asked: datetime, zone: tzinfo) -> str:
    """Sentences for whoever restores; moments to the second, since points may be seconds apart."""
    from cto_backups import clock

    away = figures.duration((asked - point.captured_at).total_seconds())
    told = f"Its moment is {_spelled(point.captured_at, zone)}, {away} before the one asked for."
    following = installation.catalog.after(point.source, asked)
    if following is not None:
        return (
            f"{told} The next point is of {_spelled(following.captured_at, zone)}: what changed between the two is not"
            " in this one."
        )
    known = installation.catalog.facts(clock.now(), [point.source]).sources[point.source]
    if point.complete and known.confirmed_at is not None and known.confirmed_at >= asked:
        return f"{told} Nothing had changed when the source was looked at, {_spelled(known.confirmed_at, zone)}."
    return f"{told} It is the newest: what changed since is in no point."


def _spelled(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"
