"""The fingerprint of a tree depends on every field of every entry, and on no order."""

import dataclasses
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.model import Fingerprint
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.sources.ledger import SAMPLES, Ledger, sample_key

KEY = sample_key("papers")


def file(path: bytes, content: bytes, **fields: object) -> tuple[bytes, Entry, bytes]:
    entry = Entry(path.rpartition(b"/")[2], path, EntryKind.FILE, 0o100644, 1, 2, len(content), 3, 4, 5, 6)
    return path, dataclasses.replace(entry, **fields), sha256(content).digest()  # type: ignore[arg-type]


def fingerprint(*entries: tuple[bytes, Entry, bytes], roots: tuple[bytes, ...] = (b"/top",)) -> Fingerprint:
    ledger = Ledger(KEY, roots)
    for path, entry, content in entries:
        ledger.add(path, entry, content)
    return ledger.fingerprint()


def test_the_records_are_what_the_format_says() -> None:
    found = fingerprint(file(b"/top/x", b"hello", extended=((b"user.b", b"2"), (b"user.a", b"1"))))
    digest = sha256(b"hello").digest()
    assert found.checksums == {
        "content": sha256(b"file\0/top/x\0" + b"5\0" + digest).hexdigest(),
        "metadata": sha256(b"/top/x\0" + b"644\0" + b"3").hexdigest(),
        "extended": sha256(b"/top/x\0user.a\0" + b"1\0" + b"1\0user.b\0" + b"1\0" + b"2").hexdigest(),
        "ownership": sha256(b"/top/x\0" + b"1\0" + b"2").hexdigest(),
        "hardlinks": "0" * 64,
        "sample-key": KEY.hex(),
    }
    assert found.counts == {"files": 1, "folders": 0, "symlinks": 0, "others": 0, "bytes": 5}


names = st.lists(
    st.binary(min_size=1, max_size=6).filter(lambda name: b"/" not in name and b"\0" not in name), unique=True
)


@given(names, st.randoms())
def test_order_does_not_matter(paths: list[bytes], random: object) -> None:
    entries = [file(b"/top/" + path, path) for path in paths]
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fingerprint(*shuffled) == fingerprint(*entries)


@given(st.integers(2, 6))
def test_equal_records_do_not_cancel_out(times: int) -> None:
    sums = [fingerprint(*[file(b"/top/x", b"same")] * count).checksums["content"] for count in (0, 1, times)]
    assert len(set(sums)) == 3


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"size": 6}, "content"),
        ({"kind": EntryKind.FIFO}, "content"),
        ({"mode": 0o100600}, "metadata"),
        ({"mode": 0o104644}, "metadata"),
        ({"mtime_ns": 4}, "metadata"),
        ({"uid": 9}, "ownership"),
        ({"gid": 9}, "ownership"),
        ({"extended": ((b"user.x", b""),)}, "extended"),
    ],
)
def test_each_field_shows_in_its_part_only(change: dict[str, object], part: str) -> None:
    before, after = fingerprint(file(b"/top/x", b"hello")), fingerprint(file(b"/top/x", b"hello", **change))
    assert {name for name in before.checksums if before.checksums[name] != after.checksums[name]} == {part}


def test_hard_links_show_only_where_both_names_are_inside() -> None:
    alone = fingerprint(file(b"/top/a", b"x", links=2), file(b"/top/b", b"x", inode=9))
    pair = fingerprint(file(b"/top/a", b"x", links=2), file(b"/top/b", b"x", links=2))
    assert alone.checksums["hardlinks"] == "0" * 64
    assert pair.checksums["hardlinks"] == sha256(b"/top/a\0/top/b").hexdigest()
    assert alone.checksums["content"] == pair.checksums["content"]


def test_folders_above_the_roots_and_sockets_do_not_count() -> None:
    folder = Entry(b"srv", b"/srv", EntryKind.FOLDER, 0o40755, mtime_ns=1)
    root = Entry(b"top", b"/srv/top", EntryKind.FOLDER, 0o40755, mtime_ns=1)
    socket = Entry(b"s", b"/srv/top/s", EntryKind.SOCKET)
    found = fingerprint(
        (b"/srv", folder, b""), (b"/srv/top", root, b""), (b"/srv/top/s", socket, b""), roots=(b"/srv/top",)
    )
    assert found == fingerprint((b"/srv/top", root, b""), roots=(b"/srv/top",))
    assert found.counts["folders"] == 1
    assert found.counts["others"] == 0


def test_samples_are_few_reproducible_and_different_for_another_source() -> None:
    entries = [file(b"/top/%d" % number, b"%d" % number) for number in range(500)]
    found = fingerprint(*entries)
    assert found == fingerprint(*reversed(entries))
    sampled = {sample.key for sample in found.samples if "role" not in sample.fields}
    assert len(sampled) == SAMPLES
    other = Ledger(sample_key("others"), (b"/top",))
    for path, entry, content in entries:
        other.add(path, entry, content)
    assert {sample.key for sample in other.fingerprint().samples} != {sample.key for sample in found.samples}


def test_a_ledger_like_another_samples_the_same_records() -> None:
    entries = [file(b"/top/\xff%d" % number, b"%d" % number) for number in range(100)]
    expected = fingerprint(*entries)
    again = Ledger.like(expected)
    for path, entry, content in entries:
        again.add(path, entry, content)
    assert again.fingerprint() == expected


def test_a_lost_sample_is_missing_and_no_other_takes_its_place() -> None:
    entries = [file(b"/top/%d" % number, b"%d" % number) for number in range(100)]
    expected = fingerprint(*entries)
    lost = next(sample.key for sample in expected.samples if "role" not in sample.fields)
    again = Ledger.like(expected)
    for path, entry, content in entries:
        if path.decode() != lost:
            again.add(path, entry, content)
    assert {s.key for s in expected.samples} - {s.key for s in again.fingerprint().samples} == {lost}
    assert len(again.fingerprint().samples) == len(expected.samples) - 1


def test_a_sample_tells_its_fields() -> None:
    found = fingerprint(file(b"/top/x", b"hello", mtime_ns=1_700_000_000_000_000_005))
    (sample,) = (sample for sample in found.samples if "role" not in sample.fields)
    assert sample.key == "/top/x"
    assert sample.fields == {
        "path": "/top/x",
        "kind": "file",
        "size": "5",
        "mode": "0644",
        "mtime": "1700000000.000000005",
        "sha256": sha256(b"hello").hexdigest(),
    }
