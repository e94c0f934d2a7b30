"""Bring signed records and the policy in force to a vault, in order, before the catalog shows what they say."""

from collections.abc import Mapping

from cto_backups import clock
from cto_backups.errors import BackupsError, DamageError, VaultExistsError
from cto_backups.evidence.records import Record
from cto_backups.flows.installation import Installation


def write(installation: Installation, kind: str, payload: Mapping[str, object]) -> Record:
    """Append a signed record to this installation's chain; it reaches vaults by `deliver`."""
    return installation.catalog.append_record(installation.signer, kind, payload, clock.now())


def deliver(installation: Installation, vault_name: str) -> int:
    """Bring the vault every record that it does not have yet, and the policy in force; how many records.

    A vault that was away for a while so gets the whole chain. Raises VaultError; DamageError when the vault holds
    another record under the same number.
    """
    vault = installation.vault(vault_name)
    _deliver_policy(installation, vault_name)
    signer = installation.signer.signer
    head = installation.catalog.vault_head(vault_name, signer)
    delivered = 0
    for record in installation.catalog.records_after(signer, head):
        content = record.to_bytes()
        try:
            vault.put(record.key, [content])
        except VaultExistsError:
            if vault.read(record.key) != content:
                raise DamageError(
                    f"Vault '{vault_name}' holds a different record under {record.key}",
                    why="the record chain of this installation and the one in the vault have parted",
                    todo="Find out who else writes to this vault; keep both until it is understood. If the catalog is "
                    "older than the vault, put it aside and run 'cto.backups catalog rebuild'.",
                ) from None
        installation.catalog.advance_vault_head(vault_name, signer, record.sequence)
        delivered += 1
    return delivered


def deliver_everywhere(installation: Installation) -> dict[str, BackupsError]:
    """Bring every vault the records; what kept one from it. One that is away gets them with what is brought next."""
    problems: dict[str, BackupsError] = {}
    for vault in installation.policy.vaults:
        try:
            installation.vault(vault).check()
            deliver(installation, vault)
        except BackupsError as error:
            problems[vault] = error
    return problems


def _deliver_policy(installation: Installation, vault_name: str) -> None:
    key = f"policies/{installation.policy.digest}.yaml"
    vault = installation.vault(vault_name)
    if not any(stored.key == key for stored in vault.list("policies")):
        try:
            vault.put(key, [installation.policy_text])
        except VaultExistsError:
            return
