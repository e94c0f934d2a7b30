"""`diff`: what is different between two recovery points."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cto_backups.cli import documents, entries, figures
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.cli.selecting import likely_vault, located, select_point
from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from cto_backups.core.trees import Entry
    from cto_backups.flows.browse import PointContents
    from cto_backups.flows.diff import Change, Totals


@command
def diff(
    screen: Screen,
    before: Annotated[str, typer.Argument(metavar="POINT_A", help="A recovery point's id, or a source's name.")],
    after: Annotated[str, typer.Argument(metavar="POINT_B", help="The point to compare it with; the same forms.")],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Compare only this, and what is below; may be repeated.")
    ] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Also where only mode, owner, time or extended attributes differ.")
    ] = False,
    vault: Annotated[str, typer.Option("--vault", metavar="NAME", help="Read the copies in this vault only.")] = "",
) -> ExitStatus:
    """Show what was added, removed and modified from one recovery point to another.

    Folders that are the same in both are not read, so it is quick however much there is.
    """
    with opened(screen, write=False, ahead=lambda policy: vault or likely_vault(policy, after)) as opening:
        from cto_backups.flows.browse import Browser
        from cto_backups.flows.diff import Totals, diff

        browser = Browser(opening.installation, vault or None)
        old, new = (browser.point(select_point(opening.installation, name)) for name in (before, after))
        chosen = [located(path, old, new) for path in paths or ()]
        changes, totals = diff(old, new, chosen, metadata=metadata), Totals()
        if screen.options.json:
            head = {"before": documents.point(old.point), "after": documents.point(new.point)}
            listed = (_document(change) for change in _counted(changes, totals))
            return entries.stream(head, "changes", listed, lambda: {**_summed(totals), **entries.problems([old, new])})
        return _show(screen, [old, new], _counted(changes, totals), totals)


def _counted(changes: "Iterator[Change]", totals: "Totals") -> "Iterator[Change]":
    for change in changes:
        totals.add(change)
        yield change


def _show(screen: Screen, pair: "Sequence[PointContents]", changes: "Iterator[Change]", totals: "Totals") -> ExitStatus:
    for word, contents in zip(("before", "after"), pair, strict=True):
        screen.note(f"{word:<8}  {contents.point.id} (of {screen.moment(contents.point.captured_at)})")
    for number, change in enumerate(changes):
        if not number:
            screen.line_of_many(f"{'change':<8}  {'before':>8}  {'after':>8}  path")
        screen.line_of_many(_line(change))
    counts = [f"{figures.count(number)} {kind.value}" for kind, number in totals.counts.items() if number]
    sizes = f"; {figures.size(totals.bytes_before)} before, {figures.size(totals.bytes_after)} after"
    screen.show("They hold the same." if totals.equal else ", ".join(counts) + sizes)
    entries.told(screen, pair)
    if problem := entries.unread_in(pair):
        raise problem
    return ExitStatus.SUCCESS


def _line(change: "Change") -> str:
    entry = change.after or change.before
    assert entry is not None
    label = entries.labelled(change.path, entry)
    if change.fields:
        label += f" ({', '.join(change.fields)})"
    elif change.before and change.after and change.before.kind is not change.after.kind:
        label += f" (was a {entries.kind(change.before)})"
    sizes = f"{entries.size(change.before):>8}  {entries.size(change.after):>8}"
    return f"{change.difference.value:<8}  {sizes}  {label}"


def _document(change: "Change") -> documents.Document:
    def side(entry: "Entry | None") -> documents.Document | None:
        return None if entry is None else entries.document(change.path, entry)

    return {
        "change": change.difference.value,
        "path": os.fsdecode(change.path),
        "fields": list(change.fields),
        "before": side(change.before),
        "after": side(change.after),
    }


def _summed(totals: "Totals") -> dict[str, Any]:
    return {
        "equal": totals.equal,
        "counts": {kind.value: number for kind, number in totals.counts.items()},
        "bytes_before": totals.bytes_before,
        "bytes_after": totals.bytes_after,
    }
