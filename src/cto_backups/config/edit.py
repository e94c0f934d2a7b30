"""Edits of backups.yaml that change what they must and nothing else: comments, order, quotes and spacing stay.

The file is not written anew from what was read, as that would lose how people aligned and wrapped it. Characters are
replaced or inserted in place (`splicing`), and the result is read again before it is written: it must be a sound
policy, and differ in what was asked for only.
"""

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cto_backups.config import reading, splicing
from cto_backups.config.mistakes import PolicyMistakesError
from cto_backups.config.settings import Configuration
from cto_backups.core.schedule import TriggerError, format_triggers, parse_triggers
from cto_backups.core.wording import not_declared
from cto_backups.errors import PolicyError, RefusedError


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit changed: the setting, what was in force before (a default where the file said nothing), and now."""

    setting: str
    before: str
    after: str


def set_triggers(path: Path, source: str, text: str) -> Change:
    """Give a source other triggers. The file stays as it is when the result would not be a sound policy.

    Raises NotFoundError for an unknown source, PolicyError for triggers that are none, that cannot meet the RPO, or
    that cannot be changed without changing something else.
    """
    path = path.absolute()
    before = reading.read(path)
    known = before.policy.sources
    if source not in known:
        raise not_declared("source", source, known)
    try:
        wanted = parse_triggers(text)
    except TriggerError as error:
        raise PolicyError(f"'{error.part}' is no trigger", todo=f"Write {error.allowed}{error.hint}") from None
    mark, content = _content(before)
    alone = PolicyError(
        f"The triggers of source '{source}' cannot be changed alone in {path}",
        why="something else in the file repeats them, by an alias or a merge",
        todo="Edit the file by hand.",
    )
    content = splicing.with_triggers(content, source, " ".join(text.split())) or ""
    if not content:
        raise alone
    edited = (mark + content).encode()
    after = _read_again(path, edited, f"The triggers of source '{source}' cannot become '{text}'")
    expected = dict(known) | {source: replace(known[source], triggers=wanted)}
    if after.policy != replace(before.policy, sources=expected, digest=after.policy.digest):
        raise alone
    _write(path, edited, before.text)
    return Change(f"sources.{source}.triggers", format_triggers(known[source].triggers), format_triggers(wanted))


def with_source(before: Configuration, name: str, mapping: Mapping[str, object]) -> Configuration:
    """The policy with one more source, after the others. `mapping` holds its settings as the file writes them.

    Nothing is written: see `save`. Raises RefusedError when there is a source of this name, PolicyError
    when the result would not be a sound policy.
    """
    path = before.path
    if name in before.policy.sources:
        raise RefusedError(
            f"There is a source named '{name}' already",
            why="adding it again would replace what is protected under this name",
            todo="Choose another name, or edit the policy.",
        )
    mark, content = _content(before)
    edited = (mark + splicing.with_entry(content, "sources", name, mapping)).encode()
    after = _read_again(path, edited, f"The source '{name}' cannot be added")
    added = after.policy.sources.get(name)
    others = {key: policy for key, policy in after.policy.sources.items() if key != name}
    if added is None or replace(after.policy, sources=others, digest="") != replace(before.policy, digest=""):
        raise PolicyError(
            f"The source '{name}' cannot be added to {path}",
            why="it would change something else in the file",
            todo="Add it by hand.",
        )
    return after


def with_vault(before: Configuration, name: str, mapping: Mapping[str, object]) -> Configuration:
    """The policy with one more vault, after the others; sources that name no vaults get copies there as well.

    Nothing is written: see `save`. Raises RefusedError when there is a vault of this name, PolicyError
    when the result would not be a sound policy.
    """
    path = before.path
    if name in before.policy.vaults:
        raise RefusedError(f"There is a vault named '{name}' already", todo="Choose another name.")
    mark, content = _content(before)
    edited = (mark + splicing.with_entry(content, "vaults", name, mapping)).encode()
    after = _read_again(path, edited, f"The vault '{name}' cannot be added")
    added = after.policy.vaults.get(name)
    others = {key: vault for key, vault in after.policy.vaults.items() if key != name}
    sources = {
        key: replace(source, vaults=tuple(vault for vault in source.vaults if vault != name))
        for key, source in after.policy.sources.items()
    }
    expected = replace(after.policy, vaults=others, sources=sources, digest="")
    if added is None or expected != replace(before.policy, digest=""):
        raise PolicyError(
            f"The vault '{name}' cannot be added to {path}",
            why="it would change something else in the file",
            todo="Add it by hand.",
        )
    return after


def save(before: Configuration, after: Configuration) -> None:
    """Write the policy as it became by `with_source` and `with_vault`. Raises PolicyError, which leaves it as it is."""
    _write(before.path, after.text, before.text)


def _content(configuration: Configuration) -> tuple[str, str]:
    """The byte order mark of the file, if it has one, and its text, in which the tree counts."""
    text = configuration.text.decode()
    return (reading.BOM, text[1:]) if text.startswith(reading.BOM) else ("", text)


def _read_again(path: Path, edited: bytes, what: str) -> Configuration:
    try:
        return reading.parse(path, edited)
    except PolicyMistakesError as error:
        raise PolicyError(
            what,
            why="; ".join(mistake.message for mistake in error.mistakes),
            todo=" ".join(dict.fromkeys(mistake.todo for mistake in error.mistakes if mistake.todo))
            or "The file is as it was.",
        ) from None


def _write(path: Path, raw: bytes, expected: bytes) -> None:
    """Replace the file, whole or not at all; its mode and owner stay. A link is followed, not replaced."""
    try:
        place = path.resolve(strict=True)
        if place.read_bytes() != expected:
            raise PolicyError(
                f"The policy {path} was changed by somebody else just now",
                todo="Run the command again; nothing was lost.",
            )
        status = place.stat()
        temporary = place.with_name(f".{place.name}.{secrets.token_hex(6)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
                with suppress(PermissionError):  # only root gives files away
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(place)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise PolicyError(
            f"The policy {path} cannot be written",
            why=error.strerror or type(error).__name__,
            todo="Check the permissions of the file and its folder, and the space on its disk.",
        ) from error
