"""Verify: re-read what a vault stores, every byte, and record what was read and what is damaged."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction

from cto_backups import clock
from cto_backups.core.model import ActionKind, Copy, Evidence, Outcome, Rung, Step
from cto_backups.core.payloads import Damage, Verified
from cto_backups.core.verification import Ledger, Part
from cto_backups.errors import DamageError, NotFoundError, VaultError, VaultReadOnlyError
from cto_backups.evidence.payloads import evidence_to_payload
from cto_backups.flows import piece_check, record_check, records
from cto_backups.flows.chains import expired_by_others
from cto_backups.flows.installation import Installation
from cto_backups.flows.runs import recorded
from cto_backups.repository.together import both, each


@dataclass(frozen=True)
class VerifyResult:
    """What was read in one vault. `hurt` maps recovery points to what of theirs is damaged."""

    vault: str
    verified: Verified
    evidence: Evidence
    hurt: dict[str, tuple[str, ...]]

    @property
    def passed(self) -> bool:
        """Whether nothing was damaged."""
        return self.evidence.passed


def verify(
    installation: Installation, vault_name: str, *, read_data: bool = True, part: Part | None = None
) -> VerifyResult:
    """Check a vault's repository and, with `read_data`, re-read every byte of it; with `part`, the next portion.

    Damage is a result, not an exception. Raises VaultError, KeyProblemError or BusyError when it could not be read at
    all: that is recorded as a failed run, and never as evidence of anything.
    """
    with recorded(installation, ActionKind.VERIFY, vault=vault_name) as run:
        started_at, started = clock.now(), clock.monotonic()
        installation.check_readable(vault_name)
        with installation.progress(f"Verifying {vault_name}") as progress:
            ledger = installation.catalog.ledger(vault_name)
            store = installation.store(vault_name)
            verified, unsaid = both(
                installation.vault(vault_name),
                lambda: store.verify(read_data=read_data, part=part, ledger=ledger, progress=progress),
                lambda: record_check.check(installation, vault_name, read_data=read_data),
            )
        verified = _with_pieces(installation, vault_name, verified, ledger, part)
        if verified.readings is not None:
            # Before any evidence: were it the other way round, a pack found damaged might be forgotten.
            installation.catalog.note_readings(vault_name, verified.readings)
            ledger = verified.readings.after(ledger)
        lost, given_up = _without_given_up(
            installation, vault_name, _lost(installation, vault_name, verified, started_at)
        )
        _see_gone(installation, vault_name, [copy for copy, _ in (*lost, *given_up)])
        verified = replace(verified, damages=(*verified.damages, *(damage for _, damage in lost), *unsaid))
        seconds = clock.monotonic() - started
        hurt = _hurt(installation, vault_name, verified)
        evidence = _evidence(
            vault_name,
            verified,
            read_since=_read_since(verified, ledger),
            within=_read_within(installation, vault_name),
            started_at=started_at,
            seconds=seconds,
        )
        run.figures.update(bytes_read=verified.bytes_read, blobs_read=verified.blobs_read, seconds=round(seconds, 3))
        if not evidence.passed:
            run.outcome, run.error_code, run.message = Outcome.FAILED, "damage", evidence.reason
        if read_data or not evidence.passed:
            records.write(installation, "evidence", evidence_to_payload(evidence))
            _deliver(installation, vault_name, passed=evidence.passed)
            installation.catalog.add_evidence(evidence)
        for copy, _ in (*lost, *given_up):
            # So that it is due again, and comes from another vault; where it still is the newest, or asked for.
            installation.catalog.forget_copy(copy.point, vault_name)
        return VerifyResult(vault_name, verified, evidence, hurt)


def _with_pieces(
    installation: Installation, vault_name: str, verified: Verified, ledger: Ledger, part: Part | None
) -> Verified:
    """With what was streamed into the vault: of that, the same share is read as of the repository."""
    readings = verified.readings
    if readings is None:
        found = piece_check.check(installation, vault_name, at=clock.now())
        return replace(verified, damages=(*verified.damages, *found.damages))
    share = Fraction(verified.bytes_read, verified.pack_bytes) if part is not None and verified.pack_bytes else None
    share = min(share, Fraction(1)) if share is not None else None
    found = piece_check.check(installation, vault_name, at=readings.at, ledger=ledger, share=share)
    return replace(
        verified,
        damages=(*verified.damages, *found.damages),
        readings=readings.joined(found.readings),
        files_read=verified.files_read + len(found.readings.intact | found.readings.damaged),
        bytes_read=verified.bytes_read + found.read_bytes,
        pack_bytes=verified.pack_bytes + found.stored_bytes,
    )


def _lost(
    installation: Installation, vault_name: str, verified: Verified, started_at: datetime
) -> list[tuple[Copy, Damage]]:
    """The copies that the catalog knows in this vault, and that are not there: nothing else would miss them.

    The catalog is asked afterwards, so that what expired meanwhile is not missed.
    """
    there = {*verified.references, *(reference for damage in verified.damages for reference in damage.references)}
    return [
        (
            copy,
            Damage(
                f"snapshot {copy.reference[:12]}",
                f"it is missing, and with it the whole copy of {copy.point}",
                references=(copy.reference,),
            ),
        )
        for copy in installation.catalog.copies_in(vault_name)
        if copy.stored_at <= started_at and copy.reference not in there
    ]


def _see_gone(installation: Installation, vault_name: str, copies: Sequence[Copy]) -> None:
    """Raise VaultError where what no listing shows is there when it is asked for by its name.

    Such a store lists what it had a while ago. A copy that is forgotten for it is one that prune no longer spares.
    """
    store = installation.store(vault_name)

    def is_there(copy: Copy) -> bool:
        try:
            store.reader(copy.reference)
        except NotFoundError:
            return False
        except DamageError:
            pass
        return True

    for copy, there in zip(copies, each(installation.vault(vault_name), is_there, copies), strict=True):
        if there:
            raise VaultError(
                f"Vault '{vault_name}' does not list snapshot {copy.reference[:12]}, and has it",
                why="its store lists what it had a while ago; nothing was judged by that",
                todo="Verify it again later; if it stays, see what stands between here and the store.",
            )


def _without_given_up(
    installation: Installation, vault_name: str, lost: list[tuple[Copy, Damage]]
) -> tuple[list[tuple[Copy, Damage]], list[tuple[Copy, Damage]]]:
    """Lost copies, and apart from them those that the vault's owner has expired, where this host may only add."""
    if not lost or not installation.policy.append_only(vault_name):
        return lost, []
    expired = expired_by_others(installation, vault_name)
    return (
        [each for each in lost if each[0].point not in expired],
        [each for each in lost if each[0].point in expired],
    )


