"""An installation whose vaults are a folder and buckets of two stores: each bucket alone brings everything back."""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.app import starting
from cto_backups.cli import main
from cto_backups.errors import ExitStatus
from servers.object_stores import REGION, ObjectStore, free_port
from stock.restic import Restic

PREFIX = "office/main"


@dataclass(frozen=True)
class Installation:
    """A policy's folder, the data it protects, and the bucket of each store."""

    home: Path
    data: Path
    buckets: dict[str, str]

    @property
    def policy(self) -> Path:
        return self.home / "backups.yaml"

    def __call__(self, *words: str, ends: ExitStatus = ExitStatus.SUCCESS) -> str:
        """What a command says that ends like this; its JSON, if it is asked for that."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main.run([*words, "--policy", str(self.policy)])
        assert status is ends, f"{words}\n{out.getvalue()}\n{err.getvalue()}"
        return out.getvalue() if "--json" in words else out.getvalue() + err.getvalue()


@pytest.fixture(autouse=True)
def _logins(versitygw: ObjectStore, moto: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One store's keys are named in the policy, the other's are where AWS's programs look."""
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("GATEWAY_SECRET", versitygw.secret_key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_key)


@pytest.fixture
def installation(versitygw: ObjectStore, moto: ObjectStore, tmp_path: Path) -> Iterator[Installation]:
    """Made with a folder alone; the buckets come later, as the how-to tells."""
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "report.txt").write_text("figures\n" * 1000)
    (data / "deep" / "blob.bin").write_bytes(os.urandom(3_000_000))
    sources = {"papers": {"kind": "files", "class": "documentation", "paths": [str(data)], "retention": "1 versions"}}
    sources["papers"]["test"] = "none"
    folder = {"url": "file:vaults/one", "provider": "local-disk", "region": "this-machine", "storage": "disk"}
    starting.initialise(tmp_path / "home", business="acme", sources=sources, vaults={"one": folder})
    buckets = {store.name: store.bucket() for store in (versitygw, moto)}
    made = Installation(tmp_path / "home", data, buckets)
    made("backup")
    (made.home / "keys" / "gateway.id").write_text(versitygw.access_key)
    (made.home / "keys" / "gateway.id").chmod(0o600)
    place = f"provider: own, region: {REGION}, storage: object-storage, off_site: true, tls: none"
    added = f"""
  gateway:
    {{url: "s3://{buckets["versitygw"]}/{PREFIX}", endpoint: "{versitygw.endpoint}", {place},
     access_key: "file:keys/gateway.id", secret_key: "env:GATEWAY_SECRET"}}
  memory: {{url: "s3://{buckets["moto"]}/{PREFIX}", endpoint: "{moto.endpoint}", {place}}}
"""
    text = made.policy.read_text()
    made.policy.write_text(re.sub(r"\n(?=\n[^\n]*\n?sources:)|\n(?=sources:)", added, text, count=1))
    yield made


def test_buckets_hold_whole_copies_and_each_alone_brings_everything_back(
    installation: Installation, versitygw: ObjectStore, moto: ObjectStore, stock_restic: Path, tmp_path: Path
) -> None:
    run, data = installation, installation.data
    for name in ("gateway", "memory"):
        run("vault", "init", name)
    run("vault", "fill")
    (data / "report.txt").write_text("other figures\n")
    run("backup")
    run("verify")
    status = json.loads(run("status", "--json"))
    (papers,) = status["sources"]
    assert papers["status"] == "HEALTHY", papers
    audit = run("audit", ends=ExitStatus.RED) if _is_red(run) else run("audit")
    assert "travel unencrypted" in audit

    for name, store in (("gateway", versitygw), ("memory", moto)):
        alone = without_others(run, name, tmp_path / f"only-{name}")
        alone("catalog", "rebuild", "--from", name)
        alone("restore", "papers", "--to", str(tmp_path / f"back-{name}"))
        assert same(data, tmp_path / f"back-{name}")
        bucket = installation.buckets[store.name]
        restic = Restic(
            stock_restic,
            f"s3:{store.endpoint}/{bucket}/{PREFIX}/repositories/main",  # type: ignore[arg-type]
            (run.home / "keys" / "repository.key").read_text().strip(),
            {
                "AWS_ACCESS_KEY_ID": store.access_key,
                "AWS_SECRET_ACCESS_KEY": store.secret_key,
                "AWS_DEFAULT_REGION": REGION,
            },
        )
        restic.check("--read-data")
        newest = restic.snapshots()[-1]["id"]
        restic.run("restore", newest, "--target", tmp_path / f"stock-{name}")
        assert same(data, tmp_path / f"stock-{name}")


