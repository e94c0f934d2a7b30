"""Rebuild: bring into the catalog what signed records in vaults say and it lacks; from one vault alone, if need be.

First the records themselves are kept, so that chains go on. Then, from all that are kept: points whose snapshots are
there, with their copies; expired points; evidence; what people decided (`recollect`). Each step is done as a whole or
not at all, and doing it again adds nothing, so that after a killed run it is simply run again.

Whom to believe: whoever may write to a vault may sign records. A point and its copies count, whoever signed them,
where the repository has that very snapshot. What would drop something, or make protection look better (expiries,
evidence), counts only when this installation signed it, or a signer whom the user trusts. Evidence counts, too, that an
enrolled host signed of what is its own, up to its revocation.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cto_backups import clock
from cto_backups.core.model import Copy, TakenPoint
from cto_backups.core.payloads import Committed, Damage
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, DamageError, NotFoundError
from cto_backups.evidence import statements
from cto_backups.flows import chains
from cto_backups.flows.hosts import Trusted, recalled
from cto_backups.flows.installation import Installation
from cto_backups.flows.rebuilt import Rebuilt, in_batches
from cto_backups.flows.recollect import RetentionsIn, none_known, recollect
from cto_backups.flows.record_files import RecordFiles

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class _Place:
    """A vault that can be read: the keys of its records, and its snapshots by their references."""

    records: Collection[str]
    snapshots: Mapping[str, Committed]


@dataclass
class _Said:
    """What the records say, those that count: copies by point and vault, expiries, and who first told of each point."""

    recorded_by: dict[str, str] = field(default_factory=dict)
    copies: dict[str, dict[str, Copy]] = field(default_factory=dict)
    expired: dict[str, tuple[datetime, tuple[str, ...]]] = field(default_factory=dict)
    elsewhere: Counter[str] = field(default_factory=Counter)


def rebuild(
    installation: Installation,
    vault_names: Sequence[str],
    *,
    trusted: frozenset[str] = frozenset(),
    retentions_in: RetentionsIn = none_known,
) -> Rebuilt:
    """Add to the catalog what the records in these vaults say and it lacks. Nothing is written to a vault.

    Records of this installation itself are also looked for in all other vaults of the policy: its chain has to go on
    after its very last one. `trusted` are signers whose evidence and expiries count like its own, such as a key that
    was lost. `retentions_in` reads the text of a policy. Raises VaultError or KeyProblemError when none of the vaults
    can be read, NotFoundError for a trusted signer of whom there is no record.
    """
    rebuilt = Rebuilt(tuple(vault_names))
    places = _places(installation, rebuilt)
    _take_records(installation, places, rebuilt)
    signers = _in_order_of_trust(installation, trusted)
    own = signers[: len(trusted | {installation.signer.signer})]
    said = _said(installation, places, signers, own, rebuilt)
    _take_points(installation, places, signers, said, rebuilt)
    trusted_hosts = recalled(installation, own, rebuilt)
    _take_evidence(installation, own, trusted_hosts, rebuilt)
    _take_policies(installation, rebuilt)
    recollect(installation, signers, own, rebuilt, retentions_in)
    _remark_on_others(installation, [each for each in signers[len(own) :] if each not in trusted_hosts], rebuilt)
    _remark_on_strays(installation, places, said, rebuilt)
    return rebuilt


# -- what there is -----------------------------------------------------------------------------------------------------


def _places(installation: Installation, rebuilt: Rebuilt) -> dict[str, _Place]:
    """Every vault of the policy that can be read, those asked for first."""
    places: dict[str, _Place] = {}
    for name in dict.fromkeys((*rebuilt.vaults, *installation.policy.vaults)):
        try:
            installation.check_readable(name)
            committed = installation.store(name).committed()
            records = RecordFiles(installation, name).sizes("records")
            places[name] = _Place(records, {one.reference: one for one in committed})
        except BackupsError as error:
            rebuilt.away[name] = error
    if not any(name in places for name in rebuilt.vaults):
        raise next(iter(rebuilt.away.values()))
    return places


def _take_records(installation: Installation, places: Mapping[str, _Place], rebuilt: Rebuilt) -> None:
    own, catalog = installation.signer.signer, installation.catalog
    found = chains.grouped(installation, {name: place.records for name, place in places.items()})
    for signer, everywhere in found.items():
        chain = everywhere if signer == own else everywhere.only_in(rebuilt.vaults)
        # Asked after the listing: what this installation has signed meanwhile is not taken for news.
        continuation = chain.after(*catalog.takeover.last_record(signer))
        for batch in in_batches(continuation):
            catalog.takeover.keep_records(batch)
            rebuilt.records[signer] = rebuilt.records.get(signer, 0) + len(batch)
        rebuilt.damages.extend(continuation.faults)
        rebuilt.parted = rebuilt.parted or (continuation.broken and signer == own)
        for name in chain.vaults:
            if whole := chain.whole_up_to(name, continuation.sequence):
                catalog.advance_vault_head(name, signer, whole)


def _in_order_of_trust(installation: Installation, trusted: frozenset[str]) -> list[str]:
    own, known = installation.signer.signer, installation.catalog.signers()
    for signer in sorted(trusted - {own}):
        if signer not in known:
            raise NotFoundError(
                f"There is no record of a signer {signer}",
                why=f"these have signed: {', '.join(known) or 'nobody'}",
                todo="Give the name of a folder below records/ in the vault.",
            )
    believed = [own, *sorted(trusted - {own})]
    return [*believed, *(signer for signer in known if signer not in believed)]


# -- what the records say ----------------------------------------------------------------------------------------------


def _said(
    installation: Installation,
    places: Mapping[str, _Place],
    signers: Sequence[str],
    own: Sequence[str],
    rebuilt: Rebuilt,
) -> _Said:
    said = _Said()
    for signer in signers:
        for record in installation.catalog.takeover.delivered_records(signer, "recovery-point"):
            said.recorded_by.setdefault(str(record.payload.get("id")), signer)
    for signer in reversed(signers):  # own records have the last word: nobody else can move a copy
        for record in installation.catalog.takeover.delivered_records(signer, "copy"):
            if copy := rebuilt.sound(record, statements.copy):
                _note_copy(places, rebuilt, said, copy, believed=signer in own)
    for signer in own:
        for record in installation.catalog.takeover.delivered_records(signer, "expiry"):
            if expiry := rebuilt.sound(record, statements.expiry):
                said.expired.setdefault(expiry[0], expiry[1:])
    return said


def _note_copy(places: Mapping[str, _Place], rebuilt: Rebuilt, said: _Said, copy: Copy, *, believed: bool) -> None:
    """A vault may be called otherwise by whoever signed: the snapshot shows which one it is."""
    found = [name for name, place in places.items() if copy.reference in place.snapshots]
    if not found and believed and copy.vault in rebuilt.away:
        found = [copy.vault]
    for name in found:
        here = Copy(copy.point, name, copy.reference, copy.stored_at, copy.added_bytes)
        said.copies.setdefault(copy.point, {})[name] = here
    if not found and copy.vault not in places and copy.vault not in rebuilt.away:
        said.elsewhere[copy.vault] += 1


# -- into the catalog --------------------------------------------------------------------------------------------------


def _take_points(
    installation: Installation, places: Mapping[str, _Place], signers: Sequence[str], said: _Said, rebuilt: Rebuilt
) -> None:
    catalog = installation.catalog
    known, before = catalog.takeover.known("points"), _copies_known(installation)
    left = 0
    for batch in in_batches(_told(installation, places, signers, said, rebuilt)):
        wanted = []
        for taken in batch:
            if not taken.copies and taken.expired_at is None:
                left += taken.point.id not in known
                continue
            wanted.append(taken)
        catalog.takeover.take_points(wanted, clock.now())
        for taken in wanted:
            if taken.point.id not in known:
                (rebuilt.expired if taken.expired_at else rebuilt.points).append(taken.point.id)
            for copy in taken.copies:
                if (copy.vault, copy.reference) not in before:
                    rebuilt.copies[copy.vault] = rebuilt.copies.get(copy.vault, 0) + 1
    if left:
        rebuilt.remarks.append(f"{counted(left, 'point')} left out: no vault that can be read has their snapshots.")


def _told(
    installation: Installation, places: Mapping[str, _Place], signers: Sequence[str], said: _Said, rebuilt: Rebuilt
) -> Iterator[TakenPoint]:
    """Each point once, as the first who told of it did."""
    told = set()
    for signer in signers:
        for record in installation.catalog.takeover.delivered_records(signer, "recovery-point"):
            name = record.payload.get("id")
            if said.recorded_by.get(str(name)) != signer or name in told:
                continue
            told.add(name)
            if (point := rebuilt.sound(record, statements.point)) is None:
                continue
            expired_at, reasons = said.expired.get(point.id, (None, ()))
            copies = []
            for copy in said.copies.get(point.id, {}).values():
                if expired_at is not None and copy.vault not in places:
                    continue  # most likely gone: a next run sees
                snapshot = places[copy.vault].snapshots.get(copy.reference) if copy.vault in places else None
                if snapshot is not None and snapshot.root and snapshot.root != point.root:
                    detail = f"it holds something else than the record of {point.id} says"
                    rebuilt.damages.append(Damage(f"snapshot {copy.reference[:12]} in vault {copy.vault}", detail))
                    continue
                copies.append(copy)
            yield TakenPoint(point, tuple(copies), expired_at, reasons)


def _copies_known(installation: Installation) -> set[tuple[str, str]]:
    held = [copy for name in installation.policy.vaults for copy in installation.catalog.copies_in(name)]
    return {(copy.vault, copy.reference) for copy in (*held, *installation.catalog.expired_copies_to_delete())}


def _take_evidence(
    installation: Installation, own: Iterable[str], hosts: Mapping[str, Trusted], rebuilt: Rebuilt
) -> None:
    known = installation.catalog.takeover.known("evidence")
    for signer in (*own, *hosts):
        for batch in in_batches(installation.catalog.takeover.delivered_records(signer, "evidence")):
            told = [(record, evidence) for record in batch if (evidence := rebuilt.sound(record, statements.evidence))]
            found = [each for record, each in told if signer not in hosts or hosts[signer].believes(record, each)]
            fresh = [evidence for evidence in found if evidence.id not in known]
            installation.catalog.takeover.take_evidence(fresh)
            rebuilt.evidence += len(fresh)


def _take_policies(installation: Installation, rebuilt: Rebuilt) -> None:
    known = set(installation.catalog.takeover.known("policies"))
    for name in rebuilt.vaults:
        if name in rebuilt.away:
            continue
        files = RecordFiles(installation, name)
        for key, digest, text in files.policies(files.sizes("policies"), known):
            if isinstance(text, DamageError):
                rebuilt.damages.append(Damage(f"{key} in vault {name}", text.why))
                continue
            known.add(digest)
            installation.catalog.takeover.keep_policy(digest, text, clock.now())


# -- remarks -----------------------------------------------------------------------------------------------------------


def _remark_on_others(installation: Installation, others: Iterable[str], rebuilt: Rebuilt) -> None:
    for signer in others:
        counts = {
            kind: sum(1 for _ in installation.catalog.takeover.delivered_records(signer, kind))
            for kind in ("evidence", "expiry", "release", "approval", "alert", "audit")
        }
        if any(counts.values()):
            said = ", ".join(f"{number} of kind {kind}" for kind, number in counts.items() if number)
            rebuilt.remarks.append(
                f"Signer {signer} is not this installation: its records ({said}) do not count here. "
                f"If it was this one's own key before, add --trust {signer}."
            )


def _remark_on_strays(installation: Installation, places: Mapping[str, _Place], said: _Said, rebuilt: Rebuilt) -> None:
    spoken = {copy.reference for copies in said.copies.values() for copy in copies.values()}
    spoken |= {reference for _, reference in _copies_known(installation)}
    for name in rebuilt.vaults:
        strays = (
            [reference for reference in places[name].snapshots if reference not in spoken] if name in places else []
        )
        if strays:
            few = ", ".join(reference[:8] for reference in strays[:_NAMED_AT_MOST])
            more = ", …" if len(strays) > _NAMED_AT_MOST else ""
            rebuilt.remarks.append(
                f"{name}: {counted(len(strays), 'snapshot')} of which no record speaks, left alone: {few}{more}"
            )
    for vault, number in sorted(said.elsewhere.items()):
        rebuilt.remarks.append(f"{counted(number, 'copy', 'copies')} in vault {vault}, which the policy does not name.")
    for name in rebuilt.away:
        if name not in rebuilt.vaults:
            rebuilt.remarks.append(
                f"Vault {name} could not be looked at. If it may hold newer records of this installation, bring it "
                "back and run this again before the next backup."
            )
