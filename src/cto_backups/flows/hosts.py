"""Hosts: what is signed when one is enrolled or revoked, and the keys of its repositories."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cto_backups import clock
from cto_backups.core.enrolment import Host
from cto_backups.core.governance import Governed
from cto_backups.core.model import Evidence
from cto_backups.errors import BackupsError, NotFoundError
from cto_backups.evidence import statements
from cto_backups.evidence.payloads import moment_to_text
from cto_backups.evidence.records import Record
from cto_backups.flows import keys, records
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation
from cto_backups.flows.rebuilt import Rebuilt


@dataclass(frozen=True)
class Ended:
    """What became of each vault's key, and what went wrong where."""

    removed: tuple[str, ...]
    problems: Mapping[str, BackupsError]


def known(installation: Installation, name: str) -> Host:
    """The host of this name. Raises NotFoundError."""
    host = installation.catalog.hosts.one(name)
    if host is None:
        there = ", ".join(each.name for each in installation.catalog.hosts.listed())
        raise NotFoundError(
            f"No host '{name}' was enrolled",
            why=f"there are: {there or 'none'}",
            todo="'cto.backups host' lists them." if there else "Run: cto.backups host enrol --help",
        )
    return host


def allow_ending(installation: Installation, name: str) -> None:
    """Raise GovernanceError, ApprovalNeededError where policy wants more than a command for this."""
    admit(installation, Governed.HOST_REVOCATION, {"host": name}, summary=f"Revoking host '{name}'")


def end_keys(installation: Installation, host: Host) -> Ended:
    """Let the keys of a host open its repositories no longer, whatever it is doing there."""
    removed, problems = [], {}
    for named in host.names.get("key", ()):
        vault, _, key = named.rpartition("/")
        try:
            keys.key_ring(installation, vault).end(key)
            removed.append(named)
        except BackupsError as error:
            problems[vault] = error
    return Ended(tuple(removed), problems)


def record_enrolment(
    installation: Installation, host: Host, fingerprint: str, former: Host | None
) -> dict[str, BackupsError]:
    """Sign that a host is trusted, by its key's fingerprint, and with which names; what vaults do not have it yet.

    Of the key that it had before, records count up to the last one that is known.
    """
    payload = {
        "change": "enrolled",
        "host": host.name,
        "role": host.role,
        "signer": host.names["signer"][0],
        "fingerprint": fingerprint,
        "sources": list(host.names.get("source", ())),
        "vaults": list(host.names.get("vault", ())),
        "keys": list(host.names.get("key", ())),
        "former": _last_of(installation, former) if former else None,
        "at": moment_to_text(host.enrolled_at),
        "by": installation.user,
    }
    records.write(installation, "host", payload)
    return records.deliver_everywhere(installation)


def record_revocation(installation: Installation, host: Host, left: Sequence[str]) -> dict[str, BackupsError]:
    """Sign that a host is trusted no longer, and up to which of its records; what vaults do not have it yet."""
    payload = {
        "change": "revoked",
        "host": host.name,
        "role": host.role,
        **_last_of(installation, host),
        "left": list(left),
        "at": moment_to_text(clock.now()),
        "by": installation.user,
    }
    records.write(installation, "host", payload)
    return records.deliver_everywhere(installation)


def _last_of(installation: Installation, host: Host) -> dict[str, object]:
    signer = (*host.names.get("signer", ()), "")[0]
    sequence, digest = installation.catalog.takeover.last_record(signer)
    return {"signer": signer, "last_sequence": sequence, "last_digest": digest}


# -- what records tell, where the catalog is made anew -----------------------------------------------------------------


@dataclass(frozen=True)
class Trusted:
    """An enrolled host's key, and up to which of its records it counts; None: without an end."""

    host: Host
    until: int | None = None

    def believes(self, record: Record, evidence: Evidence) -> bool:
        """Whether what it says counts: of its own, and from before it was revoked."""
        names = self.host.names
        own = evidence.vault in names.get("vault", ()) and evidence.source in (None, *names.get("source", ()))
        return own and (self.until is None or record.sequence <= self.until)


def recalled(installation: Installation, own: Iterable[str], rebuilt: Rebuilt) -> dict[str, Trusted]:
    """The hosts' keys by their signers, as this installation's own records tell; the hosts are noted in the catalog.

    One that was enrolled counts as having joined: its bundle may have been used.
    """
    found: dict[str, Trusted] = {}
    for signer in own:
        mine = signer == installation.signer.signer
        for record in installation.catalog.takeover.delivered_records(signer, "host", all=mine):
            for told in rebuilt.sound(record, statements.host) or ():
                if told.until is None:
                    found[told.signer] = Trusted(told.host)
                elif told.signer in found:
                    known = found[told.signer].host
                    found[told.signer] = Trusted(replace(known, revoked_at=told.host.revoked_at), told.until)
    last = {trusted.host.name: trusted.host for trusted in found.values()}
    installation.catalog.hosts.take(last.values())
    return found
