"""Entries of recovery points as people and programs read them: names, sizes, times, kinds."""

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cto_backups.cli import documents, figures
from cto_backups.cli.errors import as_document
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import BackupsError, DamageError, ExitStatus

if TYPE_CHECKING:
    from cto_backups.flows.browse import PointContents

_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 20


def shown(name: bytes) -> str:
    """A name or a path on one line, what terminals cannot show as escapes, so that `selecting.unescaped` takes it back.

    A byte that is no UTF-8, and a control character, is \\xNN; another character that does not show is \\uNNNN; a
    backslash is doubled.
    """
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def labelled(path: bytes, entry: Entry) -> str:
    """A name or a path with what tells kinds apart: a slash behind folders, an arrow to where a link leads."""
    if entry.kind is EntryKind.FOLDER:
        return f"{shown(path)}/"
    if entry.kind is EntryKind.SYMLINK:
        return f"{shown(path)} -> {shown(entry.linktarget)}"
    return shown(path)


def size(entry: Entry | None) -> str:
    """The size of a file; a dash for all else."""
    return figures.size(entry.size) if entry is not None and entry.kind is EntryKind.FILE else "-"


def modified_at(entry: Entry) -> datetime:
    """When the content was changed last."""
    return _1970 + timedelta(microseconds=entry.mtime_ns // 1000)


def line(screen: Screen, label: str, entry: Entry, *, long: bool) -> str:
    """An entry as a listing shows it: size, time and name; with `long` mode and owner before."""
    about = f"{size(entry):>8}  {screen.moment(modified_at(entry))}  {label}"
    return f"{stat.filemode(entry.mode)} {f'{entry.uid}:{entry.gid}':<9} {about}" if long else about


def kind(entry: Entry) -> str:
    """What kind of entry it is, in a word."""
    return entry.kind.name.lower().replace("_", "-")


def document(path: bytes, entry: Entry) -> documents.Document:
    """An entry of a recovery point."""
    return {
        "path": os.fsdecode(path) or "/",
        "kind": kind(entry),
        "size_bytes": entry.size if entry.kind is EntryKind.FILE else None,
        "modified_at": utc(modified_at(entry)),
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "links": entry.links,
        "linktarget": os.fsdecode(entry.linktarget) if entry.kind is EntryKind.SYMLINK else None,
    }


def stream(
    head: Mapping[str, Any],
    name: str,
    items: Iterable[documents.Document],
    tail: Callable[[], Mapping[str, Any]],
) -> ExitStatus:
    """Print one JSON document, the list `name` in it item by item, each on a line of its own: there may be millions.

    `tail` is asked at the end; it has the `status`. An error on the way ends the list, and stands in the document.
    """
    out = sys.stdout
    out.write("{\n")
    for key, value in head.items():
        out.write(f"  {json.dumps(key)}: {json.dumps(value)},\n")
    out.write(f"  {json.dumps(name)}: [")
    before = "\n"
    try:
        for item in items:
            out.write(f"{before}    {json.dumps(item)}")
            before = ",\n"
        rest = tail()
    except BackupsError as error:
        rest = {"error": as_document(error), "status": int(error.exit_status)}
    out.write("\n  ]")
    for key, value in rest.items():
        out.write(f",\n  {json.dumps(key)}: {json.dumps(value)}")
    out.write("\n}\n")
    return ExitStatus(rest["status"])


def told(screen: Screen, points: "Sequence[PointContents]") -> None:
    """Tell which vaults others had to stand in for."""
    for sentence in dict.fromkeys(sentence for contents in points for sentence in contents.unused):
        screen.note(f"Taken from another vault: {sentence}")


def unread(folders: Sequence[str]) -> DamageError | None:
    """The error for folders that no vault could give, each told in a sentence."""
    if not folders:
        return None
    more = [f"… and {len(folders) - _SHOWN} more"] if len(folders) > _SHOWN else []
    return DamageError(
        f"{len(folders)} folder{'s' if len(folders) > 1 else ''} could not be read in any vault",
        why="\n" + "\n".join([*folders[:_SHOWN], *more]),
        todo="What is shown is right, but not all. 'cto.backups verify' names what is damaged.",
    )


def unread_in(points: "Sequence[PointContents]") -> DamageError | None:
    """The same of folders in these points."""
    return unread(
        [f"{one.path} in {contents.point.id} ({one.detail})" for contents in points for one in contents.problems]
    )


def problems(points: "Sequence[PointContents]") -> dict[str, Any]:
    """Folders that no vault could give, vaults that others stood in for, and the status that follows."""
    error = unread_in(points)
    return {
        "problems": [
            {"point": contents.point.id, **problem}
            for contents in points
            for problem in documents.problems(contents.problems)
        ],
        "vault_problems": list(dict.fromkeys(one for contents in points for one in contents.unused)),
        "status": int(error.exit_status if error else ExitStatus.SUCCESS),
    }


def prepared(kind: str) -> str | None:
    """What a point's tree holds where it is not the original files."""
    from cto_backups.flows.browse import PREPARED

    return PREPARED.get(kind)
