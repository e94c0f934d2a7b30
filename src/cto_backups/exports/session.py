"""A store of exports opened for writing, under its lock; implements `core.payloads.Writing`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from cto_backups.core.payloads import Copied, Draft, Payload, PayloadStore, SnapshotLabel
from cto_backups.core.ports import Progress
from cto_backups.core.trees import AnyTree
from cto_backups.errors import RefusedError
from cto_backups.exports.copying import bring_objects
from cto_backups.exports.files import ExportFiles
from cto_backups.exports.manifest import write_manifest, wrong_with
from cto_backups.exports.objects import ObjectWriter
from cto_backups.repository.locks import Lock
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.session import Session
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.stored import StoredFiles, checked_name


class ExportSession:
    """Writes, commits and copies, in one store, while its lock stands."""

    def __init__(self, files: ExportFiles, polynomial: int, options: RepositoryOptions, lock: Lock) -> None:
        self._files = files
        self._options = options
        self._inner = Session(files, polynomial, options, lock, partial(ObjectWriter, files))

    def write(
        self,
        tree: AnyTree,
        *,
        parent: str | None = None,
        progress: Progress | None = None,
        unless: Callable[[], bool] | None = None,
        payload: Payload = Payload.EXPORT,
    ) -> Draft:
        """Store a tree. A parent that is gone or damaged is done without."""
        return self._inner.write(tree, parent=parent, progress=progress, unless=unless, payload=Payload.EXPORT)

    def commit(self, draft: Draft, label: SnapshotLabel) -> str:
        """Make the draft visible, with its manifest. Raises BusyError when the lock was lost, DamageError."""
        return self._inner.commit(draft, label, self._manifest(draft.root, label.time.isoformat()))

    def recommit(self, root: str, label: SnapshotLabel) -> str:
        """Make a tree that is here already visible again. Raises DamageError when its root is not, BusyError."""
        return self._inner.recommit(root, label, self._manifest(root, label.time.isoformat()))

    def copy(self, origin: PayloadStore, reference: str, *, progress: Progress | None = None) -> Copied:
        """Bring a point over, object by object, from another store of exports or from a repository that holds it."""
        files = getattr(origin, "files", None)
        if not isinstance(files, StoredFiles):
            raise RefusedError(
                f"{reference[:12]} cannot be copied from vault {origin.vault.name}",
                why="what lies there is neither an export nor a repository",
            )
        snapshot = load_snapshot(files, checked_name(files, reference))
        brought = bring_objects(self._files, self._inner, self._options, files, snapshot.tree, progress)
        details = self._manifest(snapshot.tree.hex(), snapshot.time.isoformat())
        copied = self._inner.copy(
            origin,
            reference,
            progress=progress,
            details=details,
            counts=lambda there: wrong_with(self._files, there.document) is None,
        )
        return Copied(copied.reference, copied.added_bytes + brought[0], copied.blobs + brought[1], brought[2])

    def _manifest(self, root: str, time: str) -> Callable[[], dict[str, Any]]:
        """Store the manifest once all else is there; what the snapshot says of it."""
        return lambda: {
            "payload": Payload.EXPORT.value,
            "manifest": write_manifest(self._files, self._inner.index, bytes.fromhex(root), time),
        }
