"""Break-glass escrow: hand out word shares of a secret that opens every vault, one custodian after the other."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from cto_backups.core.escrow import Escrow, EscrowFacts, KeyDrill, ShareSet
from cto_backups.errors import BackupsError, NotFoundError, RefusedError
from cto_backups.evidence.payloads import moment_from_text
from cto_backups.evidence.records import Record
from cto_backups.evidence.statements import SENSELESS
from cto_backups.flows import keys, records
from cto_backups.flows.installation import Installation

if TYPE_CHECKING:
    from cto_backups.config.secrets import Secret
    from cto_backups.config.shares import WordShare


@dataclass(frozen=True)
class Page:
    """What one custodian gets: the share, and what has to be known to use it in years. Never more than one is shown."""

    business: str
    custodian: str
    share: "WordShare"
    count: int
    vaults: Mapping[str, str]


@dataclass(frozen=True)
class HandedOut:
    """The set that was handed out; `problems` are the vaults that it does not open, and why."""

    shares: ShareSet
    problems: Mapping[str, BackupsError]


def hand_out(installation: Installation, escrow: Escrow, present: Callable[[Page], None], now: datetime) -> HandedOut:
    """Make a secret, present each custodian's page in turn, and let it then open every vault.

    The secret is in this process alone, and forgotten at the end. What `present` raises ends it with nothing changed.
    Raises RefusedError and what keeps a vault from opening before anything is shown.
    """
    from cto_backups.config import shares as word_shares

    places = {}
    for name in installation.policy.vaults:  # all open, or nobody has to copy words for nothing
        keys.key_ring(installation, name)
        installation.vault(name).check()
        places[name] = installation.vault(name).location
    secret = word_shares.new_secret()
    count = len(escrow.custodians)
    shares = word_shares.split(secret, threshold=escrow.threshold, count=count)
    for custodian, share in zip(escrow.custodians, shares, strict=True):
        present(Page(installation.policy.business, custodian, share, count, places))
    made = ShareSet(shares[0].identifier, escrow.threshold, escrow.custodians, now, {})
    return _open_with(installation, made, secret, installation.policy.vaults)


def extend(installation: Installation, shares: ShareSet, given: "Iterable[WordShare]") -> HandedOut:
    """Let the secret of shares that were handed out open the vaults that came later. Raises KeyProblemError."""
    from cto_backups.config import shares as word_shares

    chosen = tuple(given)
    secret = word_shares.combine(chosen)
    check_set(shares, chosen[0].identifier)
    return _open_with(installation, shares, secret, installation.policy.vaults)


def check_set(shares: ShareSet | None, identifier: int) -> None:
    """Raise RefusedError unless this is the set that is in use."""
    if shares is None:
        raise NotFoundError("No shares were handed out", todo="Run: cto.backups key escrow")
    if shares.identifier != identifier:
        raise RefusedError(
            f"These shares are of set {identifier}, and set {shares.identifier} is in use",
            why=f"that one was handed out at {shares.made_at:%Y-%m-%d %H:%M} UTC",
            todo="Take the pages of the set in use, and destroy the others.",
        )


def _open_with(installation: Installation, shares: ShareSet, secret: "Secret", vaults: Iterable[str]) -> HandedOut:
    opened, problems = dict(shares.keys), dict[str, BackupsError]()
    for name in vaults:
        try:
            opened[name] = keys.add(installation, name, secret.reveal(), chosen=False).key
        except BackupsError as error:
            problems[name] = error
    done = replace(shares, keys=opened)
    payload = {
        "change": "escrowed",
        "set": done.identifier,
        "threshold": done.threshold,
        "custodians": list(done.custodians),
        "made_at": done.made_at.isoformat(),
        "keys": opened,
        "by": installation.user,
        "host": installation.host,
    }
    records.write(installation, "key", payload)
    records.deliver_everywhere(installation)
    return HandedOut(done, problems)


def facts(installation: Installation, trusted: Iterable[str]) -> EscrowFacts:
    """What signed records say of the newest set and of drills; records of other signers than `trusted` say nothing."""
    shares, drills = None, []
    told: list[Record] = []
    takeover = installation.catalog.takeover
    for signer in trusted:
        told += takeover.delivered_records(signer, "key", all=True)
    for record in sorted(told, key=lambda each: str(each.body["written_at"])):
        try:
            if record.payload["change"] == "escrowed":
                shares = _shares(record)
            elif record.payload["change"] == "drilled":
                drills.append(_drill(record))
        except SENSELESS:
            continue
    return EscrowFacts(shares, tuple(drills), frozenset(_gone(installation, shares)) if shares else frozenset())


def _gone(installation: Installation, shares: ShareSet) -> Iterable[str]:
    """The vaults in which the key file is not there any more; one that is away is not looked at."""
    for name, key in shares.keys.items():
        if name not in installation.policy.vaults:
            continue
        try:
            present = {file.id for file in keys.key_ring(installation, name).files()}
        except BackupsError:
            continue
        if key not in present:
            yield name


def _shares(record: Record) -> ShareSet:
    payload = record.payload
    return ShareSet(
        int(payload["set"]),
        int(payload["threshold"]),
        tuple(map(str, payload["custodians"])),
        moment_from_text(payload["made_at"]),
        {str(vault): str(key) for vault, key in payload["keys"].items()},
    )


def _drill(record: Record) -> KeyDrill:
    payload = record.payload
    vaults = {str(vault): str(problem) for vault, problem in payload["vaults"].items()}
    return KeyDrill(int(payload["set"]), moment_from_text(payload["finished_at"]), vaults)
