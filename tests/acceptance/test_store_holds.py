"""Legal holds that are put on what a vault's store has: on all that held points need, kept up, and taken off again."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from acceptance.test_buckets import Installation
from acceptance.test_locked_buckets import PREFIX, installed, passing, stored, vault
from cto_backups.errors import ExitStatus
from cto_backups.flows import store_holds
from servers.object_stores import REGION, ObjectStore
from stock.restic import Restic

LOCKED = ", lock_for: 30 d, legal_holds: stored, prices: {currency: USD, storage: 1024}"


@dataclass(frozen=True)
class Court:
    """One owner's vault whose store holds what is held, under governance: locks alone do not keep it from the owner."""

    run: Installation
    store: ObjectStore
    bucket: str

    def change(self, number: int) -> str:
        """Give the data other content, and back it up; the point."""
        (self.run.data / "blob.bin").write_bytes(random.Random(number).randbytes(1_500_000))
        (self.run.data / "report.txt").write_text(f"version {number}\n")
        told = json.loads(self.run("backup", "--json"))
        (source,) = told["sources"]
        return str(source["point"]["id"])

    def held(self) -> set[str]:
        """The keys of all that the store tells a hold of."""
        return {key for key, status in self.told().items() if status == "ON"}

    def told(self) -> dict[str, str]:
        """What the store tells of each object's hold."""
        client, found = self.store.client, {}
        for each in client.list_objects_v2(Bucket=self.bucket, Prefix=PREFIX + "/")["Contents"]:
            try:
                told = client.get_object_legal_hold(Bucket=self.bucket, Key=each["Key"])
            except ClientError as error:
                assert error.response["Error"]["Code"] == "NoSuchObjectLockConfiguration", error
                told = {}
            found[each["Key"].removeprefix(PREFIX + "/")] = str(told.get("LegalHold", {}).get("Status", ""))
        return found

    def renew(self, ends: ExitStatus = ExitStatus.SUCCESS) -> dict[str, Any]:
        """What a look at the locks did about holds."""
        found: dict[str, Any] = json.loads(self.run("vault", "renew", "cloud", "--json", ends=ends))["vaults"][0]
        return dict(found["holds"])

    def delete_everything(self) -> set[str]:
        """As the owner, who may take locks away: every version there is; the keys of those that stay."""
        client, left = self.store.client, set()
        found = client.list_object_versions(Bucket=self.bucket)
        for each in [*found.get("DeleteMarkers", ()), *found["Versions"]]:
            try:
                client.delete_object(
                    Bucket=self.bucket, Key=each["Key"], VersionId=each["VersionId"], BypassGovernanceRetention=True
                )
            except ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error
                left.add(each["Key"].removeprefix(PREFIX + "/"))
        return left

    def restic(self, program: Path, key: str) -> Restic:
        return Restic(
            program,
            f"s3:{self.store.endpoint}/{self.bucket}/{PREFIX}/repositories/main",  # type: ignore[arg-type]
            key,
            {
                "AWS_ACCESS_KEY_ID": self.store.access_key,
                "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
                "AWS_DEFAULT_REGION": REGION,
            },
        )


@pytest.fixture
def court(versitygw: ObjectStore, tmp_path: Path) -> Court:
    data = tmp_path / "data"
    data.mkdir()
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    run = installed(tmp_path / "home", data, versitygw, vault(versitygw, bucket, "governance", LOCKED))
    run("vault", "init", "cloud")
    return Court(run, versitygw, bucket)


def packs(keys: set[str]) -> set[str]:
    return {key for key in keys if key.startswith("repositories/main/data/")}


