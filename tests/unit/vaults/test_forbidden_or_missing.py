"""What a store calls forbidden, to a login that lists below a prefix alone, may not be there at all."""

from typing import Any

import pytest

from cto_backups.errors import VaultError, VaultMissingError
from cto_backups.vaults.s3 import S3Store, s3_vault
from servers.object_stores import ObjectStore


def test_what_is_not_there_is_told_from_what_is_forbidden(versitygw: ObjectStore) -> None:
    """AWS answers 403 in place of 404 there; the gateway does not, so its answers are made so."""
    vault = s3_vault("cloud", versitygw.address(versitygw.bucket(), "office"))
    vault.create()
    vault.put("there", [b"content"])

    def forbid(parsed: dict[str, Any], http_response: Any, **_: Any) -> None:
        if http_response.url.endswith("there"):
            http_response.status_code = 403
            if "Body" in parsed:
                http_response.raw.drain_conn()  # nobody reads what comes with a refusal
            parsed["Error"] = {"Code": "403", "Message": "Forbidden"}

    assert isinstance(vault._store, S3Store)
    for operation in ("HeadObject", "GetObject"):
        vault._store._client.meta.events.register(f"after-call.s3.{operation}", forbid)
    for ask in (vault.size, vault.read):
        with pytest.raises(VaultMissingError):
            ask("not-there")
        with pytest.raises(VaultError, match="Forbidden") as told:
            ask("there")
        assert not isinstance(told.value, VaultMissingError)
    vault.close()
