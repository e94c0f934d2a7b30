"""The contract of restoring over what stands there, for the repository and for the tests' own recovery point."""

import pytest
from fakes.memory import MemoryVault
from fakes.points import MemoryPoint
from payload_store_contract import store_tree
from restore_contract import NewPoint, RestoreContract
from test_payload_store import MIB, factory

from cto_backups.repository import survey
from cto_backups.repository.options import RepositoryOptions, ScryptParameters

CHEAP = ScryptParameters(n=2)


def stored_with(options: RepositoryOptions) -> NewPoint:
    def new_point(tree):  # type: ignore[no-untyped-def]
        store = factory(options)(MemoryVault("one"))
        return store.reader(store_tree(store, tree)[1])

    return new_point


class TestRepository(RestoreContract):
    @pytest.fixture
    def new_point(self) -> NewPoint:
        return stored_with(RepositoryOptions(scrypt=CHEAP))


class TestRepositoryOfSmallPacks(RestoreContract):
    """Many packs, many threads."""

    @pytest.fixture
    def new_point(self) -> NewPoint:
        return stored_with(RepositoryOptions(scrypt=CHEAP, pack_bytes=MIB // 4, workers=5))


class TestRepositoryInSmallBatches(RestoreContract):
    """Two entries at a time: what belongs together lies in several batches."""

    @pytest.fixture
    def new_point(self, monkeypatch: pytest.MonkeyPatch) -> NewPoint:
        monkeypatch.setattr(survey, "BATCH_ENTRIES", 2)
        return stored_with(RepositoryOptions(scrypt=CHEAP))


class TestMemoryPoint(RestoreContract):
    @pytest.fixture
    def new_point(self) -> NewPoint:
        return MemoryPoint.of
