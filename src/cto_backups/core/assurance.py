"""Assurance: how well each source would come back, judged from policy and facts, with reasons.

The word is the worst that any part of the judgement finds; the reasons are all that they found, the gravest first.
Nothing is assumed in a source's favour: what is not known, damaged, incomplete or dated in the future is not green.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cto_backups.core import copies as arrivals
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.elsewhere import data_copies, elsewhere, findings_elsewhere, rung_elsewhere
from cto_backups.core.facts import CopyFacts, Facts, SourceFacts, VaultFacts
from cto_backups.core.forecast import Forecast, forecast
from cto_backups.core.log_range import follows
from cto_backups.core.model import ActionKind, Outcome, RecoveryPoint, Rung, Status
from cto_backups.core.objectives import (
    age_against_rpo,
    change_against_expected,
    forecast_against_rto,
    old_proof,
    quiet_for,
)
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.streams import is_continuous, standing
from cto_backups.core.wording import counted, listed

COPY_GRACE = timedelta(minutes=15)
"""How long the copies of a new point may take before a missing one makes a source OVERDUE; a quarter of a short RPO."""

SHORTEST_RUN_GRACE = timedelta(minutes=15)
"""How long a backup under way at its RPO's end may take at least; otherwise twice what the last one took."""

SEVERITY = (Status.UNPROTECTED, Status.FAILED_TEST, Status.OVERDUE, Status.HEALTHY)
"""The words, the gravest first: it wins."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word on a source, why, and the figures behind it.

    `age` is the time since the newest complete point was captured or confirmed (None: there is none, or its date is not
    believed). `rung` is the strongest one that is as fresh as policy asks, `rung_wanted` what policy asks. `copies`
    counts the undamaged copies of the newest complete point in vaults of the policy that are there, and those of older
    ones that lag no more than their vault's schedule lets them; `copies_wanted` what its category asks. `tested_at` is
    when a restore test last ran, whatever came of it. `forecast` is how long a restore would take (None: none was ever
    measured).
    """

    source: str
    status: Status
    reasons: tuple[str, ...]
    rung: Rung
    rung_wanted: Rung
    age: timedelta | None
    copies: int
    copies_wanted: int
    tested_at: datetime | None = None
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """One source with all that is known of it."""

    whole: Policy
    policy: SourcePolicy
    facts: SourceFacts
    vaults: Mapping[str, VaultFacts]
    away: Mapping[str, str]
    now: datetime

    @property
    def copies(self) -> tuple[CopyFacts, ...]:
        """The copies of the newest complete point that policy asks for, which are there and not known to be damaged."""
        return tuple(
            known
            for known in self.facts.copies
            if known.copy.vault in self.policy.vaults
            and known.copy.vault not in self.away
            and known.read_passed is not False
        )

    @property
    def lagging(self) -> tuple[str, ...]:
        """The vaults that hold an older point, as their schedules let them, are there, and not known to be damaged."""
        behind = arrivals.lagging(self.whole, self.policy, self.facts, self.now)
        known = ((vault, self.vaults.get(vault, VaultFacts(vault))) for vault in behind if vault not in self.away)
        return tuple(vault for vault, facts in known if facts.read_passed is not False)

    @property
    def age(self) -> timedelta | None:
        fresh_at = self.facts.fresh_at
        if fresh_at is None or self.future(fresh_at):
            return None
        return max(self.now - fresh_at, timedelta())

    def future(self, moment: datetime | None) -> bool:
        """Whether a moment is too far ahead to be believed."""
        return moment is not None and moment > self.now + CLOCK_TOLERANCE

    def since(self, moment: datetime) -> str:
        """How long ago, in words."""
        return f"{roughly(self.now - moment)} ago"


_Finding = tuple[Status, str]


def judge(policy: Policy, facts: Facts, now: datetime, sources: Iterable[str] | None = None) -> Mapping[str, Verdict]:
    """The verdict on every source of the policy, or on these of them. Raises ValueError when `now` is naive."""
    require_aware(now)
    away = facts.vaults_away or {}
    return {
        name: _judge(
            _Case(policy, policy.sources[name], facts.sources.get(name, SourceFacts(name)), facts.vaults, away, now)
        )
        for name in (policy.sources if sources is None else sources)
    }


