"""Crashes: what a process that ended in the middle of an action could not note is noted by whoever started it."""

import logging

from cto_backups import clock
from cto_backups.core.model import Outcome, Run
from cto_backups.core.retries import CRASH
from cto_backups.errors import BackupsError
from cto_backups.flows.installation import Installation
from cto_backups.flows.perform import Performed
from cto_backups.flows.recover import recover

log = logging.getLogger("cto_backups")


def note_crash(installation: Installation, performed: Performed) -> None:
    """Clear what the process left, and note that the action failed so: after some such failures it is quarantined.

    A failure of that is only logged.
    """
    action = performed.action
    try:
        for sentence in recover(installation):
            log.info("recovered", extra={"fields": {"message": sentence}})
        now = clock.now()
        run = Run(
            id=0,
            action=action.kind,
            source=action.source,
            vault=action.vault,
            point=action.point,
            started_at=performed.began or now,
            finished_at=now,
            outcome=Outcome.FAILED,
            error_code=CRASH,
            message=str(performed.error),
        )
        installation.catalog.note_crash(run, installation.host, performed.pid)
    except BackupsError as error:
        log.warning("crash not noted", extra={"fields": {"action": action.key, "message": str(error)}})
