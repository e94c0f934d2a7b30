"""A vault whose store locks what is stored: attackers fail, what is needed stays locked, and the rest goes in time."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from acceptance.test_buckets import Installation, same
from cto_backups import clock
from cto_backups.app import starting
from cto_backups.errors import ExitStatus
from servers import object_stores
from servers.object_stores import REGION, ObjectStore

PREFIX = "office"
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "lock-a-vault.md"


@dataclass(frozen=True)
class Shop:
    """A host that may only add to a locked bucket, its owner elsewhere, and what the host protects."""

    store: ObjectStore
    bucket: str
    host: Installation
    owner: Installation
    user: ObjectStore

    @property
    def intruder(self) -> Any:
        """A client with the login of the host."""
        return client(self.user)

    def current(self) -> dict[str, str]:
        """The version that is read now of every object of the vault, but for the repository's locks."""
        found = self.store.client.list_object_versions(Bucket=self.bucket, Prefix=PREFIX + "/").get("Versions", [])
        return {each["Key"]: each["VersionId"] for each in found if each["IsLatest"] and "/locks/" not in each["Key"]}

    def allow(self, statements: list[dict[str, Any]]) -> None:
        """Let these be the bucket's policy."""
        policy = {"Version": "2012-10-17", "Statement": statements}
        self.store.client.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps(policy))


def client(user: ObjectStore) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=user.endpoint,
        region_name=REGION,
        aws_access_key_id=user.access_key,
        aws_secret_access_key=user.secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def documented(bucket: str, *users: ObjectStore) -> list[dict[str, Any]]:
    """What the roles in the how-to allow: that of the host to the first user, that of the owner to the second.

    The host's denial stays out: versitygw does not know its condition, and refuses the whole policy.
    """
    roles = re.findall(r"```json\n(.*?)```", HOW_TO.read_text("utf-8"), re.DOTALL)
    statements = []
    for role, user in zip(roles, users, strict=True):
        for statement in json.loads(role.replace("acme-backups", bucket))["Statement"]:
            if statement["Effect"] == "Allow":
                statements.append({**statement, "Principal": {"AWS": [user.access_key]}})
    return statements


def vault(store: ObjectStore, bucket: str, mode: str, more: str = "") -> str:
    return f"""
  cloud:
    {{url: "s3://{bucket}/{PREFIX}", endpoint: "{store.endpoint}", provider: own, region: {REGION}, tls: none,
     storage: object-storage, off_site: true, access_key: "file:keys/id", secret_key: "file:keys/secret",
     lock: {mode}{more}}}
"""


def installed(home: Path, data: Path, user: ObjectStore, cloud: str, retention: str = "1 versions") -> Installation:
    """An installation whose only vault but for a folder is the cloud; it is not made yet."""
    sources = {"papers": {"kind": "files", "class": "documentation", "paths": [str(data)], "retention": retention}}
    sources["papers"]["test"] = "none"
    folder = {"url": "file:vaults/one", "provider": "local-disk", "region": "this-machine", "storage": "disk"}
    starting.initialise(home, business="acme", sources=sources, vaults={"one": folder})
    for name, content in (("id", user.access_key), ("secret", user.secret_key)):
        (home / "keys" / name).write_text(content)
        (home / "keys" / name).chmod(0o600)
    made = Installation(home, data, {})
    text = made.policy.read_text()
    made.policy.write_text(re.sub(r"\n(?=\n[^\n]*\n?sources:)|\n(?=sources:)", cloud, text, count=1))
    return made


def refused(attack: Callable[[], Any]) -> bool:
    """Whether the store says no."""
    try:
        attack()
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error
        return True
    return False


@pytest.fixture
def mode() -> str:
    """The stronger lock, unless a test asks for another."""
    return "compliance"


