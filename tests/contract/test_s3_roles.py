"""What the documented roles of S3 allow is enough, also for what is large; and what one denies, nobody asks for.

versitygw knows no condition on If-None-Match: what is sent is looked at on the way to it.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bucket_contract import Make, makes

from cto_backups.core.object_locks import Locking
from cto_backups.core.policy import LockMode
from cto_backups.core.vault_check import Answer
from cto_backups.providers import pauses
from cto_backups.vaults import bucket as bucket_module
from cto_backups.vaults import conformance, s3_upload
from cto_backups.vaults.append_only import AppendOnlyVault
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.s3 import s3_vault
from cto_backups.vaults.trying import Relied
from servers import object_stores
from servers.object_stores import ObjectStore
from servers.rough_way import Fault, RoughWay, rough_way


@pytest.fixture
def made() -> Iterator[Make]:
    yield from makes(s3_vault)


@pytest.fixture
def way(versitygw: ObjectStore) -> Iterator[RoughWay]:
    with rough_way(versitygw) as way:
        yield way


@pytest.fixture
def rough(way: RoughWay, made: Make, monkeypatch: pytest.MonkeyPatch) -> BucketVault:
    """A vault at the end of the way."""
    monkeypatch.setattr(pauses, "pause", lambda *_: None)
    vault = made(way.store, way.store.bucket(ObjectLockEnabledForBucket=True))
    vault.create()
    return vault


@pytest.mark.parametrize("role", [0, 1], ids=["a host that only adds", "the owner"])
def test_the_roles_for_locked_vaults_are_enough_for_parts_and_for_sweeping_them(
    versitygw_program: Path, versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch, role: int
) -> None:
    from acceptance.test_locked_buckets import documented

    monkeypatch.setattr(bucket_module, "_UPLOADS_END", timedelta(hours=-1))
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    users = [object_stores.user(versitygw_program, versitygw) for _ in range(2)]
    policy = {"Version": "2012-10-17", "Statement": documented(bucket, *users)}
    versitygw.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    locking = Locking(LockMode.GOVERNANCE, timedelta(days=30))
    vault = made(users[role], bucket, "office", locking=locking)
    vault.create()
    vault.put("repositories/main/data/ab/ab", [bytes(33 << 20)])
    assert vault.size("repositories/main/data/ab/ab") == 33 << 20
    assert vault.lock_of("repositories/main/data/ab/ab") is not None
    versitygw.client.create_multipart_upload(Bucket=bucket, Key="office/repositories/main/data/cd/cd")
    assert (vault.sweep(), vault.sweep()) == (1, 0)


def test_all_that_a_host_stores_that_only_adds_says_that_it_replaces_nothing(
    way: RoughWay, rough: BucketVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS refuses the rest, where the role in the how-to denies it: but for what a check tries to put over."""
    monkeypatch.setattr(s3_upload, "_SINGLE_BYTES", 5 << 20)
    monkeypatch.setattr(s3_upload, "_PART_BYTES", 5 << 20)
    monkeypatch.setattr(conformance, "_LARGE_BYTES", (6 << 20) + 1)
    said: dict[str, list[str]] = {"parts": [], "begun": [], "whole": []}

    def noted(what: str) -> Fault:
        method = "PUT" if what != "begun" else "POST"
        key = {"parts": "partNumber=", "begun": "?uploads", "whole": ""}[what]

        def asked(headers: dict[str, str], body: bytes) -> bytes:
            named = {name.lower(): value for name, value in headers.items()}
            said[what].append(named.get("if-none-match", ""))
            return body

        return Fault(method, key, times=10_000, asked=asked)

    ended = Fault("POST", "uploadId=", times=10_000, asked=noted("whole").asked)
    of_locks = [Fault("PUT", f"?{what}", times=10_000) for what in ("retention", "legal-hold")]  # which store nothing
    faults = (noted("parts"), noted("begun"), ended, *of_locks, noted("whole"))
    way.plan(*faults)
    vault = AppendOnlyVault(rough)
    vault.put("repositories/main/data/ab/ab", [b"pack"])
    vault.put("repositories/main/data/cd/cd", [bytes(6 << 20)])
    vault.put_stream("exports/main/data/objects/ab/ab", (bytes(9 << 20) for _ in range(5)))
    assert set(said["whole"]) == {"*"} and len(said["whole"]) == 3
    assert len(said["parts"]) >= 5 and len(said["begun"]) == 2
    said["whole"].clear()
    way.plan(*faults)
    told = {each.rule: each for each in conformance.check(vault, Relied(append_only=True)).told}
    assert told["role-replace"].answer is not Answer.NOT_ASKED
    assert said["whole"].count("") == 2, "over what is there, once to see a version and once as an attack"
    assert len(said["whole"]) > 8
