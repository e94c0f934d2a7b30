"""`ls`: what is in a recovery point."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, entries
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.cli.selecting import likely_vault, located, select_point
from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from cto_backups.core.payloads import Node
    from cto_backups.flows.browse import PointContents

    Place = tuple[bytes, Node]


@command
def ls(
    screen: Screen,
    point: Annotated[
        str,
        typer.Argument(metavar="POINT|latest|SOURCE", help="A recovery point's id, or a source for its newest point."),
    ] = "latest",
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="A folder or file inside the point; may be repeated.")
    ] = None,
    source: Annotated[
        str, typer.Option("--source", metavar="SOURCE", help="Whose newest point, or point in time.")
    ] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="The newest point of this moment or before, as in restore.")
    ] = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Also all below, with full paths.")] = False,
    long: Annotated[bool, typer.Option("--long", "-l", help="Also mode and owner.")] = False,
    vault: Annotated[str, typer.Option("--vault", metavar="NAME", help="Look into the copy in this vault only.")] = "",
) -> ExitStatus:
    """List what is in a recovery point: size, time of last change, name.

    Without PATH the list begins at the first folder, from the root down, that holds more than one other folder.
    """
    with opened(screen, write=False, ahead=lambda policy: vault or likely_vault(policy, source or point)) as opening:
        from cto_backups.flows.browse import Browser

        found = select_point(opening.installation, point, source=source, at=at)
        contents = Browser(opening.installation, vault or None).point(found)
        places = _places(contents, paths or [], recursive=recursive)
        if screen.options.json:
            head = {"point": documents.point(found), "prepared": entries.prepared(found.kind)}
            listed = (entries.document(path, node.entry) for path, node in _listed(contents, places, recursive))
            return entries.stream(head, "entries", listed, lambda: entries.problems([contents]))
        return _show(screen, contents, places, recursive=recursive, long=long)


def _places(contents: "PointContents", paths: list[str], *, recursive: bool) -> "list[Place]":
    """What is to be listed: each path that is given, or where to begin."""
    if not paths:
        return [(b"", contents.root) if recursive else contents.start()]
    chosen = [located(path, contents) for path in paths]
    return [(path, contents.find(path)) for path in chosen]


def _listed(contents: "PointContents", places: "list[Place]", recursive: bool) -> "Iterator[Place]":
    for path, node in places:
        yield from contents.below(path, node, recursive=recursive)


def _show(
    screen: Screen, contents: "PointContents", places: "list[Place]", *, recursive: bool, long: bool
) -> ExitStatus:
    point = contents.point
    screen.note(f"{point.id} (of {screen.moment(point.captured_at)})")
    if form := entries.prepared(point.kind):
        screen.note(f"  It holds {form}.")
    for path, node in places:
        if node.subtree is not None and not recursive:
            screen.note(f"{entries.shown(path)}/:")
        names_only = node.subtree is not None and not recursive
        for inner, one in contents.below(path, node, recursive=recursive):
            label = entries.labelled(one.entry.name if names_only else inner, one.entry)
            screen.line_of_many(entries.line(screen, label, one.entry, long=long))
    entries.told(screen, [contents])
    if problem := entries.unread_in([contents]):
        raise problem
    return ExitStatus.SUCCESS
