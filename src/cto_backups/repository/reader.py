"""One snapshot, to be listed and restored; implements `core.ports.PointReader`."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from cto_backups.core.ports import Existing, Progress, Restored, RestoreOptions, RestorePlan, Silent
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.core.wording import counted, listed
from cto_backups.errors import NotFoundError, RefusedError, RestoreError
from cto_backups.repository import extraneous
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
        problems = False
        spared: list[bytes] = []
        for found in self._batches(only, options, spared):
            problems = problems or bool(found.problems)
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
        notes += _left_alone(destination, spared)
        if not as_root():
            notes.append("Owners are not restored: only root may give files away.")
            if devices:
                notes.append(f"{devices} device nodes cannot be restored: only root may make them.")
        plan = RestorePlan(
            destination, entries, size_bytes, tuple(sorted(named)), tuple(notes), kept_entries, kept_bytes
        )
        if not options.delete or existing is not Existing.OVERWRITE:
            return plan
        if problems:
            return replace(plan, notes=(*plan.notes, "Nothing would be removed: not all of the point can be read."))
        return self._with_extraneous(plan, only, options)

    def _with_extraneous(self, plan: RestorePlan, only: Sequence[str], options: RestoreOptions) -> RestorePlan:
        selection = Selection(only, options.spare)
        try:
            found = extraneous.find(self._fetcher, self._snapshot.tree, selection, plan.destination, options.leave)
        except OSError as error:
            raise _not_opened(plan.destination, error) from error
        unclear = [f"{problem.path}: {problem.detail}" for problem in found.problems]
        return replace(
            plan,
            notes=(*plan.notes, *found.notes, *unclear),
            extraneous=found.names,
            deleted_entries=found.entries,
            deleted_bytes=found.size_bytes,
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
            options = options or RestoreOptions()
            if existing is Existing.REFUSE:
                self._refuse_conflicts(destination, only, options)
            spared: list[bytes] = []
            restored = Restorer(
                self._fetcher, destination, existing, options, self._options.readers, progress or Silent()
            ).run(self._batches(only, options, spared))
            restored = replace(restored, notes=(*restored.notes, *_left_alone(destination, spared)))
            if options.delete and existing is Existing.OVERWRITE:
                return self._without_extraneous(restored, destination, only, options)
            return restored

    def _without_extraneous(
        self, restored: Restored, destination: Path, only: Sequence[str], options: RestoreOptions
    ) -> Restored:
        if restored.problems:
            nothing = "Nothing was removed of what the recovery point does not have: not all of the point came back."
            return replace(restored, notes=(*restored.notes, nothing))
        selection = Selection(only, options.spare)
        try:
            gone = extraneous.remove(self._fetcher, self._snapshot.tree, selection, destination, options.leave)
        except OSError as error:
            raise _not_opened(destination, error) from error
        return replace(
            restored,
            problems=gone.problems,
            notes=(*restored.notes, *gone.notes),
            deleted_entries=gone.entries,
            deleted_bytes=gone.size_bytes,
        )

    def _refuse_conflicts(self, destination: Path, only: Sequence[str], options: RestoreOptions) -> None:
        if not os.path.lexists(destination) or (destination.is_dir() and not any(destination.iterdir())):
            return
        named: list[str] = []
        for found in self._batches(only, options, []):
            named += _named(found.outline, destination, conflicts(found, destination))
        if named:
            names = sorted(named)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise RefusedError(
                f"{counted(len(names), 'file stands', 'files stand')} where the restore into {destination} would write",
                why=", ".join(names[:_SHOWN]) + more,
                todo="Add --overwrite to replace what is there, or --to FOLDER to restore elsewhere. "
                "Nothing was changed.",
            )

    def _batches(self, only: Sequence[str], options: RestoreOptions, spared: list[bytes]) -> Iterator[Batch]:
        """What is selected; what of it is spared goes to `spared`.

        Raises NotFoundError, before the first, when that is nothing, RefusedError when all of it is spared.
        """
        selection = Selection(only, options.spare)
        something = selection.everything
        for found in batches(self._fetcher, self._snapshot.tree, selection):
            something = something or bool(found.entries or found.problems)
            spared += found.spared
            if not something and spared:
                raise RefusedError(
                    f"Nothing was restored: this installation uses {listed(os.fsdecode(path) for path in spared)}",
                    why="what is in use is not replaced by what it was once",
                    todo="Restore it elsewhere with --to FOLDER, look at it, and put it in its place by hand.",
                )
            if not something:
                point = next((tag[6:] for tag in self._snapshot.tags if tag.startswith("point:")), None)
                raise NotFoundError(
                    f"Nothing in {point or f'snapshot {self._snapshot.name[:12]}'} matches {', '.join(only)}",
                    why=f"as it is in vault {self._files.vault.name}",
                    todo=f"See how paths begin there: 'cto.backups ls {point or 'POINT'}'.",
                )
            yield found


def _named(outline: Outline, destination: Path, standing: set[tuple[int, bytes]]) -> list[str]:
    base = os.fspath(destination).rstrip("/")
    return [base + outline.path(folder, name) for folder, name in standing]


def _left_alone(destination: Path, spared: Sequence[bytes]) -> list[str]:
    base = os.fspath(destination).rstrip("/")
    return [f"{base}{os.fsdecode(path)} is left as it is: this installation uses it." for path in spared]


def _not_opened(destination: Path, error: OSError) -> RestoreError:
    return RestoreError(
        f"What is in {destination} beside the recovery point is not known",
        why=error.strerror or str(error),
        todo="check the destination; nothing was removed from it",
    )