def test_what_no_point_needs_is_reclaimed_in_buckets_too(
    installation: Installation, versitygw: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = installation
    run("vault", "init", "gateway")
    run("vault", "init", "memory")
    run("vault", "fill")
    (run.data / "deep" / "blob.bin").write_bytes(os.urandom(2_000_000))
    run("backup")
    run("expire")
    before = stored_bytes(versitygw, installation)
    assert before > 5_000_000
    run("prune")
    assert stored_bytes(versitygw, installation) > 5_000_000, "a pack that left the index is kept for a day"
    really = clock.now
    monkeypatch.setattr(clock, "now", lambda: really() + timedelta(days=3))
    run("prune")
    assert 2_000_000 < stored_bytes(versitygw, installation) < 3_000_000
    run("verify")
    documents = json.loads(run("vault", "--json"))
    assert {vault["vault"]: vault["points"] for vault in documents["vaults"]} == {"one": 1, "gateway": 1, "memory": 1}


def test_a_bucket_that_vanished_is_told_and_the_others_go_on(installation: Installation, moto: ObjectStore) -> None:
    run = installation
    run("vault", "init", "gateway")
    run("vault", "init", "memory")
    run("vault", "fill")
    bucket = installation.buckets["moto"]
    for stored in moto.client.list_objects_v2(Bucket=bucket)["Contents"]:
        moto.client.delete_object(Bucket=bucket, Key=stored["Key"])
    moto.client.delete_bucket(Bucket=bucket)
    (run.data / "report.txt").write_text("later figures\n")
    said = run("backup", ends=ExitStatus.VAULT)
    assert f"There is no bucket {bucket}" in said
    run("restore", "papers", "--to", str(run.home.parent / "back"), "--vault", "gateway")
    assert same(run.data, run.home.parent / "back")


def _is_red(run: Installation) -> bool:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return main.run(["audit", "--policy", str(run.policy)]) is ExitStatus.RED


def stored_bytes(store: ObjectStore, installation: Installation) -> int:
    """How much the packs in a store's bucket take."""
    listed = store.client.list_objects_v2(Bucket=installation.buckets[store.name], Prefix=PREFIX)["Contents"]
    return sum(int(stored["Size"]) for stored in listed if "/data/" in stored["Key"])


def without_others(installation: Installation, vault: str, home: Path) -> Installation:
    """The installation after a fire: its policy and its repository key, and no vault that answers but this one."""
    (home / "keys").mkdir(parents=True)
    for name in ("repository.key", "evidence.key", "gateway.id"):
        shutil.copy(installation.home / "keys" / name, home / "keys" / name)
    dead = f"http://127.0.0.1:{free_port()}"
    blocks = re.split(r"(?m)^(?=  (?:gateway|memory):)", installation.policy.read_text())
    for index, block in enumerate(blocks):
        if block.startswith(("  gateway:", "  memory:")) and not block.startswith(f"  {vault}:"):
            blocks[index] = re.sub(r"http://127\.0\.0\.1:\d+", dead, block, count=1)
    (home / "backups.yaml").write_text("".join(blocks))
    return Installation(home, installation.data, installation.buckets)


def same(data: Path, back: Path) -> bool:
    """Whether all files of the data came back somewhere below a folder, as they are."""
    (found,) = [path for path in back.rglob(data.name) if (path / "report.txt").is_file()]
    return contents(data) == contents(found)


def contents(folder: Path) -> dict[str, Any]:
    """Every file's bytes by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bucket_on_a_schedule_lags_as_it_may_is_limited_and_costs_what_its_prices_say(
    installation: Installation,
) -> None:
    """What travels is counted at the store; what that costs is told by the policy's prices, and of no other vault."""
    run = installation
    text = run.policy.read_text()
    more = """copies: every 20 h, bandwidth: [{limit: 16 MiB/s}],
     prices: {currency: USD, storage: 1024, egress: 2048, writes: 1000, reads: 500},"""
    run.policy.write_text(text.replace("access_key: ", f"{more}\n     access_key: ", 1))
    for name in ("gateway", "memory"):
        run("vault", "init", name)
    (run.data / "more.bin").write_bytes(os.urandom(1_000_000))
    (saved,) = json.loads(run("backup", "--json"))["sources"]
    assert [copy["vault"] for copy in saved["copies"]] == ["memory"]
    (row,) = [each for each in json.loads(run("schedule", "--json"))["copies"] if each["vault"] == "gateway"]
    assert (row["triggers"], row["last_copy"], row["why"]) == ("every 20 h", None, "points of 1 source wait")

    run("vault", "fill", "gateway")
    run("verify", "gateway", "memory")
    (run.data / "more.bin").unlink()
    run("backup")
    report = json.loads(run("status", "--vaults", "--json"))
    lags = {each["vault"]: each["points_behind"] for each in report["sources"][0]["vaults"]}
    assert lags == {"one": 0, "gateway": 1, "memory": 0}
    vaults = {each["vault"]: each for each in report["vaults"]}
    assert vaults["one"]["last_30_days"] == {}, "a folder has no requests"
    gateway, memory = vaults["gateway"], vaults["memory"]
    assert (gateway["currency"], memory["currency"], memory["storage_cost"]) == ("USD", None, None)
    assert gateway["furthest_behind"].startswith("papers: 1 point and ")
    copied, verified = gateway["last_30_days"]["copy"], gateway["last_30_days"]["verify"]
    assert copied["up_bytes"] >= 3_000_000 and copied["writes"] >= 3
    assert verified["down_bytes"] >= 3_000_000 and verified["reads"] >= 3
    assert gateway["stored_bytes"] >= 4_000_000 > 0
    assert gateway["storage_cost"] == pytest.approx(gateway["stored_bytes"] / (1 << 20))
    expected = verified["writes"] + verified["reads"] / 2 + verified["down_bytes"] / (1 << 19)
    assert verified["cost"] == pytest.approx(expected)
    assert 3_000_000 <= gateway["full_restore"]["down_bytes"] <= gateway["stored_bytes"]
    told = run("status", "--vaults")
    assert "USD" in told and "Costs are told of vaults whose prices the policy states." in told
