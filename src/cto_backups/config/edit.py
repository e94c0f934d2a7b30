"""Edits of backups.yaml that change what they must and nothing else: comments, order and quoting stay.

An edit replaces the characters of one value, or adds one line. The result is read again before it is written, and must
differ in that one setting only.
"""

import json
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cto_backups.config import document, reading
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.schedule import format_triggers
from cto_backups.errors import NotFoundError, PolicyError


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit changed: the setting, what it said before (a default where the file said nothing), and now."""

    setting: str
    before: str
    after: str


def set_triggers(path: Path, source: str, text: str) -> Change:
    """Give a source other triggers. The file stays as it is when the result would not be a sound policy.

    Raises NotFoundError for an unknown source, PolicyError for triggers that are none or cannot meet the RPO.
    """
    path = path.absolute()
    before = reading.read(path)
    if source not in before.policy.sources:
        raise NotFoundError(
            f"There is no source named '{source}'",
            why=f"the policy declares: {', '.join(sorted(before.policy.sources))}",
        )
    edited = _with_setting(before.text.decode("utf-8-sig"), source, "triggers", text)
    raw = edited.encode("utf-8")
    after = reading.parse(path, raw)
    changed = after.policy.sources[source]
    if _others(before.policy.sources, source) != _others(after.policy.sources, source):
        raise PolicyError(
            f"The triggers of '{source}' cannot be changed by themselves in {path}",
            why="other sources share these lines, by an alias or a merge",
            todo="Edit the file by hand.",
        )
    _write(path, raw)
    return Change(f"sources.{source}.triggers", _told(before.policy.sources[source]), _told(changed))


def _told(source: SourcePolicy) -> str:
    return format_triggers(source.triggers)


def _others(sources: object, source: str) -> dict[str, SourcePolicy]:
    assert isinstance(sources, dict)
    return {name: policy for name, policy in sources.items() if name != source}


def _with_setting(text: str, source: str, setting: str, value: str) -> str:
    root = document.parse(text).root
    section = root.get("sources", source) if root else None
    assert section is not None, "the file was read a moment ago"
    quoted = json.dumps(value, ensure_ascii=False)
    item = section.items.get(setting)
    if item is not None and item.key.start >= section.span.start:
        end = item.node.span.end
        return text[: item.node.span.start] + quoted + text[end:]
    if section.style == "{":
        return text[: section.span.start + 1] + f"{setting}: {quoted}, " + text[section.span.start + 1 :]
    first = next(iter(section.items.values())).key.start
    indent = text[text.rfind("\n", 0, first) + 1 : first]
    return text[:first] + f"{setting}: {quoted}\n{indent}" + text[first:]


def _write(path: Path, raw: bytes) -> None:
    """Replace the file, whole or not at all; its mode stays. A link is followed, not replaced."""
    place = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fchmod(file.fileno(), stat.S_IMODE(place.stat().st_mode))
            os.fsync(file.fileno())
        Path(temporary).rename(place)
    except OSError as error:
        with suppress(OSError):
            Path(temporary).unlink()
        raise PolicyError(f"The policy {path} cannot be written", why=error.strerror or "", todo="Check it.") from None
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
