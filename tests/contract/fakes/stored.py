"""A recovery point to restore from, in a repository in memory."""

from datetime import UTC, datetime
from pathlib import Path

from fakes.memory import MemoryTree, MemoryVault
from fakes.vaults import InterceptedVault
from payload_store_contract import store_tree

from cto_backups.core.ports import Existing, Restored, RestoreOptions
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), workers=3, pack_bytes=1 << 20)


class Stored:
    """A recovery point in a vault whose reads are counted."""

    def __init__(self, tree: MemoryTree) -> None:
        inner = MemoryVault("one")
        RepositoryStore.create(inner, "r", "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS)
        store = RepositoryStore.open(inner, "r", "secret", options=OPTIONS)
        _, self.reference = store_tree(store, tree)
        self.vault = InterceptedVault(inner)
        self.store = RepositoryStore.open(self.vault, "r", "secret", options=OPTIONS)

    def restore(self, place: Path, options: RestoreOptions | None = None) -> Restored:
        self.vault.log.clear()
        return self.store.reader(self.reference).restore(place, existing=Existing.OVERWRITE, options=options)

    @property
    def packs_read(self) -> int:
        return sum(operation == "read" and "/data/" in key for operation, key in self.vault.log)
