"""Stock restic lists, checks, dumps and restores what we wrote: recovery does not depend on this product."""

import io
import json
import os
import re
import subprocess
import tarfile
from datetime import datetime
from pathlib import Path

import pytest

from stock.expectation import seen
from stock.product import HOSTNAME, TAGS, Ours, below
from trees import compare, odd

pytestmark = pytest.mark.stock_restic


def test_stock_check_of_all_data_finds_nothing_wrong(ours: Ours) -> None:
    ours.restic.check("--read-data")


def test_stock_lists_our_snapshot_with_its_tags_paths_and_host(ours: Ours, odd_tree: odd.OddTree) -> None:
    (snapshot,) = ours.restic.snapshots()
    assert snapshot["id"] == ours.snapshot
    assert snapshot["tree"] == ours.draft.root
    assert snapshot["tags"] == list(TAGS)
    assert snapshot["paths"] == [str(odd_tree.root)]
    assert snapshot["hostname"] == HOSTNAME
    assert snapshot["username"] == "root"
    (committed,) = ours.store.committed()
    assert datetime.fromisoformat(snapshot["time"]) == committed.time


def test_stock_lists_every_entry_as_it_is_on_disk(ours: Ours, odd_tree: odd.OddTree) -> None:
    lines = ours.restic.run("ls", "--json", ours.snapshot).strip().split("\n")  # names hold other line ends
    root = os.fsencode(odd_tree.root) + b"/"
    listed = {node["path"]: node for node in map(json.loads, lines[1:])}
    on_disk = compare.look(odd_tree.root)
    wanted = {as_go_prints(root + path): (path, node) for path, node in on_disk.items()}
    kinds = {"folder": "dir", "block device": "dev", "character device": "chardev"}
    assert listed.keys() - wanted.keys() == {str(parent) for parent in (odd_tree.root / "x").parents} - {"/"}
    assert wanted.keys() - listed.keys() == set()
    for printed, (_, node) in wanted.items():
        line = listed[printed]
        assert (line["type"], line["uid"], line["gid"]) == (kinds.get(node.kind, node.kind), node.uid, node.gid)
        assert nanoseconds(line["mtime"]) == node.mtime_ns, printed
        if node.kind == "file":
            assert line.get("size", 0) == node.size, printed


def test_stock_restores_every_byte_and_attribute(ours: Ours, odd_tree: odd.OddTree, place: Path) -> None:
    ours.restic.run("restore", ours.snapshot, "--target", place)
    restored = seen(below(place, odd_tree.root), ours.restic)
    assert compare.differences(seen(odd_tree.root, ours.restic), restored) == []


def test_stock_restores_a_part(ours: Ours, odd_tree: odd.OddTree, place: Path) -> None:
    ours.restic.run("restore", ours.snapshot, "--target", place, "--include", odd_tree.root / "names")
    restored = below(place, odd_tree.root)
    assert compare.differences(odd_tree.root / "names", restored / "names") == []
    assert [path.name for path in restored.iterdir()] == ["names"]


def test_stock_dumps_single_files(ours: Ours, odd_tree: odd.OddTree) -> None:
    for name in (b"sizes/many-chunks", b"sizes/holes-odd", b"sizes/empty", b"names/" + odd.NAMES["latin-1"]):
        path = os.fsdecode(os.fsencode(odd_tree.root) + b"/" + name)
        dumped = dump(ours, ours.snapshot, path)
        assert dumped == Path(path).read_bytes(), name


def test_stock_dumps_a_folder_as_an_archive(ours: Ours, odd_tree: odd.OddTree) -> None:
    folder = odd_tree.root / "folders" / "many"
    with tarfile.open(fileobj=io.BytesIO(dump(ours, ours.snapshot, str(folder)))) as archive:
        files = {Path(member.name).name: member for member in archive if member.isfile()}
        assert files.keys() == {path.name for path in folder.iterdir()}
        for name, member in files.items():
            content = archive.extractfile(member)
            assert content is not None
            assert content.read() == (folder / name).read_bytes()


def test_stock_counts_the_same_bytes_and_files(ours: Ours, odd_tree: odd.OddTree) -> None:
    counted = ours.restic.json("stats", "--mode", "restore-size", ours.snapshot)
    seen_twice = sum(
        node.size
        for path, node in compare.look(odd_tree.root).items()
        if node.kind == "file" and node.linked not in (b"", path)
    )
    assert counted["total_size"] == ours.draft.size_bytes - seen_twice  # we count a file under each of its names


def dump(ours: Ours, snapshot: str, path: str) -> bytes:
    return subprocess.run(
        [ours.restic.binary, "--no-cache", "--repo", ours.restic.repository, "dump", snapshot, path],
        env=os.environ | {"RESTIC_PASSWORD": ours.restic.password},
        check=True,
        capture_output=True,
    ).stdout


def as_go_prints(path: bytes) -> str:
    """Go's JSON has a replacement character for each byte that is not UTF-8."""
    return "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in path.decode(errors="surrogateescape"))


def nanoseconds(text: str) -> int:
    """A moment as Go prints it: up to nine digits of a second's fraction, which datetime would cut."""
    match = re.fullmatch(r"(.*?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    assert match is not None, text
    second, fraction, zone = match.groups()
    return round(datetime.fromisoformat(second + zone).timestamp()) * 10**9 + int((fraction or "").ljust(9, "0"))