@pytest.fixture
def shop(mode: str, versitygw_program: Path, versitygw: ObjectStore, tmp_path: Path) -> Shop:
    data = tmp_path / "data"
    data.mkdir()
    (data / "report.txt").write_text("figures\n" * 1000)
    (data / "blob.bin").write_bytes(os.urandom(1_000_000))
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    user, keeper = (object_stores.user(versitygw_program, versitygw) for _ in range(2))
    cloud = vault(versitygw, bucket, mode)
    host = installed(tmp_path / "host", data, user, cloud.replace("}", ", access: append-only}"))
    owner = installed(tmp_path / "owner", data, keeper, cloud)
    (owner.home / "keys" / "repository.key").write_bytes((host.home / "keys" / "repository.key").read_bytes())
    made = Shop(versitygw, bucket, host, owner, user)
    made.allow(documented(bucket, user, keeper))
    host("vault", "init", "cloud")
    host("backup")
    return made


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_the_login_of_a_host_that_only_adds_takes_nothing_away(shop: Shop, tmp_path: Path) -> None:
    """It tries all four: to delete, to hide, to shorten, to replace. Only the last is taken, and is undone."""
    bucket, intruder = shop.bucket, shop.intruder
    soon = datetime.now(UTC) + timedelta(minutes=1)
    locked = {key: version for key, version in shop.current().items() if "/index/" not in key}
    assert len(locked) > 8
    for key, version in locked.items():
        mode = shop.store.client.head_object(Bucket=bucket, Key=key)["ObjectLockMode"]
        assert refused(lambda k=key: intruder.delete_object(Bucket=bucket, Key=k)), f"{key}: hidden"
        assert refused(lambda k=key, v=version: intruder.delete_object(Bucket=bucket, Key=k, VersionId=v)), key
        for bypass in ({}, {"BypassGovernanceRetention": True}):
            asked = {"Key": key, "Retention": {"Mode": mode, "RetainUntilDate": soon}, **bypass}
            assert refused(lambda a=asked: intruder.put_object_retention(Bucket=bucket, **a)), f"{key}: shortened"
    for key in shop.current():
        intruder.put_object(Bucket=bucket, Key=key, Body=b"encrypted; pay here")

    shop.owner("verify", "cloud", ends=ExitStatus.VAULT)
    said = shop.owner("vault", "undelete", "cloud", "--dry-run")
    assert f"{len(locked)} files" in said, said
    shop.owner("vault", "undelete", "cloud")
    assert "0 files" in shop.owner("vault", "undelete", "cloud")
    brought_back(shop, tmp_path / "back")


def test_what_a_stronger_intruder_deletes_is_brought_back(shop: Shop, tmp_path: Path) -> None:
    """One that may delete hides everything behind markers; no version that is locked goes."""
    bucket, intruder = shop.bucket, shop.intruder
    everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    deleting = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ListBucketVersions"]
    stronger = {"Effect": "Allow", "Action": deleting, "Resource": everything}
    keeper = (shop.owner.home / "keys" / "id").read_text()
    owner = ObjectStore("", shop.store.endpoint, keeper, "", None)
    statements = documented(bucket, shop.user, owner)
    shop.allow([*statements, {**stronger, "Principal": {"AWS": [shop.user.access_key]}}])
    locked = {key: version for key, version in shop.current().items() if "/index/" not in key}
    for key, version in shop.current().items():
        assert refused(lambda k=key, v=version: intruder.delete_object(Bucket=bucket, Key=k, VersionId=v)) == (
            key in locked
        )
        intruder.delete_object(Bucket=bucket, Key=key)
    assert shop.current() == {}
    shop.allow(statements)
    shop.owner("vault", "undelete", "cloud")
    assert shop.current() == locked
    brought_back(shop, tmp_path / "back")


def brought_back(shop: Shop, place: Path) -> None:
    """The owner, who knows no more than the vault, makes the index anew and restores everything."""
    shop.owner("repair", "cloud")
    shop.owner("catalog", "rebuild", "--from", "cloud")
    shop.owner("verify", "cloud")
    shop.owner("restore", "papers", "--to", str(place), "--vault", "cloud")
    assert same(shop.host.data, place)


