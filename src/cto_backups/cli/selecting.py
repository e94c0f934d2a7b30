"""Which recovery point a command line means, and which path inside it."""

import os
import re
from typing import TYPE_CHECKING

from cto_backups.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from cto_backups.core.model import RecoveryPoint
    from cto_backups.core.policy import Policy
    from cto_backups.flows.browse import PointContents
    from cto_backups.flows.installation import Installation
    from cto_backups.flows.restore import Within

_ESCAPE = re.compile(rb"\\\\|\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")


def likely_vault(policy: "Policy", source: str) -> str | None:
    """The vault that is read first for a point of this source, unless it is away or damaged."""
    known = policy.sources.get(source)
    return known.vaults[0] if known and known.vaults else None


def select_moment(
    installation: "Installation", point: str, *, source: str = "", at: str = "", vault: str = ""
) -> "tuple[RecoveryPoint, Within]":
    """The point meant, as by `select_point`; and how it is brought to the moment meant, or a source's newest state."""
    from cto_backups.flows.restore import Within, within

    moment = meant_moment(installation, at) if at else None
    found = select_point(installation, point, source=source, at=at, within=True)
    if moment is None and point != "latest" and point not in installation.policy.sources:
        return found, Within(None, None)  # this point, as it is
    return found, within(installation, found, moment, vault or None)


def meant_moment(installation: "Installation", at: str) -> "datetime":
    """The moment that `--at` means. Raises UsageError."""
    from zoneinfo import ZoneInfo

    from cto_backups import clock
    from cto_backups.cli.moments import parse_moment

    return parse_moment(at, now=clock.now(), zone=ZoneInfo(installation.policy.timezone))


def select_point(
    installation: "Installation", point: str, *, source: str = "", at: str = "", within: bool = False
) -> "RecoveryPoint":
    """The point meant by POINT, --source and --at, each "" when it is not given. Raises NotFoundError, UsageError.

    With `within`, also one that was made after the moment, where its log leads there.
    """
    from cto_backups.flows.restore import select

    if point in installation.policy.sources:
        if source and source != point:
            raise UsageError(f"Two sources are named: {point} and {source}", todo="Name one.")
        point, source = "latest", point
    if at and point != "latest":
        installation.catalog.point(point)  # of a name that is none, that is what is wrong
        raise UsageError(
            f"--at and the recovery point '{point}' exclude each other",
            why="a point's id already says which moment is meant",
            todo="Leave one of them out, or name a source with --at.",
        )
    moment = meant_moment(installation, at) if at else None
    found = select(installation, point, source=source or None, moment=moment, within=within)
    if source and found.source != source:
        raise UsageError(
            f"Recovery point {found.id} is not one of source '{source}'", why=f"its source is {found.source}"
        )
    return found


def located(text: str, *points: "PointContents") -> bytes:
    """The path that is meant inside points; where none of them has it, the likeliest one.

    It may be typed from the root, from the first folder that `ls` shows, and with the escapes that `ls` shows.
    """
    typed = os.fsencode(text)
    spelled = [typed, unescaped(typed)] if b"\\" in typed else [typed]
    starts = {b"": None} if typed.startswith(b"/") else {b"": None, **{found.start()[0]: None for found in points}}
    for path in (_joined(start, one) for one in spelled for start in starts):
        for contents in points:
            try:
                contents.find(path)
            except NotFoundError:
                continue
            return path
    return _joined(list(starts)[-1], typed)


def _joined(start: bytes, path: bytes) -> bytes:
    names = path.strip(b"/")
    return start + b"/" + names if names else start


def unescaped(path: bytes) -> bytes:
    """A path as `ls` shows it, with what terminals cannot show as escapes, back in bytes."""
    return _ESCAPE.sub(_meant, path)


def _meant(escape: "re.Match[bytes]") -> bytes:
    if escape[1]:
        return bytes([int(escape[1], 16)])
    code = escape[2] or escape[3]
    return chr(int(code, 16)).encode("utf-8", "surrogatepass") if code else b"\\"
