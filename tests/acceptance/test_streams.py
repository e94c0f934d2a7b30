"""Stock restic finds a stream whole: its size, which was known at its end only, and every byte."""

import os
import subprocess
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from cto_backups.core.payloads import SnapshotLabel
from cto_backups.sources.command import CommandSource
from stock.product import HOSTNAME, PREFIX, TAGS, new_store
from stock.restic import Restic

pytestmark = pytest.mark.stock_restic


@pytest.mark.parametrize("size", [1, 5000, 30_000_001])
def test_stock_checks_lists_and_dumps_a_stream(stock_restic: Path, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "content").write_bytes(content)
    options = {"command": ("cat", "content"), "filename": "app.dump", "folder": str(tmp_path)}
    source = CommandSource("app", options, state=tmp_path / "state")
    store = new_store(tmp_path / "vault")
    with source.capture() as capture, store.writing() as writing:
        draft = writing.write(capture.tree)
        expected = capture.fingerprint()
        snapshot = writing.commit(draft, SnapshotLabel(datetime.now(UTC), HOSTNAME, "root", capture.paths, TAGS))
    assert (draft.entries, draft.size_bytes, draft.read_bytes) == (1, size, size)
    assert expected.samples[0].fields["sha256"] == sha256(content).hexdigest()
    restic = Restic(stock_restic, tmp_path / "vault" / PREFIX)
    restic.check("--read-data")
    assert f'"size":{size}' in restic.run("ls", "--json", snapshot).replace(" ", "")
    restic.run("restore", snapshot, "--target", tmp_path / "out")
    assert (tmp_path / "out" / "app.dump").read_bytes() == content
    store.reader(snapshot).restore(tmp_path / "ours")
    assert subprocess.run(["cmp", tmp_path / "ours" / "app.dump", tmp_path / "content"], check=False).returncode == 0
