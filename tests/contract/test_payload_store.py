"""Every payload store passes the payload store contract."""

from datetime import UTC, datetime

import pytest
from fakes.memory import MemoryVault
from payload_store_contract import NewStore, PayloadStoreContract

from cto_backups.core.payloads import PayloadStore
from cto_backups.exports.store import ExportStore
from cto_backups.repository.options import MIB, RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

CHEAP = ScryptParameters(n=2)


def factory(options: RepositoryOptions) -> NewStore:
    def new_store(vault: MemoryVault) -> PayloadStore:
        return RepositoryStore.create(
            vault, "repositories/main", "secret", now=datetime.now(UTC), hostname="h", username="u", options=options
        )

    return new_store


class TestRepository(PayloadStoreContract):
    @pytest.fixture
    def new_store(self) -> NewStore:
        return factory(RepositoryOptions(scrypt=CHEAP))


class TestRepositoryOfSmallPacks(PayloadStoreContract):
    """Many packs and index files, many threads."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return factory(RepositoryOptions(scrypt=CHEAP, pack_bytes=MIB // 4, workers=5, index_blobs=2, index_seconds=0))


class TestRepositoryFarAway(PayloadStoreContract):
    """What need not wait for each other's answers is asked at once."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        far = factory(RepositoryOptions(scrypt=CHEAP, workers=2, far=True, index_blobs=2, index_seconds=0))

        def new_store(vault: MemoryVault) -> PayloadStore:
            vault.requests_at_once = 8
            return far(vault)

        return new_store


class TestRepositoryOfOneThread(PayloadStoreContract):
    @pytest.fixture
    def new_store(self) -> NewStore:
        return factory(RepositoryOptions(scrypt=CHEAP, workers=1, verify="sampled"))


def exports(options: RepositoryOptions) -> NewStore:
    def new_store(vault: MemoryVault) -> PayloadStore:
        repository = RepositoryStore.create(
            vault, "repositories/main", "secret", now=datetime.now(UTC), hostname="h", username="u", options=options
        )
        return ExportStore(repository, vault, "exports/main")

    return new_store


class TestExports(PayloadStoreContract):
    """Each file an object as it is; many index files, several threads."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        return exports(RepositoryOptions(scrypt=CHEAP, pack_bytes=MIB // 4, workers=3, index_blobs=2, index_seconds=0))
