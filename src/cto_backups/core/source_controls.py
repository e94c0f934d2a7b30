"""The controls on sources: backed up, kept, proven, owned."""

from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.achieved import achieved, achieved_against_rpo
from cto_backups.core.duration import format_cadence, format_duration, roughly
from cto_backups.core.expiry import all_young, needs_approval, overstayed
from cto_backups.core.facts import SourceFacts
from cto_backups.core.findings import Audited, Check
from cto_backups.core.forecast import of_category
from cto_backups.core.heartbeat import silent, told_of
from cto_backups.core.model import ActionKind, Evidence, Outcome
from cto_backups.core.objectives import (
    age_against_rpo,
    change_against_expected,
    forecast_against_rto,
    old_proof,
    quiet_for,
)
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.retention import Retention, format_retention
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.schedule import format_triggers, longest_gap
from cto_backups.core.streams import going, standing
from cto_backups.core.wording import counted

POINT_IN_TIME_WINDOW = timedelta(days=7)
"""For how long every change point must be kept where point-in-time recovery is required."""

EXPIRY_GRACE = timedelta(days=7)
"""How long a point may stay after retention stopped keeping it: a worker expires every day."""


def check_empty(audited: Audited) -> Iterator[Check]:
    """The newest complete point holds something: a byte, and in a repository a ref, in a database a table."""
    for source in audited.policy.sources.values():
        newest = audited.source(source.name).newest
        if newest is None:
            continue
        none = [what for what in ("refs", "tables") if newest.fingerprint.counts.get(what) == 0]
        if newest.size_bytes == 0:
            none.insert(0, "bytes")
        detail = f"no {' and no '.join(none)}" if none else f"{counted(newest.size_bytes, 'byte')}"
        yield _check(source, not none, f"newest complete point {newest.id} holds {detail}")


def check_rpo(audited: Audited) -> Iterator[Check]:
    """The newest complete point is no older than the RPO; no grace for a run under way."""
    for source in audited.policy.sources.values():
        age, rpo = audited.verdicts[source.name].age, source.category.rpo
        if audited.source(source.name).newest is None:
            yield _check(source, False, "there is no complete recovery point")
        elif age is None:
            yield _check(source, False, "the age of its newest complete point is not known: it is dated in the future")
        else:
            yield _check(source, age <= rpo, age_against_rpo(age, rpo))


def check_achieved_rpo(audited: Audited) -> Iterator[Check]:
    """What a loss of the source now would cost, by the data that would come back, is within the RPO."""
    for source in audited.policy.sources.values():
        found, rpo = achieved(audited.policy, audited.facts, source.name, audited.now), source.category.rpo
        if found is None:
            yield _check(source, False, "all of it would be lost: no complete point has a sound copy in its vaults")
        else:
            passed = found.loss is not None and found.loss <= rpo
            yield _check(source, passed, achieved_against_rpo(found, rpo))


def check_stream(audited: Audited) -> Iterator[Check]:
    """Where a log is to be followed all the time, somebody follows it, and it reaches every vault."""
    for name in audited.environment.streams:
        source, known = audited.policy.sources[name], audited.source(name)
        if known.newest is None:
            continue  # there is nothing to go on from; that there is no point, other controls say
        if known.stream is None:
            yield _check(source, False, "nobody ever followed its log: only a worker does")
            continue
        why = standing(known.stream, source.category.rpo, audited.now)
        yield _check(source, why is None, f"its log {why or going(known.stream, audited.now)}")


def check_content_stale(audited: Audited) -> Iterator[Check]:
    """Where policy expects a source to change: it did, in time."""
    for source in audited.policy.sources.values():
        facts, expected = audited.source(source.name), source.expects_change
        quiet = quiet_for(facts)
        if expected is not None and quiet is not None:
            yield _check(source, quiet <= expected, change_against_expected(facts, expected))


def check_rto(audited: Audited) -> Iterator[Check]:
    """The longest that a restore is forecast to take is within the RTO, source by source and for each category."""
    sources = audited.policy.sources.values()
    for source in sources:
        expected, rto = audited.verdicts[source.name].forecast, source.category.rto
        if expected is not None:
            yield _check(source, expected.most <= rto, forecast_against_rto(expected, rto))
        elif source.test_every is not None:
            told = f"no restore was ever measured, so nothing can be forecast; RTO is {format_duration(rto)}"
            yield _check(source, False, told)
    for category in {source.category.name: source.category for source in sources}.values():
        queue = of_category(audited.policy, audited.facts, category.name)
        if queue.forecast is not None and len(queue.done_after) > 1:
            told = f"its {len(queue.done_after)} sources one after the other: {queue.forecast}"
            passed = queue.forecast.most <= category.rto
            detail = f"{told}; RTO is {format_duration(category.rto)}"
            yield Check(f"category {category.name}", passed, detail, category=category.name)


