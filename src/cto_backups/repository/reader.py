"""One snapshot, to be listed and restored; implements `core.ports.PointReader`."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from cto_backups.core.ports import Entry, EntryKind, Existing, Progress, Restored, RestoreOptions, RestorePlan, Silent
from cto_backups.errors import NotFoundError, RefusedError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import load_index
from cto_backups.repository.locks import locked_for_reading
from cto_backups.repository.metadata import as_root
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.restore import Restorer
from cto_backups.repository.selection import Selection
from cto_backups.repository.snapshot import Snapshot
from cto_backups.repository.standing import Comparison
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.survey import Batch, Outline, batches, conflicts, walk

_SHOWN = 5


class SnapshotReader:
    """Reads one snapshot of one repository."""

    def __init__(self, files: StoredFiles, snapshot: Snapshot, options: RepositoryOptions) -> None:
        self._files = files
        self._snapshot = snapshot
        self._options = options

    @cached_property
    def _fetcher(self) -> Fetcher:
        return Fetcher(self._files, load_index(self._files))

    def listing(self, only: Sequence[str] = ()) -> Iterator[tuple[bytes, Entry]]:
        """Every selected entry with its path. Raises DamageError."""
        for path, node, selected in walk(self._fetcher, self._snapshot.tree, Selection(only)):
            if selected:
                yield path, node.entry

    def plan(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do. Raises NotFoundError when `only` matches nothing."""
        options = options or RestoreOptions()
        entries = size_bytes = devices = kept_entries = kept_bytes = 0
        named: list[str] = []
        notes: list[str] = []
        for found in self._batches(only):
            entries += found.entries
            size_bytes += found.size_bytes
            standing = conflicts(found, destination)
            there = Comparison(found, standing if existing is Existing.OVERWRITE else set())
            there.run(self._fetcher, destination, self._options.threads, trust_times=options.trust_times)
            named += _named(found.outline, destination, standing - there.all_kept())
            kept_entries += there.entries
            kept_bytes += there.strike_out()
            notes += [f"{problem.path}: {problem.detail}" for problem in found.problems]
            devices += sum(entry.kind in (EntryKind.DEVICE, EntryKind.CHARACTER_DEVICE) for _, entry in found.specials)
        if not as_root():
            notes.append("Owners are not restored: only root may give files away.")
            if devices:
                notes.append(f"{devices} device nodes cannot be restored: only root may make them.")
        return RestorePlan(
            destination, entries, size_bytes, tuple(sorted(named)), tuple(notes), kept_entries, kept_bytes
        )

    def restore(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the selection below `destination`. Raises RefusedError, NotFoundError, RestoreError, DamageError."""
        existing = Existing(existing)
        with locked_for_reading(self._files):
            if existing is Existing.REFUSE:
                self._refuse_conflicts(destination, only)
            return Restorer(
                self._fetcher,
                destination,
                existing,
                options or RestoreOptions(),
                self._options.threads,
                progress or Silent(),
            ).run(self._batches(only))

    def _refuse_conflicts(self, destination: Path, only: Sequence[str]) -> None:
        if not os.path.lexists(destination) or (destination.is_dir() and not any(destination.iterdir())):
            return
        named: list[str] = []
        for found in self._batches(only):
            named += _named(found.outline, destination, conflicts(found, destination))
        if named:
            names = sorted(named)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise RefusedError(
                f"{len(names)} files stand where the restore into {destination} would write",
                why=", ".join(names[:_SHOWN]) + more,
                todo="restore into an empty folder, or say that they may be overwritten",
            )

    def _batches(self, only: Sequence[str]) -> Iterator[Batch]:
        """What is selected. Raises NotFoundError, before the first, when that is nothing."""
        selection = Selection(only)
        something = selection.everything
        for found in batches(self._fetcher, self._snapshot.tree, selection):
            something = something or bool(found.entries or found.problems)
            if not something:
                raise NotFoundError(
                    f"Nothing in snapshot {self._snapshot.name[:12]} of vault {self._files.vault.name} "
                    f"matches {', '.join(only)}",
                    todo="list the recovery point's content to see how paths begin there",
                )
            yield found


def _named(outline: Outline, destination: Path, standing: set[tuple[int, bytes]]) -> list[str]:
    return [os.fspath(destination) + outline.path(folder, name) for folder, name in standing]
