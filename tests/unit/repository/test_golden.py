"""What is on disk is for ever: repositories written by the first release open, and boundaries stay where they were.

A failure here is never fixed by changing the expectation: every existing repository would store all of its data
again, or not open at all.
"""

import hashlib
import stat
from datetime import UTC, datetime
from pathlib import Path

from fakes.memory import MemoryTree, MemoryVault

from cto_backups import _native
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.repository.chunker import Chunker, seed_of
from cto_backups.repository.seal import MasterKey, Sealer
from cto_backups.repository.store import RepositoryStore
from cto_backups.repository.tree import content_text

TINY = Path(__file__).resolve().parents[2] / "golden" / "repository"
SNAPSHOT = "44abbb6266587cdb9b99cba4ed85783d047e9ed3e0cca7711abfbc98c33de406"
ROOT = "14afc8946c09efae26ca433b6162a23237d540b1b36d97c1463277c13d4324e4"
POLYNOMIAL = 0x3DA3358B4DC173


def tiny() -> MemoryVault:
    vault = MemoryVault()
    for path in TINY.rglob("*"):
        if path.is_file():
            vault.files[str(path.relative_to(TINY))] = path.read_bytes()
    return vault


def test_the_seed_of_a_polynomial_stays() -> None:
    assert seed_of(POLYNOMIAL) == 0x3BA9D8B510F55CFC


def test_chunk_boundaries_stay() -> None:
    content = hashlib.shake_128(b"cto.backups golden chunks").digest(12 << 20)
    assert list(Chunker(seed_of(POLYNOMIAL)).ends(content, last=True)) == [
        1026843, 2091416, 3794245, 5164334, 6490781, 7076927, 8068307, 9651242, 11323374, 12522124, 12582912
    ]  # fmt: skip
    assert list(Chunker(1).ends(content, last=True)) == [
        2177623, 3312698, 4873312, 6377463, 7458886, 9092484, 9747758, 10608031, 11407004, 12582912
    ]  # fmt: skip


def test_sealed_bytes_open() -> None:
    sealed = bytes.fromhex(
        "463ebb05bbea4aa92555317f0685acbfd3d4bdfb71bd0571833c0f42ccd429db712b0c98a2ed22a71b9d88470d8f39"
    )
    assert Sealer(MasterKey.from_bytes(bytes(range(64)))).open(sealed) == b"sealed for ever"


def test_the_first_repository_opens_verifies_and_restores(tmp_path: Path) -> None:
    store = RepositoryStore.open(tiny(), "tiny", "golden password")
    assert store.polynomial == POLYNOMIAL
    (committed,) = store.committed()
    assert (committed.reference, committed.root) == (SNAPSHOT, ROOT)
    assert committed.time == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert (committed.hostname, committed.paths, committed.tags) == ("host", ("/golden",), ("golden",))
    assert store.verify().damages == ()
    reader = store.reader(SNAPSHOT)
    entries = dict(reader.listing())
    assert set(entries) == {b"/folder", b"/folder/caf\xe9", b"/folder/empty", b"/large", b"/link"}
    assert entries[b"/link"].linktarget == b"folder/caf\xe9"
    assert entries[b"/folder/caf\xe9"].mtime_ns == 1_700_000_000_123_456_789
    reader.restore(tmp_path)
    assert (tmp_path / "large").read_bytes() == hashlib.shake_128(b"large").digest(100) * 9000
    assert (tmp_path / "folder" / "caf\udce9").read_bytes() == b"latin-1 name\n"


def test_content_that_the_first_repository_holds_is_not_stored_again() -> None:
    store = RepositoryStore.open(tiny(), "tiny", "golden password")
    large = hashlib.shake_128(b"large").digest(100) * 9000
    with store.writing() as writing:
        draft = writing.write(MemoryTree({b"another name": large, b"other": b"latin-1 name\n"}))
    assert draft.added_bytes < 1000  # the new folder's tree only


def test_the_json_of_a_tree_stays() -> None:
    file = Entry(
        b'a<"\xff', b"", EntryKind.FILE, stat.S_IFREG | stat.S_ISUID | 0o751, uid=4_000_000_001, gid=4_000_000_002,
        size=70, mtime_ns=1_700_000_000_120_000_000, ctime_ns=-1, inode=5, device_id=6, links=2,
        extended=((b"user.k", b"v\0"),),
    )  # fmt: skip
    folder = Entry(
        b"b", b"", EntryKind.FOLDER, stat.S_IFDIR | stat.S_ISVTX | 0o777, uid=4_000_000_001, gid=4_000_000_002
    )
    link = Entry(b"c", b"", EntryKind.SYMLINK, stat.S_IFLNK | 0o777, 4_000_000_001, 4_000_000_002, linktarget=b"x\xe9")
    nodes = _native.Nodes(3)
    # What is neither file nor folder is known by its entry alone.
    nodes.compare([file, folder, link], None, _native.Claims(_native.BlobIndex()))
    nodes.file(0, file, content_text([bytes(32), b"\xff" * 32]), 70)
    nodes.folder(1, folder, b"\xab" * 32)
    assert nodes.json() == (
        rb'{"nodes":[{"name":"a\u003c\\\"\\xff","type":"file","mode":8389097,"mtime":"2023-11-14T22:13:20.12Z",'
        rb'"atime":"2023-11-14T22:13:20.12Z","ctime":"1969-12-31T23:59:59.999999999Z","uid":4000000001,"gid":4000000002,'
        rb'"inode":5,"device_id":6,"size":70,"links":2,"extended_attributes":[{"name":"user.k","value":"dgA="}],'
        rb'"content":["' + b"0" * 64 + b'","' + b"f" * 64 + rb'"]},'
        rb'{"name":"b","type":"dir","mode":2148532735,"mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z",'
        rb'"ctime":"1970-01-01T00:00:00Z","uid":4000000001,"gid":4000000002,"content":null,"subtree":"'
        + b"ab"
        * 32
        + rb'"},{"name":"c","type":"symlink","mode":134218239,"mtime":"1970-01-01T00:00:00Z",'
        rb'"atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":4000000001,"gid":4000000002,"links":1,'
        rb'"linktarget":"x\ufffd","linktarget_raw":"eOk=","content":null}]}' + b"\n"
    )