def test_what_is_needed_is_locked_anew_and_the_rest_goes_when_its_lock_ends(
    versitygw: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One owner's vault through two months: nothing fails because of a lock, and nothing stays for ever."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "report.txt").write_text("figures\n")
    (data / "blob.bin").write_bytes(os.urandom(1_000_000))
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    prices = ", prices: {currency: USD, storage: 1024}"
    run = installed(tmp_path / "home", data, versitygw, vault(versitygw, bucket, "compliance", prices))
    run("vault", "init", "cloud")
    run("backup")
    first = stored(versitygw, bucket, "data")
    assert "no lock was read back yet" in run("audit")
    told = json.loads(run("vault", "renew", "cloud", "--json"))["vaults"][0]
    assert (told["renewed"], told["lapsing"], told["unlocked"]) == (0, 0, [])
    assert told["files"] >= len(first) + 6
    assert "no lock was read back yet" not in run("audit")

    run("hold", "add", "papers", "--reason", "case 4711")
    (data / "blob.bin").write_bytes(os.urandom(1_000_000))
    run("backup")
    assert "kept 2" in run("expire"), "held"
    hold = json.loads(run("hold", "--json"))["holds"][0]["id"]
    days = passing(monkeypatch)
    days(16)
    assert json.loads(run("vault", "renew", "--json"))["vaults"][0]["renewed"] > len(first) + 6
    run("hold", "release", hold, "--reason", "closed")
    assert "1 copy is locked, the last until" in run("expire")
    run("prune", "cloud")
    assert len(stored(versitygw, bucket, "snapshots")) == 2

    days(33)  # the locks of the first day would have ended; those of the renewal have not
    assert json.loads(run("vault", "renew", "--json"))["vaults"][0]["lapsing"] == 1, "the expired snapshot"
    run("prune", "cloud")
    days(47)
    run("prune", "cloud")  # drops the snapshot; its packs leave the index
    run("vault", "renew")
    days(49)
    told = json.loads(run("prune", "cloud", "--json"))["vaults"][0]
    assert (told["locked_bytes"] > 1_000_000, told["deleted_bytes"]) == (True, 0)
    bytes_months = sum(
        each["size_bytes"] * (datetime.fromisoformat(each["until"]) - clock.now()) / timedelta(days=30)
        for each in told["locked"]
    )
    assert told["locked_cost"] == pytest.approx(bytes_months / (1 << 20), rel=0.01) and told["locked_cost"] > 0.1
    said = run("prune", "cloud")
    assert "are locked, the last until" in said and f"they cost {told['locked_cost']:,.2f} USD" in said
    assert first <= stored(versitygw, bucket, "data")
    days(64)
    run("vault", "renew")
    assert json.loads(run("prune", "cloud", "--json"))["vaults"][0]["deleted_bytes"] > 1_000_000
    assert not first & stored(versitygw, bucket, "data")
    run("verify", "cloud")
    run("restore", "papers", "--to", str(tmp_path / "back"), "--vault", "cloud")
    assert same(data, tmp_path / "back")


def test_a_vault_that_is_to_lock_more_strongly_renews_what_it_has_and_says_that_it_is_weaker(
    versitygw: ObjectStore, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "report.txt").write_text("figures\n")
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    run = installed(tmp_path / "home", data, versitygw, vault(versitygw, bucket, "governance"))
    run("vault", "init", "cloud")
    run("backup")
    run.policy.write_text(run.policy.read_text().replace("lock: governance", "lock: compliance"))
    told = json.loads(run("vault", "renew", "cloud", "--json", ends=ExitStatus.VERIFICATION))["vaults"][0]
    assert told["renewed"] == len(told["unlocked"]) == told["files"] > 6
    said = run("vault", "renew", "cloud", ends=ExitStatus.VERIFICATION)
    assert "locked less strongly than policy asks" in said, said
    (data / "report.txt").write_text("more figures\n")
    run("backup")
    told = json.loads(run("vault", "renew", "cloud", "--json", ends=ExitStatus.VERIFICATION))["vaults"][0]
    assert len(told["unlocked"]) < told["files"], "what is new is as strong as policy asks"


def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many days have passed since now, on this program's clock."""
    really = clock.now

    def passed(days: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: really() + timedelta(days=days))

    return passed


def stored(store: ObjectStore, bucket: str, folder: str) -> set[str]:
    """What is read in a folder of the repository."""
    found = store.client.list_objects_v2(Bucket=bucket, Prefix=f"{PREFIX}/repositories/main/{folder}/")
    return {each["Key"] for each in found["Contents"]}
