"""Does one thing in a process of its own and prints, as JSON, how much memory it took at most. Arguments:

========  ========================  ====================================================================================
files     vault, tree, state        back the tree up, beside the last snapshot when there is one
stream    vault, size in bytes      back up a stream that repeats itself, so that it takes little room
restore   vault, place              restore the last snapshot; over what stands there, when something does
index     number of blobs           hold the index of so many blobs, as if they had been read from index files
========  ========================  ====================================================================================
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from cto_backups.core.payloads import SnapshotLabel
from cto_backups.core.ports import Existing
from cto_backups.repository.index import Index
from cto_backups.repository.layout import is_there
from cto_backups.sources.command import CommandSource
from cto_backups.vaults.local import LocalVault
from stock.product import HOSTNAME, PREFIX, TAGS, back_up, new_store, open_store

_STREAM = """
import os, random, sys
block, left = memoryview(random.Random(7).randbytes(64 << 20)), int(sys.argv[1])
while left:
    part = block[:left]
    left -= len(part)
    while part:
        part = part[os.write(1, part):]
"""


def memory(what: str) -> int:
    """VmHWM (the most so far) or VmRSS of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def files(vault: str, tree: str, state: str) -> dict[str, int]:
    """Back up a tree."""
    place = LocalVault("first", Path(vault))
    place.create()
    store = open_store(place) if is_there(place, PREFIX) else new_store(place)
    committed = store.committed()
    parent = committed[-1].reference if committed else None
    _, draft = back_up(store, Path(tree), state=Path(state), parent=parent)
    return {"entries": draft.entries, "unchanged": draft.unchanged_entries}


def stream(vault: str, size: str) -> dict[str, int]:
    """Back up a stream."""
    store = new_store(Path(vault))
    options = {"command": (sys.executable, "-c", _STREAM, size), "filename": "stream"}
    source = CommandSource("stream", options, state=Path(vault) / "state")
    with source.capture() as capture, store.writing() as writing:
        draft = writing.write(capture.tree)
        writing.commit(draft, SnapshotLabel(datetime.now(UTC), HOSTNAME, "root", capture.paths, TAGS))
    return {"size": draft.size_bytes, "added": draft.added_bytes}


def restore(vault: str, place: str) -> dict[str, int]:
    """Restore the last snapshot."""
    store = open_store(LocalVault("first", Path(vault)))
    restored = store.reader(store.committed()[-1].reference).restore(Path(place), existing=Existing.OVERWRITE)
    return {"entries": restored.entries, "kept": restored.kept_entries, "problems": len(restored.problems)}


def index(blobs: str) -> dict[str, int]:
    """Hold an index."""
    before = memory("VmRSS")
    held = Index()
    for number in range(int(blobs) // 1000):
        ids = os.urandom(32 * 1000)
        listed = [(0, ids[at : at + 32], at * 500, 16000, 40000) for at in range(0, len(ids), 32)]
        held.native.add_pack(number.to_bytes(32, "big"), listed)
    return {"resident": memory("VmRSS") - before, "blobs": held.native.count(0)}


if __name__ == "__main__":
    made = {"files": files, "stream": stream, "restore": restore, "index": index}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(made | {"peak": memory("VmHWM")}))
