"""Snapshots: the small files that make a tree visible."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cto_backups.core.payloads import Committed, Draft, SnapshotLabel
from cto_backups.errors import DamageError, NotFoundError
from cto_backups.repository.gotime import format_time, parse_time
from cto_backups.repository.stored import StoredFiles, is_name
from cto_backups.repository.together import each


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as it was read; `document` is all of its JSON."""

    name: str
    time: datetime
    tree: bytes
    hostname: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    parent: str | None
    original: str | None
    document: dict[str, Any] = field(repr=False)

    def committed(self) -> Committed:
        """As a listing shows it."""
        detail = {
            name: str(self.document[name])
            for name in ("username", "program_version", "parent", "original")
            if self.document.get(name)
        }
        return Committed(self.name, self.tree.hex(), self.time, self.hostname, self.paths, self.tags, detail)


def load_snapshot(files: StoredFiles, name: str) -> Snapshot:
    """One snapshot. Raises NotFoundError, DamageError."""
    document = files.load("snapshots", name)
    try:
        paths, tags = (tuple(document.get(field) or ()) for field in ("paths", "tags"))
        tree = bytes.fromhex(document["tree"])
        parent, original = (document.get(field) or None for field in ("parent", "original"))
        if len(tree) != 32 or not all(isinstance(text, str) for text in (*paths, *tags)):
            raise ValueError("a field of the wrong kind")
        for reference in (parent, original):
            if reference is not None and not is_name(reference):
                raise ValueError("a field of the wrong kind")
        return Snapshot(
            name=name,
            time=parse_time(document["time"]),
            tree=tree,
            hostname=str(document.get("hostname", "")),
            paths=paths,
            tags=tags,
            parent=parent,
            original=original,
            document=document,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DamageError(
            f"snapshots/{name[:12]} of {files.prefix} in vault {files.vault.name} is damaged",
            why=f"it makes no sense ({error!r:.80})",
        ) from error


def load_snapshots(
    files: StoredFiles, names: Sequence[str]
) -> Iterator[tuple[str, Snapshot | DamageError | NotFoundError]]:
    """Each of these snapshots with its name, or what keeps it from being read, in order."""

    def read(name: str) -> Snapshot | DamageError | NotFoundError:
        try:
            return load_snapshot(files, name)
        except (DamageError, NotFoundError) as error:
            return error

    return zip(names, each(files.vault, read, names), strict=True)


def damaged_snapshot(name: str, error: DamageError) -> Committed:
    """What a listing shows in place of a snapshot that cannot be read."""
    return Committed(name, "", datetime(1970, 1, 1, tzinfo=UTC), "", detail={"damage": error.why or error.what})


def new_document(
    draft: Draft, label: SnapshotLabel, *, program: str, started: datetime, ended: datetime
) -> dict[str, Any]:
    """The JSON of a new snapshot. Raises ValueError for a naive time."""
    document: dict[str, Any] = {
        "time": format_time(label.time),
        "tree": draft.root,
        "paths": list(label.paths),
        "hostname": label.hostname,
        "username": label.username,
        "uid": os.getuid(),
        "gid": os.getgid(),
    }
    if draft.parent:
        document["parent"] = draft.parent
    if label.tags:
        document["tags"] = list(label.tags)
    document["program_version"] = program
    document["summary"] = {
        "backup_start": format_time(started),
        "backup_end": format_time(ended),
        "files_new": draft.new_entries,
        "files_changed": draft.changed_entries,
        "files_unmodified": draft.unchanged_entries,
        "data_added_packed": draft.added_bytes,
        "total_files_processed": draft.entries,
        "total_bytes_processed": draft.size_bytes,
    }
    return document


def list_committed(files: StoredFiles, known: dict[str, Committed]) -> list[Committed]:
    """Every snapshot, oldest first; one that cannot be read has `detail["damage"]` and no root. `known` is a cache."""
    names = files.names("snapshots")
    damaged = []
    for name, read in load_snapshots(files, [name for name in names if name not in known]):
        if isinstance(read, Snapshot):
            known[name] = read.committed()
        elif isinstance(read, DamageError):
            damaged.append(damaged_snapshot(name, read))
    found = [known[name] for name in names if name in known] + damaged  # what expired meanwhile is in neither
    return sorted(found, key=lambda one: (one.time, one.reference))
