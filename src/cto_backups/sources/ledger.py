"""The fingerprint of a file tree, ``files/1``, built up entry by entry in any order and from any thread.

Each entry adds the SHA-256 of a canonical record to a sum modulo 2**256 (a sum, since XOR would let equal pairs
cancel out). Records, with NUL between their fields, paths as inside the snapshot (``/home/user/x``):

=============  =====================================================================================================
``content``    kind, path, size, then the SHA-256 of a file's content, a link's target, or a device's number
``metadata``   path, permission bits in octal, mtime in nanoseconds
``extended``   path, then name, length and value of each extended attribute by name; entries that have some
``ownership``  path, uid, gid
``hardlinks``  the sorted paths of one file; files that have two names or more inside the tree
=============  =====================================================================================================

Left out: folders above the configured roots (others' business, though stored) and sockets (a running program's, without
content; stock restic does not bring them back). ``sample-key`` is the key of the hash that picks the samples.
"""

import heapq
from collections.abc import Collection
from hashlib import blake2b, sha256
from threading import Lock

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.ports import Entry, EntryKind
from cto_backups.sources.names import raw, readable

ALGORITHM = "files/1"
SAMPLES = 32
_MODULUS = 1 << 256
_TAGS = {
    EntryKind.FILE: b"file",
    EntryKind.FOLDER: b"dir",
    EntryKind.SYMLINK: b"symlink",
    EntryKind.DEVICE: b"dev",
    EntryKind.CHARACTER_DEVICE: b"chardev",
    EntryKind.FIFO: b"fifo",
}


def sample_key(name: str) -> bytes:
    """The key of a source's sampling hash: fixed, so that an unchanged source has an unchanged fingerprint."""
    return sha256(b"cto.backups sample key\0" + name.encode()).digest()[:16]


def digest_sum(records: Collection[bytes]) -> int:
    """The sum of the records' SHA-256, which does not depend on their order."""
    return sum(int.from_bytes(sha256(record).digest(), "big") for record in records) % _MODULUS


def as_hex(total: int) -> str:
    """A sum as 64 hex digits."""
    return f"{total % _MODULUS:064x}"


