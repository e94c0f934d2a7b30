"""Expire: drop the points that retention no longer keeps; the catalog changes first, then the vaults."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from cto_backups import clock
from cto_backups.core.expiry import decide_source, needs_approval, waiting
from cto_backups.core.governance import Governed
from cto_backups.core.model import ActionKind, Copy
from cto_backups.core.retention import Decision, format_retention
from cto_backups.core.vaults import locking_of
from cto_backups.errors import BackupsError, RefusedError, VaultLockedError
from cto_backups.flows import governance, records
from cto_backups.flows.installation import Installation
from cto_backups.flows.runs import recorded


@dataclass(frozen=True)
class ExpirePlan:
    """What retention says of each kept point of a source, with its reasons.

    `waited`: the retention was shortened, and has waited long enough, which nobody has noted yet.
    """

    source: str
    decisions: tuple[Decision, ...]
    waited: bool = False

    @property
    def removed(self) -> tuple[Decision, ...]:
        """The decisions that drop a point."""
        return tuple(decision for decision in self.decisions if not decision.keep)


@dataclass(frozen=True)
class Expired:
    """What was done: the plan as it was carried out, what went wrong with which vault, and which keep copies for now.

    `locked`: copies of expired points whose locks stand, by vault, each with when that ends. A later prune drops them.
    """

    plan: ExpirePlan
    problems: dict[str, BackupsError]
    locked: dict[str, dict[str, datetime]] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """What went wrong with which vault, and what its store keeps locked: copies, each with when its lock ends."""

    problems: dict[str, BackupsError]
    locked: dict[str, dict[str, datetime]]


def plan(installation: Installation, source_name: str) -> ExpirePlan:
    """What `expire` would do now; nothing is changed."""
    policy = installation.source_policy(source_name)
    now = clock.now()
    facts = installation.catalog.facts(now, [source_name], kept_points=True)
    zone = ZoneInfo(installation.policy.timezone)
    approval = needs_approval(installation.policy)
    decisions = decide_source(policy, facts, now=now, zone=zone, approval=approval)
    waited = len(facts.retentions.get(source_name, ())) > 1 and not waiting(policy, facts, now, approval=approval)
    return ExpirePlan(source_name, decisions, waited)


def expire(installation: Installation, expire_plan: ExpirePlan) -> Expired:
    """Carry out the plan. A vault that is away is caught up with by a later run.

    What has changed since the plan was made may only keep more: points are judged again when the source is free, and
    one that is put under a legal hold even then stays, since its row says so in the transaction that would drop it.
    A process killed in between leaves points that the catalog no longer shows, and stored bytes that a later run drops.
    Raises GovernanceError, and drops nothing; RefusedError on an enrolled host.
    """
    source_name = expire_plan.source
    if installation.policy.enrolled_as is not None:
        raise RefusedError(
            f"Refused: points of source '{source_name}' are not dropped by the host that made them",
            why="this host was enrolled in a fleet: what it stored is kept from it",
            todo="Run it where the fleet is administered.",
        )
    with recorded(installation, ActionKind.EXPIRE, source=source_name) as run:
        planned = {decision.point.id for decision in expire_plan.removed}
        fresh = plan(installation, source_name)
        due = planned & {decision.point.id for decision in fresh.removed}
        admitted = _admitted(installation, fresh, due) if due else frozenset()
        done = ExpirePlan(
            source_name,
            tuple(_carry_out(installation, decision, planned, admitted) for decision in fresh.decisions),
        )
        run.figures["expired"] = len(done.removed)
        dropped = drop_expired_copies(installation)
        run.figures["locked"] = sum(map(len, dropped.locked.values()))
        return Expired(done, dropped.problems, dropped.locked)


def _admitted(installation: Installation, fresh: ExpirePlan, due: set[str]) -> frozenset[str]:
    """The points that governance lets go now, of those that are due."""
    source = fresh.source
    if not fresh.waited:
        return governance.admit_points(installation, source, due)
    becomes = format_retention(installation.source_policy(source).retention)
    shortened = {"source": source, "becomes": becomes}
    summary = f"Shortening the retention of source '{source}'"
    governance.admit(installation, Governed.SHORTER_RETENTION, shortened, summary=summary, approval=False)
    installation.catalog.retentions.settle(source, becomes)
    return governance.admit_points(installation, source, due)


def _carry_out(installation: Installation, decision: Decision, planned: set[str], admitted: frozenset[str]) -> Decision:
    """Drop a point if the plan says so and it still may go; the decision as it was carried out."""
    if decision.keep:
        return decision
    if decision.point.id not in planned:
        return replace(decision, keep=True, reasons=("due since the plan was made: left to the next run",))
    if decision.point.id not in admitted:
        return replace(decision, keep=True, reasons=("due since the approval was asked for: left to the next run",))
    if installation.catalog.expire_point(decision.point.id, clock.now(), decision.reasons, installation.signer):
        return decision
    return replace(decision, keep=True, reasons=("put under a legal hold meanwhile",))


def drop_expired_copies(installation: Installation, *, locked_too: bool = True) -> Dropped:
    """Remove from the vaults what the catalog has expired already.

    Where this host may only add, copies stay until the vault's owner drops them; those that are gone are forgotten.
    Copies that a store keeps locked stay until their locks end: with `locked_too`, vaults that lock are asked for them.
    """
    by_vault = defaultdict(list)
    for copy in installation.catalog.expired_copies_to_delete(lasting=True):
        by_vault[copy.vault].append(copy)
    problems: dict[str, BackupsError] = {}
    locked: dict[str, dict[str, datetime]] = {}
    for vault_name, copies in by_vault.items():
        kept: Mapping[str, datetime] = {}
        try:
            if not locked_too and locking_of(installation.vault(vault_name)) is not None:
                continue
            if installation.policy.append_only(vault_name):
                _forget_gone(installation, vault_name, copies)
                continue
            installation.vault(vault_name).check()
            records.deliver(installation, vault_name)
            with installation.progress(f"Dropping what has expired from {vault_name}") as progress:
                progress.total(entries=len(copies), size_bytes=0)
                installation.store(vault_name).expire([copy.reference for copy in copies], progress)
        except VaultLockedError as error:
            if not error.left:
                problems[vault_name] = error
                continue
            kept = error.left
            locked[vault_name] = dict(kept)
        except BackupsError as error:
            problems[vault_name] = error
            continue
        for copy in copies:
            if copy.reference not in kept:
                installation.catalog.forget_copy(copy.point, vault_name)
    return Dropped(problems, locked)


def kept_by_owners(installation: Installation) -> dict[str, int]:
    """The number of copies of expired points by vault, where this host may only add."""
    copies = installation.catalog.expired_copies_to_delete()
    return dict(Counter(copy.vault for copy in copies if installation.policy.append_only(copy.vault)))


def _forget_gone(installation: Installation, vault_name: str, copies: Sequence[Copy]) -> None:
    """Forget the copies that the vault's owner has dropped. Raises RefusedError when some are still there."""
    installation.check_readable(vault_name)
    there = {committed.reference for committed in installation.store(vault_name).committed()}
    for copy in copies:
        if copy.reference not in there:
            installation.catalog.forget_copy(copy.point, vault_name)
    if any(copy.reference in there for copy in copies):
        installation.check_owned(vault_name)
