"""How long points are kept, with reasons."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Retention:
    """Rules that each keep points; a point that any of them keeps is kept.

    `keep_for` by age, `permanent` for ever, `versions` the newest so many, the others grandfather-father-son:
    the last point of each of the newest so many days, weeks, months, years that have one.
    """

    keep_for: timedelta | None = None
    permanent: bool = False
    versions: int | None = None
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
