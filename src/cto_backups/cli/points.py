"""`points`: the recovery points there are, and all that is known of one."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.anomaly import sentence as told
from cto_backups.cli.command import command
from cto_backups.cli.hold import sentence
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cto_backups.core.facts import CopyFacts
    from cto_backups.core.keeping import Hold, Mark
    from cto_backups.core.model import RecoveryPoint
    from cto_backups.flows.installation import Installation


@command
def points(
    screen: Screen,
    what: Annotated[
        str, typer.Argument(metavar="SOURCE|POINT", help="A source, or a recovery point's id to see all of it.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show the newest N.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Show every point, however many.")] = False,
) -> None:
    """List recovery points, the newest first; or show one with its copies, their proof and what it lacks."""
    with opened(screen, write=False) as opening:
        installation = opening.installation
        if what and what not in installation.policy.sources:
            _show_one(screen, installation, what)
            return
        # One more than is shown, to know whether there are more.
        found = installation.catalog.points(what or None, limit=None if everything else limit + 1)
        shown = found if everything else found[:limit]
        copies = {point.id: installation.catalog.copies(point.id) for point in shown}
        holds = installation.catalog.holds()
        marks = {mark.point: mark for mark in installation.catalog.marks.listed(cleared=True)}
        held = {point.id: [hold for hold in holds if hold.covers(point)] for point in shown}
        screen.document(
            {
                "points": [
                    {
                        **documents.point(point),
                        "mark": documents.mark(marks[point.id]) if point.id in marks else None,
                        "holds": [documents.hold(hold) for hold in held[point.id]],
                        "copies": [documents.copy_facts(facts) for facts in copies[point.id]],
                        "service_backups": _service_backups(point),
                    }
                    for point in shown
                ],
                "more": len(found) > len(shown),
            }
        )
        if screen.talks:
            _list(screen, shown, copies, held, marks, more=len(found) > len(shown))


def _list(
    screen: Screen,
    shown: "Sequence[RecoveryPoint]",
    copies: "dict[str, tuple[CopyFacts, ...]]",
    held: "dict[str, list[Hold]]",
    marks: "dict[str, Mark]",
    *,
    more: bool,
) -> None:
    from cto_backups.cli.tables import row, table
    from cto_backups.core.elsewhere import elsewhere

    if not shown:
        screen.show("There is no recovery point yet. Make one with: cto.backups backup")
        return
    listing = table(
        "recovery point", "moment", "size", "copies", "state", flexible=("recovery point",), right=("size",)
    )
    for point in shown:
        row(
            listing,
            point.id,
            screen.moment(point.captured_at),
            figures.size(point.size_bytes),
            str(len(copies[point.id]) if (where := elsewhere(point)) is None else len(where.holding)),
            _state(point, copies[point.id]) + _besides(point, held[point.id], marks),
        )
    screen.show(listing)
    for point in shown:
        if point.id in marks:
            screen.show(f"Under suspicion: {point.id}: {told(screen, marks[point.id])}")
    for hold in {hold.id: hold for holds in held.values() for hold in holds}.values():
        screen.show(f"Held by {hold.id} since {screen.moment(hold.placed_at)} by {hold.placing}: {hold.reason}")
    for source, point in {point.source: point for point in reversed(shown)}.items():
        if said := _by_the_service(point):
            screen.show(f"{source}: {said}")
    if more:
        screen.show("There are more: --limit N or --all shows them.")


def _service_backups(point: "RecoveryPoint") -> documents.Document | None:
    from cto_backups.core.cloud_sql import kept_by_service

    kept = kept_by_service(point)
    return {"count": kept.backups, "newest": kept.newest or None} if kept is not None else None


def _by_the_service(point: "RecoveryPoint") -> str:
    """What Cloud SQL had of an instance besides; nothing of other points."""
    from cto_backups.core.cloud_sql import kept_by_service

    kept = kept_by_service(point)
    if kept is None:
        return ""
    number = f", the newest {kept.newest}" if kept.newest else ""
    had = f"Cloud SQL itself had {counted(kept.backups, 'backup')} of it at {point.id}{number}"
    return f"{had}; those there are now: cto.backups cloudsql backups {point.source}"


def _besides(point: "RecoveryPoint", holds: "list[Hold]", marks: "dict[str, Mark]") -> str:
    suspect = point.id in marks and marks[point.id].cleared_at is None
    return (", suspect" if suspect else "") + (", held" if holds else "")


def _state(point: "RecoveryPoint", copies: "tuple[CopyFacts, ...]") -> str:
    from cto_backups.core.elsewhere import elsewhere

    if not point.complete:
        return "incomplete"
    if point.taken_over:
        return "taken over"
    if any(facts.test_passed is False or facts.read_passed is False for facts in copies):
        return "failed"
    if any(facts.test_passed for facts in copies):
        return "proven"
    if elsewhere(point) is not None:
        return "recorded"
    return "read" if any(facts.read_since for facts in copies) else "stored"


def _show_one(screen: Screen, installation: "Installation", name: str) -> None:
    point = installation.catalog.point(name)
    copies = installation.catalog.copies(point.id)
    holds = [hold for hold in installation.catalog.holds() if hold.covers(point)]
    marks = [mark for mark in installation.catalog.marks.listed(cleared=True) if mark.point == point.id]
    screen.document(
        {
            **documents.details(point, copies),
            "mark": documents.mark(marks[0]) if marks else None,
            "holds": [documents.hold(hold) for hold in holds],
            "service_backups": _service_backups(point),
        }
    )
    if not screen.talks:
        return
    from cto_backups.cli.tables import row, table
    from cto_backups.core.elsewhere import elsewhere

    facts = table("", "", flexible=("",))
    facts.show_header = False
    labels = {
        "recovery point": point.id,
        "source": f"{point.source} ({point.kind}, category {point.category}, {point.business})",
        "moment": f"{screen.moment(point.captured_at)} ({screen.zone_name})",
        "content": f"{figures.count(point.entry_count)} entries, {figures.size(point.size_bytes)}",
        "the data": str(elsewhere(point) or ""),
        "besides": _by_the_service(point),
        "added": figures.size(point.added_bytes),
        "label": point.label or "",
        "kept until": screen.moment(point.keep_until) if point.keep_until else "",
        "changed": _changed(point),
        "suspicion": "\n".join(told(screen, mark) for mark in marks),
        "legal hold": "\n".join(sentence(screen, hold) for hold in holds),
        "fingerprint": "none: it was taken over, and no restore test can prove it"
        if point.taken_over
        else f"{point.fingerprint.algorithm}: {len(point.fingerprint.checksums)} checksums, "
        f"{len(point.fingerprint.counts)} counts, {len(point.fingerprint.samples)} samples",
        "paths": "\n".join(point.paths),
    }
    for label, text in labels.items():
        if text:
            row(facts, label, text)
    screen.show(facts)
    screen.show("")
    listing = table("copy in", "snapshot", "stored", "read", "restore test")
    for known in copies:
        row(
            listing,
            known.copy.vault,
            known.copy.reference[:8],
            screen.moment(known.copy.stored_at),
            reading(screen, known),
            _proof(screen, known.test_passed, known.tested_at),
        )
    screen.show(listing)
    if point.problems:
        screen.show("")
        screen.show(f"{len(point.problems)} could not be captured:")
        for problem in point.problems:
            screen.show(f"  {problem.path} ({problem.kind}: {problem.detail})")


def _changed(point: "RecoveryPoint") -> str:
    change = point.change
    if change is None:
        return ""
    content = change.content
    said = (
        f"{figures.count(change.new_entries)} new, {figures.count(change.changed_entries)} changed, "
        f"{figures.count(change.removed_entries)} removed, {figures.count(change.renamed_entries)} of these renamed; "
        f"{figures.size(content.new_bytes)} of new content"
    )
    if not content.new_bytes:
        return said
    entropy = f", about {content.entropy:.1f} bits a byte" if content.entropy else ""
    return f"{said}, stored in {change.stored_share * 100:.0f} %{entropy}"


def reading(screen: Screen, known: "CopyFacts") -> str:
    """What the last verification of a copy's vault says of it, and since when all of its bytes have been read."""
    if known.read_passed and not known.read_since:
        return "in part"
    return _proof(screen, known.read_passed, known.read_since if known.read_passed else known.read_at)


def _proof(screen: Screen, passed: bool | None, at: object) -> str:
    from datetime import datetime

    if passed is None or not isinstance(at, datetime):
        return "-"
    return f"{'ok' if passed else 'FAILED'} {screen.moment(at)}"
