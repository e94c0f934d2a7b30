"""Recover: clear what a killed process left, before anything new is begun."""

from collections.abc import Collection

from cto_backups import clock
from cto_backups.core.model import ActionKind, Run
from cto_backups.core.payloads import LeftBy
from cto_backups.errors import BackupsError, NotFoundError
from cto_backups.flows import expire, records
from cto_backups.flows.installation import Installation
from cto_backups.flows.processes import process_alive


def recover(installation: Installation) -> tuple[str, ...]:
    """Put right what interrupted runs left; what was done, in sentences.

    Uncommitted bytes in a repository stay: they are found again by the next backup, or reclaimed by a prune. A snapshot
    that no recovery point stands for (killed between the repository's commit and the signed record) is dropped; only
    snapshots named by an interrupted run of *this* catalog are ever touched. A point that was signed already is shown.
    """
    interrupted = installation.catalog.interrupt_dead_runs(installation.host, process_alive, clock.now())
    done = [_sentence(run) for run in interrupted]
    swept = installation.sandbox.sweep()
    if swept:
        done.append(f"Removed {swept} restore sandbox{'es' if swept > 1 else ''} that a killed process left.")
    begun = {run.point for run in interrupted if run.action is ActionKind.BACKUP and run.point}
    done.extend(show_signed(installation))
    if interrupted:
        for vault_name in installation.policy.vaults:
            done.extend(clear_vault(installation, vault_name, begun))
    if installation.catalog.expired_copies_to_delete():
        expire.drop_expired_copies(installation, locked_too=False)  # what is locked waits for its expiry, not for us
    return tuple(done)


def show_signed(installation: Installation) -> list[str]:
    """Show the points that were signed as safe before their backup broke off: only the catalog's rows are missing."""
    done = []
    for point, copy in installation.catalog.unshown_points(installation.signer.signer):
        try:
            head = records.bring(installation, copy.vault)
        except BackupsError as error:
            done.append(f"{point.id} is safe in {copy.vault}, but cannot be shown before that vault is back: {error}")
            continue
        installation.catalog.add_point_with_copy(point, copy, head)
        done.append(f"Recovery point {point.id} was safe already when its backup broke off; it is shown now.")
    return done


def _sentence(run: Run) -> str:
    what = run.source or run.vault or "everything"
    return f"A {run.action.value.replace('_', ' ')} of {what} was interrupted; it is due again."


def clear_vault(
    installation: Installation, vault_name: str, orphans: Collection[str], *, left: LeftBy | None = None
) -> list[str]:
    """Clear a vault of what killed processes left: locks, unfinished files, snapshots of these points, in sentences."""
    done: list[str] = []
    try:
        installation.vault(vault_name).check()
        store = installation.store(vault_name)
        append_only = installation.policy.append_only(vault_name)
        cleared = store.clear_leftovers(own=append_only, left=left)
        done.extend(f"{vault_name}: {sentence}" for sentence in cleared)
        lost = [
            committed.reference
            for committed in store.committed()
            for tag in committed.tags
            if tag.removeprefix("point:") in orphans and not is_known(installation, tag.removeprefix("point:"))
        ]
        if lost and append_only:
            done.append(f"{vault_name}: {len(lost)} snapshot(s) of no recovery point stay there for the vault's owner.")
        elif lost:
            records.deliver(installation, vault_name)  # or the catalog has gone back in time, and forgot that it is one
            store.expire(lost)
            done.append(f"{vault_name}: dropped {len(lost)} snapshot(s) whose backup never reached the catalog.")
    except BackupsError as error:
        # A vault that is away is cleared when it is back; whoever needs it now meets the error there.
        done.append(f"{vault_name}: not cleared now: {error}")
    return done


def is_known(installation: Installation, point_id: str) -> bool:
    """Whether there is a point of this very name, shown or expired."""
    try:
        return installation.catalog.point(point_id).id == point_id
    except NotFoundError:
        return False
