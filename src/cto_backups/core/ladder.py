"""The evidence ladder of a source: for each copy, what is known of it, since when, and by which evidence; pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.elsewhere import elsewhere
from cto_backups.core.facts import CopyFacts, Facts, SourceFacts, VaultFacts
from cto_backups.core.model import RecoveryPoint, Rung
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.retries import CLOCK_TOLERANCE


class Standing(StrEnum):
    """How it is with one rung under a copy; "too old" includes what is dated in the future."""

    HOLDS = "holds"
    MISSING = "missing"
    FAILED = "failed"
    TOO_OLD = "too old"


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One rung under a copy: how it stands, since when, and what shows it.

    `evidence` is the policy (the beginning of its digest), a recovery point's id, the beginning of the vault's
    reference, or the id of stored evidence. `due_at` is by when policy wants the rung shown afresh: a reading of the
    vault, a restore test of the source, of whichever copy; None where it asks for no repetition.
    """

    rung: Rung
    standing: Standing
    at: datetime | None = None
    evidence: str | None = None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CopyLadder:
    """The ladder under one copy of a point. `stored` False: policy asks for the copy, and the vault does not have it.

    `rung` is the highest that holds; of a copy that is damaged, or not there, RECORDED.
    """

    point: str
    vault: str
    stored: bool
    rung: Rung
    steps: tuple[LadderStep, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What policy asks of a copy: within what time, and by when next."""

    read_within: timedelta
    read_by: datetime | None
    test_every: timedelta | None
    test_by: datetime | None


def ladders(policy: Policy, facts: Facts, name: str, now: datetime) -> tuple[CopyLadder, ...]:
    """The ladders under the copies of a source's newest complete point, and of its last proven one where it is another.

    Vaults of the policy come first, in its order. Raises ValueError when `now` is naive, KeyError when policy has no
    such source.
    """
    require_aware(now)
    source, known = policy.sources[name], facts.sources.get(name, SourceFacts(name))
    found: list[CopyLadder] = []
    if known.newest is not None:
        copies = {each.copy.vault: each for each in known.copies}
        for vault in dict.fromkeys((*source.vaults, *copies)):
            found.append(_ladder(policy, facts, known, known.newest, vault, copies.get(vault), now))
    if known.proven is not None and (known.newest is None or known.proven.id != known.newest.id):
        for copy in known.proven_copies:
            found.append(_ladder(policy, facts, known, known.proven, copy.copy.vault, copy, now))
    return tuple(found)


def _ladder(
    policy: Policy,
    facts: Facts,
    known: SourceFacts,
    point: RecoveryPoint,
    vault: str,
    copy: CopyFacts | None,
    now: datetime,
) -> CopyLadder:
    source = policy.sources[known.source]
    asked = _asked(source, known, facts.vaults.get(vault, VaultFacts(vault)))
    steps = tuple(_steps(policy, source, asked, point, vault, copy, now))
    # A rung holds those below it, so the highest counts; but bytes that are known to be damaged hold up nothing.
    lost = copy is None or copy.read_passed is False
    rung = Rung.RECORDED if lost else max(step.rung for step in steps if step.standing is Standing.HOLDS)
    return CopyLadder(point.id, vault, copy is not None, rung, steps)


def _asked(source: SourcePolicy, known: SourceFacts, vault: VaultFacts) -> _Asked:
    within, every = source.category.read_within, source.test_every
    read, tested = vault.read_since or vault.first_copy_at, known.proven_at
    if tested is None and known.newest is not None:
        tested = known.newest.finished_at - (every or timedelta())  # never: due as soon as there is a point
    return _Asked(
        read_within=within,
        read_by=read + within if read is not None and vault.vault in source.vaults else None,
        test_every=every,
        test_by=tested + every if tested is not None and every is not None else None,
    )


def _steps(
    policy: Policy,
    source: SourcePolicy,
    asked: _Asked,
    point: RecoveryPoint,
    vault: str,
    copy: CopyFacts | None,
    now: datetime,
) -> Iterator[LadderStep]:
    if vault in source.vaults:
        yield LadderStep(Rung.DECLARED, Standing.HOLDS, evidence=f"policy {policy.digest[:12]}")
    else:
        yield LadderStep(Rung.DECLARED, Standing.MISSING)
    yield LadderStep(Rung.RECORDED, Standing.HOLDS, point.finished_at, point.id)
    if copy is None:
        yield LadderStep(Rung.STORED, Standing.MISSING)
        return
    yield LadderStep(Rung.STORED, Standing.HOLDS, copy.copy.stored_at, copy.copy.reference[:12])
    if elsewhere(point) is not None and copy.read_passed is not False:
        yield LadderStep(Rung.READ, Standing.MISSING)  # of the record alone, and not of the data
    elif copy.read_passed is False:
        yield LadderStep(Rung.READ, Standing.FAILED, copy.read_at, copy.read_evidence, asked.read_by)
    else:
        # Of a reading in parts, the oldest of its parts counts; before that all is read, there is nothing to show.
        evidence = copy.read_evidence if copy.read_since else None
        yield _step(Rung.READ, copy.read_since, evidence, asked.read_within, asked.read_by, now)
    probed = source.probe or copy.test_rung == Rung.SERVING
    for rung in (Rung.RESTORED, Rung.PROVEN, *((Rung.SERVING,) if probed else ())):
        if copy.tested_at is None or (copy.test_rung or Rung.STORED) >= rung:
            yield _step(rung, copy.tested_at, copy.test_evidence, asked.test_every, asked.test_by, now)
        else:
            # A passed test that stays below a rung compared only a part: it shows nothing against the rung.
            standing = Standing.MISSING if copy.test_passed else Standing.FAILED
            yield LadderStep(rung, standing, copy.tested_at, copy.test_evidence, asked.test_by)


def _step(
    rung: Rung,
    at: datetime | None,
    evidence: str | None,
    within: timedelta | None,
    due_at: datetime | None,
    now: datetime,
) -> LadderStep:
    if at is None:
        standing = Standing.MISSING
    elif at > now + CLOCK_TOLERANCE or (within is not None and now - at > within):
        standing = Standing.TOO_OLD
    else:
        standing = Standing.HOLDS
    return LadderStep(rung, standing, at, evidence, due_at)
