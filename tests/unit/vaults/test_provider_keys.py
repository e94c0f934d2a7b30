"""A vault with `kms_key` asks the store to encrypt under that key, and takes nothing else for an answer."""

import pytest

from cto_backups.errors import VaultError
from cto_backups.vaults.s3 import s3_vault
from servers.object_stores import ObjectStore

KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"


def test_each_object_says_that_it_is_under_the_key(moto: ObjectStore) -> None:
    bucket = moto.bucket()
    vault = s3_vault("cloud", moto.address(bucket, "v", kms_key=KEY))
    vault.create()
    vault.put("small", [b"content"])
    vault.put_stream("large", iter([bytes(9 << 20)] * 2))
    for key, size in (("small", 7), ("large", 18 << 20)):
        seen = moto.client.head_object(Bucket=bucket, Key=f"v/{key}")
        assert (seen["ServerSideEncryption"], seen["SSEKMSKeyId"], seen["ContentLength"]) == ("aws:kms", KEY, size)
    assert vault.read("small") == b"content"
    vault.close()


def test_a_store_that_takes_no_notice_of_the_key_is_refused(versitygw: ObjectStore) -> None:
    vault = s3_vault("cloud", versitygw.address(versitygw.bucket(), "v", kms_key=KEY))
    with pytest.raises(VaultError):
        vault.create()
    vault.close()
