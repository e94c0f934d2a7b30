"""After a fail-over: whether the catalog still has all that its vaults were brought."""

import logging
from collections.abc import Collection

from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, CatalogBehindError
from cto_backups.flows.fleet import vaults_elsewhere
from cto_backups.flows.installation import Installation
from cto_backups.flows.record_files import RecordFiles, by_signer

log = logging.getLogger("cto_backups")


def look(installation: Installation, noted: Collection[str] = ()) -> tuple[str, ...]:
    """Compare this installation's chain of records with what its vaults have of it, but for those that are noted.

    Gives the vaults that could be looked at from here. Raises CatalogBehindError where one has more than the catalog:
    what would be signed now would contradict that.
    """
    signer, catalog = installation.signer.signer, installation.catalog
    # Another one signs what lies in an enrolled host's domain.
    wanted = [name for name, vault in installation.policy.vaults.items() if vault.domain_of is None]
    wanted = [name for name in wanted if name not in noted]
    elsewhere = vaults_elsewhere(installation) if wanted else ()
    seen = []
    for name in wanted:
        if name in elsewhere:
            continue
        try:
            installation.check_readable(name)
            numbers = by_signer(RecordFiles(installation, name).sizes(f"records/{signer}")).get(signer, {})
        except BackupsError as error:
            log.info("vault not looked at", extra={"fields": {"vault": name, "message": str(error)}})
            continue
        # Asked after the vault: what others bring there meanwhile, the catalog had before.
        last, _ = catalog.takeover.last_record(signer)
        if missing := sum(number > last for number in numbers):
            raise CatalogBehindError(
                "The catalog has gone back in time",
                why=f"vault '{name}' has {counted(missing, 'record')} of this installation that it lacks: the server "
                "that keeps it now took another's place, and had not received all",
                todo="Run 'cto.backups catalog rebuild': it adds what is missing. Until then nothing is written. "
                "With a synchronous standby this does not happen.",
            )
        seen.append(name)
    return tuple(seen)
