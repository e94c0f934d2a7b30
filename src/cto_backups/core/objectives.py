"""How far what is known is from what the policy aims at, and the words for it."""

from datetime import datetime, timedelta

from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.facts import SourceFacts
from cto_backups.core.forecast import Forecast


def age_against_rpo(age: timedelta, rpo: timedelta) -> str:
    """Both figures in a sentence: "newest complete point is 26 h old; RPO is 24 h"."""
    told, limit = roughly(age), format_duration(rpo)
    just_over = "a little over " if age > rpo and told == limit else ""
    return f"newest complete point is {just_over}{told} old; RPO is {limit}"


def quiet_for(facts: SourceFacts) -> timedelta | None:
    """For how long a source had stood still when it was last captured, or confirmed to be as it was.

    Not until now: what it did since that look is for the next one to see, and that there is one for the RPO. A source
    without dates to go by was seen to change when its newest point was made. None: there is no complete point.
    """
    newest = facts.newest
    if newest is None:
        return None
    looked_at = max(newest.captured_at, facts.confirmed_at or newest.captured_at)
    return looked_at - (newest.newest_content_at or newest.captured_at)


def change_against_expected(facts: SourceFacts, expected: timedelta) -> str:
    """Both figures in a sentence: "when it was last looked at, its newest content was 49 h old; policy expects …"."""
    quiet = quiet_for(facts)
    assert quiet is not None and facts.newest is not None
    dated = facts.newest.newest_content_at is not None
    told = f"its newest content was {roughly(quiet)} old" if dated else f"it had been the same for {roughly(quiet)}"
    return f"when it was last looked at, {told}; policy expects a change every {format_duration(expected)}"


def old_proof(facts: SourceFacts, every: timedelta, now: datetime) -> str | None:
    """Where tests are fresh, but of points so old that nothing of the last `every` is proven: that, in a sentence."""
    until = facts.proven_until
    if facts.proven is None or until is None or now - until <= every:
        return None
    return (
        f"restore tests prove nothing newer than {facts.proven.id}, whose place a newer point took "
        f"{roughly(now - until)} ago; a test of the newest is due every {format_duration(every)}"
    )


def forecast_against_rto(expected: Forecast, rto: timedelta) -> str:
    """Both figures in a sentence: "a restore is forecast to take 3 h to 5 h (…); RTO is 4 h, so it may be too slow"."""
    beyond = ", so it may be too slow" if expected.most > rto else ""
    return f"a restore is forecast to take {expected}; RTO is {format_duration(rto)}{beyond}"
