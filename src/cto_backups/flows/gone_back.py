"""Whether the catalog has gone back in time, for whoever only reads: an older copy, or a server that had not all.

Who writes to a server compares whole chains (`failover`). Here the record after the catalog's last is asked for by
name: vaults get them in order.
"""

import logging
from collections.abc import Collection
from functools import partial

from cto_backups.errors import BackupsError, CatalogBehindError
from cto_backups.flows.fleet import vaults_elsewhere
from cto_backups.flows.installation import Installation
from cto_backups.flows.presence import answers
from cto_backups.flows.record_files import RecordFiles, behind

log = logging.getLogger("cto_backups")


def gone_back(installation: Installation, away: Collection[str]) -> CatalogBehindError | None:
    """What is wrong when a vault has a record of this installation that the catalog lacks. Takes 10 s at most.

    Not looked at are vaults that are `away`, folders of other hosts, and the domains of other hosts, who sign there.
    """
    catalog = installation.catalog
    signers = catalog.signers()
    # To know its own name a key loads what signs, which is slow: with one signer, it is that one.
    signer = signers[0] if len(signers) == 1 else installation.signer.signer
    passed_by = {*away, *vaults_elsewhere(installation)}
    vaults = installation.policy.vaults.items()
    names = [name for name, vault in vaults if vault.domain_of is None and name not in passed_by]
    last, _ = catalog.takeover.last_record(signer)
    found = answers(names, partial(_has, installation, signer, last + 1))
    having = next((name for name in names if found.get(name)), None)
    # Asked again after the vaults: what others bring there meanwhile, the catalog had before.
    if having is None or catalog.takeover.last_record(signer)[0] > last:
        return None
    return behind(having, last + 1)


def _has(installation: Installation, signer: str, number: int, name: str) -> bool:
    """Whether a vault has a record of this number; False where that cannot be told."""
    try:
        return bool(RecordFiles(installation, name).numbered(signer, number))
    except BackupsError as error:
        log.info("vault not looked at", extra={"fields": {"vault": name, "message": str(error)}})
    return False
