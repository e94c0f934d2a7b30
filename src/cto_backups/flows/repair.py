"""Repair: put right what is damaged in one vault, from what is left there, from other vaults, and from the sources."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cto_backups import clock
from cto_backups.core.model import ActionKind, Copy, Outcome
from cto_backups.core.payloads import Damage, PayloadStore, Repaired, RepairScope
from cto_backups.core.verification import Ledger
from cto_backups.errors import BackupsError, VaultLockedError
from cto_backups.evidence.payloads import copy_to_payload
from cto_backups.flows import piece_check, record_check, records
from cto_backups.flows.backup import snapshot_label
from cto_backups.flows.copy import copy
from cto_backups.flows.installation import Installation
from cto_backups.flows.protect import protect
from cto_backups.flows.runs import OpenRun, recorded
from cto_backups.flows.verify import VerifyResult, verify

_RECORDED = 1000  # damages that the record of a repair names


@dataclass(frozen=True)
class RepairResult:
    """What was damaged in one vault, and what became of it.

    `copies` are points whose snapshot was lost or damaged, and is there again; `reread` the sources that were backed up
    anew, since no vault had what they lack; `records` what was put back of the signed records, `pieces` of what was
    streamed. `verified` is what the vault is like now: None when nothing was to be done, or was done. `problems` say
    what could not be put right.
    """

    vault: str
    repaired: Repaired
    seconds: float
    copies: tuple[str, ...] = ()
    reread: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    records: tuple[Damage, ...] = ()
    pieces: tuple[Damage, ...] = ()
    verified: VerifyResult | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing was damaged."""
        return self.repaired.clean and not (self.copies or self.problems or self.records or self.pieces)

    @property
    def left(self) -> tuple[str, ...]:
        """What is damaged still, and what stood in the way, in words."""
        if self.passed:
            return ()
        packs = tuple(f"pack {name[:12]} is damaged, and only the index was repaired" for name in self.repaired.left)
        still = (self.verified.evidence.reason,) if self.verified is not None and not self.verified.passed else ()
        return (*packs, *still, *self.problems)

    @property
    def passed(self) -> bool:
        """Whether nothing is damaged now."""
        return self.clean or (self.verified is not None and self.verified.passed and not self.repaired.left)


@dataclass
class _Course:
    """How a repair goes on."""

    copies: list[str] = field(default_factory=list)
    reread: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def plan(installation: Installation, vault_name: str, *, scope: RepairScope = RepairScope.EVERYTHING) -> RepairResult:
    """What `repair` would do in a vault and with the other vaults' help. Raises BusyError, VaultError."""
    started = clock.monotonic()
    installation.check_readable(vault_name)
    store = installation.store(vault_name)
    donors, _ = _donors(installation, vault_name, scope)
    with installation.progress(f"Looking for damage in {vault_name}") as progress:
        repaired = store.repair(donors, scope=scope, dry_run=True, progress=progress)
    lost = tuple(sorted(lost.point for lost in _lost_copies(installation, vault_name, store, repaired)))
    unsaid = record_check.check(installation, vault_name)
    every = scope is RepairScope.EVERYTHING
    ledger = Ledger() if every else None
    pieces = piece_check.check(installation, vault_name, at=clock.now(), ledger=ledger).damages
    seconds = clock.monotonic() - started
    return RepairResult(vault_name, repaired, seconds, copies=lost, records=unsaid, pieces=pieces)


def repair(installation: Installation, vault_name: str, *, scope: RepairScope = RepairScope.EVERYTHING) -> RepairResult:
    """Repair a vault, verify it again if anything was done, and record both.

    What is still damaged afterwards is a result, not an exception. Raises BusyError while anybody uses the repository,
    VaultError, KeyProblemError, RefusedError where this host may only add.
    """
    installation.check_owned(vault_name)
    with recorded(installation, ActionKind.REPAIR, vault=vault_name) as run:
        started = clock.monotonic()
        installation.vault(vault_name).check()
        store = installation.store(vault_name)
        store.clear_leftovers()
        donors, away = _donors(installation, vault_name, scope)
        with installation.progress(f"Repairing {vault_name}") as progress:
            repaired = store.repair(donors, scope=scope, progress=progress)
        course = _Course()
        mended = record_check.put_back(installation, vault_name)
        unsaid = record_check.check(installation, vault_name)
        course.problems.extend(f"{damage.what}: {damage.detail}; this catalog does not have it" for damage in unsaid)
        _bring_copies(installation, vault_name, store, repaired, course)
        if repaired.lost_blobs:
            course.problems.extend(f"could not help: {trouble}" for trouble in (*away, *repaired.troubles))
            _reread_sources(installation, vault_name, store, course)
        streamed = piece_check.put_back(installation, vault_name, read_data=scope is RepairScope.EVERYTHING)
        course.problems.extend(f"{damage.what}: {damage.detail}; no vault has it whole" for damage in streamed.lost)
        for source in streamed.sources:
            _reread_source(installation, vault_name, source, course)
        result = RepairResult(
            vault_name,
            repaired,
            clock.monotonic() - started,
            tuple(course.copies),
            tuple(course.reread),
            tuple(course.problems),
            mended,
            tuple(streamed.mended),
        )
        if not result.clean:
            result = _verified(installation, result, scope)
        _note(run, result)
        return result


def _donors(installation: Installation, vault_name: str, scope: RepairScope) -> tuple[list[PayloadStore], list[str]]:
    """The stores of the other vaults, and why some cannot be asked."""
    donors: list[PayloadStore] = []
    away: list[str] = []
    for name in installation.policy.vaults if scope is not RepairScope.INDEX else ():
        if name == vault_name:
            continue
        try:
            installation.check_readable(name)
            donors.append(installation.store(name))
        except BackupsError as error:
            away.append(f"{name}: {error}")
    return donors, away


