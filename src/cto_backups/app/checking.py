"""Try out a vault, and the key services that open it; and the vault as one whose bucket has settings."""

import secrets
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.core.object_locks import SCRATCH
from cto_backups.core.vault_check import Answer, Told
from cto_backups.errors import BackupsError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cto_backups.config import Configuration
    from cto_backups.config.repository_key import ServiceReference
    from cto_backups.core.ports import Source
    from cto_backups.core.vault_settings import Settable
    from cto_backups.core.vaults import Vault
    from cto_backups.flows.check_vault import Found


def examine(configuration: "Configuration", place: "Vault", source: "Callable[[str], Source]") -> "Found":
    """What each rule comes to now, in the vault and at every key service of the policy; `source` gives those of it."""
    from cto_backups.core.policy import Access, LegalHolds
    from cto_backups.flows.check_vault import Found
    from cto_backups.vaults.conformance import check
    from cto_backups.vaults.trying import Relied

    vault = configuration.policy.vaults[place.name]
    relied = Relied(
        vault.access is Access.APPEND_ONLY, vault.lock_mode, vault.kms_key, vault.legal_holds is LegalHolds.STORED
    )
    checked = check(place, relied)
    copies, left = _copies(configuration, place, source) if vault.plain_exports else ((), {})
    services = configuration.settings.key_of(place.name).services
    keys = tuple(_unwraps(reference, place.name) for reference in services)
    if not keys:
        keys = (Told("key", Answer.NOT_OFFERED, "the policy names no key service", wanted=False),)
    return Found((*checked.told, *copies, *keys), {**checked.left, **left}, checked.locked_until)


def _copies(
    configuration: "Configuration", vault: "Vault", source: "Callable[[str], Source]"
) -> tuple[tuple[Told, ...], dict[str, str]]:
    """Whether the provider copies one object of each source that lies here as exports; what is left of that, and why.

    Nothing relies on it: what is not copied there is sent from here.
    """
    from cto_backups.core.objects import CopyingWithin, OfferingObjects
    from cto_backups.core.policy import Payload

    place = f"{SCRATCH}{secrets.token_hex(8)}/"
    told: list[Told] = []
    left: dict[str, str] = {}
    if not isinstance(vault, CopyingWithin):
        return (), {}
    for number, policy in enumerate(configuration.policy.sources.values()):
        if policy.payload is not Payload.EXPORT or vault.name not in policy.vaults:
            continue
        begun, key = clock.monotonic(), f"{place}{number}"
        try:
            offering = source(policy.name)
            state = offering.sample() if isinstance(offering, OfferingObjects) else None
            if state is None:
                continue
            if not vault.copies(state):
                answer, detail = Answer.NOT_OFFERED, f"{policy.name}: {state.place} is of another provider or server"
            else:
                sums = vault.copy_within(key, state)
                answer = Answer.ENFORCED if sums else Answer.NOT_ENFORCED
                detail = f"{policy.name}: proven by its {' and '.join(sums)}" if sums else "no checksum is told of it"
                left |= _cleared(vault, key)
        except BackupsError as error:
            answer, detail = Answer.NOT_ASKED, f"{policy.name}: {error.why or error.what}"
        told.append(Told("copy", answer, detail, wanted=False, seconds=clock.monotonic() - begun))
    return tuple(told), left


def _cleared(vault: "Vault", key: str) -> dict[str, str]:
    from cto_backups.vaults.append_only import AppendOnlyVault

    try:
        (vault.behind if isinstance(vault, AppendOnlyVault) else vault).delete(key)
    except BackupsError as error:
        return {key: error.why or error.what}
    return {}


def _unwraps(reference: "ServiceReference", vault: str) -> Told:
    """Whether a key service gives back a secret of no use to anybody, in the same words, and not in others."""
    from cto_backups.app.repository_secret import service

    begun, secret = clock.monotonic(), secrets.token_bytes(32)
    context = {"purpose": "check", "vault": vault}
    try:
        key = service(reference)
        key.check()
        wrapped = key.wrap(secret, context)
        if key.unwrap(wrapped, context) != secret:
            return Told("key", Answer.NOT_ENFORCED, f"{reference} gives back another secret than it was given")
    except BackupsError as error:
        why = f"{reference}: {error.why or error.what}"
        return Told("key", Answer.NOT_ASKED, why, seconds=clock.monotonic() - begun)
    try:
        key.unwrap(wrapped, {**context, "vault": f"not {vault}"})
    except BackupsError:
        return Told("key", Answer.ENFORCED, str(reference), seconds=clock.monotonic() - begun)
    return Told("key", Answer.NOT_ENFORCED, f"{reference} unwraps for another vault than it wrapped for")


def bucket_of(vault: "Vault") -> "Settable":
    """The vault, as one whose bucket has settings. Raises RefusedError for a folder."""
    from cto_backups.core.vault_settings import Settable
    from cto_backups.vaults.append_only import AppendOnlyVault

    vault = vault.behind if isinstance(vault, AppendOnlyVault) else vault
    if isinstance(vault, Settable):
        return vault
    raise RefusedError(
        f"Vault '{vault.name}' is a folder: there is no bucket to be set",
        todo="See docs/how-to/write-only.md for what its modes and its owner are to be.",
    )