class Ledger:
    """Adds entries up to a fingerprint.

    `roots` are the paths that were asked for; each is a sample. `wanted`, when given, are the paths to sample
    instead of the `SAMPLES` ones with the smallest keyed hash.
    """

    def __init__(self, key: bytes, roots: Collection[bytes], wanted: Collection[bytes] | None = None) -> None:
        self._key = key
        self._above = _above(roots)
        self._roots: dict[bytes, dict[str, str]] = {path: {"role": "root"} for path in roots}
        self._wanted = None if wanted is None else frozenset(wanted)
        self._lock = Lock()
        self._content = self._metadata = self._extended = self._ownership = 0
        self._files = self._folders = self._symlinks = self._others = self._bytes = 0
        self._links: dict[tuple[int, int], list[bytes]] = {}
        self._picked: list[tuple[int, bytes, dict[str, str]]] = []
        self._limit = 1  # the largest rank that is still of interest, negated, once enough are picked

    @classmethod
    def like(cls, expected: Fingerprint) -> "Ledger":
        """A ledger that samples what `expected` did."""
        wanted = {raw(sample.key) for sample in expected.samples}
        roots = {raw(sample.key) for sample in expected.samples if sample.fields.get("role") == "root"}
        return cls(bytes.fromhex(expected.checksums.get("sample-key", "")), roots, wanted)

    def add(self, path: bytes, entry: Entry, content: bytes) -> None:
        """Count an entry; `content` is a file's SHA-256, a symlink's target, a device's number, or empty."""
        kind = entry.kind
        if kind is EntryKind.SOCKET or (kind is EntryKind.FOLDER and path in self._above):
            return
        size = entry.size if kind is EntryKind.FILE else 0
        record = b"%b\0%b\0%d\0%b" % (_TAGS[kind], path, size, content)
        body = int.from_bytes(sha256(record).digest(), "big")
        record = b"%b\0%o\0%d" % (path, entry.mode & 0o7777, entry.mtime_ns)
        metadata = int.from_bytes(sha256(record).digest(), "big")
        record = b"%b\0%d\0%d" % (path, entry.uid, entry.gid)
        ownership = int.from_bytes(sha256(record).digest(), "big")
        extended = 0
        if entry.extended:
            parts = [b"%b\0%d\0%b" % (name, len(value), value) for name, value in sorted(entry.extended)]
            extended = int.from_bytes(sha256(b"\0".join((path, *parts))).digest(), "big")
        rank = self._rank(path) if kind is not EntryKind.FOLDER else None
        with self._lock:
            self._content += body
            self._metadata += metadata
            self._ownership += ownership
            self._extended += extended
            if kind is EntryKind.FILE:
                self._files += 1
                self._bytes += size
            elif kind is EntryKind.FOLDER:
                self._folders += 1
            elif kind is EntryKind.SYMLINK:
                self._symlinks += 1
            else:
                self._others += 1
            if entry.links > 1 and kind is not EntryKind.FOLDER:
                self._links.setdefault((entry.device_id, entry.inode), []).append(path)
            if path in self._roots:
                self._roots[path].update(_fields(path, entry, content))
            elif rank is not None:
                self._pick(rank, path, entry, content)

    def fingerprint(self) -> Fingerprint:
        """What was added up so far."""
        with self._lock:
            groups = [b"\0".join(sorted(paths)) for paths in self._links.values() if len(paths) > 1]
            samples = [(path, fields) for path, fields in self._roots.items()]
            samples += [(path, fields) for _, path, fields in self._picked]
            return Fingerprint(
                algorithm=ALGORITHM,
                checksums={
                    "content": as_hex(self._content),
                    "metadata": as_hex(self._metadata),
                    "extended": as_hex(self._extended),
                    "ownership": as_hex(self._ownership),
                    "hardlinks": as_hex(digest_sum(groups)),
                    "sample-key": self._key.hex(),
                },
                counts={
                    "files": self._files,
                    "folders": self._folders,
                    "symlinks": self._symlinks,
                    "others": self._others,
                    "bytes": self._bytes,
                },
                samples=tuple(Sample(readable(path), fields) for path, fields in sorted(samples)),
            )

    def _rank(self, path: bytes) -> int | None:
        """The path's place in the order of sampling, as a negative number; None when it is surely not sampled."""
        if self._wanted is not None:
            return 0 if path in self._wanted else None
        rank = -int.from_bytes(blake2b(path, digest_size=8, key=self._key).digest(), "big")
        return rank if self._limit > 0 or rank > self._limit else None

    def _pick(self, rank: int, path: bytes, entry: Entry, content: bytes) -> None:
        picked = (rank, path, _fields(path, entry, content))
        if self._wanted is not None or len(self._picked) < SAMPLES:
            heapq.heappush(self._picked, picked)
        else:
            heapq.heappushpop(self._picked, picked)
        if self._wanted is None and len(self._picked) == SAMPLES:
            self._limit = self._picked[0][0]


def _fields(path: bytes, entry: Entry, content: bytes) -> dict[str, str]:
    seconds, nanoseconds = divmod(entry.mtime_ns, 1_000_000_000)
    fields = {
        "path": readable(path),
        "kind": entry.kind.value,
        "mode": f"{entry.mode & 0o7777:04o}",
        "mtime": f"{seconds}.{nanoseconds:09d}",
    }
    if entry.kind is EntryKind.FILE:
        fields["size"] = str(entry.size)
        fields["sha256"] = content.hex()
    elif content:
        fields["target" if entry.kind is EntryKind.SYMLINK else "device"] = readable(content)
    return fields


def _above(roots: Collection[bytes]) -> frozenset[bytes]:
    """Paths of the folders above every root on the way to it."""
    above: set[bytes] = set()
    for root in sorted(roots):
        parts = root.split(b"/")
        ways = [b"/".join(parts[:end]) for end in range(1, len(parts))]
        if not any(way in roots for way in ways):
            above.update(ways)
    return frozenset(above)