def _deliver(installation: Installation, vault_name: str, *, passed: bool) -> None:
    try:
        records.deliver(installation, vault_name)
    except VaultReadOnlyError:
        return  # the chain reaches it when it can be written to again
    except DamageError:
        if passed:
            raise
        # The vault holds other records than the catalog: that is among what was found.


def _hurt(installation: Installation, vault_name: str, verified: Verified) -> dict[str, tuple[str, ...]]:
    references = {reference for damage in verified.damages for reference in damage.references}
    if not references:
        return {}
    names = {copy.reference: copy.point for copy in installation.catalog.copies_in(vault_name)}
    hurt: dict[str, list[str]] = {}
    for damage in verified.damages:
        for reference in damage.references:
            hurt.setdefault(names.get(reference, reference), []).extend(damage.paths or (damage.what,))
    return {point: tuple(dict.fromkeys(paths)) for point, paths in sorted(hurt.items())}


def _read_since(verified: Verified, ledger: Ledger) -> datetime | None:
    """Since when every byte has been read and found intact; None when that is not so."""
    if verified.readings is None or verified.damages:
        return None
    return ledger.read_since if verified.packs else verified.readings.at


def _read_within(installation: Installation, vault_name: str) -> timedelta:
    """The time within which the strictest source with copies in a vault asks for every byte to be read."""
    sources = installation.policy.sources.values()
    asked = [source.category.read_within for source in sources if vault_name in source.vaults]
    return min(asked, default=timedelta.max)


def _evidence(
    vault_name: str,
    verified: Verified,
    *,
    read_since: datetime | None,
    within: timedelta,
    started_at: datetime,
    seconds: float,
) -> Evidence:
    damages = verified.damages
    reason = f"{len(damages)} damaged: {damages[0].what}: {damages[0].detail}" if damages else ""
    all_read = read_since is not None and started_at - read_since <= within
    step = Step(
        name="read" if verified.readings is not None else "check_structure",
        started_at=started_at,
        seconds=seconds,
        passed=not damages,
        detail=reason,
        figures={
            "files_read": verified.files_read,
            "bytes_read": verified.bytes_read,
            "bytes_stored": verified.pack_bytes,
            "packs_read": verified.packs_read,
            "packs_stored": verified.packs,
            "blobs_read": verified.blobs_read,
            "snapshots": len(verified.references),
        },
    )
    return Evidence(
        id=f"verify-{vault_name}-{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        kind="verify",
        source=None,
        point=None,
        vault=vault_name,
        started_at=started_at,
        finished_at=clock.now(),
        passed=not damages,
        rung=Rung.READ if all_read else Rung.STORED,
        steps=(step,),
        reason=reason,
        read_since=read_since,
    )
