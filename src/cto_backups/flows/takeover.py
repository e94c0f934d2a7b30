"""Take over: clear up behind a process that gave no sign of life, before what it was at is begun anew.

Its run was ended in the catalog, and it can write nothing more there. What it wrote into vaults meanwhile, or yet
writes, is garbage: a later prune drops it.
"""

import logging

from cto_backups.core.claims import GRACE, Outdone
from cto_backups.core.model import ActionKind
from cto_backups.core.payloads import LeftBy
from cto_backups.errors import BusyError
from cto_backups.flows.installation import Installation
from cto_backups.flows.recover import clear_vault, is_known, show_signed

log = logging.getLogger("cto_backups")


def clear(installation: Installation, outdone: Outdone) -> BusyError | None:
    """Remove the locks of that process, and what it stored for nothing; show what it had signed as safe already.

    An error where that was all there is to do: whether anything is still due is planned anew.
    """
    run = outdone.run
    told = show_signed(installation)
    made = run.point if run.action is ActionKind.BACKUP else None
    orphans = {made} if made is not None else set[str]()
    # What it has made since it came back, if it did, is of something else.
    left = LeftBy(outdone.host, outdone.pid, (run.finished_at or run.started_at) - GRACE)
    for vault_name in installation.policy.vaults:
        told.extend(clear_vault(installation, vault_name, orphans, left=left))
    for sentence in told:
        log.info("recovered", extra={"fields": {"message": sentence}})
    if made is None or not is_known(installation, made):
        return None
    return BusyError(
        f"What was taken over from process {outdone.pid} on {outdone.host} needs no doing",
        why=f"{made} was safe already",
        todo="Nothing: what is still due is begun soon.",
    )
