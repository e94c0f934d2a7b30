"""Thinning: runs that nothing rests on any more leave the catalog, a few at a time, beside other work."""

import logging
from datetime import timedelta
from typing import Final

from cto_backups import clock
from cto_backups.errors import BackupsError
from cto_backups.flows.installation import Installation

log = logging.getLogger("cto_backups")

AGAIN_SECONDS: Final = 86_400.0
AT_MOST: Final = 5
"""How many thousand runs are looked at by the way, each in a transaction of its own."""
KEPT: Final = timedelta(days=400)
"""How long runs are kept at least: a year, and what an audit of it takes."""


class Thinning:
    """How far a process has come with that; once a day it begins anew."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._after = 0
        self._next = 0.0

    def go_on(self) -> None:
        """Look at some more runs. A failure is only logged. An enrolled host leaves that to whoever administers it."""
        if self._installation.policy.enrolled_as is not None or clock.monotonic() < self._next:
            return
        try:
            for _ in range(AT_MOST):
                last = self._installation.catalog.thin_runs(clock.now() - KEPT, self._after)
                if last is None:
                    self._after, self._next = 0, clock.monotonic() + AGAIN_SECONDS
                    return
                self._after = last
        except BackupsError as error:
            log.warning("runs not thinned out", extra={"fields": {"message": str(error)}})
