"""Prune: reclaim, in one vault, the bytes that no recovery point needs any more, and the pieces of logs."""

from dataclasses import dataclass, field
from functools import partial

from cto_backups import clock
from cto_backups.core.governance import Governed
from cto_backups.core.model import ActionKind
from cto_backups.core.pruning import Pruned, PrunePlan
from cto_backups.core.vaults import locking_of
from cto_backups.core.wording import counted
from cto_backups.errors import VaultLockedError
from cto_backups.flows import piece_upkeep, records
from cto_backups.flows.expire import drop_expired_copies
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation
from cto_backups.flows.runs import recorded


@dataclass(frozen=True)
class PruneResult:
    """What was done, or would be, in one vault; `pieces` with what was streamed into it."""

    vault: str
    pruned: Pruned
    seconds: float
    pieces: piece_upkeep.Pruned = field(default_factory=piece_upkeep.Pruned)


def plan(installation: Installation, vault_name: str) -> PruneResult:
    """What `prune` would do now: the very plan that it would carry out. Raises BusyError, DamageError, VaultError."""
    started = clock.monotonic()
    installation.vault(vault_name).check()
    pruned = installation.store(vault_name).prune(dry_run=True, expected=partial(_expected, installation, vault_name))
    pieces = piece_upkeep.prune(installation, vault_name, dry_run=True)
    return PruneResult(vault_name, pruned, clock.monotonic() - started, pieces)


def prune(installation: Installation, vault_name: str) -> PruneResult:
    """Reclaim what can be, alone with the repository, and record the run.

    Killed at any moment, no recovery point loses anything, and the next run finishes. Raises BusyError, DamageError
    (nothing was removed), VaultError, RefusedError where this host may only add, GovernanceError.
    """
    installation.check_owned(vault_name)
    with recorded(installation, ActionKind.PRUNE, vault=vault_name) as run:
        started = clock.monotonic()
        installation.vault(vault_name).check()
        if locking_of(installation.vault(vault_name)) is not None:
            drop_expired_copies(installation)  # those whose locks have ended since they expired
        run.figures["strays"] = _drop_strays(installation, vault_name)
        with installation.progress(f"Pruning {vault_name}") as progress:
            pruned = installation.store(vault_name).prune(
                expected=partial(_expected, installation, vault_name),
                agree=partial(_agree, installation, vault_name),
                progress=progress,
            )
        pieces = piece_upkeep.prune(installation, vault_name, dry_run=False)
        seconds = clock.monotonic() - started
        found = pruned.plan
        run.figures.update(
            deleted_bytes=found.deleted_bytes,
            freed_bytes=found.freed_bytes,
            added_bytes=pruned.added_bytes,
            unused_bytes=found.unused_bytes,
            locked_bytes=found.locked_bytes + pieces.locked_bytes,
            deleted_pieces=pieces.deleted,
            joined_pieces=pieces.joined,
            seconds=round(seconds, 3),
        )
        return PruneResult(vault_name, pruned, seconds, pieces)


def _drop_strays(installation: Installation, vault_name: str) -> int:
    """Drop the snapshots of runs that others have taken over before they could sign or show them; how many."""
    store = installation.store(vault_name)
    found = {
        committed.reference: tag.removeprefix("point:")
        for committed in store.committed()
        for tag in committed.tags
        if tag.startswith("point:")
    }
    # Asked for after these were listed: whoever has stored one since has a run that goes on.
    strays = installation.catalog.strays(vault_name, found)
    if not strays:
        return 0
    records.deliver(installation, vault_name)  # or the catalog has gone back in time, and forgot what these stand for
    try:
        store.expire(strays)
    except VaultLockedError as error:
        return len(strays) - len(error.left)
    return len(strays)


def _expected(installation: Installation, vault_name: str) -> list[str]:
    """The snapshots that the catalog knows in a vault: what they need must not go for not being listed."""
    return [copy.reference for copy in installation.catalog.copies_in(vault_name)]


def _agree(installation: Installation, vault_name: str, plan: PrunePlan) -> None:
    """Let the packs of a plan go. Asked for are also those that a later prune deletes, once their time has come.

    What is only listed anew or forgotten destroys nothing. Raises GovernanceError.
    """
    going = plan.going
    if not going:
        return
    soon = going | {pack.name for pack in plan.waiting} | {each.pack.name for each in plan.locked}
    admit(
        installation,
        Governed.PRUNE,
        {"vault": vault_name, "packs": sorted(going)},
        asking={"vault": vault_name, "packs": sorted(soon)},
        summary=f"Pruning {counted(len(soon), 'pack')} of vault '{vault_name}'",
    )
