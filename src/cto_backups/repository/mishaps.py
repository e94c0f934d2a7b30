"""What goes wrong while a restore writes: one entry's problem, or the end of it all."""

import errno
import os
import threading
from pathlib import Path

from cto_backups.core.model import Problem
from cto_backups.core.wording import counted
from cto_backups.errors import RestoreError, VaultError
from cto_backups.repository.metadata import PRIVILEGED, as_root
from cto_backups.repository.survey import Batch, Outline

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Mishaps:
    """Problems of one restore, by the entries that they are about; any thread may add."""

    def __init__(self, outline: Outline, destination: Path) -> None:
        self._outline = outline
        self._destination = destination
        self._lock = threading.Lock()
        self._attributes = 0
        self._foreign = False
        self.foreign_folders = 0
        self.problems: list[Problem] = []

    def begin(self, batch: Batch) -> None:
        """Take what was wrong with a batch before it is written."""
        self.problems += batch.problems
        if not as_root() and not self._foreign:
            mine = os.geteuid()
            entries = (*(file.entry for file in batch.files), *batch.folders.values())
            self._foreign = any(entry.uid != mine for entry in entries)

    def note(self, folder: int, name: bytes, error: Exception) -> None:
        """An entry could not be restored. Raises RestoreError when the disk is full: nothing else will fit either."""
        if not isinstance(error, OSError):
            self.add(folder, name, "missing" if isinstance(error, VaultError) else "damaged", str(error))
            return
        self.stop_if_full(error)
        kind = "permission" if error.errno in (errno.EPERM, errno.EACCES) else "unwritable"
        hint = "" if as_root() or kind != "permission" else " (only root may)"
        self.add(folder, name, kind, f"it could not be written: {error.strerror}{hint}")

    def add(self, folder: int, name: bytes, kind: str, detail: str) -> None:
        """A problem with an entry; what only root could have set is counted, for it is no surprise."""
        with self._lock:
            if kind == PRIVILEGED:
                self._attributes += 1
                return
            self.problems.append(Problem(self._outline.path(folder, name), kind, detail))

    def notes(self) -> tuple[str, ...]:
        """What does not come back because somebody else than root restores: a sentence for each kind of it."""
        notes = []
        if self._foreign:
            notes.append("Owners were not restored: only root may give files away.")
        if self._attributes:
            notes.append(f"Not restored: {counted(self._attributes, 'extended attribute')} that only root may set.")
        if self.foreign_folders:
            notes.append(
                f"{counted(self.foreign_folders, 'folder')} of somebody else stood there already; "
                "modes and times of such are left as they are."
            )
        return tuple(notes)

    def stop_if_full(self, error: Exception) -> None:
        """Raise RestoreError if the error says that the disk is full."""
        if isinstance(error, OSError) and error.errno in _FULL:
            raise self.failure(error) from error

    def failure(self, error: OSError) -> RestoreError:
        """The restore cannot go on."""
        full = error.errno in _FULL
        return RestoreError(
            f"The restore into {self._destination} did not complete",
            why="the disk is full" if full else (error.strerror or str(error)),
            todo="free space or choose another place, then restore again" if full else "check the destination",
        )
