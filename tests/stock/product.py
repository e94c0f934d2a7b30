"""Our side as a user of the repository: back up a folder, restore a snapshot, in one call each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cto_backups.core.payloads import Draft, SnapshotLabel
from cto_backups.core.ports import Restored
from cto_backups.core.vaults import Vault
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.files import FilesSource
from cto_backups.vaults.local import LocalVault

from .restic import PASSWORD, Restic

PREFIX = "repositories/main"
QUICK = RepositoryOptions(scrypt=ScryptParameters(n=1024))
QUICK_SMALL_PACKS = RepositoryOptions(scrypt=ScryptParameters(n=1024), pack_bytes=1 << 20, index_blobs=3)
HOSTNAME = "host.example"
TAGS = ("source=documents", "point=0123456789abcdef")


@dataclass(frozen=True)
class Ours:
    """What we wrote of the odd tree, with stock restic on the same repository."""

    folder: Path
    store: RepositoryStore
    restic: Restic
    snapshot: str
    draft: Draft


def new_store(folder: Path | Vault, *, options: RepositoryOptions = QUICK) -> RepositoryStore:
    """A new repository in a new vault in `folder`, or in the vault given."""
    vault = LocalVault("first", folder) if isinstance(folder, Path) else folder
    vault.create()
    return RepositoryStore.create(
        vault, PREFIX, PASSWORD, now=datetime.now(UTC), hostname=HOSTNAME, username="root", options=options
    )


def open_store(folder: Path | Vault, *, options: RepositoryOptions = QUICK) -> RepositoryStore:
    """The repository in the vault in `folder`."""
    vault = LocalVault("first", folder) if isinstance(folder, Path) else folder
    return RepositoryStore.open(vault, PREFIX, PASSWORD, options=options)


def back_up(
    store: RepositoryStore, tree: Path, *, state: Path, parent: str | None = None, moment: datetime | None = None
) -> tuple[str, Draft]:
    """Store a folder through the files source; the snapshot's id, and what it took."""
    source = FilesSource("documents", {"paths": [str(tree)]}, state=state)
    with source.capture() as capture, store.writing() as writing:
        draft = writing.write(capture.tree, parent=parent)
        assert capture.problems == ()
        label = SnapshotLabel(moment or datetime.now(UTC), HOSTNAME, "root", capture.paths, TAGS)
        snapshot = writing.commit(draft, label)
        capture.stored()
    return snapshot, draft


def restore(store: RepositoryStore, snapshot: str, destination: Path, *, only: Sequence[str] = ()) -> Restored:
    """Restore a snapshot; fails the test when anything went wrong with any entry."""
    restored = store.reader(snapshot).restore(destination, only=only)
    assert restored.problems == ()
    return restored


def below(destination: Path, original: Path) -> Path:
    """Where a restore below `destination` puts what was at `original`."""
    return destination / original.relative_to("/")
