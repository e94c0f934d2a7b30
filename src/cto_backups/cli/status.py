"""`status`: what is protected right now, how fresh, how strongly proven, and what is overdue or failed."""

import shlex
from itertools import chain
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document as error_document
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, seconds, utc
from cto_backups.cli.tally import Tally
from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cto_backups.core.assurance import Verdict
    from cto_backups.core.forecast import Forecast
    from cto_backups.core.timetable import ScheduleRow
    from cto_backups.flows.status import StatusReport


@command
def status(
    screen: Screen,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Tell more of these sources; all when left out.")
    ] = None,
    vaults: Annotated[
        bool, typer.Option("--vaults", help="Also tell how far behind each vault is, what it holds, and what it costs.")
    ] = False,
) -> ExitStatus:
    """Show how well each source is protected: one word, and why. Exits with 4 unless every one is HEALTHY.

    It also exits with 4 when a worker is dead: when it gave no sign of life in time; when a revoked host may get in;
    or when vaults have what the catalog lacks: an older copy of it was put back.

    HEALTHY: fresh, copied and proven as the policy asks. OVERDUE: something is older than its objective allows.
    FAILED_TEST: a restore test or a verification failed. UNPROTECTED: there is no recovery point to return to.
    """
    with opened(screen, write=False) as opening:
        from cto_backups.flows.status import in_parts
        from cto_backups.flows.status import status as judge

        tally = Tally()
        if sources or vaults:
            whole = judge(opening.installation, sources or None, costs=vaults)
            screen.document(as_document(whole, detailed=bool(sources)))
            tell(screen, whole, detailed=bool(sources))
            return exit_status(whole)
        parts = tally.counting(in_parts(opening.installation))
        if screen.options.json:
            first = next(parts)
            rows = (row for part in chain([first], parts) for row in _rows(part))
            screen.document_of_many(_head(first), "sources", rows, lambda: _rest(tally))
        else:
            _tell(screen, parts, tally)
        return tally.exit_status


def exit_status(report: "StatusReport") -> ExitStatus:
    """RED unless every source is HEALTHY, workers alive, who was revoked shut out, and the catalog no older one."""
    return Tally().add(report).exit_status


def summary(report: "StatusReport") -> str:
    """All verdicts in one line."""
    return Tally().add(report).summary


def tell(screen: Screen, report: "StatusReport", *, detailed: bool = False) -> None:
    """Show a status report to people."""
    tally = Tally()
    _tell(screen, tally.counting([report]), tally, detailed=detailed)


def _tell(screen: Screen, parts: "Iterable[StatusReport]", tally: Tally, *, detailed: bool = False) -> None:
    for report in parts:
        if not screen.talks:
            continue
        rows = _scheduled(report)
        _table(screen, report, rows)
        _reasons(screen, report)
        if detailed:
            from cto_backups.cli.story import tell as tell_story

            for name in report.verdicts:
                tell_story(screen, report, rows[name])
        if report.costs:
            from cto_backups.cli.vault_costs import tell as tell_costs

            tell_costs(screen, report)
    if screen.talks and tally.last is not None:
        _tell_the_whole(screen, tally.last, tally)


def _tell_the_whole(screen: Screen, report: "StatusReport", tally: Tally) -> None:
    screen.show("")
    for vault, copies in report.kept_by_owners.items():
        screen.show(_kept_by_owner(vault, copies))
    if tally.suspected:
        screen.show(f"Under suspicion, and to be looked at: {', '.join(tally.suspected)}. See why: cto.backups anomaly")
    screen.show(tally.summary)
    if (behind := report.gone_back) is not None:
        screen.show(f"{behind.what}: {behind.why}. What is told here is as old.")
        screen.show(f"  Next: {behind.todo}")
    for sentence in report.half_revoked:
        screen.show(f"{sentence[0].upper()}{sentence[1:]}. See: cto.backups host")
    if report.silence:
        from cto_backups.core.heartbeat import silent

        dead, many = silent(report.policy, report.facts, report.now), len(report.facts.heartbeats)
        again = "Start it again" if len(dead) == 1 else "Start them again, each on its host"
        screen.show(f"{report.silence[0].upper()}{report.silence[1:]}. {again}: cto.backups worker")
        if len(dead) > 1:
            screen.show("All of them: cto.backups hosts. If one was retired: cto.backups worker --forget NAME")
        elif many > 1:
            screen.show(f"If it was retired: cto.backups worker --forget {shlex.quote(dead[0].name)}")