def test_what_is_held_outlives_the_installation_and_the_owners_own_login(
    court: Court, stock_restic: Path, tmp_path: Path
) -> None:
    run = court.run
    first = court.change(1)
    said = run("hold", "add", first, "--reason", "case 4711")
    assert "cloud: legal holds on" in said, said
    held = court.held()
    assert {"vault.json", "repositories/main/config"} <= held
    before = {path.name: path.read_bytes() for path in run.data.iterdir()}
    court.change(2)
    told = court.renew()
    assert (told["put_on"], told["taken_off"], told["gone"], told["unheld"]) == (1, 0, [], []), "the new index file"
    assert court.renew()["put_on"] == 0
    everything = court.told()
    assert len(packs(set(everything))) > len(packs(court.held())) > 0, "what only the second point needs is not held"
    assert court.held() > held
    key = (run.home / "keys" / "repository.key").read_text().strip()
    shutil.rmtree(run.home)

    assert court.delete_everything() == court.held()
    assert set(court.told()) == court.held()
    restic = court.restic(stock_restic, key)
    (snapshot,) = restic.snapshots()
    restic.run("restore", snapshot["id"], "--target", tmp_path / "back")
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").rglob("*") if path.is_file()} == before

    for name in court.held():  # and only so is it let go of
        court.store.client.put_object_legal_hold(
            Bucket=court.bucket, Key=f"{PREFIX}/{name}", LegalHold={"Status": "OFF"}
        )
    assert court.delete_everything() == set()


def test_a_look_at_a_vault_leaves_locks_and_holds_of_another_that_lies_in_it(court: Court) -> None:
    """Of a host's domain, its own look knows what is needed; what it lets lapse would never go."""
    court.change(1)
    place, text = f"s3://{court.bucket}/{PREFIX}", court.run.policy.read_text()
    domain = re.sub(r"(?s)^.*?\n  cloud:(.*?)\n(?=\n|sources:).*", r"\n  cloud-web1:\1\n", text)
    domain = domain.replace(place, f"{place}/hosts/web1")
    court.run.policy.write_text(text.replace("\n  cloud:", f"{domain}\n  cloud:", 1))
    theirs = {"Bucket": court.bucket, "Key": f"{PREFIX}/hosts/web1/repositories/main/data/ab/{'ab' * 32}"}
    court.store.client.put_object(**theirs, Body=b"held there", ObjectLockLegalHoldStatus="ON")
    assert court.renew()["taken_off"] == 0
    assert court.store.client.get_object_legal_hold(**theirs)["LegalHold"]["Status"] == "ON"
    with pytest.raises(ClientError, match="NoSuchObjectLockConfiguration"):
        court.store.client.get_object_retention(**theirs)


def test_a_release_takes_off_what_no_other_hold_needs(court: Court) -> None:
    first, second = court.change(1), court.change(2)
    other = f"{PREFIX}/repositories/other/data/ab/{'ab' * 32}"
    hold = {"ObjectLockLegalHoldStatus": "ON"}
    court.store.client.put_object(Bucket=court.bucket, Key=other, Body=b"another installation's", **hold)
    assert court.renew()["taken_off"] == 0, "whose it is knows what holds are on it"
    court.store.client.put_object_legal_hold(Bucket=court.bucket, Key=other, LegalHold={"Status": "OFF"})
    court.run("hold", "add", "papers", "--reason", "all of it")
    everything = court.held()
    court.run("hold", "add", first, "--reason", "the first")
    assert court.held() == everything
    holds = {each["point"]: each["id"] for each in json.loads(court.run("hold", "--json"))["holds"]}
    told = json.loads(court.run("hold", "release", holds[None], "--reason", "closed", "--json"))
    left = court.held()
    assert told["stores"]["cloud"]["taken_off"] == len(everything - left) >= 3
    assert packs(left) and packs(everything) > packs(left)
    assert {"vault.json", "repositories/main/config"} <= left
    court.run("hold", "add", second, "--reason", "the second")
    assert court.held() == everything, "both points together"
    court.run("hold", "release", holds[first], "--reason", "closed")
    assert left - court.held() and court.held() < everything
    (last,) = json.loads(court.run("hold", "--json"))["holds"]
    court.run("hold", "release", last["id"], "--reason", "closed")
    assert court.held() == set()
    assert court.renew()["taken_off"] == 0