def check_complete(audited: Audited) -> Iterator[Check]:
    """The newest point of all holds everything that it should."""
    for source in audited.policy.sources.values():
        point = audited.source(source.name).newest_any
        if point is not None:
            missing = counted(len(point.problems), "entry is", "entries are")
            detail = f"{missing} missing, first: {point.problems[0].path}" if point.problems else "nothing is missing"
            yield _check(source, point.complete, f"newest point {point.id}: {detail}")


def check_failed_runs(audited: Audited) -> Iterator[Check]:
    """No action of a source stands failed, restore tests apart: they have a control of their own."""
    for source in audited.policy.sources.values():
        facts = audited.source(source.name)
        runs = [run for run in facts.last_runs.values() if run.action is not ActionKind.RESTORE_TEST]
        failed = [run for run in runs if run.outcome is Outcome.FAILED]
        for run in failed:
            times = counted(max(facts.failures.get(run.action, 1), 1), "time")
            yield _check(source, False, f"the last {run.action.value} failed, {times} in a row: {run.message}")
        if runs and not failed:
            yield _check(source, True, "no action stands failed")


def check_retention(audited: Audited) -> Iterator[Check]:
    """Points are kept at least as long as the source's class of data asks."""
    for source in audited.policy.sources.values():
        data_class = audited.policy.classes.get(source.data_class or "")
        asked = data_class.retention if data_class is not None else None
        stated = format_retention(source.retention)
        if asked is None:
            yield _check(source, True, f"kept: {stated}")
        else:
            assert data_class is not None
            figures = f"kept: {stated}; class {data_class.name} asks for {format_retention(asked)}"
            yield _check(source, _keeps_as_much(source.retention, asked), figures)


def _keeps_as_much(stated: Retention, asked: Retention) -> bool:
    if stated.permanent or asked.permanent:
        return stated.permanent
    counts = ("daily", "weekly", "monthly", "yearly")
    return (
        (stated.keep_for or timedelta()) >= (asked.keep_for or timedelta())
        and (stated.versions or 0) >= (asked.versions or 0)
        and all(getattr(stated, count) >= getattr(asked, count) for count in counts)
    )


def check_kept_too_long(audited: Audited) -> Iterator[Check]:
    """No point is there of which retention said a week ago that it goes."""
    then, zone = audited.now - EXPIRY_GRACE, ZoneInfo(audited.policy.timezone)
    approval = needs_approval(audited.policy)
    for source in audited.policy.sources.values():
        known, stated = audited.source(source.name), f"kept: {format_retention(source.retention)}"
        if known.oldest_at is not None and all_young(source.retention, known.oldest_at, then):
            yield _check(source, True, f"{stated}; {counted(known.point_count, 'point')}, none kept far longer")
            continue
        expired = known.last_runs.get(ActionKind.EXPIRE)
        if expired is not None and expired.outcome is Outcome.SUCCEEDED and then <= expired.started_at <= audited.now:
            # What is there still was kept then by something that may have ended since: a hold, a proof, a suspicion.
            told = f"{stated}; what it does not keep was dropped {roughly(audited.now - expired.started_at)} ago"
            yield _check(source, True, told)
            continue
        facts = audited.with_points(source.name)
        kept = facts.kept_points.get(source.name)
        if not kept:
            continue
        over = overstayed(source, facts, since=then, zone=zone, approval=approval)
        if over:
            oldest = roughly(audited.now - over[-1].captured_at)
            grace = f"for more than {format_duration(EXPIRY_GRACE)}, the oldest of {oldest} ago"
            what = f"{counted(len(over), 'point is', 'points are')} still there that retention has not kept"
            yield _check(source, False, f"{stated}; {what} {grace}")
        else:
            yield _check(source, True, f"{stated}; {counted(len(kept), 'point')}, none kept far longer")


def check_anomalies(audited: Audited) -> Iterator[Check]:
    """No point is under suspicion that nobody has cleared."""
    for source in audited.policy.sources.values():
        marks = audited.facts.marks.get(source.name, ())
        if marks:
            first, more = marks[0], len(marks) - 1
            others = f"; and {counted(more, 'later point')}" if more else ""
            said = f"{first.point} is under suspicion: {'; '.join(first.suspicions)}{others}"
            yield _check(source, False, f"{said}; the clean points before it do not expire")
        elif audited.source(source.name).newest_any is not None:
            yield _check(source, True, "no point is under suspicion")


def check_idle(audited: Audited) -> Iterator[Check]:
    """Something ran for the source within twice its RPO, whatever it was and however it ended."""
    for source in audited.policy.sources.values():
        facts = audited.source(source.name)
        signs = [
            *(run.started_at for run in facts.last_runs.values()),
            *((facts.newest_any.finished_at,) if facts.newest_any else ()),
            *((facts.last_test.finished_at,) if facts.last_test else ()),
            *(moment for moment in (facts.confirmed_at, facts.first_seen) if moment is not None),
        ]
        if signs:
            idle, limit = audited.now - max(signs), 2 * source.category.rpo
            detail = f"nothing was run for {roughly(idle)}; twice its RPO is {format_duration(limit)}"
            yield _check(source, idle <= limit, detail)


