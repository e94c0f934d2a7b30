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
from cto_backups.repository.survey import Survey, conflicts, survey, walk

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
        found = self._survey(only)
        standing = conflicts(found, destination)
        there = Comparison(found, standing if existing is Existing.OVERWRITE else set())
        there.run(self._fetcher, destination, self._options.threads, trust_times=options.trust_times)
        standing -= there.all_kept()
        notes = [f"{problem.path}: {problem.detail}" for problem in found.problems]
        devices = sum(entry.kind in (EntryKind.DEVICE, EntryKind.CHARACTER_DEVICE) for _, entry in found.specials)
        if not as_root():
            notes.append("Owners are not restored: only root may give files away.")
            if devices:
                notes.append(f"{devices} device nodes cannot be restored: only root may make them.")
        return RestorePlan(
            destination,
            found.entries,
            found.size_bytes,
            _named(found, destination, standing),
            tuple(notes),
            there.entries,
            there.strike_out(),
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
            found = self._survey(only)
            if existing is Existing.REFUSE and (standing := conflicts(found, destination)):
                names = _named(found, destination, standing)
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                raise RefusedError(
                    f"{len(names)} files stand where the restore into {destination} would write",
                    why=", ".join(names[:_SHOWN]) + more,
                    todo="restore into an empty folder, or say that they may be overwritten",
                )
            return Restorer(
                self._fetcher,
                found,
                destination,
                existing,
                options or RestoreOptions(),
                self._options.threads,
                progress or Silent(),
            ).run()

    def _survey(self, only: Sequence[str]) -> Survey:
        selection = Selection(only)
        found = survey(self._fetcher, self._snapshot.tree, selection)
        if not selection.everything and not found.entries and not found.problems:
            raise NotFoundError(
                f"Nothing in snapshot {self._snapshot.name[:12]} of vault {self._files.vault.name} "
                f"matches {', '.join(only)}",
                todo="list the recovery point's content to see how paths begin there",
            )
        return found


def _named(found: Survey, destination: Path, standing: set[tuple[int, bytes]]) -> tuple[str, ...]:
    return tuple(sorted(os.fspath(destination) + found.path(folder, name) for folder, name in standing))
