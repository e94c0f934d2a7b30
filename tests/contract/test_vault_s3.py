"""A vault in a bucket passes the vault contract, on each store that speaks S3."""

from collections.abc import Iterator

import pytest
from vault_contract import VaultContract

from cto_backups.core.vaults import Vault
from cto_backups.vaults.s3 import S3Vault
from servers.object_stores import ObjectStore


class TestS3Vault(VaultContract):
    @pytest.fixture
    def vault(self, object_store: ObjectStore) -> Iterator[Vault]:
        vault = S3Vault("cloud", object_store.address(object_store.bucket(), "office/main"))
        vault.create()
        yield vault
        vault.close()
