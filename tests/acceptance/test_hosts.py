"""Hosts of a fleet, with real servers: each has its own, the office has all of it, and ends what a host may do."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from cto_backups import clock
from cto_backups.app import opened
from cto_backups.config import bundle as bundles
from cto_backups.config import load
from cto_backups.errors import ExitStatus, RefusedError
from cto_backups.flows import expire
from servers import object_stores, postgresql
from servers.fleet import HOSTS, PASSPHRASE, Fleet, Machine
from servers.mariadb import free_port
from servers.object_stores import ObjectStore
from stock.restic import Restic

DENIED = "Forbidden|AccessDenied|Access Denied"


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[postgresql.Server]:
    port = str(free_port())
    with postgresql.server(postgresql_programs, listen_addresses="127.0.0.1", port=port) as made:
        yield made


@pytest.fixture
def fleet(
    server: postgresql.Server, versitygw: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    made = Fleet(tmp_path, server, versitygw, monkeypatch)
    yield made
    made.close()


def test_two_hosts_are_enrolled_and_nothing_of_one_is_anything_to_the_other(fleet: Fleet, stock_restic: Path) -> None:
    fleet.office("backup")
    for name in HOSTS:
        bundle = fleet.enrol(name)
        assert bundle.stat().st_mode & 0o777 == 0o600
        opened = bundles.unseal(bundle.read_bytes(), PASSPHRASE)
        said = fleet.said
        fleet.join(name)
        assert not bundle.exists()
        for secret in opened.files.values():
            assert secret not in said + fleet.said
        fleet.hosts[name]("backup")
        for key in ("repository.key", f"cloud-{name}.key"):
            assert (fleet.hosts[name].home / "keys" / key).stat().st_mode & 0o777 == 0o600
    alpha, beta = fleet.hosts["alpha"], fleet.hosts["beta"]
    assert {point["source"] for point in json.loads(fleet.office("points", "--json"))["points"]} == {
        "office-files",
        "alpha-files",
        "beta-files",
    }
    for name, host in fleet.hosts.items():
        assert {point["source"] for point in json.loads(host("points", "--json"))["points"]} == {f"{name}-files"}
    # What the administrator has signed, and the fleet's policy, are nothing to a host.
    own = load(alpha.policy)
    assert own.policy.enrolled_as == "alpha"
    signers = {key.split("/")[4] for key in fleet.keys("fleet/hosts/alpha/records/")}
    assert len(signers) == 1
    assert {Path(key).stem for key in fleet.keys("fleet/hosts/alpha/policies/")} == {own.policy.digest}
    # The store.
    client, theirs = fleet.store("beta"), fleet.keys("fleet/hosts/alpha/")
    before = fleet.contents("fleet/hosts/alpha/") | fleet.contents("fleet/repositories/")
    for key in (theirs[0], theirs[-1], fleet.keys("fleet/repositories/")[0]):
        for refused in (
            lambda key=key: client.get_object(Bucket=fleet.bucket, Key=key),
            lambda key=key: client.head_object(Bucket=fleet.bucket, Key=key),
            lambda key=key: client.put_object(Bucket=fleet.bucket, Key=key, Body=b"x"),
            lambda key=key: client.put_object(Bucket=fleet.bucket, Key=f"{key}-new", Body=b"x"),
            lambda key=key: client.delete_object(Bucket=fleet.bucket, Key=key),
        ):
            with pytest.raises(ClientError, match=DENIED):
                refused()
    for prefix in ("", "fleet/", "fleet/hosts/", "fleet/hosts/alpha/", "fleet/hosts/a"):
        with pytest.raises(ClientError, match=DENIED):
            client.list_objects_v2(Bucket=fleet.bucket, Prefix=prefix)
    for key in fleet.keys("fleet/hosts/beta/repositories/main/data/"):
        with pytest.raises(ClientError, match=DENIED):
            client.delete_object(Bucket=fleet.bucket, Key=key)
    with pytest.raises(ClientError, match=DENIED):
        client.put_bucket_policy(Bucket=fleet.bucket, Policy="{}")
    assert fleet.contents("fleet/hosts/alpha/") | fleet.contents("fleet/repositories/") == before
    # The keys: each host's opens its own repositories, the fleet's opens all. No two are of one id or cutting.
    copied = {name: fleet.copied(name) for name in HOSTS}
    opens = {
        (name, whose.name): Restic(stock_restic, copied[name], whose.cloud_secret).start("snapshots")
        for name in HOSTS
        for whose in (alpha, beta, fleet.office)
    }
    assert {pair for pair, ended in opens.items() if ended.returncode == 0} == {
        ("alpha", "alpha"),
        ("beta", "beta"),
        ("alpha", "office"),
        ("beta", "office"),
    }
    ids = [
        json.loads(Restic(stock_restic, copied[name], fleet.office.cloud_secret).run("cat", "config")) for name in HOSTS
    ]
    assert ids[0]["id"] != ids[1]["id"]
    for whose in (alpha, fleet.office):  # what opens the disk opens nothing in the bucket
        shared = Restic(stock_restic, copied["alpha"], whose.secret("repository.key"))
        assert shared.start("snapshots").returncode != 0
    assert ids[0]["chunker_polynomial"] != ids[1]["chunker_polynomial"]
    Restic(stock_restic, copied["alpha"], alpha.cloud_secret).run("restore", "latest", "--target", fleet.root / "r")
    assert "only alpha" in (fleet.root / "r" / str(fleet.data("alpha"))[1:] / "letter.txt").read_text()


def test_no_domain_is_made_where_the_host_reaches_nothing_and_the_passphrase_is_asked_for_last(fleet: Fleet) -> None:
    """A folder of the office is none that a host reaches; what is mistyped is told before anybody is asked."""
    policy = fleet.office.policy
    policy.write_text(policy.read_text().replace("storage: disk", "storage: disk\n    on_host: office"))
    words = ("host", "enrol", "alpha", "--bundle", str(fleet.root / "alpha.bundle"), "--passphrase", "env:NONE_SUCH")
    assert "/srv" not in fleet.office(*words, "--protect", "srv", ends=ExitStatus.USAGE)
    assert "folder of host office" in fleet.office(*words, "--vault", "disk", ends=ExitStatus.REFUSED)
    assert "no vault named 'clod'" in fleet.office(*words, "--vault", "clod", ends=ExitStatus.NOT_FOUND)
    before = policy.read_text()
    assert "NONE_SUCH" in fleet.office(*words, "--protect", "/srv", ends=ExitStatus.KEY)
    assert policy.read_text() == before
    fleet.enrol("alpha")
    assert {name for name in load(policy).policy.vaults if name.endswith("-alpha")} == {"cloud-alpha"}
    join = ("host", "join", str(fleet.root / "alpha.bundl"), "--passphrase", "env:NONE_SUCH")
    assert "Name the file" in fleet.hosts["alpha"](*join, policy=False, ends=ExitStatus.NOT_FOUND)


def test_a_host_is_revoked_in_the_middle_of_a_backup_and_the_office_restores_what_it_had(
    fleet: Fleet, stock_restic: Path
) -> None:
    fleet.enrol("alpha")
    alpha = fleet.join("alpha")
    alpha("backup")
    fleet.enrol("beta")
    fleet.join("beta")("backup")
    with (fleet.data("alpha") / "large.bin").open("wb") as file:
        for _ in range(60):
            file.write(os.urandom(10 << 20))
    words = [sys.executable, "-m", "cto_backups", "backup", "--policy", str(alpha.policy)]
    packs = len(fleet.keys("fleet/hosts/alpha/repositories/main/data/"))
    surroundings = {**os.environ, "CTO_BACKUPS_HOST": "alpha"}
    working = subprocess.Popen(words, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while len(fleet.keys("fleet/hosts/alpha/repositories/main/data/")) < packs + 3:
            assert working.poll() is None, working.communicate()[0]
            time.sleep(0.05)
        said = fleet.office("host", "revoke", "alpha", ends=ExitStatus.RED)
        assert "Ended: its rows in the catalog; role" in said and "its user at vault cloud-alpha" in said
        out, _ = working.communicate(timeout=120)
    finally:
        working.kill()
        working.wait()
    assert working.returncode not in (0, 1), out
    assert "Traceback" not in out
    # It has no login anywhere, and its key opens nothing.
    with pytest.raises(ClientError, match=r"InvalidAccessKeyId|does not exist"):
        fleet.store("alpha").list_objects_v2(Bucket=fleet.bucket, Prefix="fleet/hosts/alpha/")
    assert "cannot be opened" in alpha("status", ends=ExitStatus.CATALOG)
    copied = fleet.copied("alpha")
    assert Restic(stock_restic, copied, alpha.cloud_secret).start("snapshots").returncode != 0
    # The other host goes on, and the office restores: with its catalog, and from a vault alone.
    fleet.hosts["beta"]("backup")
    fleet.office("restore", fleet.point("alpha"), "--to", str(fleet.root / "back"))
    assert "only alpha" in next((fleet.root / "back").rglob("letter.txt")).read_text()
    bare = Restic(stock_restic, copied, fleet.office.cloud_secret)
    bare.run("restore", "latest", "--target", fleet.root / "bare")
    assert "only alpha" in next((fleet.root / "bare").rglob("letter.txt")).read_text()
    # A folder has no users that can be asked: that is red until somebody says that it is done.
    assert "not done yet" in fleet.office("host", ends=ExitStatus.RED)
    assert "its login at disk-alpha is ended" in fleet.office("status", ends=ExitStatus.RED)
    findings = json.loads(fleet.office("audit", "--json"))["findings"]
    assert [each["subject"] for each in findings if each["control"] == "revocations"] == ["host alpha"]
    fleet.office("host", "revoke", "alpha", "--done", "disk-alpha")
    assert "its login" not in fleet.office("status", ends=ExitStatus.RED)
    listed = json.loads(fleet.office("host", "--json"))
    assert [(host["name"], host["standing"], host["left"]) for host in listed["hosts"]] == [
        ("alpha", "revoked", []),
        ("beta", "joined", []),
    ]
    kinds = [record["change"] for record in fleet.signed("host")]
    assert kinds == ["enrolled", "enrolled", "revoked", "revoked"]
    last = fleet.signed("host")[-1]
    known = f"SELECT sequence, digest FROM \"{fleet.database}\".records WHERE signer = '{last['signer']}'"
    assert (last["last_sequence"], last["last_digest"]) == max(fleet.server.do(known, database=fleet.database))


def test_a_revocation_that_failed_at_a_vault_is_red_until_it_was_run_again(fleet: Fleet) -> None:
    fleet.enrol("alpha")
    fleet.join("alpha")("backup")
    vault = fleet.office.home / "vaults" / "disk"
    away = vault.rename(vault.with_name("away"))
    said = fleet.office("host", "revoke", "alpha", "--json", ends=ExitStatus.VAULT)
    assert "disk-alpha" in [each["vault"] for each in json.loads(said)["problems"]]
    (host,) = json.loads(fleet.office("host", "--json", ends=ExitStatus.RED))["hosts"]
    assert host["unended"] == ["disk-alpha"]
    away.rename(vault)
    assert "was not finished at disk-alpha: run it again" in fleet.office("status", ends=ExitStatus.RED)
    fleet.office("host", "revoke", "alpha", "--done", "disk-alpha")
    assert "shut out" not in fleet.office("host")
    assert json.loads(fleet.office("status", "--json", ends=ExitStatus.RED))["half_revoked"] == []


def test_the_office_loses_its_catalog_and_has_all_hosts_back_from_their_vaults(fleet: Fleet) -> None:
    fleet.enrol("alpha")
    fleet.join("alpha")("backup")
    fleet.office("host", "revoke", "alpha", ends=ExitStatus.RED)
    fleet.server.do(f'DROP SCHEMA "{fleet.database}" CASCADE', database=fleet.database)
    fleet.office("catalog", "rebuild", "--from", "cloud-alpha")
    fleet.office("restore", fleet.point("alpha"), "--to", str(fleet.root / "back"))
    assert "only alpha" in next((fleet.root / "back").rglob("letter.txt")).read_text()


def test_hosts_go_on_when_the_catalog_was_made_anew_and_what_they_signed_until_they_were_revoked_counts(
    fleet: Fleet,
) -> None:
    for name in HOSTS:
        fleet.enrol(name)
        host = fleet.join(name)
        host("backup")
        host("test", f"{name}-files")
    fleet.office("host", "revoke", "beta", ends=ExitStatus.RED)
    fleet.server.do(f'DROP SCHEMA "{fleet.database}" CASCADE', database=fleet.database)
    said = fleet.office("catalog", "rebuild")
    assert "does not count here" not in said
    told = json.loads(fleet.office("evidence", "list", "--json"))["evidence"]
    assert {(each["source"], each["passed"]) for each in told} == {("alpha-files", True), ("beta-files", True)}
    listed = json.loads(fleet.office("host", "--json"))["hosts"]
    assert [(host["name"], host["standing"]) for host in listed] == [("alpha", "joined"), ("beta", "revoked")]
    fleet.hosts["alpha"]("backup")
    assert {point["source"] for point in json.loads(fleet.hosts["alpha"]("points", "--json"))["points"]} == {
        "alpha-files"
    }
    fleet.hosts["beta"]("backup", ends=ExitStatus.CATALOG)
    fleet.office("host", "revoke", "alpha", ends=ExitStatus.RED)
    fleet.hosts["alpha"]("backup", ends=ExitStatus.CATALOG)


def test_a_bundle_lets_in_once_only_its_host_and_only_with_the_passphrase(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = fleet.enrol("alpha")
    kept = fleet.root / "kept.bundle"
    shutil.copy(bundle, kept)
    join = ("host", "join", str(bundle), "--home", str(fleet.hosts["alpha"].home), "--passphrase")
    other = fleet.hosts["beta"](*join, "env:PASSPHRASE", policy=False, ends=ExitStatus.REFUSED)
    assert "This enrolment is of host 'alpha', and this host is called 'beta'" in other
    monkeypatch.setenv("WRONG", "another passphrase")
    assert "does not open" in fleet.hosts["alpha"](*join, "env:WRONG", policy=False, ends=ExitStatus.KEY)
    fleet.join("alpha")
    again = ("host", "join", str(kept), "--home", str(fleet.root / "elsewhere"), "--passphrase", "env:PASSPHRASE")
    assert "was used before" in fleet.hosts["alpha"](*again, policy=False, ends=ExitStatus.REFUSED)
    assert not (fleet.root / "elsewhere" / "backups.yaml").exists()


def test_a_host_that_is_enrolled_again_has_new_keys_and_the_old_ones_open_nothing(
    fleet: Fleet, stock_restic: Path
) -> None:
    fleet.enrol("alpha")
    alpha = fleet.join("alpha")
    alpha("backup")
    assert "has joined already" in fleet.office(
        *("host", "enrol", "alpha", "--bundle", str(fleet.root / "new"), "--passphrase", "env:PASSPHRASE"),
        ends=ExitStatus.REFUSED,
    )
    old = fleet.root / "old"
    alpha.home.rename(old)
    fleet.enrol("alpha", "--again")
    fleet.join("alpha")("backup")
    copied = fleet.copied("alpha")
    opens = [
        Restic(stock_restic, copied, (home / "keys" / "cloud-alpha.key").read_text().strip())
        .start("snapshots")
        .returncode
        for home in (old, alpha.home)
    ]
    assert opens[0] != 0 and opens[1] == 0
    Machine("alpha", old, alpha.patch)("status", ends=ExitStatus.CATALOG)
    assert {point["source"] for point in json.loads(alpha("points", "--json"))["points"]} == {"alpha-files"}


def test_a_host_expires_nothing_and_the_office_does(fleet: Fleet) -> None:
    fleet.enrol("alpha")
    alpha = fleet.join("alpha")
    alpha("backup")
    with opened(alpha.policy) as opening, pytest.raises(RefusedError, match="not dropped by the host that made them"):
        expire.expire(opening.installation, expire.plan(opening.installation, "alpha-files"))
    (fleet.data("alpha") / "more.txt").write_text("more")
    first = fleet.point("alpha")
    alpha("backup")
    alpha("worker", "--once")
    alpha("verify")
    alpha("test", "alpha-files")
    told = json.loads(fleet.office("evidence", "list", "--json"))["evidence"]
    assert {(each["kind"], each["passed"]) for each in told} == {("verify", True), ("restore_test", True)}
    stored = fleet.keys("fleet/hosts/alpha/repositories/main/snapshots/")
    with opened(fleet.office.policy) as opening:
        office = opening.installation
        assert office.catalog.expire_point(first, clock.now(), ["the office says so"], office.signer)
        assert expire.drop_expired_copies(office).problems == {}
    assert len(fleet.keys("fleet/hosts/alpha/repositories/main/snapshots/")) == len(stored) - 1
    assert len(json.loads(alpha("points", "--json"))["points"]) == 1
    alpha("backup")
    alpha("verify")


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_a_host_locks_what_it_stores_and_neither_it_nor_who_takes_it_over_takes_that_back(
    server: postgresql.Server, versitygw: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fleet = Fleet(tmp_path, server, versitygw, monkeypatch, lock={"lock": mode, "lock_for": "30 days"})
    try:
        fleet.enrol("alpha", "--vault", "cloud")
        alpha, owner = fleet.join("alpha"), versitygw.client
        alpha("backup")
        host, within = fleet.store("alpha"), "fleet/hosts/alpha/repositories/main/"
        stored = owner.list_object_versions(Bucket=fleet.bucket, Prefix=within)["Versions"]
        shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": clock.now() + timedelta(minutes=1)}
        locked = [each for each in stored if re.search("/(data|snapshots|keys)/", each["Key"])]
        assert {each["Key"].split("/")[5] for each in locked} == {"data", "snapshots", "keys"}
        for each in locked:
            which = {"Bucket": fleet.bucket, "Key": each["Key"], "VersionId": each["VersionId"]}
            if "/keys/" not in each["Key"]:  # which the office made
                until = owner.get_object_retention(**which)["Retention"]
                assert until["Mode"] == mode.upper()
                assert timedelta(days=29) < until["RetainUntilDate"] - clock.now() < timedelta(days=62)
            for attempt in (
                lambda which=which: host.delete_object(**which),
                lambda which=which: host.delete_object(**which, BypassGovernanceRetention=True),
                lambda which=which: host.put_object_retention(
                    **which, Retention=shorter, BypassGovernanceRetention=True
                ),
            ):
                with pytest.raises(ClientError, match=f"{DENIED}|InvalidRequest|ObjectLocked"):
                    attempt()
        # Without the right to lock, nothing is stored: it is this right by which it is.
        whole = owner.get_bucket_policy(Bucket=fleet.bucket)["Policy"]
        rule = json.loads(whole)
        for statement in rule["Statement"]:
            if "s3:PutObjectRetention" in statement["Action"]:
                statement["Action"].remove("s3:PutObjectRetention")
        owner.put_bucket_policy(Bucket=fleet.bucket, Policy=json.dumps(rule))
        (fleet.data("alpha") / "more.txt").write_text("more")
        alpha("backup", ends=ExitStatus.VAULT)
        owner.put_bucket_policy(Bucket=fleet.bucket, Policy=whole)
        alpha("backup")
    finally:
        fleet.close()


def test_who_is_revoked_may_need_an_approval(fleet: Fleet) -> None:
    fleet.enrol("alpha")
    fleet.join("alpha")
    text = fleet.office.policy.read_text()
    fleet.office.policy.write_text(text + "\ngovernance:\n  approvals: {host-revocation: anyone}\n")
    said = fleet.office("host", "revoke", "alpha", ends=ExitStatus.REFUSED)
    assert "Revoking host 'alpha'" in said
    fleet.hosts["alpha"]("backup")
    number = re.search(r"approve (\S+)", said)
    assert number is not None, said
    fleet.office("approve", number[1], "--reason", "it was stolen")
    fleet.office("host", "revoke", "alpha", ends=ExitStatus.RED)
    fleet.hosts["alpha"]("backup", ends=ExitStatus.CATALOG)


def test_where_no_store_can_be_asked_people_make_and_end_the_login_and_it_is_red_until_they_have(
    fleet: Fleet, versitygw_program: Path
) -> None:
    text = fleet.office.policy.read_text()
    fleet.office.policy.write_text(text.replace("provider: versitygw", "provider: another"))
    fleet.enrol("alpha", "--vault", "cloud", "--json")
    (step,) = json.loads(fleet.said)["left"]
    alpha = fleet.join("alpha")
    assert "Put the access key of its user into keys/cloud-alpha.access" in fleet.said
    alpha("backup", ends=ExitStatus.VAULT)
    user = object_stores.user(versitygw_program, fleet.gateway)
    rights = json.loads(step.split("\n", 1)[1])
    for statement in rights["Statement"]:
        statement["Principal"] = {"AWS": [user.access_key]}
    fleet.gateway.client.put_bucket_policy(Bucket=fleet.bucket, Policy=json.dumps(rights))
    for name, secret in (("access", user.access_key), ("secret", user.secret_key)):
        place = alpha.home / "keys" / f"cloud-alpha.{name}"
        place.write_text(secret)
        place.chmod(0o600)
    alpha("backup")
    said = fleet.office("host", "revoke", "alpha", ends=ExitStatus.RED)
    assert "delete user cto-backups-cloud-alpha of the store, and its keys" in said
    assert "--done cloud-alpha" in fleet.office("host", ends=ExitStatus.RED)
    fleet.office("host", "revoke", "alpha", "--done", "disk-alpha", ends=ExitStatus.REFUSED)
    fleet.office("host", "revoke", "alpha", "--done", "cloud-alpha")
    fleet.office("host")


def test_the_offices_worker_tests_what_a_host_has_captured_and_captures_nothing_of_it(fleet: Fleet) -> None:
    fleet.enrol("alpha")
    alpha = fleet.join("alpha")
    alpha("backup")
    shutil.rmtree(fleet.data("alpha"))  # it is on another machine
    fleet.office("worker", "--once")
    rows = json.loads(fleet.office("status", "--json"))["sources"]
    assert {(row["source"], row["status"]) for row in rows} == {("office-files", "HEALTHY"), ("alpha-files", "HEALTHY")}
    runs = f"SELECT DISTINCT action, host FROM \"{fleet.database}\".runs WHERE source = 'alpha-files'"
    done = set(fleet.server.do(runs, database=fleet.database))
    assert {("backup", "alpha"), ("restore_test", "office")} <= done
    assert ("backup", "office") not in done
    assert {point["source"] for point in json.loads(alpha("points", "--json"))["points"]} == {"alpha-files"}


def test_the_offices_worker_and_a_hosts_worker_stay_beside_each_other(fleet: Fleet) -> None:
    """What is the host's is captured there alone, and tested by one of them; neither troubles the other."""
    fleet.enrol("alpha")
    alpha = fleet.join("alpha")
    runs = f"SELECT action, host, outcome FROM \"{fleet.database}\".runs WHERE source = 'alpha-files'"

    def done() -> set[tuple[str, ...]]:
        return {tuple(row) for row in fleet.server.do(runs, database=fleet.database)}

    with staying(fleet.office) as office, staying(alpha) as host:
        until(lambda: ("backup", "alpha", "succeeded") in done(), "the host backs up", office, host)
        kinds = {("backup", "succeeded"), ("copy", "succeeded"), ("restore_test", "succeeded")}
        until(lambda: kinds <= {(kind, ended) for kind, _, ended in done()}, "it is copied and tested", office, host)
        until(lambda: signs(fleet) == {"office", "alpha"}, "both give signs of life", office, host)
        told = json.loads(fleet.office("hosts", "--json"))
        assert {(each["host"], each["gone"], each["other_policy"]) for each in told["hosts"]} == {
            ("office", False, False),
            ("alpha", False, False),
        }
    assert {where for kind, where, _ in done() if kind == "backup"} == {"alpha"}
    told = fleet.server.do(f'SELECT * FROM "{fleet.database}".runs ORDER BY id', database=fleet.database)
    assert {outcome for _, _, outcome in done()} <= {"succeeded", "unchanged"}, told
    for name in ("office", "alpha"):
        said = (fleet.root / f"{name}.log").read_text()
        assert not re.search("Error|FAILED|Traceback|policy|no sign of life", said), said


