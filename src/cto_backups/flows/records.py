"""Bring signed records and the policy in force to a vault, in order, before the catalog shows what they say."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain

from cto_backups import clock
from cto_backups.errors import BackupsError, DamageError, VaultExistsError, VaultMissingError
from cto_backups.evidence.records import Head, Record
from cto_backups.flows.installation import Installation
from cto_backups.flows.record_files import RecordFiles, behind, policy_key
from cto_backups.repository.together import each

NOTED_AT_ONCE = 100
"""How many records a vault may have that the catalog does not know of, while more are brought."""


def write(installation: Installation, kind: str, payload: Mapping[str, object]) -> Record:
    """Append a signed record to this installation's chain; it reaches vaults by `deliver`."""
    return installation.catalog.append_record(installation.signer, kind, payload, clock.now())


def deliver(installation: Installation, vault_name: str) -> int:
    """Bring the vault every record that it does not have yet, and the policy in force; how many records. As `bring`."""
    before = installation.catalog.vault_head(vault_name, installation.signer.signer)
    head = bring(installation, vault_name)
    if head is None:
        return 0
    installation.catalog.advance_vault_head(vault_name, *head)
    return head.sequence - before


def bring(installation: Installation, vault_name: str) -> Head | None:
    """Bring the vault every record that it does not have yet, and the policy in force; how far that came.

    A vault that was away for a while so gets the whole chain. That it has them is for the caller to note, together with
    what they say; it is noted here where that broke off, and now and then in between: what is brought again is found
    there. None when there was nothing to bring. Raises VaultError; DamageError when the vault holds another record
    under the same number, of whatever kind, and CatalogBehindError when it holds more than the catalog: then that has
    gone back in time, and may have forgotten what must not be done. Each process looks when it first brings something,
    and where the catalog knows of less than it has brought. The domain of another host gets nothing.
    """
    known = installation.policy.vaults.get(vault_name)
    if known is not None and known.domain_of is not None:
        return None  # an enrolled host reads what lies in its own domain: nothing of the others comes there
    files = RecordFiles(installation, vault_name)
    catalog, signer = installation.catalog, installation.signer.signer
    before = noted = reached = catalog.vault_head(vault_name, signer)
    try:
        due = catalog.records_after(signer, reached, lasting=True)
        if before < installation.brought.get(vault_name, before + 1):
            due = _continuing(files, signer, before, due)
        for record in each(installation.vault(vault_name), partial(_bring, files), chain([None], due)):
            if record is not None:
                reached = record.sequence
            if reached - noted >= NOTED_AT_ONCE:
                catalog.advance_vault_head(vault_name, signer, reached)
                noted = reached
    except BaseException:
        if reached > noted:
            catalog.advance_vault_head(vault_name, signer, reached)
        raise
    installation.brought[vault_name] = reached
    return Head(signer, reached) if reached > before else None


def deliver_everywhere(installation: Installation) -> dict[str, BackupsError]:
    """Bring every vault the records; one that is away, and why, gets them with the next thing that is brought there."""
    problems: dict[str, BackupsError] = {}
    for vault in installation.policy.vaults:
        try:
            installation.vault(vault).check()
            deliver(installation, vault)
        except BackupsError as error:
            problems[vault] = error
    return problems


def _continuing(files: RecordFiles, signer: str, before: int, due: Iterator[Record]) -> Iterator[Record]:
    """The records that are due, once the vault is seen to hold nothing else from there on; see `bring`."""
    last = before
    for record in due:
        last = record.sequence
        there = files.numbered(signer, last)
        if others := [key for key in there if key != record.key]:
            raise _parted(files.vault_name, others[0])
        yield record
        if not there:
            yield from due
            return
    # All that the catalog has is there. Asked for after the vault: what others bring meanwhile, the catalog had before.
    if files.numbered(signer, last + 1) and files.installation.catalog.takeover.last_record(signer)[0] <= last:
        raise behind(files.vault_name, last + 1)


def _parted(vault_name: str, key: str) -> DamageError:
    return DamageError(
        f"Vault '{vault_name}' holds a different record under {key}",
        why="the record chain of this installation and the one in the vault have parted",
        todo="Find out who else writes to this vault; keep both until it is understood. If the catalog is "
        "older than the vault, put it aside and run 'cto.backups catalog rebuild'.",
    )


def _bring(files: RecordFiles, record: Record | None) -> Record | None:
    """Bring a record; or for None the policy in force, which goes along."""
    if record is None:
        _bring_policy(files)
        return None
    content = record.to_bytes()
    try:
        files.put(record.key, content)
    except VaultExistsError:
        if not _holds(files, record.key, content):
            raise _parted(files.vault_name, record.key) from None
    return record


def _bring_policy(files: RecordFiles) -> None:
    policy = files.installation.policy
    key = policy_key(policy.digest)
    vault = files.installation.vault(files.vault_name)
    try:
        vault.size(key)
    except VaultMissingError:
        with suppress(VaultExistsError):
            files.put(key, files.installation.policy_text)


def _holds(files: RecordFiles, key: str, content: bytes) -> bool:
    try:
        return files.read(key) == content
    except DamageError:
        return False