def check_proven_kept(audited: Audited) -> Iterator[Check]:
    """The last point that a restore test proved is still there to return to."""
    for source in audited.policy.sources.values():
        facts = audited.source(source.name)
        if facts.proven_at is None:
            continue
        point = facts.proven  # the newest of those that are kept
        if point is None:
            yield _check(source, False, f"the point proven {roughly(audited.now - facts.proven_at)} ago is gone")
        else:
            yield _check(source, True, f"{point.id} is kept")


def check_point_in_time(audited: Audited) -> Iterator[Check]:
    """Where point-in-time recovery is required: change points within the RPO, each kept for a week."""
    for source in audited.policy.sources.values():
        if not source.category.point_in_time:
            continue
        gap = longest_gap(source.triggers, source.category.rpo)
        retention = source.retention
        window = format_duration(POINT_IN_TIME_WINDOW)
        if gap > source.category.rpo:
            figures = f"'{format_triggers(source.triggers)}' leaves up to {format_duration(gap)} between two points"
            yield _check(source, False, f"{figures}; RPO is {format_duration(source.category.rpo)}")
        elif not retention.permanent and (retention.keep_for or timedelta()) < POINT_IN_TIME_WINDOW:
            stated = format_retention(retention)
            yield _check(source, False, f"kept: {stated}; every change point of the last {window} must be kept")
        else:
            yield _check(source, True, f"a point at least every {format_duration(gap)}, each kept for {window} or more")


def check_restore_test(audited: Audited) -> Iterator[Check]:
    """The last restore test passed, and is no older than its cadence."""
    for source in audited.policy.sources.values():
        facts = audited.source(source.name)
        yield from _check_test(audited, source, facts, facts.last_test)


def _check_test(audited: Audited, source: SourcePolicy, facts: SourceFacts, last: Evidence | None) -> Iterator[Check]:
    every = source.test_every
    run = facts.last_runs.get(ActionKind.RESTORE_TEST)
    if run is not None and run.outcome is Outcome.FAILED and (last is None or last.finished_at < run.started_at):
        yield _check(source, False, f"the last restore test could not run: {run.message}")
    elif last is None:
        if every is not None:
            yield _check(source, False, f"it was never tested; policy asks for {format_cadence(every)}")
    elif not last.passed:
        yield _check(source, False, f"the last restore test, {_ago(audited, last)}, failed: {last.reason}")
    elif last.finished_at > audited.now + CLOCK_TOLERANCE:
        yield _check(source, False, "the last restore test is dated in the future")
    elif every is not None and audited.now - last.finished_at > every:
        figures = f"the last restore test was {_ago(audited, last)}"
        yield _check(source, False, f"{figures}; policy asks for {format_cadence(every)}")
    elif every is not None and (sentence := old_proof(facts, every, audited.now)) is not None:
        yield _check(source, False, sentence)
    else:
        yield _check(source, True, f"the last restore test, {_ago(audited, last)}, passed")


def check_worker(audited: Audited) -> Iterator[Check]:
    """Each worker that there ever was, and that was not forgotten, still gives signs of life."""
    dead = silent(audited.policy, audited.facts, audited.now)
    alone = len(audited.facts.heartbeats) == 1
    for last in audited.facts.heartbeats:
        subject = "worker" if alone else f"worker {last.name}"
        if last in dead:
            yield Check(subject, False, told_of(last, audited.now, alone=alone))
        else:
            ago = roughly(audited.now - last.at)
            yield Check(subject, True, f"its last sign of life, from {last.host}, was {ago} ago")


def check_owner(audited: Audited) -> Iterator[Check]:
    """Somebody answers for the source."""
    for source in audited.policy.sources.values():
        owner = (source.owner or "").strip()
        yield _check(source, bool(owner), f"owned by {owner}" if owner else "it names no owner")


def check_clock(audited: Audited) -> Iterator[Check]:
    """Nothing that is recorded of a source lies in the future."""
    for source in audited.policy.sources.values():
        facts = audited.source(source.name)
        moments = [
            *((facts.newest_any.captured_at, facts.newest_any.finished_at) if facts.newest_any else ()),
            *((facts.newest.captured_at, facts.newest.finished_at) if facts.newest else ()),
            *((facts.last_test.finished_at,) if facts.last_test else ()),
            *(run.started_at for run in facts.last_runs.values()),
            *(moment for moment in (facts.confirmed_at, facts.proven_at) if moment is not None),
        ]
        if moments:
            ahead = max(moments) - audited.now
            wrong = ahead > CLOCK_TOLERANCE
            detail = (
                f"a record is dated {roughly(ahead)} in the future" if wrong else "no record is dated in the future"
            )
            yield _check(source, not wrong, detail)


def _check(source: SourcePolicy, passed: bool, detail: str) -> Check:
    return Check(source.name, passed, detail, category=source.category.name)


def _ago(audited: Audited, evidence: Evidence) -> str:
    return f"{roughly(audited.now - evidence.finished_at)} ago"
