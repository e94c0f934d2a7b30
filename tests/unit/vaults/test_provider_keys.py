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


def test_what_the_provider_copies_is_under_the_key_too(moto: ObjectStore) -> None:
    bucket = moto.bucket()
    plain, keyed = (
        s3_vault("cloud", moto.address(bucket, name, kms_key=key)) for name, key in (("p", None), ("k", KEY))
    )
    plain.create()
    keyed.create()
    plain.put("from", [bytes(1000)])
    keyed.copy_within("to", plain.state_of("from"))
    seen = moto.client.head_object(Bucket=bucket, Key="k/to")
    assert (seen["ServerSideEncryption"], seen["SSEKMSKeyId"], seen["ContentLength"]) == ("aws:kms", KEY, 1000)
    plain.close()
    keyed.close()


def test_a_copy_that_is_not_under_the_key_is_no_copy(versitygw: ObjectStore) -> None:
    bucket = versitygw.bucket()
    plain = s3_vault("cloud", versitygw.address(bucket, "v"))
    plain.create()
    plain.put("from", [bytes(1000)])
    keyed = s3_vault("cloud", versitygw.address(bucket, "v", kms_key=KEY))
    with pytest.raises(VaultError, match="does not encrypt to as the policy says"):
        keyed.copy_within("to", plain.state_of("from"))
    plain.close()
    keyed.close()


def test_a_store_that_takes_no_notice_of_the_key_is_refused(versitygw: ObjectStore) -> None:
    vault = s3_vault("cloud", versitygw.address(versitygw.bucket(), "v", kms_key=KEY))
    with pytest.raises(VaultError):
        vault.create()
    vault.close()
