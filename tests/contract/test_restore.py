"""The contract of restoring over what stands there, for the repository and for the tests' own recovery point."""

from functools import cache
from typing import ClassVar

import pytest
from fakes.memory import MemoryTree, MemoryVault
from fakes.points import MemoryPoint
from payload_store_contract import store_tree
from restore_contract import CONTENT, NewPoint, RestoreContract
from test_payload_store import MIB, factory

from cto_backups.core.ports import PointReader
from cto_backups.repository import survey
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

CHEAP = ScryptParameters(n=2)


@cache
def stored(options: RepositoryOptions) -> tuple[RepositoryStore, str]:
    """The content of the contract, stored once: restoring leaves it as it is."""
    store = factory(options)(MemoryVault("one"))
    return store, store_tree(store, MemoryTree(CONTENT))[1]


class RepositoryContract(RestoreContract):
    """Each test gets a reader of its own."""

    options: ClassVar[RepositoryOptions]

    @pytest.fixture
    def new_point(self) -> NewPoint:
        def new_point(tree: MemoryTree) -> PointReader:
            store = factory(self.options)(MemoryVault("one"))
            return store.reader(store_tree(store, tree)[1])

        return new_point

    @pytest.fixture
    def point(self) -> PointReader:
        store, reference = stored(self.options)
        return store.reader(reference)


class TestRepository(RepositoryContract):
    options = RepositoryOptions(scrypt=CHEAP)


class TestRepositoryOfSmallPacks(RepositoryContract):
    """Many packs, many threads."""

    options = RepositoryOptions(scrypt=CHEAP, pack_bytes=MIB // 4, workers=5)


class TestRepositoryInSmallBatches(RepositoryContract):
    """Two entries at a time: what belongs together lies in several batches."""

    options = RepositoryOptions(scrypt=CHEAP)

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(survey, "BATCH_ENTRIES", 2)


class TestMemoryPoint(RestoreContract):
    @pytest.fixture
    def new_point(self) -> NewPoint:
        return MemoryPoint.of
