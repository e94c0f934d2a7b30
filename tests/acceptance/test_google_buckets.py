"""An installation with a vault in a bucket of Google's: what lies there brings everything back, alone."""

import os
import re
import shutil
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from acceptance.test_buckets import Installation, same
from cto_backups import clock
from cto_backups.app import starting
from cto_backups.errors import ExitStatus
from servers.google_stores import REGION, GoogleStore
from stock.restic import Restic

PREFIX = "office/main"


def test_a_vault_at_google_is_filled_verified_pruned_and_alone_brings_everything_back(
    fake_gcs_server: GoogleStore, stock_restic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, home, bucket = tmp_path / "data", tmp_path / "home", fake_gcs_server.bucket()
    data.mkdir()
    (data / "report.txt").write_text("figures\n" * 1000)
    (data / "blob.bin").write_bytes(os.urandom(3_000_000))
    sources = {"papers": {"kind": "files", "class": "documentation", "paths": [str(data)], "retention": "1 versions"}}
    sources["papers"]["test"] = "none"
    folder = {"url": "file:vaults/one", "provider": "local-disk", "region": "this-machine", "storage": "disk"}
    starting.initialise(home, business="acme", sources=sources, vaults={"one": folder})
    run = Installation(home, data, {})
    key = home / "keys" / "google.json"
    key.write_text(fake_gcs_server.logins.key_file)
    key.chmod(0o600)
    added = f"""
  google:
    {{url: "gs://{bucket}/{PREFIX}", endpoint: "{fake_gcs_server.endpoint}", tls: none, provider: gcs,
     region: {REGION}, storage: object-storage, off_site: true, credentials: "file:keys/google.json"}}
"""
    text = run.policy.read_text()
    run.policy.write_text(re.sub(r"\n(?=\n[^\n]*\n?sources:)|\n(?=sources:)", added, text, count=1))

    run("backup", ends=ExitStatus.VAULT)  # which is not made yet
    run("vault", "init", "google")
    run("vault", "fill")
    (data / "blob.bin").write_bytes(os.urandom(2_000_000))
    run("backup")
    run("expire")
    run("verify")
    assert stored_bytes(fake_gcs_server, bucket) > 5_000_000
    run("prune")
    really = clock.now
    monkeypatch.setattr(clock, "now", lambda: really() + timedelta(days=3))
    run("prune")
    assert 2_000_000 < stored_bytes(fake_gcs_server, bucket) < 3_000_000
    run("verify")

    alone = tmp_path / "alone"
    (alone / "keys").mkdir(parents=True)
    for name in ("repository.key", "evidence.key", "google.json"):
        shutil.copy(home / "keys" / name, alone / "keys" / name)
    shutil.copy(run.policy, alone / "backups.yaml")
    shutil.rmtree(home)
    after = Installation(alone, data, {})
    after("catalog", "rebuild", "--from", "google")
    after("restore", "papers", "--to", str(tmp_path / "back"))
    assert same(data, tmp_path / "back")

    # restic asks Google's own address only: it gets the bucket as a folder, as who copies the bucket down has it.
    copied = tmp_path / "copied"
    for stored in fake_gcs_server.ask("GET", f"/storage/v1/b/{bucket}/o")["items"]:
        (copied / stored["name"]).parent.mkdir(parents=True, exist_ok=True)
        name = quote(stored["name"], safe="")
        with urlopen(f"{fake_gcs_server.endpoint}/storage/v1/b/{bucket}/o/{name}?alt=media", timeout=60) as answer:
            (copied / stored["name"]).write_bytes(answer.read())
    password = (alone / "keys" / "repository.key").read_text().strip()
    restic = Restic(stock_restic, copied / PREFIX / "repositories" / "main", password)
    restic.check("--read-data")
    restic.run("restore", "latest", "--target", tmp_path / "stock")
    assert same(data, tmp_path / "stock")


def stored_bytes(store: GoogleStore, bucket: str) -> int:
    """How much the packs in the bucket take."""
    listed = store.ask("GET", f"/storage/v1/b/{bucket}/o?prefix={PREFIX}/repositories/main/data/")
    return sum(int(stored["size"]) for stored in listed["items"])
