"""A writer of exports that is killed at any stage leaves nothing visible, and nothing for ever."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.memory import MemoryTree
from payload_store_contract import LARGE, store_tree

from cto_backups import clock
from cto_backups.exports.store import ExportStore
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault

OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), workers=1, index_seconds=0)
CONTENT = {b"a": b"a" * 1000, b"large": LARGE, b"z": b"z" * 2000}

WRITER = """
import os, signal, sys
from pathlib import Path
from fakes.memory import MemoryTree
from payload_store_contract import label
sys.path.insert(0, {here!r})
from test_killed import CONTENT, opened
from cto_backups.vaults.local import LocalVault

store, stage, seen = opened(Path(sys.argv[1])), sys.argv[2], 0

def watch(name):
    def kill(*_):
        if stage == name:
            os.kill(os.getpid(), signal.SIGKILL)
    return kill

inner_stream, inner_put = LocalVault.put_stream, LocalVault.put

def put_stream(self, key, pieces, *, overwrite=False):
    def cut(pieces):
        for number, piece in enumerate(pieces):
            if number == 1:
                watch("in the middle of an object")()
            yield piece
    inner_stream(self, key, cut(pieces), overwrite=overwrite)
    watch("before what is known of its parts" if "/objects/" in key else "before the snapshot")()

def put(self, key, parts, *, overwrite=False):
    inner_put(self, key, parts, overwrite=overwrite)
    if "/index/" in key:
        watch("once an index lists objects")()

LocalVault.put_stream, LocalVault.put = put_stream, put
with store.writing() as writing:
    writing.commit(writing.write(MemoryTree(CONTENT)), label())
"""


def opened(place: Path) -> ExportStore:
    vault = LocalVault("cellar", place)
    if not place.exists():
        vault.create()
        RepositoryStore.create(
            vault, "repositories/main", "s", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
        )
    return ExportStore(RepositoryStore.open(vault, "repositories/main", "s", options=OPTIONS), vault, "exports/main")


@pytest.mark.parametrize(
    "stage",
    [
        "in the middle of an object",
        "before what is known of its parts",
        "once an index lists objects",
        "before the snapshot",
    ],
)
def test_killed_there_the_next_run_is_whole_and_a_prune_clears_the_rest(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "vault")
    paths = [str(Path(__file__).parents[2] / part) for part in ("contract", ".")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, *sys.path])}
    script = WRITER.format(here=str(Path(__file__).parent))
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path / "vault"), stage], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    assert store.committed() == []
    assert store.verify().damages == ()
    store.clear_leftovers()
    _, reference = store_tree(store, MemoryTree(CONTENT))
    later = datetime.now(UTC) + timedelta(days=2)
    store.prune()
    monkeypatch.setattr(clock, "now", lambda: later)
    store.prune()
    assert store.verify().damages == ()
    assert [one.reference for one in store.committed()] == [reference]
    left = [path for path in (tmp_path / "vault/exports").rglob("*") if path.is_file()]
    assert sorted(path.stat().st_size for path in left if "objects" in path.parts) == [1000, 2000, len(LARGE)]
    assert len([path for path in left if "manifests" in path.parts]) == 1
    assert len([path for path in left if path.parent.parent.name == "parts"]) == 1
