"""A vault from the command line: tried out, its bucket compared with policy, set, and audited by what was seen."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_buckets import Installation
from acceptance.test_locked_buckets import documented, installed, vault
from cto_backups import clock
from cto_backups.errors import ExitStatus
from cto_backups.vaults import conformance
from servers import object_stores
from servers.google_stores import REGION, GoogleStore
from servers.object_stores import ObjectStore


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_LARGE_BYTES", (1 << 20) + 1)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    (place / "report.txt").write_text("figures\n")
    return place


def differing(run: Installation, *words: str, ends: ExitStatus) -> dict[str, Any]:
    told = json.loads(run(*words, "--json", ends=ends))
    return {each["setting"]: each for each in told["settings"] if not each["holds"]}


def findings(run: Installation) -> list[tuple[str, str]]:
    found = json.loads(run("audit", "--json"))["findings"]
    ours = ("vault-checked", "vault-settings")
    return [(each["control"], each["detail"]) for each in found if each["control"] in ours]


def test_a_bucket_on_s3_is_set_as_policy_asks_and_only_that(
    moto: ObjectStore, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, logs = moto.bucket(), moto.bucket()
    others = {
        "ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "elsewhere/"},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 400},
    }  # fmt: skip
    moto.client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [others]})
    writer = {"Service": "logging.s3.amazonaws.com"}
    allowed = {"Effect": "Allow", "Principal": writer, "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{logs}/*"}
    moto.client.put_bucket_policy(Bucket=logs, Policy=json.dumps({"Statement": [allowed]}))
    more = f", settings: {{access_logs: {logs}, noncurrent_days: 90}}"
    run = installed(tmp_path / "home", data, moto, vault(moto, bucket, "none", more))
    run("vault", "init", "cloud")
    run("backup")
    assert [control for control, _ in findings(run)] == ["vault-checked"]

    moto.client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    told = differing(run, "vault", "plan", "cloud", ends=ExitStatus.RED)
    assert set(told) == {"versioning", "noncurrent-days", "public-access", "access-logs"}, "a rule is for others"
    assert (told["versioning"]["current"], told["versioning"]["wanted"]) == ("off", "on")
    said = run("vault", "plan", "cloud", ends=ExitStatus.RED)
    assert "  - versioning: off\n  + versioning: on\n      Without them" in said
    assert all(len(line) <= 80 or "Not known" in line for line in said.splitlines()), said
    assert run("vault", "apply", "cloud", ends=ExitStatus.REFUSED).count("Nothing was changed") == 1
    assert moto.client.get_bucket_versioning(Bucket=bucket).get("Status") is None
    run("vault", "check", "cloud", ends=ExitStatus.VERIFICATION)
    assert any("versioning is off, and is to be on; seen " in detail for _, detail in findings(run))

    done = json.loads(run("vault", "apply", "cloud", "--yes", "--json"))
    assert done["done"] == ["versioning", "noncurrent-days", "public-access", "access-logs"]
    assert moto.client.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert "0 settings changed" in run("vault", "apply", "cloud", "--yes")
    assert differing(run, "vault", "plan", "cloud", ends=ExitStatus.SUCCESS) == {}
    checked = json.loads(run("vault", "check", "cloud", "--json"))["vaults"][0]
    assert checked["passed"]
    assert findings(run) == []
    listed = json.loads(run("evidence", "list", "--json"))["evidence"]
    assert [each["kind"] for each in listed[:2]] == ["vault_settings", "vault_check"]
    assert f"{checked['evidence']['id']}" in run("evidence", "show", checked["evidence"]["id"])
    assert "intact" in run("evidence", "verify")

    run.policy.write_text(run.policy.read_text().replace("noncurrent_days: 90", "noncurrent_days: 500"))
    run("vault", "apply", "cloud", "--yes")
    rules = moto.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert {rule["ID"]: rule["NoncurrentVersionExpiration"]["NoncurrentDays"] for rule in rules} == {
        "theirs": 400, "cto-backups-old-versions": 500
    }  # fmt: skip
    really = clock.now()
    monkeypatch.setattr(clock, "now", lambda: really + timedelta(days=100))
    assert {control for control, _ in findings(run)} == {"vault-checked", "vault-settings"}


def approve(run: Installation) -> tuple[str, str]:
    """Approve what waits, which cannot be brought to a vault yet that cannot lock it; the action, and its summary."""
    (waits,) = (each for each in json.loads(run("approvals", "--json"))["approvals"] if not each["decided_at"])
    run("approve", waits["id"], "--reason", "meant", ends=ExitStatus.VAULT)
    return waits["action"], waits["summary"]


def test_what_nobody_can_undo_is_said_and_has_an_approval_of_its_own(
    versitygw: ObjectStore, data: Path, tmp_path: Path
) -> None:
    bucket = versitygw.bucket()
    run = installed(tmp_path / "home", data, versitygw, vault(versitygw, bucket, "none"))
    run("vault", "init", "cloud")
    run.policy.write_text(
        run.policy.read_text().replace("lock: none", "lock: governance")
        + "\ngovernance: {approvals: {vault-settings: anyone}}\n"
    )
    said = run("vault", "plan", "cloud", ends=ExitStatus.RED)
    assert "IRREVERSIBLE" in said
    refused = run("vault", "apply", "cloud", "--yes", ends=ExitStatus.REFUSED)
    assert "object-lock can never be turned off again" in refused
    assert "Nothing was changed" in refused

    setting = ("vault", "apply", "cloud", "--yes", "--irreversible")
    run(*setting, ends=ExitStatus.REFUSED)
    assert versitygw.client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled"
    assert approve(run)[0] == "vault-settings"
    refused = run(*setting, ends=ExitStatus.REFUSED)
    assert "needs an approval" in refused
    assert "set before that, and kept: versioning" in refused
    assert "Nothing was changed" not in refused
    assert versitygw.client.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    action, summary = approve(run)
    assert action == "vault-lock"
    assert "(object-lock: on), which nobody can undo" in summary
    assert "set  object-lock: on, and read back" in run(*setting)
    found = versitygw.client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    assert found["ObjectLockEnabled"] == "Enabled"
    assert "0 settings changed" in run(*setting)
    run("vault", "check", "cloud")


def test_a_host_that_only_adds_names_the_rights_that_it_lacks_and_sets_nothing(
    versitygw_program: Path, versitygw: ObjectStore, data: Path, tmp_path: Path
) -> None:
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    user, keeper = (object_stores.user(versitygw_program, versitygw) for _ in range(2))
    policy = {"Version": "2012-10-17", "Statement": documented(bucket, user, keeper)}
    versitygw.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    run = installed(tmp_path / "home", data, user, vault(versitygw, bucket, "governance", ", access: append-only"))
    run("vault", "init", "cloud")
    checked = json.loads(run("vault", "check", "cloud", "--json"))["vaults"][0]
    told = {each["setting"]: each["unknown"] for each in checked["settings"] if each["current"] is None}
    assert told["versioning"] == "this login may not s3:GetBucketVersioning"
    assert told["noncurrent-days"] == "the store says NotImplemented"
    assert checked["left"]
    assert {each["rule"] for each in checked["rules"] if not each["passed"]} == set()
    run("backup")
    assert [control for control, _ in findings(run)].count("vault-checked") == 0
    assert any("s3:GetBucketVersioning" in detail for _, detail in findings(run)), "not known is not green"
    assert "may only add" in run("vault", "apply", "cloud", "--yes", ends=ExitStatus.REFUSED)
    assert "folder" in run("vault", "plan", "one", ends=ExitStatus.REFUSED)


def test_a_bucket_at_google_is_set_and_one_that_takes_no_notice_is_told(
    fake_gcs_server: GoogleStore, data: Path, tmp_path: Path
) -> None:
    bucket = fake_gcs_server.bucket()
    run = installed(tmp_path / "home", data, ObjectStore("", "", "id", "secret", None), google(fake_gcs_server, bucket))
    (run.home / "keys" / "google.json").write_text(fake_gcs_server.logins.key_file)
    (run.home / "keys" / "google.json").chmod(0o600)
    run("vault", "init", "cloud")
    told = differing(run, "vault", "plan", "cloud", ends=ExitStatus.RED)
    assert set(told) == {"versioning", "noncurrent-days", "public-access", "soft-delete"}
    assert told["soft-delete"]["unknown"] == "the store tells of none"
    said = run("vault", "apply", "cloud", "--yes", ends=ExitStatus.VERIFICATION)
    assert "its store took what it was told, and is not set so" in said, "it says yes to every patch"
    assert "ersioning is off, and is to be on" in said


def google(store: GoogleStore, bucket: str) -> str:
    return f"""
  cloud:
    {{url: "gs://{bucket}/office", endpoint: "{store.endpoint}", tls: none, provider: gcs, region: {REGION},
     storage: object-storage, off_site: true, credentials: "file:keys/google.json"}}
"""
