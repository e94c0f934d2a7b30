"""Points that hold a log beside their data: any moment within it comes back, by the clock of what wrote it; pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cto_backups.core.model import Fingerprint, RecoveryPoint
from cto_backups.core.streams import Follows

LOG_SAMPLE = "log"
"""The sample of a fingerprint that tells `since` when and `until` when, in ISO 8601."""
SUMMED_UNTIL: Final = "summed_until"
"""The field of that sample by which a fingerprint says that it is of an earlier moment: the log alone leads on."""


def log_range(point: RecoveryPoint) -> tuple[datetime, datetime] | None:
    """Since when and until when; None for a point without a log, or whose words about it make no sense."""
    told = next((sample.fields for sample in point.fingerprint.samples if sample.key == LOG_SAMPLE), None)
    if told is None:
        return None
    try:
        since, until = datetime.fromisoformat(told["since"]), datetime.fromisoformat(told["until"])
    except (KeyError, ValueError):
        return None
    return None if since.tzinfo is None or until.tzinfo is None else (since, until)


def summed_until(fingerprint: Fingerprint) -> str:
    """Until when, in ISO 8601, a fingerprint tells what there was; "" where it is of its point's own moment."""
    told = next((sample.fields for sample in fingerprint.samples if sample.key == LOG_SAMPLE), None)
    return told.get(SUMMED_UNTIL, "") if told is not None else ""


def follows(point: RecoveryPoint) -> Follows | None:
    """What a stream goes on from after this point; None where it holds no log, or one of an earlier release."""
    told = next((sample.fields for sample in point.fingerprint.samples if sample.key == LOG_SAMPLE), None)
    if told is None or "log" not in told:
        return None
    try:
        return Follows(told["log"], int(told["first_position"]), int(told["end_position"]), told)
    except (KeyError, ValueError):
        return None


def reaching(points: Iterable[RecoveryPoint], moment: datetime) -> RecoveryPoint | None:
    """Of the points whose log holds this moment, the one whose log ends first: the least has to be gone through."""
    found: tuple[datetime, RecoveryPoint] | None = None
    for point in points:
        told = log_range(point)
        if told is not None and told[0] <= moment <= told[1] and (found is None or told[1] < found[0]):
            found = told[1], point
    return found[1] if found is not None else None
