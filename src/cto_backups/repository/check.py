"""Verifying a repository: structure first, then every byte of every pack."""

import hashlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from cto_backups import _native, clock
from cto_backups.core.payloads import Damage, Verified
from cto_backups.core.ports import Progress, Silent
from cto_backups.core.verification import Ledger, Part, Readings, portion
from cto_backups.errors import DamageError, VaultError, VaultMissingError
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher, Room
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.proving import proved_blobs
from cto_backups.repository.snapshot import Snapshot, load_snapshots
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.strays import foreign_files, unlisted_packs
from cto_backups.repository.together import both, each
from cto_backups.repository.tree import decode_tree

_MOST_PATHS = 20

Hurt = tuple[BlobKind, bytes]


@dataclass(slots=True)
class _Finding:
    """Damage before it is known whom it hurts: `blobs` are those it makes unreadable.

    When none is (a pack's header is damaged), all in the pack are listed and `readable` is true: their snapshots can
    still be restored, but stand on damaged bytes.
    """

    what: str
    detail: str
    blobs: set[Hurt] = field(default_factory=set)
    references: set[str] = field(default_factory=set)
    readable: bool = False


class Checker:
    """Verifies some or all snapshots of a repository."""

    def __init__(self, files: StoredFiles, options: RepositoryOptions, progress: Progress | None) -> None:
        self._files = files
        self._threads = options.readers
        self._progress = progress or Silent()
        self._findings: list[_Finding] = []
        self._lock = threading.Lock()
        self._files_read = 0
        self._bytes_read = 0
        self._blobs_read = 0
        self._packs_read = 0
        self._damaged: set[bytes] = set()

    def run(self, *, read_data: bool, part: Part | None, ledger: Ledger) -> Verified:
        """Verify everything; what is wrong comes back as damages. Raises VaultError when the vault is not there.

        With `part`, all structure is checked, and of the packs the next portion is read.
        """
        at = clock.now()
        names, _ = both(self._files.vault, lambda: self._files.names("snapshots"), self._check_key_files)
        snapshots, sizes, others = self._open(names)
        index = self._fetcher.index
        present = self._packs_there(range(index.pack_count), sizes)
        remarks = foreign_files(others)
        if not read_data:
            self._structure(snapshots, count=True)
            return self._verified(names, snapshots, present, remarks=remarks)
        chosen = present if part is None else self._portion(present, part, ledger)
        with self._reading(chosen):  # while the trees are walked: all are to be read whatever those say
            self._structure(snapshots)
        if part is None:
            listed = {index.pack_name(number) for number in range(index.pack_count)}
            remarks += unlisted_packs(self._files, sizes, listed)
        here, read = ({index.pack_name(number) for number, _ in packs} for packs in (present, chosen))
        readings = Readings(at, here, read - self._damaged, read & self._damaged)
        return self._verified(names, snapshots, present, remarks=remarks, readings=readings)

    def run_on(self, references: Sequence[str], *, read_data: bool) -> Verified:
        """Verify what these snapshots need."""
        names = list(dict.fromkeys(references))
        snapshots, sizes, _ = self._open(names)
        needs = self._structure(snapshots, count=not read_data)
        present = self._packs_there(needs.packs(), sizes)
        if read_data:
            with self._reading(present):
                pass
        return self._verified(names, snapshots, present)

    def _check_key_files(self) -> None:
        """See that each is what its name says: one that opens still may say something else than it did."""
        for name, content in each(self._files.vault, self._key_file, self._files.names("keys")):
            if isinstance(content, VaultError):
                self._findings.append(_Finding(f"key file {name[:12]}", content.why or content.what))
            elif content is not None:
                self._files_read += 1
                if hashlib.sha256(content).hexdigest() != name:
                    why = "its bytes are not what its name says; 'cto.backups key rotate' makes new key files"
                    self._findings.append(_Finding(f"key file {name[:12]} is damaged", why))

    def _key_file(self, name: str) -> tuple[str, bytes | VaultError | None]:
        """A key file's content, or why it cannot be read; None for one that was removed meanwhile."""
        try:
            return name, self._files.vault.read(self._files.key("keys", name))
        except VaultMissingError:
            return name, None
        except VaultError as error:
            return name, error

    def _open(self, names: Sequence[str]) -> tuple[list[Snapshot], dict[bytes, int], list[str]]:
        """The snapshots; the packs that are there, with their sizes; and keys of other files in the place of packs.

        Packs are listed after index files were: what those list was stored before.
        """
        vault = self._files.vault
        snapshots, listed = both(vault, lambda: self._snapshots(names), lambda: self._files.names("index"))
        index, (sizes, others) = both(
            vault, lambda: load_index(self._files, names=listed), lambda: self._files.data_files()
        )
        self._files_read += len(index.files) + len(snapshots)
        for name, why in index.damages:
            self._findings.append(_Finding(f"index file {name[:12]}", why))
        self._fetcher = Fetcher(self._files, index)
        return snapshots, sizes, others

    def _portion(self, present: Sequence[tuple[int, int]], part: Part, ledger: Ledger) -> list[tuple[int, int]]:
        by_name = {self._fetcher.index.pack_name(number): (number, size) for number, size in present}
        sizes = {name: size for name, (_, size) in by_name.items()}
        return [by_name[name] for name in portion(sizes, ledger, part)]

    def _verified(
        self,
        names: Sequence[str],
        snapshots: Sequence[Snapshot],
        present: Sequence[tuple[int, int]],
        *,
        remarks: Sequence[str] = (),
        readings: Readings | None = None,
    ) -> Verified:
        return Verified(
            files_read=self._files_read,
            bytes_read=self._bytes_read,
            blobs_read=self._blobs_read,
            references=tuple(names),
            damages=tuple(self._damages(snapshots)),
            packs=len(present),
            packs_read=self._packs_read,
            pack_bytes=sum(size for _, size in present),
            readings=readings,
            remarks=tuple(remarks),
        )

    # -- structure ----------------------------------------------------------------------------------------------------

    def _snapshots(self, names: Sequence[str]) -> list[Snapshot]:
        found = []
        for name, read in load_snapshots(self._files, names):
            if isinstance(read, Snapshot):
                found.append(read)
                continue
            why = read.why if isinstance(read, DamageError) else "it is not there"
            self._findings.append(_Finding(f"snapshot {name[:12]}", why, references={name}))
        return found

    def _structure(self, snapshots: Sequence[Snapshot], *, count: bool = False) -> _native.Needs:
        """Walk all trees once; what they refer to. `count` them, where their packs are not read."""
        needs = _native.Needs(self._fetcher.index.native)
        for snapshot in snapshots:
            needs.add(snapshot.tree)
        while (tree := needs.next()) is not None:
            try:
                needs.enter(self._fetcher.tree(tree))
            except (DamageError, VaultError) as error:
                self._findings.append(_Finding(error.what, error.why, {(BlobKind.TREE, tree)}))
                continue
            self._blobs_read += count
        for blob in needs.missing(BlobKind.DATA):
            why = "no readable index file of the repository lists it"
            self._findings.append(_Finding(f"data blob {blob.hex()[:12]} is missing", why, {(BlobKind.DATA, blob)}))
        return needs

    def _packs_there(self, packs: Iterable[int], sizes: Mapping[bytes, int]) -> list[tuple[int, int]]:
        """The packs that are there and long enough for what the index says of them, with their sizes."""
        index = self._fetcher.index
        present = []
        absent: dict[int, _Finding] = {}
        for number in sorted(packs):
            name = index.pack_name(number)
            size = sizes.get(name)
            if size is None:
                absent[number] = _Finding(f"pack {name.hex()[:12]}", "it is missing")
            elif size <= index.pack_end(number):
                absent[number] = _Finding(f"pack {name.hex()[:12]}", f"it is too short: {size} bytes")
            else:
                present.append((number, size))
        if absent:
            for number, blobs in self._blobs_of(absent).items():
                absent[number].blobs = blobs
            self._findings.extend(absent.values())
        return present

    def _blobs_of(self, packs: Collection[int]) -> dict[int, set[Hurt]]:
        """The blobs of packs that no other pack holds, by pack."""
        hurt: dict[int, set[Hurt]] = {}
        index = self._fetcher.index
        for kind, blob, place in index.blobs_in(packs):
            if all(other.pack in packs for other in index.locate(kind, blob)):
                hurt.setdefault(place.pack, set()).add((kind, blob))
        return hurt

    # -- data ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, packs: Sequence[tuple[int, int]]) -> Iterator[None]:
        """Read packs, all of them when this is left."""
        self._progress.total(entries=len(packs), size_bytes=sum(size for _, size in packs))
        with Crew(self._threads, Room, name="verify", backlog=max(1, len(packs))) as crew:
            for number, size in packs:
                crew.submit(partial(self._read_pack, number=number, size=size))
            yield

    def _read_pack(self, room: Room, number: int, size: int) -> None:
        name = self._fetcher.index.pack_name(number)
        bad: set[Hurt] = set()
        why = ""
        blobs = 0
        try:
            proved = proved_blobs(self._fetcher, number, size, room)
            if proved is None:
                why, bad, blobs = self._judge(number, size)
            else:
                blobs = proved
        except (DamageError, VaultError) as error:
            why = error.why or error.what
            bad = self._readable_of(number)
        with self._lock:
            self._files_read += 1
            self._packs_read += 1
            self._bytes_read += size
            self._blobs_read += blobs
            if why:
                self._damaged.add(name)
                finding = _Finding(f"pack {name.hex()[:12]} is damaged", why, bad)
                if not bad:
                    finding.readable = True
                    finding.detail += "; all its blobs can be read still"
                    finding.blobs = self._blobs_of({number}).get(number, set())
                self._findings.append(finding)
        self._progress.advance(entries=1, size_bytes=size)

    def _judge(self, number: int, size: int) -> tuple[str, set[Hurt], int]:
        """What is wrong with a pack, the blobs that do not open, how many do. Raises DamageError, VaultError."""
        content = self._fetcher.read(number, 0, size)
        why, unreadable, blobs = _native.check_pack(
            self._fetcher.index.native, self._fetcher.files.sealer.native, number, content
        )
        if not why:
            why = "it was read twice, and only the second time as it was written: its disk or this machine fails"
        return why, {(BlobKind(kind), blob) for kind, blob in unreadable}, blobs

    def _readable_of(self, number: int) -> set[Hurt]:
        """When a pack's header is lost, the index still says where blobs are: those that do not open."""
        bad = set()
        for kind, blob in self._blobs_of({number}).get(number, ()):
            for place in self._fetcher.index.locate(kind, blob):
                try:
                    self._fetcher.open(self._fetcher.read(place.pack, place.offset, place.length), blob, place.plain)
                    break
                except (DamageError, VaultError):
                    continue
            else:
                bad.add((kind, blob))
        return bad

    # -- whom it hurts ------------------------------------------------------------------------------------------------

    def _damages(self, snapshots: Sequence[Snapshot]) -> list[Damage]:
        """The findings, with the snapshots and paths that need what is damaged; walked again only for that."""
        hurt: dict[Hurt, list[_Finding]] = {}
        for finding in self._findings:
            for blob in finding.blobs:
                hurt.setdefault(blob, []).append(finding)
        paths: dict[int, dict[str, None]] = {id(finding): {} for finding in self._findings}
        if hurt:
            for snapshot in snapshots:
                self._trace(snapshot, hurt, paths)
        return [
            Damage(
                finding.what,
                finding.detail,
                tuple(sorted(finding.references)),
                tuple(sorted(paths[id(finding)])[:_MOST_PATHS]),
            )
            for finding in self._findings
        ]

    def _trace(self, snapshot: Snapshot, hurt: dict[Hurt, list[_Finding]], paths: dict[int, dict[str, None]]) -> None:
        def note(blob: Hurt, path: bytes) -> None:
            for finding in hurt.get(blob, ()):
                finding.references.add(snapshot.name)
                if finding.readable:
                    continue
                paths[id(finding)][path.decode("utf-8", "backslashreplace") or "/"] = None

        stack = [(b"", snapshot.tree)]
        while stack:
            path, tree = stack.pop()
            note((BlobKind.TREE, tree), path)
            try:
                nodes = decode_tree(self._fetcher.tree(tree))
            except (DamageError, VaultError):
                continue
            for node in nodes:
                inner = path + b"/" + node.entry.name
                for blob in node.content:
                    if (BlobKind.DATA, blob) in hurt:
                        note((BlobKind.DATA, blob), inner)
                if node.subtree is not None:
                    stack.append((inner, node.subtree))
