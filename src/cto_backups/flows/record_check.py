"""Records in a vault against the catalog: which are missing or altered, and how they are put back.

Whoever recovers without the catalog knows from them what each snapshot is. A vault may also hold records of other
signers (another installation, or an evidence key that was lost): of those the chain is checked, not its end, which
only their own catalog knows.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cto_backups.core.payloads import Damage
from cto_backups.core.wording import counted
from cto_backups.errors import VaultMissingError
from cto_backups.evidence.records import Record
from cto_backups.flows import chains
from cto_backups.flows.installation import Installation

_POLICY = re.compile(r"policies/([0-9a-f]{64})\.yaml")
_MOST_FAULTS = 20


@dataclass(frozen=True)
class StrayRecord:
    """A record of which the vault has not what the catalog has; `content` is what belongs there."""

    key: str
    content: bytes
    damage: Damage


def check(installation: Installation, vault_name: str, *, read_data: bool = True) -> tuple[Damage, ...]:
    """What is wrong with the records and policies in a vault. Without `read_data`, only what is missing or cut.

    Raises VaultError.
    """
    heads = installation.catalog.vault_heads(vault_name)  # asked first: what arrives meanwhile is not missed
    listed = _listed(installation, vault_name, "records")
    found = [stray.damage for stray in _strays(installation, vault_name, heads, listed, read_data=read_data)]
    found += _unknown(installation, listed)
    if read_data:
        found += _foreign(installation, vault_name, listed)
        found += [damage for _, damage in _harmed_policies(installation, vault_name)]
    return tuple(found)


def put_back(installation: Installation, vault_name: str) -> tuple[Damage, ...]:
    """Write the records that are missing or altered from the catalog, and the policy in force; what was so mended.

    Raises VaultError.
    """
    vault = installation.vault(vault_name)
    heads = installation.catalog.vault_heads(vault_name)
    listed = _listed(installation, vault_name, "records")
    mended = []
    for stray in _strays(installation, vault_name, heads, listed, read_data=True):
        vault.put(stray.key, [stray.content], overwrite=True)
        mended.append(stray.damage)
    in_force = f"policies/{installation.policy.digest}.yaml"
    for key, damage in _harmed_policies(installation, vault_name):
        if key == in_force:
            vault.put(key, [installation.policy_text], overwrite=True)
            mended.append(damage)
    return tuple(mended)


def _listed(installation: Installation, vault_name: str, prefix: str) -> dict[str, int]:
    return {stored.key: stored.size_bytes for stored in installation.vault(vault_name).list(prefix)}


def _signer(key: str) -> str:
    return key.split("/", 2)[1]


def _strays(
    installation: Installation,
    vault_name: str,
    heads: Mapping[str, int],
    listed: Mapping[str, int],
    *,
    read_data: bool,
) -> Iterator[StrayRecord]:
    """Of each signer that the catalog has the records of, up to where this vault is known to have them."""
    vault = installation.vault(vault_name)
    for signer, head in heads.items():
        for sequence, key, content in installation.catalog.record_files(signer):
            if sequence > head:
                break
            size = listed.get(key)
            why = ""
            if size is None:
                why = "it is missing"
            elif size != len(content):
                why = f"it has {size} bytes, and had {len(content)} when it was written"
            elif read_data:
                try:
                    why = "" if vault.read(key) == content else "it says something else than what was signed"
                except VaultMissingError:
                    why = "it is missing"
            if why:
                yield StrayRecord(key, content, Damage(_named(Record.from_bytes(content, name=key)), why))


def _unknown(installation: Installation, listed: Mapping[str, int]) -> Iterator[Damage]:
    """Records of this installation that its catalog does not have: what it says may be older than the vault."""
    signer = installation.signer.signer
    known = {key for _, key, _ in installation.catalog.record_files(signer)}
    unknown = sorted(key for key in listed if _signer(key) == signer and key not in known)
    if unknown:
        first = unknown[0].rpartition("/")[2]
        why = f"this catalog does not have them (from {first} on): it is older than the vault, or they are forged"
        yield Damage(f"{counted(len(unknown), 'record')} of signer {signer}", why)


def _named(record: Record) -> str:
    """The record in words: the number, what it is of, and which recovery point it speaks of."""
    point = record.payload.get("id") if record.kind == "recovery-point" else record.payload.get("point")
    about = f" of {point}" if point else ""
    return f"record {record.sequence} of signer {record.signer} ({record.kind}{about})"


def _foreign(installation: Installation, vault_name: str, listed: Mapping[str, int]) -> Iterator[Damage]:
    """What others have signed since this catalog took over records of theirs, or all of it, must hang together."""
    for signer, keys in sorted(chains.by_signer(listed).items()):
        if signer == installation.signer.signer:
            continue
        sequence, previous = installation.catalog.takeover.last_record(signer)
        chain = chains.Chain(installation, signer, {vault_name: keys}, sequence, previous)
        for _ in chain:
            pass
        for damage in chain.faults[:_MOST_FAULTS]:
            yield Damage(f"records of another signer, {signer}", f"{damage.what}: {damage.detail}")


def _harmed_policies(installation: Installation, vault_name: str) -> Iterator[tuple[str, Damage]]:
    """Policies whose content is not what their name says. None is missed: each copy of a point brings the one in force.

    Keys that name no policy are somebody else's.
    """
    vault = installation.vault(vault_name)
    for key in sorted(_listed(installation, vault_name, "policies")):
        match = _POLICY.fullmatch(key)
        if match is None:
            continue
        try:
            content = vault.read(key)
        except VaultMissingError:
            continue
        if hashlib.sha256(content).hexdigest() != match[1]:
            yield key, Damage(f"policy {match[1][:12]}", "its bytes are not what its name says")
