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

The records are made and added up natively; Python keeps the samples, which are few.

Left out: folders above the configured roots (others' business, though stored) and sockets (a running program's, without
content; stock restic does not bring them back). ``sample-key`` is the key of the hash that picks the samples.
"""

import heapq
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from threading import Lock

from cto_backups._native import LearnedDigests, Tally, read_files
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.sources.names import raw, readable

ALGORITHM = "files/1"
SAMPLES = 32
_MODULUS = 1 << 256


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
        self._roots: dict[bytes, dict[str, str]] = {path: {"role": "root"} for path in roots}
        self._everything = wanted is not None
        self._lock = Lock()
        self._picked: list[tuple[int, bytes, dict[str, str]]] = []
        self._tally = Tally(
            key, frozenset(roots), _above(roots), None if wanted is None else frozenset(wanted), SAMPLES
        )

    @classmethod
    def like(cls, expected: Fingerprint) -> "Ledger":
        """A ledger that samples what `expected` did."""
        wanted = {raw(sample.key) for sample in expected.samples}
        roots = {raw(sample.key) for sample in expected.samples if sample.fields.get("role") == "root"}
        return cls(bytes.fromhex(expected.checksums.get("sample-key", "")), roots, wanted)

    def add(self, path: bytes, entry: Entry, content: bytes) -> None:
        """Count an entry; `content` is a file's SHA-256, a symlink's target, a device's number, or empty."""
        rank = self._tally.add(path, entry, content)
        if rank is not None:
            self._sample([(rank, path, entry, content)])

    def add_listed(self, entries: Sequence[Entry], prefix: bytes, cut: int) -> None:
        """Count those of a folder's entries that are not files.

        An entry lies inside the snapshot at its own path, without the first `cut` bytes and with `prefix` before it.
        """
        picked = self._tally.add_listed(entries, prefix, cut)
        if picked:
            self._sample(picked)

    def add_known(self, entries: list[Entry], prefix: bytes, cut: int, learned: LearnedDigests) -> list[bool]:
        """Count those of these files whose digest is known, and learn it again; which ones those are."""
        reused, picked = self._tally.add_known(entries, prefix, cut, learned)
        if picked:
            self._sample(picked)
        return reused

    def read(
        self, entries: list[Entry], prefix: bytes, cut: int, user: int, learned: LearnedDigests
    ) -> list[bytes | None]:
        """Read and count files that are just as they were listed; None for the others. `user` is who reads."""
        contents, picked = read_files(entries, prefix, cut, user, self._tally, learned)
        if picked:
            self._sample(picked)
        return contents

    def fingerprint(self) -> Fingerprint:
        """What was added up so far."""
        (content, metadata, extended, ownership, links), (files, folders, symlinks, others, size) = self._tally.totals()
        with self._lock:
            samples = [(path, fields) for path, fields in self._roots.items()]
            samples += [(path, fields) for _, path, fields in self._picked]
        return Fingerprint(
            algorithm=ALGORITHM,
            checksums={
                "content": content.hex(),
                "metadata": metadata.hex(),
                "extended": extended.hex(),
                "ownership": ownership.hex(),
                "hardlinks": links.hex(),
                "sample-key": self._key.hex(),
            },
            counts={"files": files, "folders": folders, "symlinks": symlinks, "others": others, "bytes": size},
            samples=tuple(Sample(readable(path), fields) for path, fields in sorted(samples)),
        )

    def _sample(self, picked: Iterable[tuple[int, bytes, Entry, bytes]]) -> None:
        """Take the roots and the samples that the tally told of: rank, path, entry, content."""
        with self._lock:
            for rank, path, entry, content in picked:
                fields = _fields(path, entry, content)
                if path in self._roots:
                    self._roots[path].update(fields)
                elif self._everything or len(self._picked) < SAMPLES:
                    heapq.heappush(self._picked, (-rank, path, fields))
                else:
                    heapq.heappushpop(self._picked, (-rank, path, fields))


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
