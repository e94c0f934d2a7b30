"""What is added up natively is what a few lines of Python add up, entry by entry."""

import copy
import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups._native import LearnedDigests
from cto_backups.core.model import Fingerprint
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.sources.ledger import SAMPLES, Ledger, sample_key
from cto_backups.sources.names import readable
from cto_backups.sources.tree import TreeEntry

KEY = sample_key("papers")
Counted = tuple[bytes, TreeEntry, bytes]

names = st.binary(min_size=1, max_size=5).filter(lambda name: b"/" not in name and b"\0" not in name)
few = st.integers(0, 3)
attributes = st.lists(st.tuples(names, st.binary(max_size=200)), max_size=3, unique_by=lambda pair: pair[0])


@st.composite
def counted(draw: st.DrawFn) -> Counted:
    kind = draw(st.sampled_from(EntryKind))
    path = b"/" + b"/".join(draw(st.lists(names | st.sampled_from([b"top", b"srv"]), min_size=1, max_size=3)))
    if kind is EntryKind.FILE:
        content = draw(st.binary(min_size=32, max_size=32))
    elif kind is EntryKind.SYMLINK:
        content = draw(st.binary(max_size=20))
    elif kind in (EntryKind.DEVICE, EntryKind.CHARACTER_DEVICE):
        content = b"%d" % draw(st.integers(1, 2**64 - 1))
    else:
        content = b""
    entry = TreeEntry(
        path.rpartition(b"/")[2],
        path,
        kind,
        draw(st.integers(0, 0o177777)),
        draw(few | st.just(2**32 - 1)),
        draw(few | st.just(2**32 - 1)),
        draw(st.integers(0, 2**63 - 1)),
        draw(st.integers(-(2**80), 2**80)),
        draw(st.integers(-(2**80), 2**80)),
        draw(few | st.just(2**64 - 1)),
        draw(few | st.just(2**64 - 1)),
        draw(few),
        int(content) if kind in (EntryKind.DEVICE, EntryKind.CHARACTER_DEVICE) else 0,
        content if kind is EntryKind.SYMLINK else b"",
        tuple(draw(attributes)),
        token=draw(st.binary(min_size=16, max_size=16)),
        known=content if kind is EntryKind.FILE else None,
    )
    return path, entry, content


trees = st.lists(counted(), max_size=80, unique_by=lambda one: one[0])


class Reference:
    """The sums, the counts, and the paths of the samples, in the words of the format."""

    def __init__(self, entries: Sequence[Counted], roots: Iterable[bytes], above: Iterable[bytes], key: bytes) -> None:
        self.sums = dict.fromkeys(("content", "metadata", "ownership", "extended", "hardlinks"), 0)
        self.counts = dict.fromkeys(("files", "folders", "symlinks", "others", "bytes"), 0)
        links: dict[tuple[int, int], list[bytes]] = {}
        candidates = []
        for path, entry, content in entries:
            folder = entry.kind is EntryKind.FOLDER
            if entry.kind is EntryKind.SOCKET or (folder and path in above):
                continue
            size = entry.size if entry.kind is EntryKind.FILE else 0
            self._add("content", entry.kind.value.encode(), path, b"%d" % size, content)
            self._add("metadata", path, b"%o" % (entry.mode & 0o7777), b"%d" % entry.mtime_ns)
            self._add("ownership", path, b"%d" % entry.uid, b"%d" % entry.gid)
            if entry.extended:
                parts = [b"%b\0%d\0%b" % (name, len(value), value) for name, value in sorted(entry.extended)]
                self._add("extended", path, *parts)
            kinds = {EntryKind.FILE: "files", EntryKind.FOLDER: "folders", EntryKind.SYMLINK: "symlinks"}
            self.counts[kinds.get(entry.kind, "others")] += 1
            self.counts["bytes"] += size
            if not folder and entry.links > 1:
                links.setdefault((entry.device_id, entry.inode), []).append(path)
            if not folder and path not in roots:
                candidates.append((blake2b(path, digest_size=8, key=key).digest(), path))
        for paths in links.values():
            if len(paths) > 1:
                self._add("hardlinks", *sorted(paths))
        self.samples = {path for _, path in sorted(candidates)[:SAMPLES]}

    def _add(self, part: str, *fields: bytes) -> None:
        self.sums[part] += int.from_bytes(sha256(b"\0".join(fields)).digest(), "big")

    def equals(self, found: Fingerprint, roots: Iterable[bytes]) -> None:
        sums = {part: f"{total % 2**256:064x}" for part, total in self.sums.items()}
        assert {part: found.checksums[part] for part in sums} == sums
        assert found.counts == self.counts
        assert {sample.key for sample in found.samples} == {readable(path) for path in {*self.samples, *roots}}