def signs(fleet: Fleet) -> set[str]:
    """The hosts whose workers gave signs of life."""
    return {each["host"] for each in json.loads(fleet.office("hosts", "--json"))["hosts"] if each["workers"]}


@contextmanager
def staying(machine: Machine, ends: ExitStatus = ExitStatus.SUCCESS) -> Iterator[subprocess.Popen[bytes]]:
    """A worker on a machine, until the block ends; then it stops as it is told to."""
    words = [sys.executable, "-m", "cto_backups", "worker", "--policy", str(machine.policy)]
    with (machine.home.parent / f"{machine.name}.log").open("wb") as log:
        working = subprocess.Popen(words, env={**os.environ, "CTO_BACKUPS_HOST": machine.name}, stdout=log, stderr=log)
    try:
        yield working
        working.terminate()
        assert working.wait(100) == ends
    finally:
        working.kill()
        working.wait()


def until(happened: Callable[[], bool], what: str, *working: subprocess.Popen[bytes]) -> None:
    """Wait until it has happened, while all of these work."""
    end = time.monotonic() + 150
    while not happened():
        assert time.monotonic() < end, f"not in time: {what}"
        assert all(each.poll() is None for each in working), what
        time.sleep(0.2)


def test_a_hosts_worker_needs_no_queue_of_the_fleet_and_ends_as_told_after_its_revocation(fleet: Fleet) -> None:
    fleet.enrol("alpha")
    alpha = fleet.join("alpha")
    done = f"SELECT action, host FROM \"{fleet.database}\".runs WHERE source = 'alpha-files' AND outcome = 'succeeded'"
    tested = ("restore_test", "alpha")
    with staying(alpha, ends=ExitStatus.CATALOG) as host:
        until(lambda: tested in fleet.server.do(done, database=fleet.database), "it is tested", host)
        fleet.office("host", "revoke", "alpha", ends=ExitStatus.RED)
    assert ("backup", "alpha") in fleet.server.do(done, database=fleet.database)
    assert "Traceback" not in (fleet.root / "alpha.log").read_text()