KILLED = """
import os, signal, sys, threading
from cto_backups.cli import main
from cto_backups.vaults.s3_holds import S3Holds
plainly, left, one_by_one = S3Holds.set, int(sys.argv[1]), threading.Lock()
def set(self, key, **how):
    global left
    with one_by_one:  # those before have come to the store
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return plainly(self, key, **how)
S3Holds.set = set
sys.exit(int(main.run(sys.argv[2:])))
"""


def killed(run: Installation, after: int, *words: str) -> None:
    """Run a command that is killed once so many holds were put on or taken off."""
    command = [sys.executable, "-c", KILLED, str(after), *words, "--policy", str(run.policy)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_killed_in_the_middle_of_setting_and_of_releasing_the_next_look_does_the_rest(court: Court) -> None:
    first = court.change(1)
    court.change(2)
    killed(court.run, 2, "hold", "add", first, "--reason", "case 4711")
    some = court.held()
    assert 0 < len(some) <= 2
    assert court.renew()["put_on"] >= 3
    held = court.held()
    assert held > some
    (hold,) = json.loads(court.run("hold", "--json"))["holds"]
    killed(court.run, 2, "hold", "release", hold["id"], "--reason", "closed")
    assert 0 < len(held - court.held()) <= 2
    killed(court.run, 1, "vault", "renew", "cloud")
    left = court.held()
    assert left
    assert court.renew()["taken_off"] == len(left)
    assert court.held() == set()


def test_what_a_killed_release_left_is_planned_for_later_by_prune_and_its_cost_is_told(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = court.change(1)
    before = packs(set(court.told()))
    court.run("hold", "add", first, "--reason", "case 4711")
    court.change(2)
    (hold,) = json.loads(court.run("hold", "--json"))["holds"]
    killed(court.run, 0, "hold", "release", hold["id"], "--reason", "closed")
    held = court.held()
    days = passing(monkeypatch)
    days(31)  # the locks of the first day have ended; the hold has not
    assert "1 copy is locked, the last until" in court.run("expire")
    assert len(stored(court.store, court.bucket, "snapshots")) == 2
    court.run("prune", "cloud")
    assert court.held() == held
    told = court.renew()
    assert told["taken_off"] == len(held)
    court.run("prune", "cloud")  # drops the snapshot; its packs leave the index
    for name in packs(held):
        court.store.client.put_object_legal_hold(
            Bucket=court.bucket, Key=f"{PREFIX}/{name}", LegalHold={"Status": "ON"}
        )
    days(64)  # so have the locks of the renewal
    pruned = json.loads(court.run("prune", "cloud", "--json"))["vaults"][0]
    assert (pruned["locked_bytes"] > 1_500_000, pruned["deleted_bytes"]) == (True, 0)
    assert pruned["locked_cost"] > 0.1
    assert before <= packs(set(court.told()))
    assert court.renew()["taken_off"] == len(packs(held))
    assert json.loads(court.run("prune", "cloud", "--json"))["vaults"][0]["deleted_bytes"] > 1_500_000
    court.run("verify", "cloud")


def test_what_holds_need_and_somebody_deleted_is_told_and_comes_back_held(court: Court) -> None:
    first = court.change(1)
    court.run("hold", "add", first, "--reason", "case 4711")
    held = court.held()
    gone = sorted(packs(held))[0]
    court.store.client.delete_object(Bucket=court.bucket, Key=f"{PREFIX}/{gone}")
    assert court.renew(ends=ExitStatus.VERIFICATION)["gone"] == [gone]
    court.run("vault", "undelete", "cloud")
    assert court.renew()["gone"] == []
    assert court.held() == held


def test_an_object_of_an_export_is_held_with_what_is_known_of_its_parts(court: Court) -> None:
    policy = court.run.policy.read_text()
    plain = policy.replace("legal_holds: stored", "legal_holds: stored, exports: plain")
    court.run.policy.write_text(_exported(plain))
    point = court.change(1)
    large = court.run.data / "large.bin"
    large.write_bytes(random.Random(9).randbytes((5 << 20) + 1))
    point = court.change(2)
    court.run("hold", "add", point, "--reason", "case 4711")
    exported = {key for key in court.held() if key.startswith("exports/main/")}
    kinds = {key.split("/")[2] for key in exported}
    assert kinds == {"data", "index", "manifests", "parts", "snapshots"}, exported
    assert len([key for key in exported if "/objects/" in key]) == 3
    assert court.delete_everything() == court.held()


def _exported(policy: str) -> str:
    """The policy with its source stored as an export."""
    done = re.sub(r"( +)kind: files .*\n", r"\g<0>\1payload: export\n", policy, count=1)
    assert done != policy, policy
    return done


def test_where_policy_wants_no_holds_in_the_store_any_more_the_next_look_takes_them_off(court: Court) -> None:
    first = court.change(1)
    court.run("hold", "add", first, "--reason", "case 4711")
    court.renew()
    held = court.held()
    policy = court.run.policy.read_text()
    court.run.policy.write_text(policy.replace("legal_holds: stored", "access: append-only"))
    assert json.loads(court.run("vault", "renew", "cloud", "--json"))["vaults"][0]["holds"] is None
    assert court.held() == held, "that is for the vault's owner to say"
    court.run.policy.write_text(policy.replace(", legal_holds: stored", ""))
    killed(court.run, 2, "vault", "renew", "cloud")
    assert 0 < len(held - court.held()) <= 2
    assert court.renew()["taken_off"] >= len(held) - 2
    assert court.held() == set()
    assert json.loads(court.run("vault", "renew", "cloud", "--json"))["vaults"][0]["holds"] is None


def test_a_prune_beside_a_held_point_ends_well_and_the_next_look_holds_what_it_wrote_anew(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = court.change(1)
    court.run("hold", "add", first, "--reason", "case 4711")
    kept = packs(court.held())
    court.change(2)
    court.change(3)
    court.renew()
    days = passing(monkeypatch)
    days(31)
    court.run("expire")
    before = {key for key in court.held() if "/index/" in key}
    assert json.loads(court.run("prune", "cloud", "--json"))["vaults"][0]["dropped"], "what only the second needed"
    told = court.renew()
    after = {key for key in court.held() if "/index/" in key}
    assert after and not after & before
    assert (told["put_on"], told["taken_off"]) == (len(after), 0), "the index that was replaced was let go of by prune"
    assert packs(court.held()) == kept
    court.run("verify", "cloud")


def test_a_hold_that_is_placed_while_another_is_taken_off_ends_up_on_all_it_needs(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As late as can be: what is to be held was looked up already, and what is not is taken off next."""
    first = court.change(1)
    court.run("hold", "add", first, "--reason", "case 4711")
    expected = court.held()
    (hold,) = json.loads(court.run("hold", "--json"))["holds"]
    plain, placed = store_holds._needed, []

    def late(*asked: Any) -> Any:
        found = plain(*asked)
        if not placed:
            placed.append(first)
            court.run("hold", "add", first, "--reason", "case 4712")
        return found

    monkeypatch.setattr(store_holds, "_needed", late)
    court.run("hold", "release", hold["id"], "--reason", "closed")
    assert court.held() == expected


def test_former_versions_are_let_go_of_with_the_release(court: Court) -> None:
    """An intruder put something over what is held: it was brought back above, and the held version lies below."""
    first = court.change(1)
    court.run("hold", "add", first, "--reason", "case 4711")
    held = court.held()
    name = sorted(packs(held))[0]
    court.store.client.put_object(Bucket=court.bucket, Key=f"{PREFIX}/{name}", Body=b"pay here")
    court.run("vault", "undelete", "cloud")
    told = court.renew()
    assert (told["put_on"], told["taken_off"]) == (1, 0), "what is needed stays held below, too"
    assert court.held() == held
    (hold,) = json.loads(court.run("hold", "--json"))["holds"]
    told = json.loads(court.run("hold", "release", hold["id"], "--reason", "closed", "--json"))
    assert told["stores"]["cloud"]["taken_off"] == len(held) + 1
    assert court.delete_everything() == set()