def _judge(case: _Case) -> Verdict:
    findings = sorted(_findings(case), key=lambda finding: SEVERITY.index(finding[0]))
    status = findings[0][0] if findings else Status.HEALTHY
    reasons = tuple(dict.fromkeys(sentence for _, sentence in findings))
    if status is Status.HEALTHY:
        reasons = (_good_news(case), *reasons)
    last_test = case.facts.last_test
    return Verdict(
        source=case.policy.name,
        status=status,
        reasons=reasons,
        rung=_rung(case),
        rung_wanted=case.policy.category.rung,
        age=case.age,
        copies=data_copies(case.facts.newest, len(case.copies) + len(case.lagging)),
        copies_wanted=case.policy.category.copies,
        tested_at=last_test.finished_at if last_test else None,
        forecast=forecast(case.facts),
    )


def _findings(case: _Case) -> Iterator[_Finding]:
    newest = case.facts.newest
    yield from _judge_newest_of_all(case)
    yield from _judge_runs(case)
    if newest is None:
        yield Status.UNPROTECTED, "there is no complete recovery point"
        return
    if not case.facts.copies:
        yield Status.UNPROTECTED, f"no vault holds a copy of the newest complete point {newest.id}"
        return
    yield from _judge_age(case, newest)
    yield from _judge_stream(case)
    yield from _judge_change(case)
    yield from _judge_copies(case, newest)
    yield from findings_elsewhere(newest, case.policy.category)
    yield from _judge_reading(case)
    yield from _judge_tests(case)
    yield from _judge_forecast(case)
    yield from _judge_rung(case)


def _judge_newest_of_all(case: _Case) -> Iterator[_Finding]:
    point = case.facts.newest_any
    if point is not None and not point.complete:
        missing = counted(len(point.problems), "entry", "entries")
        yield Status.HEALTHY, f"the newest point {point.id} is incomplete: {missing} could not be captured"


def _judge_runs(case: _Case) -> Iterator[_Finding]:
    for kind, run in case.facts.last_runs.items():
        # A restore test that could not run has failed; `_judge_tests` says so.
        if run.outcome is Outcome.FAILED and kind is not ActionKind.RESTORE_TEST:
            failures = counted(max(case.facts.failures.get(kind, 1), 1), "time")
            message = f": {run.message}" if run.message else ""
            yield Status.HEALTHY, f"the last {kind.value} failed, {failures} in a row{message}"
        elif run.outcome is Outcome.INTERRUPTED:
            yield Status.HEALTHY, f"the last {kind.value.replace('_', ' ')} was interrupted"


def _judge_age(case: _Case, newest: RecoveryPoint) -> Iterator[_Finding]:
    rpo = case.policy.category.rpo
    if case.age is None:
        dated = newest.captured_at if case.future(newest.captured_at) else case.facts.fresh_at
        assert dated is not None
        yield (
            Status.OVERDUE,
            f"the newest complete point is dated {roughly(dated - case.now)} in the future: "
            "a clock is or was wrong, so its age is not known",
        )
    elif case.age > rpo:
        sentence = age_against_rpo(case.age, rpo)
        if _being_replaced(case, newest, case.age - rpo):
            yield Status.HEALTHY, f"{sentence}; the backup that replaces it is under way"
        else:
            yield Status.OVERDUE, sentence


def _judge_stream(case: _Case) -> Iterator[_Finding]:
    # What a stream that stands still costs is for the RPO to say; that it does is said at once.
    stream, newest, why = case.facts.stream, case.facts.newest, None
    if not is_continuous(case.policy.triggers):
        return
    if stream is not None:
        why = standing(stream, case.policy.category.rpo, case.now)
    elif newest is not None and follows(newest) is not None:
        why = "was never followed: only a worker does"
    if why is not None:
        yield Status.HEALTHY, f"its log {why}"


def _judge_change(case: _Case) -> Iterator[_Finding]:
    expected, quiet = case.policy.expects_change, quiet_for(case.facts)
    if expected is not None and quiet is not None and quiet > expected:
        yield Status.OVERDUE, change_against_expected(case.facts, expected)