def _kept_by_owner(vault: str, copies: int) -> str:
    from cto_backups.core.wording import counted

    held = counted(copies, "copy", "copies")
    return f"Vault {vault} keeps {held} of expired points until its owner drops them: this host may only add there."


def _scheduled(report: "StatusReport") -> "Mapping[str, ScheduleRow]":
    from cto_backups.core.timetable import timetable

    zone = ZoneInfo(report.policy.timezone)
    rows = timetable(report.policy, report.facts, report.now, zone, report.verdicts)
    return {row.source: row for row in rows}


def _table(screen: Screen, report: "StatusReport", rows: "Mapping[str, ScheduleRow]") -> None:
    from cto_backups.cli.tables import name as spelled
    from cto_backups.cli.tables import row, table

    listing = table("source", "cat", "status", "newest/RPO", "copies", "proof", "next", flexible=("source",))
    listing.padding = (0, 1, 0, 0)
    for name, verdict in report.verdicts.items():
        category = report.policy.sources[name].category
        newest = figures.age(verdict.age) if verdict.age is not None else "none"
        row(
            listing,
            spelled(name, screen.out, 22),
            category.name,
            verdict.status.value,
            f"{newest} / {figures.age(category.rpo)}",
            f"{verdict.copies}/{max(verdict.copies_wanted, _places(report, name))}",
            _proof(report, verdict),
            figures.relative(rows[name].next_run, report.now) if rows[name].next_run > report.now else "now",
        )
    screen.show(listing)


def _places(report: "StatusReport", name: str) -> int:
    """In how many places the newest point of a source should be."""
    from cto_backups.core.elsewhere import elsewhere

    facts = report.facts.sources.get(name)
    where = elsewhere(facts.newest if facts else None)
    return len(report.policy.sources[name].vaults) if where is None else len(where.keeping)


def _proof(report: "StatusReport", verdict: "Verdict") -> str:
    from cto_backups.core.model import Rung

    facts = report.facts.sources.get(verdict.source)
    at = None
    if verdict.rung >= Rung.RESTORED and facts is not None:
        at = facts.proven_at
    elif verdict.rung is Rung.READ and facts is not None:
        at = max((known.read_since for known in facts.copies if known.read_since), default=None)
    word = verdict.rung.name.lower()
    return f"{word} {figures.age(report.now - at)}" if at else word


def _reasons(screen: Screen, report: "StatusReport") -> None:
    """Why, in sentences: for what is not healthy, all of it; for what is, only what is remarkable."""
    from cto_backups.core.model import Status

    told = False
    for name, verdict in report.verdicts.items():
        healthy = verdict.status is Status.HEALTHY
        reasons = verdict.reasons[1:] if healthy else verdict.reasons
        for reason in reasons:
            if not told:
                screen.show("")
                told = True
            screen.show(f"{name}: {reason}{'' if reason.endswith('.') else '.'}")


def as_document(report: "StatusReport", *, detailed: bool = False) -> documents.Document:
    """A status report in JSON; `detailed` adds the whole story of each source."""
    rows, rest = list(_rows(report, detailed=detailed)), _rest(Tally().add(report))
    return {**_head(report), "sources": rows, **rest}


def _head(report: "StatusReport") -> documents.Document:
    return {"business": report.policy.business, "now": utc(report.now), "worker": _worker(report)}


def _rows(report: "StatusReport", *, detailed: bool = False) -> "Iterator[documents.Document]":
    from cto_backups.cli.story import as_document as story

    rows = _scheduled(report)
    for name, verdict in report.verdicts.items():
        yield {**_source(report, verdict, rows[name]), **(story(report, name) if detailed else {})}


def _rest(tally: Tally) -> documents.Document:
    """What is said once all sources are judged."""
    from cto_backups.cli.vault_costs import as_document as costs

    report = tally.last
    assert report is not None
    return {
        "healthy": bool(tally.words) and tally.all_healthy,
        "catalog_behind": error_document(report.gone_back) if report.gone_back else None,
        "half_revoked": list(report.half_revoked),
        "kept_by_owners": dict(report.kept_by_owners),
        **({"vaults": costs(report)} if report.costs else {}),
    }