# -- snapshots ---------------------------------------------------------------------------------------------------------


def _lost_copies(
    installation: Installation, vault_name: str, store: PayloadStore, repaired: Repaired
) -> Sequence[Copy]:
    """The copies that the catalog knows here, and whose snapshots are not there or cannot be read."""
    known = installation.catalog.copies_in(vault_name)  # asked first: what is made meanwhile is not missed
    there = {one.reference for one in store.committed()} - set(repaired.unreadable)
    return [one for one in known if one.reference not in there]


def _bring_copies(
    installation: Installation, vault_name: str, store: PayloadStore, repaired: Repaired, course: _Course
) -> None:
    """Bring lost copies again, and drop damaged snapshots that another one has taken the place of."""
    replaced = set()
    for lost in _lost_copies(installation, vault_name, store, repaired):
        try:
            _bring_copy(installation, lost)
        except BackupsError as error:
            course.problems.append(f"the snapshot of {lost.point} is lost: {error}")
            continue
        course.copies.append(lost.point)
        replaced.add(lost.reference)
    try:
        store.expire([reference for reference in repaired.unreadable if reference in replaced])
    except VaultLockedError as error:
        course.problems.append(str(error))
    course.problems.extend(
        f"snapshot {reference[:12]} cannot be read, and the catalog does not know of which recovery point it is"
        for reference in repaired.unreadable
        if reference not in replaced and not _known(installation, vault_name, reference)
    )


def _known(installation: Installation, vault_name: str, reference: str) -> bool:
    return any(known.reference == reference for known in installation.catalog.copies_in(vault_name))


def _bring_copy(installation: Installation, lost: Copy) -> None:
    """From another vault or, when none has it, from what the catalog knows: its content is here."""
    point = installation.catalog.point(lost.point)
    try:
        copy(installation, point, lost.vault, lost=lost)
        return
    except BackupsError as error:
        reason = error
    try:
        with (
            recorded(installation, ActionKind.COPY, source=point.source, vault=lost.vault, point=point.id),
            installation.store(lost.vault).writing() as writing,
        ):
            reference = writing.recommit(point.root, snapshot_label(installation, point))
            made = Copy(point.id, lost.vault, reference, clock.now(), 0)
            records.write(installation, "copy", copy_to_payload(made))
            installation.catalog.add_copy(made, records.bring(installation, lost.vault))
    except BackupsError as error:
        raise reason from error


# -- sources -----------------------------------------------------------------------------------------------------------


def _reread_sources(installation: Installation, vault_name: str, store: PayloadStore, course: _Course) -> None:
    """Back up the sources whose points lack something that no vault has: what has not changed since comes back.

    The index lists the lost blobs no longer, so that files which hold them are read again although they are unchanged.
    """
    damages = store.verify(read_data=False).damages
    hurt = {reference for damage in damages for reference in damage.references}
    sources = set()
    for held in installation.catalog.copies_in(vault_name):
        if held.reference in hurt:
            sources.add(installation.catalog.point(held.point).source)
    for source in sorted(sources & set(installation.policy.sources)):
        _reread_source(installation, vault_name, source, course)


def _reread_source(installation: Installation, vault_name: str, source: str, course: _Course) -> None:
    if source in course.reread:
        return
    try:
        done = protect(installation, source, label=f"repair of vault {vault_name}")
    except BackupsError as error:
        course.problems.append(f"source {source} could not be read again: {error}")
        return
    course.reread.append(source)
    if vault_name in done.vault_problems:
        course.problems.append(f"source {source}: {done.vault_problems[vault_name]}")


# -- what became of it -------------------------------------------------------------------------------------------------


def _verified(installation: Installation, result: RepairResult, scope: RepairScope) -> RepairResult:
    """Record what was done, and see what the vault is like now."""
    repaired = result.repaired
    payload = {
        "vault": result.vault,
        "scope": scope.value,
        "damages": [f"{damage.what}: {damage.detail}" for damage in repaired.damages[:_RECORDED]],
        "relisted_packs": list(repaired.relisted),
        "missing_packs": list(repaired.missing),
        "unlisted_packs": list(repaired.unlisted),
        "salvaged_blobs": str(repaired.salvaged_blobs),
        "fetched_blobs": {name: str(blobs) for name, blobs in repaired.fetched_blobs.items()},
        "lost_blobs": str(repaired.lost_blobs),
        "copies": list(result.copies),
        "records": [damage.what for damage in result.records[:_RECORDED]],
        "pieces": [damage.what for damage in result.pieces[:_RECORDED]],
        "reread_sources": list(result.reread),
        "problems": list(result.problems),
    }
    records.write(installation, "repair", payload)
    records.deliver(installation, result.vault)
    verified = verify(installation, result.vault, read_data=scope is RepairScope.EVERYTHING)
    return replace(result, verified=verified)


def _note(run: OpenRun, result: RepairResult) -> None:
    repaired = result.repaired
    run.figures.update(
        damages=len(repaired.damages),
        salvaged_blobs=repaired.salvaged_blobs,
        fetched_blobs=sum(repaired.fetched_blobs.values()),
        lost_blobs=repaired.lost_blobs,
        added_bytes=repaired.added_bytes,
        seconds=round(result.seconds, 3),
    )
    if not result.passed:
        run.outcome, run.error_code, run.message = Outcome.FAILED, "damage", "; ".join(result.left)