@given(trees, st.binary(max_size=64))
def test_the_sums_the_counts_and_the_samples_are_those_of_the_reference(entries: list[Counted], key: bytes) -> None:
    roots = (b"/srv/top", b"/top")
    ledger = Ledger(key, roots)
    for path, entry, content in entries:
        ledger.add(path, entry, content)
    Reference(entries, roots, (b"/srv", b""), key).equals(ledger.fingerprint(), roots)


@given(trees, st.randoms(), st.integers(1, 40))
def test_many_at_once_add_up_to_the_same(entries: list[Counted], random: object, batch: int) -> None:
    one = Ledger(KEY, (b"/top",))
    for path, entry, content in entries:
        one.add(path, entry, content)
    many = Ledger(KEY, (b"/top",))
    learned = LearnedDigests(2**90)
    for start in range(0, len(entries), batch):
        some: list[Entry] = [entry for _, entry, _ in entries[start : start + batch]]
        random.shuffle(some)  # type: ignore[attr-defined]
        many.add_listed(some, b"", 0)
        known = many.add_known(some, b"", 0, learned)
        assert known == [entry.kind is EntryKind.FILE for entry in some]
    assert many.fingerprint() == one.fingerprint()
    records = [entry.token + content for _, entry, content in entries if entry.kind is EntryKind.FILE]
    stored = learned.part(0) or b""
    assert sorted(stored[at : at + 48] for at in range(0, len(stored), 48)) == sorted(records)


@given(trees)
def test_paths_are_moved_to_where_they_lie_in_the_snapshot(entries: list[Counted]) -> None:
    one, many = Ledger(KEY, ()), Ledger(KEY, ())
    moved = []
    for number, (path, entry, content) in enumerate(entries):
        other = copy.copy(entry)
        other.inside = entry.kind is EntryKind.FILE or number % 3 > 0
        if other.inside:
            other.path = b"/staged/elsewhere" + path
        moved.append(other)
        one.add(b"/prefix" + path if other.inside else path, entry, content)
    many.add_listed(moved, b"/prefix", len(b"/staged/elsewhere"))
    many.add_known(list(moved), b"/prefix", len(b"/staged/elsewhere"), LearnedDigests(0))
    # A sample's fields do not tell where the entry was read from.
    assert many.fingerprint() == one.fingerprint()


def test_threads_add_up_to_the_same() -> None:
    entries = [
        TreeEntry(b"%d" % number, b"/top/%d" % number, EntryKind.FILE, links=2, inode=number // 2, known=b"d" * 32)
        for number in range(4000)
    ]
    for entry in entries:
        entry.token = sha256(entry.path).digest()[:16]
    one = Ledger(KEY, ())
    for entry in entries:
        one.add(entry.path, entry, b"d" * 32)
    many = Ledger(KEY, ())
    learned = LearnedDigests(1)

    def work(start: int) -> None:
        for at in range(start, len(entries), 400):
            many.add_known(list(entries[at : at + 100]), b"", 0, learned)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert many.fingerprint() == one.fingerprint()
    assert len(learned.part(0)) == 48 * len(entries)


def test_only_what_is_settled_is_learned() -> None:
    learned = LearnedDigests(100)
    learned.add(b"t" * 16, b"d" * 32, 99)
    learned.add(b"u" * 16, b"e" * 32, 100)
    old = TreeEntry(b"x", b"/x", EntryKind.FILE, mtime_ns=99, ctime_ns=99, token=b"v" * 16, known=b"f" * 32)
    touched = TreeEntry(b"y", b"/y", EntryKind.FILE, mtime_ns=0, ctime_ns=100, token=b"w" * 16, known=b"g" * 32)
    written = TreeEntry(b"z", b"/z", EntryKind.FILE, mtime_ns=100, ctime_ns=0, token=b"x" * 16, known=b"h" * 32)
    assert Ledger(KEY, ()).add_known([old, touched, written], b"", 0, learned) == [True] * 3
    assert learned.part(0) == b"t" * 16 + b"d" * 32 + b"v" * 16 + b"f" * 32


def test_what_is_not_known_does_not_count() -> None:
    ledger = Ledger(KEY, ())
    plain = Entry(b"x", b"/x", EntryKind.FILE)
    unknown = TreeEntry(b"y", b"/y", EntryKind.FILE, token=b"t" * 16)
    assert ledger.add_known([plain, unknown], b"", 0, LearnedDigests(1)) == [False, False]
    assert ledger.fingerprint() == Ledger(KEY, ()).fingerprint()


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        Ledger(b"k" * 65, ())
    assert Ledger(b"k" * 65, (), {b"/x"}).fingerprint().samples == ()  # it is not needed for what is named


def test_an_unknown_kind_is_refused() -> None:
    entry = Entry(b"x", b"/x", "door")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="door"):
        Ledger(KEY, ()).add(b"/x", entry, b"")
