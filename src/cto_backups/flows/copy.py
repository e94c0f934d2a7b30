"""Copy: bring a recovery point from a vault that has it to one that has not."""

from dataclasses import dataclass

from cto_backups import clock
from cto_backups.core.copies import is_scheduled
from cto_backups.core.facts import CopyFacts
from cto_backups.core.model import ActionKind, Copy, Outcome, RecoveryPoint
from cto_backups.core.objects import Ways
from cto_backups.core.payloads import Copied
from cto_backups.errors import BackupsError, DamageError, NotFoundError, VaultMissingError
from cto_backups.evidence.payloads import copy_to_payload
from cto_backups.flows import records
from cto_backups.flows.installation import Installation
from cto_backups.flows.runs import note_ways, recorded


@dataclass(frozen=True)
class CopyResult:
    """A copy that was made; `origin` is the vault it came from, `ways` how exports came from there."""

    point: str
    vault: str
    origin: str
    added_bytes: int
    seconds: float
    ways: Ways | None = None


def missing_vaults(installation: Installation, point: RecoveryPoint) -> tuple[str, ...]:
    """The vaults of the point's source that are to have a copy of it at once, and have none yet."""
    present = {facts.copy.vault for facts in installation.catalog.copies(point.id)}
    policy = installation.policy.sources.get(point.source)
    wanted = policy.vaults if policy else ()
    return tuple(name for name in wanted if name not in present and not is_scheduled(installation.policy, name))


def bring(installation: Installation, newest: RecoveryPoint, vault_name: str) -> tuple[CopyResult, ...]:
    """Make the copies that are due: of a source's newest point; on a vault's schedule, of those before it as well.

    Those are the complete points after the newest that is there, the oldest first: whatever stops it, nothing is left
    out. One that no vault has whole, or none that is there, is passed over, and told of at the end. Into a vault that
    holds none of the source, only the newest comes. Raises what `copy` raises.
    """
    points = [newest]
    if is_scheduled(installation.policy, vault_name):
        there = {copy.point for copy in installation.catalog.copies_in(vault_name)}
        kept = [point for point in installation.catalog.points(newest.source) if point.complete]
        earlier = [point for point in kept if point.captured_at < newest.captured_at]
        held = max((point.captured_at for point in earlier if point.id in there), default=None)
        before = (point for point in earlier if held is not None and held < point.captured_at)
        points = [*sorted(before, key=lambda point: point.captured_at), newest]
    made: list[CopyResult] = []
    passed_over: BackupsError | None = None
    for point in points:
        try:
            made.append(copy(installation, point, vault_name))
        except (DamageError, VaultMissingError) as error:
            installation.vault(vault_name).check()  # where it is the destination that is gone, no point comes
            passed_over = error
    if passed_over is not None:
        raise passed_over
    return tuple(made)


def lacking(installation: Installation, vault_name: str) -> tuple[RecoveryPoint, ...]:
    """The kept points that policy wants in the vault and that have no copy there, the newest first."""
    there = {copy.point for copy in installation.catalog.copies_in(vault_name)}
    wanted = [name for name, source in installation.policy.sources.items() if vault_name in source.vaults]
    points = [point for name in wanted for point in installation.catalog.points(name) if point.id not in there]
    return tuple(sorted(points, key=lambda point: point.captured_at, reverse=True))


def copy(installation: Installation, point: RecoveryPoint, vault_name: str, *, lost: Copy | None = None) -> CopyResult:
    """Make a copy of the point in the vault. Every blob is opened on the way; a damaged origin gives way to another.

    One that is there by now, other than `lost`, was made by somebody else meanwhile, and is not made twice. Raises
    VaultError for the destination, DamageError when no vault has a whole copy, VaultMissingError when none that has
    one is there, BusyError.
    """
    with recorded(installation, ActionKind.COPY, source=point.source, vault=vault_name, point=point.id) as run:
        started = clock.monotonic()
        installation.vault(vault_name).check()
        there = [each.copy for each in installation.catalog.copies(point.id) if each.copy.vault == vault_name]
        if there and there != [lost]:
            run.outcome, run.message = Outcome.UNCHANGED, "another run has made it meanwhile"
            return CopyResult(point.id, vault_name, vault_name, 0, clock.monotonic() - started)
        copied, origin = _from_first_good(installation, point, vault_name)
        made = Copy(point.id, vault_name, copied.reference, clock.now(), copied.added_bytes)
        records.write(installation, "copy", copy_to_payload(made))
        installation.catalog.add_copy(made, records.bring(installation, vault_name))
        seconds = clock.monotonic() - started
        run.figures.update(added_bytes=copied.added_bytes, blobs=copied.blobs, seconds=round(seconds, 3))
        note_ways(run, copied.ways)
        return CopyResult(point.id, vault_name, origin, copied.added_bytes, seconds, copied.ways)


def _from_first_good(installation: Installation, point: RecoveryPoint, vault_name: str) -> tuple[Copied, str]:
    troubles: list[str] = []
    damaged = False
    with (
        installation.progress(f"Copying {point.id} to {vault_name}") as progress,
        installation.store(vault_name).writing() as writing,
    ):
        for facts in _origins(installation, point, vault_name):
            origin_name = facts.copy.vault
            try:
                installation.check_readable(origin_name)
                origin = installation.store(origin_name)
            except BackupsError as error:
                troubles.append(f"{origin_name}: {error}")
                damaged = damaged or isinstance(error, DamageError)
                continue
            try:
                return writing.copy(origin, facts.copy.reference, progress=progress), origin_name
            except (DamageError, NotFoundError, VaultMissingError) as error:
                installation.vault(vault_name).check()  # where it is the destination that is gone, no origin helps
                troubles.append(f"{origin_name}: {error}")
                damaged = True
    what = f"Recovery point {point.id} could not be copied to vault '{vault_name}'"
    if troubles and not damaged:
        raise VaultMissingError(
            what,
            why="; ".join(troubles),
            todo="Bring one of these vaults back; one that was taken out of the policy has to be named there again.",
        )
    raise DamageError(
        what,
        why="; ".join(troubles) or "no vault holds a copy of it",
        todo="Run 'cto.backups repair', which brings back what any vault or the source still has.",
    )


def _origins(installation: Installation, point: RecoveryPoint, destination: str) -> tuple[CopyFacts, ...]:
    return tuple(facts for facts in installation.catalog.copies(point.id) if facts.copy.vault != destination)
