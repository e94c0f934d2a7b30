"""`cat`: the bytes of one file of a recovery point."""

import codecs
import hashlib
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, entries
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.cli.selecting import likely_vault, located, select_point
from cto_backups.errors import BackupsError, RefusedError

if TYPE_CHECKING:
    from cto_backups.core.payloads import Node
    from cto_backups.flows.browse import PointContents

_OBEYED = re.compile("[\x00-\x06\x0b\x0e-\x1f\x7f-\x9f]")  # control characters that are not part of plain text


@command
def cat(
    screen: Screen,
    point: Annotated[
        str,
        typer.Argument(metavar="POINT|latest|SOURCE", help="A recovery point's id, or a source for its newest point."),
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file inside the point, as 'ls' shows it.")],
    source: Annotated[
        str, typer.Option("--source", metavar="SOURCE", help="Whose newest point, or point in time.")
    ] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="The newest point of this moment or before, as in restore.")
    ] = "",
    vault: Annotated[str, typer.Option("--vault", metavar="NAME", help="From the copy in this vault only.")] = "",
    binary: Annotated[bool, typer.Option("--binary", help="Also to a terminal when it is no text.")] = False,
) -> None:
    """Write the bytes of one file to stdout, exactly; each is verified before it goes out.

    What is damaged in one vault is taken from another. With --json, read and describe the file instead.
    """
    with opened(
        screen, write=False, in_haste=True, ahead=lambda policy: vault or likely_vault(policy, source or point)
    ) as opening:
        from cto_backups.flows.browse import Browser, file_at

        found = select_point(opening.installation, point, source=source, at=at)
        contents = Browser(opening.installation, vault or None).point(found)
        inner = located(path, contents)
        node = file_at(contents, inner)
        if screen.options.json:
            screen.document(_described(contents, inner, node))
            return
        if form := entries.prepared(found.kind):
            screen.note(f"{found.id} holds {form}.")
        _write(contents, inner, node, text_only=sys.stdout.isatty() and not binary)
        entries.told(screen, [contents])


def _write(contents: "PointContents", path: bytes, node: "Node", *, text_only: bool) -> None:
    out = sys.stdout.buffer
    pieces = contents.content(path, node)
    written = 0
    try:
        for piece in _text(pieces, path) if text_only else pieces:
            out.write(piece)
            written += len(piece)
    except BackupsError as error:
        out.flush()
        if not written:
            raise
        told = f"The {written:,} bytes that were written are the beginning of it, and right."
        raise type(error)(error.what, why=error.why, todo=f"{told} {error.todo}".rstrip()) from error
    out.flush()


def _text(pieces: Iterator[bytes], path: bytes) -> Iterator[bytes]:
    """The pieces as long as they are text that a terminal only shows. Raises RefusedError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in pieces:
        try:
            obeyed = _OBEYED.search(decoder.decode(piece)) is not None
        except UnicodeDecodeError:
            obeyed = True
        if obeyed:
            raise RefusedError(
                f"{entries.shown(path)} is no text",
                why="a terminal would take some of its bytes for commands",
                todo="Send it to a file with '> FILE', or add --binary if it is meant.",
            )
        yield piece


def _described(contents: "PointContents", path: bytes, node: "Node") -> documents.Document:
    digest = hashlib.sha256()
    read_bytes = 0
    for piece in contents.content(path, node):
        digest.update(piece)
        read_bytes += len(piece)
    return {
        "point": documents.point(contents.point),
        "prepared": entries.prepared(contents.point.kind),
        "entry": entries.document(path, node.entry),
        "read_bytes": read_bytes,
        "sha256": digest.hexdigest(),
        "vault_problems": list(contents.unused),
    }
