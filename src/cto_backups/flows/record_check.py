"""Records in a vault against the catalog: which are missing or altered, and how they are put back.

Whoever recovers without the catalog knows from them what each snapshot is. A vault may also hold records of other
signers (another installation, or an evidence key that was lost): of those the chain is checked, not its end, which
only their own catalog knows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cto_backups.core.payloads import Damage
from cto_backups.core.wording import counted
from cto_backups.errors import DamageError
from cto_backups.evidence.records import Record
from cto_backups.flows import chains
from cto_backups.flows.installation import Installation
from cto_backups.flows.record_files import RecordFiles, policy_key, sealed_key
from cto_backups.repository.together import both, each

_MOST_FAULTS = 20


@dataclass(frozen=True)
class StrayRecord:
    """A record of which the vault has not what the catalog has; `content` is what belongs there."""

    key: str
    content: bytes
    damage: Damage


def check(installation: Installation, vault_name: str, *, read_data: bool = True) -> tuple[Damage, ...]:
    """What is wrong with the records and policies in a vault. Without `read_data`, only what is missing, cut or clear.

    Raises VaultError, and what keeps the vault's repository from opening.
    """
    heads = installation.catalog.vault_heads(vault_name)  # asked first: what arrives meanwhile is not missed
    files = RecordFiles(installation, vault_name)
    vault = installation.vault(vault_name)
    listed, policies = both(vault, lambda: files.sizes("records"), lambda: files.sizes("policies"))
    unclaimed = _own(installation, listed)
    strays = _strays(installation, files, heads, listed, unclaimed, read_data=read_data)
    found = [stray.damage for stray in strays]
    found += _unknown(installation, unclaimed)
    found += _unsealed(files, (*listed, *policies))
    if read_data:
        found += _foreign(installation, vault_name, listed)
        found += [damage for _, damage in _harmed_policies(files, policies)]
    return tuple(found)


def put_back(installation: Installation, vault_name: str) -> tuple[Damage, ...]:
    """Write the records that are missing or altered from the catalog, and the policy in force, and seal what lies there
    in clear; what was so mended.

    Raises VaultError, and what keeps the vault's repository from opening.
    """
    heads = installation.catalog.vault_heads(vault_name)
    files = RecordFiles(installation, vault_name)
    listed = files.sizes("records")
    mended = []
    for stray in _strays(installation, files, heads, listed, {}, read_data=True):
        files.put(stray.key, stray.content, overwrite=True)
        mended.append(stray.damage)
    in_force = installation.policy.digest
    policies = files.sizes("policies")
    for digest, damage in _harmed_policies(files, policies):
        if digest == in_force:
            files.put(policy_key(digest), installation.policy_text, overwrite=True)
            mended.append(damage)
    keys = (*listed, *policies)
    mended += _unsealed(files, keys)
    for key in files.unsealed(keys):
        files.seal(key)
    return tuple(mended)


def _unsealed(files: RecordFiles, listed: Iterable[str]) -> Iterator[Damage]:
    """An earlier release left them so; among what they say are values from sampled rows of databases."""
    if keys := files.unsealed(listed):
        why = f"whoever can read the vault can read them, from {keys[0]} on"
        yield Damage(f"{counted(len(keys), 'record or policy', 'records and policies')} not encrypted", why)


def _own(installation: Installation, listed: Mapping[str, int]) -> dict[str, list[str]]:
    """The keys of what lies in the vault under this installation's name, by those that it has sealed."""
    found: dict[str, list[str]] = {}
    for key in listed:
        if key.startswith(f"records/{installation.signer.signer}/"):
            found.setdefault(sealed_key(key), []).append(key)
    return found


def _strays(
    installation: Installation,
    files: RecordFiles,
    heads: Mapping[str, int],
    listed: Mapping[str, int],
    unclaimed: dict[str, list[str]],
    *,
    read_data: bool,
) -> Iterator[StrayRecord]:
    """Of each signer that the catalog has the records of, up to where this vault is known to have them.

    Takes what the catalog has out of `unclaimed`, as long as something is left there.
    """

    def compared(expected: tuple[str, bytes]) -> tuple[str, bytes, str]:
        return *expected, chains.difference(files, listed, *expected, read_data=read_data)

    for signer in dict.fromkeys((*heads, installation.signer.signer)):
        due = _due(installation, signer, heads.get(signer, 0), unclaimed)
        for key, content, why in each(installation.vault(files.vault_name), compared, due):
            if why:
                yield StrayRecord(key, content, Damage(_named(Record.from_bytes(content, name=key)), why))


def _due(
    installation: Installation, signer: str, head: int, unclaimed: dict[str, list[str]]
) -> Iterator[tuple[str, bytes]]:
    """The records that a vault is to have up to number `head`: keys and contents."""
    for sequence, key, content in installation.catalog.record_files(signer):
        unclaimed.pop(key, None)
        if sequence <= head:
            yield key, content
        elif not unclaimed:
            return


def _unknown(installation: Installation, unclaimed: Mapping[str, list[str]]) -> Iterator[Damage]:
    """Records of this installation that its catalog does not have: what it says may be older than the vault."""
    keys = [key for same in unclaimed.values() for key in same]
    if keys:
        first = min(keys).rpartition("/")[2]
        why = f"this catalog does not have them (from {first} on): it is older than the vault, or they are forged"
        yield Damage(f"{counted(len(keys), 'record')} of signer {installation.signer.signer}", why)


def _named(record: Record) -> str:
    """The record in words: the number, what it is of, and which recovery point it speaks of."""
    point = record.payload.get("id") if record.kind == "recovery-point" else record.payload.get("point")
    about = f" of {point}" if point else ""
    return f"record {record.sequence} of signer {record.signer} ({record.kind}{about})"


def _foreign(installation: Installation, vault_name: str, listed: Mapping[str, int]) -> Iterator[Damage]:
    """What others have signed since this catalog took over records of theirs, or all of it, must hang together."""
    for signer, chain in chains.grouped(installation, {vault_name: listed}).items():
        if signer == installation.signer.signer:
            continue
        continuation = chain.after(*installation.catalog.takeover.last_record(signer))
        for _ in continuation:
            pass
        for damage in continuation.faults[:_MOST_FAULTS]:
            yield Damage(f"records of another signer, {signer}", f"{damage.what}: {damage.detail}")


def _harmed_policies(files: RecordFiles, sizes: Mapping[str, int]) -> Iterator[tuple[str, Damage]]:
    """By their digests. None is missed: each copy of a point brings the one in force."""
    for _, digest, text in files.policies(sizes):
        if isinstance(text, DamageError):
            yield digest, Damage(f"policy {digest[:12]}", text.why)
