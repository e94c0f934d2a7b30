"""Looking into points tells what stock restic's `ls`, `dump` and `diff` tell of the same repository."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_stock_reads_ours import as_go_prints, nanoseconds
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.trees import EntryKind
from cto_backups.flows.browse import Browser, PointContents
from cto_backups.flows.diff import Difference, diff
from cto_backups.flows.protect import protect
from integration.conftest import PASSWORD, Workshop, build
from stock.restic import Restic
from trees import odd

pytestmark = pytest.mark.stock_restic


class Both:
    """An installation that protects one folder, and stock restic on its first vault."""

    def __init__(self, workshop: Workshop, binary: Path) -> None:
        self.workshop = workshop
        self.restic = Restic(binary, workshop.vault_root("one") / "repositories/main", PASSWORD)

    def point(self) -> RecoveryPoint:
        made = protect(self.workshop.installation, "documents").backup.point
        assert isinstance(made, RecoveryPoint)
        return made

    def contents(self, point: RecoveryPoint) -> PointContents:
        return Browser(self.workshop.installation, "one").point(point)

    def snapshot(self, point: RecoveryPoint) -> str:
        copies = self.workshop.catalog.copies(point.id)
        return next(facts.copy.reference for facts in copies if facts.copy.vault == "one")


def both(top: Path, data: Path, binary: Path) -> Both:
    return Both(build(top / "home", data, {"documents": ("files", {"paths": (str(data),)})}), binary)


def test_a_listing_has_the_facts_of_stock_ls(odd_tree: odd.OddTree, tmp_path: Path, stock_restic: Path) -> None:
    pair = both(tmp_path, odd_tree.root, stock_restic)
    point = pair.point()
    lines = pair.restic.run("ls", "--json", pair.snapshot(point)).strip().split("\n")[1:]
    theirs = {node["path"]: node for node in map(_parsed, lines)}
    contents = pair.contents(point)
    ours = {as_go_prints(path): node for path, node in contents.walk(b"", contents.root)}
    assert ours.keys() == theirs.keys()
    for path, node in ours.items():
        told, entry = theirs[path], node.entry
        assert (told["type"], told["uid"], told["gid"]) == (entry.kind.value, entry.uid, entry.gid), path
        assert nanoseconds(told["mtime"]) == entry.mtime_ns, path
        if entry.kind is EntryKind.FILE:
            assert told.get("size", 0) == entry.size, path


def test_a_file_has_the_bytes_of_stock_dump(odd_tree: odd.OddTree, tmp_path: Path, stock_restic: Path) -> None:
    pair = both(tmp_path, odd_tree.root, stock_restic)
    point = pair.point()
    contents = pair.contents(point)
    for name in ("many-chunks", "empty", "hole-in-middle", "text-at-largest", "one-byte"):
        path = bytes(odd_tree.root / "sizes" / name)
        read = b"".join(contents.content(path, contents.find(path)))
        dumped = subprocess.run(
            [stock_restic, "--no-cache", "-r", pair.restic.repository, "dump", pair.snapshot(point), path],
            env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
            check=True,
            capture_output=True,
        ).stdout
        assert hashlib.sha256(read).digest() == hashlib.sha256(dumped).digest(), name


def test_a_diff_names_what_stock_diff_names(tmp_path: Path, stock_restic: Path) -> None:
    data = tmp_path / "data"
    (data / "kept").mkdir(parents=True)
    (data / "gone" / "deep").mkdir(parents=True)
    for name in ("kept/same", "kept/changed", "kept/touched", "kept/mode", "gone/deep/file", "becomes-folder"):
        (data / name).write_text(name)
    (data / "link").symlink_to("kept")
    pair = both(tmp_path, data, stock_restic)
    before = pair.point()
    (data / "kept/changed").write_text("other content")
    os.utime(data / "kept/touched", (1, 1))
    (data / "kept/mode").chmod(0o600)
    (data / "gone/deep/file").unlink()
    (data / "gone/deep").rmdir()
    (data / "becomes-folder").unlink()
    (data / "becomes-folder").mkdir()
    (data / "becomes-folder/new").write_text("new")
    (data / "new-link").symlink_to("nowhere")
    after = pair.point()
    signs = {"+": Difference.ADDED, "-": Difference.REMOVED, "M": Difference.MODIFIED, "U": Difference.METADATA}
    for option, metadata in ((["--metadata"], True), ([], False)):
        said = pair.restic.run("diff", *option, pair.snapshot(before), pair.snapshot(after))
        rows = [line.split(maxsplit=1) for line in said.splitlines() if line[:1] in (*signs, "T") and "/" in line]
        # Stock restic calls a folder changed when something in it is, or its change time.
        theirs = {path.rstrip("/"): sign for sign, path in rows if not (sign == "U" and path.endswith("/"))}
        changes = diff(pair.contents(before), pair.contents(after), metadata=metadata)
        ours = {
            os.fsdecode(change.path): change.difference
            for change in changes
            if change.difference is not Difference.METADATA or change.path.count(b"/") > str(data).count("/") + 1
        }
        changed_type = str(data / "becomes-folder")
        assert ours.pop(changed_type) is Difference.TYPE
        assert theirs.pop(changed_type).startswith("T")
        assert ours.pop(f"{changed_type}/new") is Difference.ADDED  # stock restic does not look into it
        assert ours == {path: signs[sign] for path, sign in theirs.items()}, said


def _parsed(line: str) -> Any:
    import json

    return json.loads(line)
