"""Looking for damage before a repair: what the packs themselves hold, against what the index says of them."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import partial

from cto_backups import _native
from cto_backups.core.payloads import Damage
from cto_backups.core.ports import Progress
from cto_backups.errors import DamageError, NotFoundError, VaultError
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher, Room
from cto_backups.repository.headers import read_header
from cto_backups.repository.index import BlobKind, Index, PackedBlob, load_index, packed_blobs
from cto_backups.repository.marks import load_marks
from cto_backups.repository.proving import proved_blobs
from cto_backups.repository.snapshot import Snapshot, load_snapshot
from cto_backups.repository.stored import StoredFiles

_AT_ONCE = 2048  # packs whose blobs are asked of the index at a time

Header = list[PackedBlob] | DamageError | VaultError


class Reading(Enum):
    """How much of the packs is read: every header; besides that, the packs that hold trees; or everything."""

    HEADERS = "headers"
    TREES = "trees"
    ALL = "all"


@dataclass(slots=True)
class Found:
    """What a repository holds.

    `listed` is the index as its files have it. Of the packs, by what they say themselves: `good` are those to rely
    on, `bad` the damaged ones (`unlisted`) with all that is known of their blobs, `strays` those that a prune took out
    of the index and that have not been deleted yet. `relisted` packs were in no index, or in one that said something
    else of them; `missing` ones are not there, `left` ones are damaged and stay listed. `unreadable` are snapshots.
    `marks` say since when a pack is in no index.
    """

    listed: Index
    good: Index = field(default_factory=Index)
    bad: Index = field(default_factory=Index)
    strays: Index = field(default_factory=Index)
    relisted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    marks: dict[str, datetime] = field(default_factory=dict)
    mark_files: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def changes_index(self) -> bool:
        """Whether the index files are to be replaced."""
        twice = sum(self.listed.files.values()) != self.listed.pack_count
        return bool(twice or self.listed.damages or self.relisted or self.missing or self.unlisted)

    @property
    def index_files(self) -> list[str]:
        """The present index files, the damaged ones too."""
        return [*self.listed.files, *(name for name, _ in self.listed.damages)]


def look(files: StoredFiles, threads: int, reading: Reading, progress: Progress) -> Found:
    """Find all damage, under a lock of the caller's. Raises VaultError when the vault itself is not there."""
    snapshots = files.names("snapshots")  # before the index, so that it has all that they need
    found = Found(load_index(files))
    found.marks, found.mark_files = load_marks(files)
    found.damages.extend(Damage(f"index file {name[:12]}", why) for name, why in found.listed.damages)
    for name in snapshots:
        try:
            found.snapshots.append(load_snapshot(files, name))
        except NotFoundError:
            continue
        except DamageError as error:
            found.unreadable.append(name)
            found.damages.append(Damage(f"snapshot {name[:12]}", error.why or error.what, references=(name,)))
    _Looking(files, threads, reading, progress, found).run()
    return found


