"""Signs of life for what is claimed, and what is to be done where another has given none."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cto_backups import clock
from cto_backups.core.claims import SIGN_EVERY, Claim
from cto_backups.errors import BackupsError
from cto_backups.flows.installation import Installation

log = logging.getLogger("cto_backups")

_AGAIN_SECONDS = 1.0
"""How soon a sign is given again that did not come through."""
_LEAVE_SECONDS = 5.0


@contextmanager
def held(installation: Installation, claim: Claim) -> Iterator[None]:
    """Do something under a claim, with signs of life from this very process: what is frozen gives none.

    Whatever is written in here is written only as long as the claim stands. Raises ClaimLostError.
    """
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(installation, claim, done), name="claim", daemon=True)
    keeper.start()
    try:
        with installation.catalog.claims.under(claim):
            yield
    finally:
        done.set()
        keeper.join(_LEAVE_SECONDS)


def _keep(installation: Installation, claim: Claim, done: threading.Event) -> None:
    wait = given = SIGN_EVERY.total_seconds()
    while not done.wait(wait):
        try:
            if not installation.catalog.claims.extend(claim, clock.now()):
                return  # whoever is at it finds out with what he writes next
            wait = given
        except BackupsError as error:
            if wait != given:
                continue  # said before
            wait = _AGAIN_SECONDS
            log.warning("sign not given", extra={"fields": {"claim": claim.subject, "message": str(error)}})