def _source(report: "StatusReport", verdict: "Verdict", scheduled: "ScheduleRow") -> documents.Document:
    facts = report.facts.sources.get(verdict.source)
    newest = facts.newest if facts else None
    category = report.policy.sources[verdict.source].category
    return {
        "source": verdict.source,
        "category": category.name,
        "status": verdict.status.value,
        "reasons": list(verdict.reasons),
        "age_seconds": seconds(verdict.age),
        "rpo_seconds": seconds(category.rpo),
        "rto_seconds": seconds(category.rto),
        "forecast_rto": _forecast(verdict.forecast),
        "achieved_rpo": _achieved(report, verdict.source),
        "expects_change_seconds": seconds(report.policy.sources[verdict.source].expects_change),
        "copies": verdict.copies,
        "copies_wanted": verdict.copies_wanted,
        "rung": verdict.rung.name.lower(),
        "rung_wanted": verdict.rung_wanted.name.lower(),
        "proven_at": utc(facts.proven_at if facts else None),
        "tested_at": utc(verdict.tested_at),
        "newest_point": documents.point(newest) if newest else None,
        "confirmed_at": utc(facts.confirmed_at if facts else None),
        "stream": _stream(report, verdict.source),
        "vaults": _lags(report, verdict.source),
        "points": facts.point_count if facts else 0,
        "next_run": utc(scheduled.next_run),
        "next_why": scheduled.why,
    }


def _lags(report: "StatusReport", name: str) -> list[documents.Document]:
    """How far each vault of a source is behind its newest complete point."""
    from cto_backups.core.copies import behind, lag, told_lag
    from cto_backups.core.facts import SourceFacts

    facts, found = report.facts.sources.get(name, SourceFacts(name)), []
    for vault in report.policy.sources[name].vaults:
        known = lag(facts, vault)
        found.append(
            {
                "vault": vault,
                "point": known.point,
                "points_behind": known.behind,
                "seconds_behind": seconds(behind(facts, vault)),
                "waiting_since": utc(known.waiting_since),
                "told": told_lag(facts, vault),
            }
        )
    return found


def _achieved(report: "StatusReport", name: str) -> documents.Document | None:
    from cto_backups.core.achieved import achieved

    found = achieved(report.policy, report.facts, name, report.now)
    if found is None:
        return None
    return {
        "point": found.point.id,
        "holds_until": utc(found.holds_until),
        "loss_seconds": seconds(found.loss),
        "newest_content_at": utc(found.point.newest_content_at),
        "content_age_seconds": seconds(found.content_age),
        "source_changed_at": utc(found.changed_at),
        "source_looked_at": utc(found.looked_at),
        "behind": found.behind,
    }


def _forecast(expected: "Forecast | None") -> documents.Document | None:
    if expected is None:
        return None
    return {
        "least_seconds": seconds(expected.least),
        "most_seconds": seconds(expected.most),
        "tests": expected.tests,
        "wide": expected.wide,
    }


def _stream(report: "StatusReport", name: str) -> documents.Document | None:
    from cto_backups.core.streams import standing

    facts = report.facts.sources.get(name)
    stream = facts.stream if facts else None
    if stream is None:
        return None
    return {
        "log": stream.log,
        "position": stream.ends,
        "reached_at": utc(stream.reached_at),
        "moment": utc(stream.moment),
        "unsent_bytes": stream.unsent_bytes,
        "standing": standing(stream, report.policy.sources[name].category.rpo, report.now),
        "problem": stream.problem or None,
        "holder": stream.holder,
        "host": stream.host,
        "pid": stream.pid,
        "token": stream.token,
        "leased_until": utc(stream.leased_until),
        "began_at": utc(stream.began_at),
    }


def _worker(report: "StatusReport") -> documents.Document | None:
    from cto_backups.core.heartbeat import silent

    known = report.facts.heartbeats
    if not known:
        return None
    dead = silent(report.policy, report.facts, report.now)
    return {
        "alive": report.silence is None,
        "why_dead": report.silence,
        "workers": [
            {
                "name": last.name,
                "alive": last not in dead,
                "last_sign_at": utc(last.at),
                "next_sign_by": utc(last.next_by),
                "host": last.host,
                "pid": last.pid,
                "busy_with": last.busy_with or None,
            }
            for last in known
        ],
    }
