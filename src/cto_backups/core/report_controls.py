"""The control on reports: what a business looks at elsewhere is what the catalog knows."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from cto_backups.core.duration import roughly
from cto_backups.core.findings import Audited, Check
from cto_backups.core.retries import CLOCK_TOLERANCE

LATE: Final = timedelta(hours=26)
"""How old the last report may be: whoever runs the worker once a day is in time."""


def check_reports(audited: Audited) -> Iterator[Check]:
    """The place that policy wants reports in got all there is, not long ago."""
    asked, state = audited.policy.report_to, audited.environment.report
    if asked is None:
        return
    if state is not None and state.failing_since is not None:
        since = roughly(audited.now - state.failing_since)
        yield Check(asked.name, False, f"nothing could be delivered for {since}: {state.problem}")
    elif state is None or state.through is None:
        yield Check(asked.name, False, "nothing was ever reported there")
    else:
        age = audited.now - state.through
        yield Check(asked.name, -CLOCK_TOLERANCE <= age <= LATE, f"the last report is of {roughly(age)} ago")