def _being_replaced(case: _Case, newest: RecoveryPoint, beyond_rpo: timedelta) -> bool:
    """Whether a backup that began before the RPO ran out is still in the time that a backup may take.

    A daily backup under an RPO of 24 h would otherwise be OVERDUE every day for as long as it runs.
    """
    run = case.facts.last_runs.get(ActionKind.BACKUP)
    if run is None or run.outcome is not Outcome.RUNNING or case.future(run.started_at):
        return False
    running = case.now - run.started_at
    allowed = max(2 * (newest.finished_at - newest.started_at), SHORTEST_RUN_GRACE)
    return running <= allowed and beyond_rpo <= running + CLOCK_TOLERANCE


def _judge_copies(case: _Case, newest: RecoveryPoint) -> Iterator[_Finding]:
    wanted, vaults = case.policy.category.copies, case.policy.vaults
    damaged = [known.copy.vault for known in case.facts.copies if known.read_passed is False]
    away = [known.copy.vault for known in case.facts.copies if known.copy.vault in case.away]
    some = {*damaged, *away} != {known.copy.vault for known in case.facts.copies}
    if damaged:
        word = Status.FAILED_TEST if some else Status.UNPROTECTED
        yield word, f"the last reading of {_named('vault', damaged)} found damage, so its copy does not count"
    for vault in away:
        word = Status.OVERDUE if some else Status.UNPROTECTED
        yield word, f"the copy in vault {vault} does not count, since nobody can read it now: {case.away[vault]}"
    stored = {known.copy.vault for known in case.facts.copies}
    lacking = [vault for vault in vaults if vault not in stored]
    missing = [vault for vault in lacking if not arrivals.is_scheduled(case.whole, vault)]
    yield from _judge_schedules(case, [vault for vault in lacking if vault not in missing])
    if missing:
        sentence = f"{_named('vault', missing)} {'has' if len(missing) == 1 else 'have'} no copy of {newest.id}"
        grace = min(case.policy.category.rpo / 4, COPY_GRACE)
        waiting = case.now - newest.finished_at
        if waiting > grace or case.facts.failures.get(ActionKind.COPY):
            yield Status.OVERDUE, f"{sentence}, which was made {roughly(waiting)} ago"
        else:
            yield Status.HEALTHY, f"{sentence} yet"
    if elsewhere(newest) is None and len(vaults) < wanted:
        yield (
            Status.HEALTHY,
            f"policy names {counted(len(vaults), 'vault')}, but category {case.policy.category.name} asks for "
            f"{counted(wanted, 'copy', 'copies')}",
        )


def _judge_schedules(case: _Case, lacking: list[str]) -> Iterator[_Finding]:
    """Vaults on a schedule may lag by it; that they do is remarkable once they lag by more, or a copy failed."""
    failed = case.facts.failures.get(ActionKind.COPY)
    for vault in lacking:
        late = arrivals.late(case.whole, case.policy, case.facts, vault, case.now)
        if late is not None or failed:
            standing = arrivals.told_lag(case.facts, vault)
            yield Status.OVERDUE, late or f"vault {vault}: {standing}, and the last copy failed"


def _judge_reading(case: _Case) -> Iterator[_Finding]:
    within = case.policy.category.read_within
    damaged = {known.copy.vault for known in case.facts.copies if known.read_passed is False}
    for vault in case.policy.vaults:
        known = case.vaults.get(vault, VaultFacts(vault))
        # Damage in the vault of a copy that is newer than the reading may or may not be this copy's.
        if known.read_passed is False and vault not in damaged:
            yield Status.FAILED_TEST, f"the last reading of vault {vault} found damage"
        since = known.read_since or known.first_copy_at
        if since is None:
            continue
        if case.future(since):
            yield Status.OVERDUE, f"vault {vault} was last read at a moment in the future: a clock is or was wrong"
        elif case.now - since > within:
            what = f"vault {vault} was never read in full"
            if known.read_since:
                what = f"the oldest reading of vault {vault} was {case.since(since)}"
            yield Status.OVERDUE, f"{what}; every byte is to be read within {format_duration(within)}"


