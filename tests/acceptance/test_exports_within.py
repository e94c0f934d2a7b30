"""A bucket whose points are exports: copied by its provider into vaults of its own, sent from here into others."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_buckets import Installation
from cto_backups.app import starting
from cto_backups.errors import ExitStatus
from servers.google_stores import GoogleStore
from servers.object_stores import REGION, ObjectStore

LARGE = os.urandom((5 << 20) + 3)
SMALL = b"of a customer\n" * 20


@pytest.fixture(autouse=True)
def _logins(monkeypatch: pytest.MonkeyPatch, versitygw: ObjectStore) -> None:
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_", "STORAGE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", versitygw.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", versitygw.secret_key)


def installation(
    home: Path, media: dict[str, Any], vaults: dict[str, dict[str, Any]], keys: dict[str, str] | None = None
) -> Installation:
    """One that protects a bucket, and nothing else; its vaults are made."""
    source = {"kind": "bucket", "class": "documentation", "retention": "30 versions", "test": "none", **media}
    papers = {"kind": "files", "class": "documentation", "paths": [str(home)], "test": "none"}
    folder = {"url": "file:vaults/sealed", "provider": "local-disk", "region": "this-machine", "storage": "disk"}
    made = Installation(home, home, {})
    starting.initialise(home, business="acme", sources={"papers": papers}, vaults={"sealed": folder})
    for name, content in (keys or {}).items():
        (home / "keys" / name).write_text(content)
        (home / "keys" / name).chmod(0o600)
    policy = made.policy.read_text()
    given = {**vaults, "sealed": folder}
    policy = (
        policy[: policy.index("vaults:")] + f"vaults: {json.dumps(given)}\nsources: {json.dumps({'media': source})}\n"
    )
    made.policy.write_text(policy)
    for name in vaults:
        made("vault", "init", name)
    return made


def on_s3(store: ObjectStore, *, exports: str = "plain") -> dict[str, Any]:
    place = {"provider": "own", "region": REGION, "storage": "object-storage", "off_site": True, "tls": "none"}
    return {"url": f"s3://{store.bucket()}/v", "endpoint": store.endpoint, "exports": exports, **place}


def at_google(store: GoogleStore, *, exports: str = "plain") -> dict[str, Any]:
    place = {"provider": "gcs", "region": "us-central1", "storage": "object-storage", "off_site": True, "tls": "none"}
    login = {"credentials": "file:keys/google.json"}
    return {"url": f"gs://{store.bucket()}/v", "endpoint": store.endpoint, "exports": exports, **place, **login}


def media_on_s3(store: ObjectStore) -> tuple[dict[str, Any], str]:
    bucket = store.bucket()
    for name, content in (("films/one", LARGE), ("customers/1", SMALL)):
        store.put(bucket, name, content)
    return {"url": f"s3://{bucket}", "endpoint": store.endpoint, "region": REGION, "tls": "none"}, bucket


def test_each_vault_gets_it_its_own_way_and_the_summary_says_which(
    versitygw: ObjectStore, fake_gcs_server: GoogleStore, tmp_path: Path
) -> None:
    media, bucket = media_on_s3(versitygw)
    vaults = {"near": on_s3(versitygw), "next": on_s3(versitygw), "far": at_google(fake_gcs_server)}
    keys = {"google.json": fake_gcs_server.logins.key_file}
    run = installation(tmp_path / "home", {**media, "payload": "export"}, vaults, keys)
    told = run("backup")
    assert "Copied by the provider: 1 object, 5.2 MB." in told
    assert "next: Copied by the provider: " in told
    assert "far: Through this machine: " in told
    again = json.loads(run("backup", "--before", "a change", "--json"))["sources"][0]
    assert again["ways"]["copied"] == 0
    versitygw.put(bucket, "films/two", LARGE[::-1])
    (made,) = json.loads(run("backup", "--json"))["sources"]
    assert (made["ways"]["copied"], made["ways"]["copied_bytes"], made["ways"]["reasons"]) == (1, len(LARGE), [])
    ways = {copy["vault"]: copy["ways"] for copy in made["copies"]}
    assert ways["next"]["copied"] >= 1
    assert ways["sealed"] is None
    for name in (*vaults, "sealed"):
        run("test", "media", "--vault", name)
    run("verify")
    checked = json.loads(run("vault", "check", "near", "--json", ends=ExitStatus.VERIFICATION))["vaults"][0]
    (copies,) = [rule for rule in checked["rules"] if rule["rule"] == "copy"]
    assert copies["answer"] == "enforced"
    assert copies["detail"].startswith("media: proven by its sha256")
    checked = json.loads(run("vault", "check", "far", "--json", ends=ExitStatus.VERIFICATION))["vaults"][0]
    (copies,) = [rule for rule in checked["rules"] if rule["rule"] == "copy"]
    assert copies["answer"] == "not offered"


def test_a_first_vault_of_another_provider_says_why_it_all_went_through_here(
    versitygw: ObjectStore, fake_gcs_server: GoogleStore, tmp_path: Path
) -> None:
    media, _ = media_on_s3(versitygw)
    keys = {"google.json": fake_gcs_server.logins.key_file}
    vaults = {"far": at_google(fake_gcs_server)}
    run = installation(tmp_path / "home", {**media, "payload": "export"}, vaults, keys)
    told = run("backup")
    assert "Through this machine: 1 object, 5.2 MB." in told
    assert "no provider copies" in told


def test_a_vault_that_seals_exports_says_that_it_all_went_through_here(versitygw: ObjectStore, tmp_path: Path) -> None:
    media, _ = media_on_s3(versitygw)
    vaults = {"near": on_s3(versitygw, exports="sealed")}
    run = installation(tmp_path / "home", {**media, "payload": "export"}, vaults)
    assert "Through this machine: near seals exports itself." in run("backup")


def test_it_goes_into_another_bucket_and_is_tested_in_one_by_commands(versitygw: ObjectStore, tmp_path: Path) -> None:
    media, bucket = media_on_s3(versitygw)
    scratch, other = versitygw.bucket(), versitygw.bucket()
    near = on_s3(versitygw)
    source = {**media, "payload": "export", "test_in": f"s3://{scratch}/tests"}
    run = installation(tmp_path / "home", source, {"near": near})
    run("backup")
    run("test", "media", "--vault", "near")
    run("test", "media", "--vault", "sealed")
    assert "Contents" not in versitygw.client.list_objects_v2(Bucket=scratch)

    place = f"s3://{other}/rescue"
    planned = json.loads(run("restore", "media", "--to", place, "--dry-run", "--json"))
    assert (planned["destination"], planned["entries"], planned["would_be_refused"]) == (place, 2, False)
    assert "Contents" not in versitygw.client.list_objects_v2(Bucket=other)
    told = run("restore", "media", "--to", place, "--vault", "near", "--verify")
    assert "1 object copied by the provider" in told
    for name, content in (("films/one", LARGE), ("customers/1", SMALL)):
        assert versitygw.client.get_object(Bucket=other, Key=f"rescue/{name}")["Body"].read() == content
    versitygw.put(other, "rescue/customers/1", b"newer")
    run("restore", "media", "--to", place, ends=ExitStatus.REFUSED)
    run("restore", "media", "--to", place, "--overwrite", "--delete", ends=ExitStatus.REFUSED)  # nobody says yes
    versitygw.put(other, "rescue/more", b"more")
    run("restore", "media", "--to", place, "--overwrite", "--delete", "--yes")
    left = versitygw.client.list_objects_v2(Bucket=other)["Contents"]
    assert sorted(each["Key"] for each in left) == ["rescue/customers/1", "rescue/films/one"]

    for wrong in (f"s3://{bucket}", near["url"], "gs://elsewhere"):
        told = run("restore", "media", "--to", wrong, ends=ExitStatus.REFUSED)
        assert f"Nothing is restored into {wrong}" in told