class _Looking:
    """Sorts the packs."""

    def __init__(self, files: StoredFiles, threads: int, reading: Reading, progress: Progress, found: Found) -> None:
        self._files = files
        self._threads = threads
        self._reading = reading
        self._progress = progress
        self._found = found
        self._sizes = files.pack_sizes()
        self._with_trees: set[int] = set()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Headers first, then contents."""
        found = self._found
        listed = {found.listed.pack_name(number) for number in range(found.listed.pack_count)}
        for start in range(0, found.listed.pack_count, _AT_ONCE):
            self._listed(range(start, min(start + _AT_ONCE, found.listed.pack_count)))
        others = sorted(self._sizes.keys() - listed)
        for start in range(0, len(others), _AT_ONCE):
            self._unlisted(others[start : start + _AT_ONCE])
        if self._reading is not Reading.HEADERS:
            self._read()

    def _listed(self, numbers: range) -> None:
        """Packs that the index has."""
        found = self._found
        entries = {
            found.listed.pack_name(number): blobs for number, blobs in packed_blobs(found.listed, numbers).items()
        }
        headers = self._headers([name for name in entries if name in self._sizes])
        for name, blobs in entries.items():
            header = headers.get(name)
            if header is None:
                found.missing.append(name.hex())
                self._note(name, "it is missing")
            elif isinstance(header, list):
                self._sound(name, header)
                if set(header) != set(blobs):
                    found.relisted.append(name.hex())
                    self._note(name, "an index file says something else of it than its own header")
            else:
                self._note(name, header.why or header.what)
                if self._reading is Reading.HEADERS:
                    # What the index says of it is all that there is, as far as the pack goes.
                    left = [blob for blob in blobs if blob.offset + blob.length < self._sizes[name]]
                    found.good.add_pack(name, left)
                    found.left.append(name.hex())
                    found.relisted.extend([name.hex()] if left != blobs else [])
                else:
                    self._bad(name, blobs)
                    found.unlisted.append(name.hex())

    def _unlisted(self, names: Sequence[bytes]) -> None:
        """Packs that are in no index: by the will of a prune, by that of a repair, or because an index file is lost."""
        found = self._found
        for name, header in self._headers(names).items():
            if not isinstance(header, list):
                continue  # nothing can be had of it; a prune deletes it in time
            if name.hex() in found.marks:
                found.strays.add_pack(name, header)
            else:
                self._sound(name, header)
                found.relisted.append(name.hex())

    def _headers(self, names: Sequence[bytes]) -> Mapping[bytes, Header]:
        """What packs say of themselves, or why they cannot."""
        headers: dict[bytes, Header] = {}

        def read(_: None, name: bytes) -> None:
            try:
                headers[name] = read_header(self._files, name, self._sizes[name])
            except (DamageError, VaultError) as error:
                headers[name] = error

        with Crew(self._threads, lambda: None, name="repair") as crew:
            for name in names:
                crew.submit(partial(read, name=name))
        return {name: headers[name] for name in names}

    def _sound(self, name: bytes, blobs: Sequence[PackedBlob]) -> None:
        number = self._found.good.add_pack(name, blobs)
        if any(blob.kind is BlobKind.TREE for blob in blobs):
            self._with_trees.add(number)

    def _bad(self, name: bytes, blobs: Sequence[PackedBlob]) -> None:
        size = self._sizes[name]
        self._found.bad.add_pack(name, [blob for blob in blobs if blob.offset + blob.length <= size])

    def _note(self, name: bytes, why: str) -> None:
        self._found.damages.append(Damage(f"pack {name.hex()[:12]}", why))

    def _read(self) -> None:
        """Read packs whose headers are sound; those with anything wrong in them are bad as well."""
        good = self._found.good
        numbers = range(good.pack_count) if self._reading is Reading.ALL else sorted(self._with_trees)
        sizes = {number: self._sizes[good.pack_name(number)] for number in numbers}
        damaged: dict[int, str] = {}
        self._progress.total(entries=len(sizes), size_bytes=sum(sizes.values()))
        with Crew(self._threads, Room, name="repair") as crew:
            for number, size in sizes.items():
                crew.submit(partial(self._read_pack, number=number, size=size, damaged=damaged))
        if not damaged:
            return
        whole = Index()
        for start in range(0, good.pack_count, _AT_ONCE):
            part = range(start, min(start + _AT_ONCE, good.pack_count))
            for number, blobs in packed_blobs(good, part).items():
                if number not in damaged:
                    whole.add_pack(good.pack_name(number), blobs)
                else:
                    self._found_bad(good.pack_name(number), blobs, damaged[number])
        self._found.good = whole

    def _found_bad(self, name: bytes, blobs: Sequence[PackedBlob], why: str) -> None:
        self._note(name, why)
        self._bad(name, blobs)
        self._found.unlisted.append(name.hex())
        if name.hex() in self._found.relisted:
            self._found.relisted.remove(name.hex())

    def _read_pack(self, room: Room, number: int, size: int, damaged: dict[int, str]) -> None:
        good = self._found.good
        try:
            if proved_blobs(Fetcher(self._files, good), number, size, room) is not None:
                self._progress.advance(entries=1, size_bytes=size)
                return
            content = self._files.vault.read(self._files.key("data", good.pack_name(number).hex()), 0, size)
            why = _native.check_pack(good.native, self._files.sealer.native, number, content)[0]
        except (DamageError, VaultError) as error:
            why = error.why or error.what
        if why:
            with self._lock:
                damaged[number] = why
        self._progress.advance(entries=1, size_bytes=size)