def _judge_tests(case: _Case) -> Iterator[_Finding]:
    last, every = case.facts.last_test, case.policy.test_every
    run = case.facts.last_runs.get(ActionKind.RESTORE_TEST)
    proven_at = case.facts.proven_at
    if last is not None and not last.passed and (proven_at is None or proven_at <= last.finished_at):
        why = f": {last.reason}" if last.reason else ""
        yield Status.FAILED_TEST, f"the last restore test, {case.since(last.finished_at)}, failed{why}"
    elif run is not None and run.outcome is Outcome.FAILED and (proven_at is None or proven_at < run.started_at):
        why = f": {run.message}" if run.message else ""
        yield Status.FAILED_TEST, f"the last restore test, {case.since(run.started_at)}, could not run{why}"
    if every is None:
        return
    if proven_at is None:
        yield Status.OVERDUE, "it was never proven by a restore test, so nobody knows whether it comes back"
    elif case.future(proven_at):
        yield Status.OVERDUE, "the last passed restore test is dated in the future: a clock is or was wrong"
    elif case.now - proven_at > every:
        yield (
            Status.OVERDUE,
            f"the last passed restore test was {case.since(proven_at)}; one is due every {format_duration(every)}",
        )
    elif (sentence := old_proof(case.facts, every, case.now)) is not None:
        # Not a word of its own: the test is fresh. The control `restore-test` asks for one of a newer point.
        yield Status.HEALTHY, sentence


def _judge_forecast(case: _Case) -> Iterator[_Finding]:
    # A forecast is no fact: it is said, and the control `rto` asks for it, but it makes nothing red.
    expected, rto = forecast(case.facts), case.policy.category.rto
    if expected is not None and expected.most > rto:
        yield Status.HEALTHY, forecast_against_rto(expected, rto)


def _judge_rung(case: _Case) -> Iterator[_Finding]:
    rung, wanted = _rung(case), case.policy.category.rung
    last = case.facts.last_test
    if rung is Rung.RESTORED and last is not None and last.passed and last.rung is rung:
        yield Status.HEALTHY, "the last restore test compared only a part of it: it came back, and is not proven"
    # How soon a rung must be reached is for tests and readings to say; that it is not reached is said in any case.
    if rung < wanted:
        yield Status.HEALTHY, f"it stands on rung {rung.name.lower()}; policy asks for {wanted.name.lower()}"


def _rung(case: _Case) -> Rung:
    """The strongest rung whose evidence is as fresh as policy asks."""
    if case.facts.newest_any is None:
        return Rung.DECLARED
    if not case.copies:
        return Rung.RECORDED
    proven_at, every = case.facts.proven_at, case.policy.test_every
    tested = proven_at is not None and not case.future(proven_at) and (every is None or case.now - proven_at <= every)
    failed = any(status is Status.FAILED_TEST for status, _ in _judge_tests(case))
    if tested and not failed:
        last = case.facts.last_test
        return last.rung if last is not None and last.passed else Rung.PROVEN
    stands = rung_elsewhere(case.facts, lambda at: not case.future(at) and (every is None or case.now - at <= every))
    if stands is not None:
        return stands
    within = case.policy.category.read_within
    vaults = (case.vaults.get(known.copy.vault) for known in case.copies)
    # Of a verification in parts, the oldest of its readings counts.
    readings = (vault.read_since for vault in vaults if vault is not None and vault.read_passed)
    read = any(at is not None and not case.future(at) and case.now - at <= within for at in readings)
    return Rung.READ if read else Rung.STORED


def _good_news(case: _Case) -> str:
    assert case.age is not None
    copies = str(elsewhere(case.facts.newest) or counted(len(case.copies), "copy", "copies"))
    if case.lagging:
        copies += f" and {counted(len(case.lagging), 'older one', 'older ones')} by schedule"
    proven_at = case.facts.proven_at
    word = "restored" if _rung(case) is Rung.RESTORED else "proven"
    proof = f"{word} by a restore test {case.since(proven_at)}" if proven_at else "not proven by a restore test"
    rpo = format_duration(case.policy.category.rpo)
    return f"newest complete point is {roughly(case.age)} old (RPO {rpo}), {copies}, {proof}"


def _named(what: str, names: list[str]) -> str:
    return f"{what if len(names) == 1 else what + 's'} {listed(names)}"
