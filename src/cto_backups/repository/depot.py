"""Where blobs become stored: deduplicated, compressed, sealed, opened again, packed, uploaded, indexed.

Each worker thread seals into packs of its own, so that nothing is shared on the way but the claim on a blob's id.
Full packs go to uploading threads. A blob is visible to `Index` once its pack is durable in the vault.
"""

import queue
import threading

from cto_backups import clock
from cto_backups.core.ports import Buffer
from cto_backups.errors import DamageError
from cto_backups.repository.blob import Squeezer, identify
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Opener
from cto_backups.repository.index import BlobKind, Index, PackedBlob, save_index
from cto_backups.repository.options import MIB, RepositoryOptions
from cto_backups.repository.pack import MOST_BLOBS, PackBuilder
from cto_backups.repository.seal import Hand, SealBrokenError
from cto_backups.repository.stored import StoredFiles

_SAMPLE_ONE_IN = 16
_UPLOADERS = 2


class Bench:
    """One worker thread's tools and packs in progress."""

    def __init__(self, depot: "Depot") -> None:
        self.depot = depot
        self.hand = Hand(depot.files.sealer.key)
        self.squeezer = Squeezer(depot.options.compression_level)
        self.opener = Opener(self.hand, self.squeezer)
        self.builders: dict[BlobKind, PackBuilder] = {}
        self.added_bytes = 0
        self.added_blobs = 0
        self._count = 0

    def save(self, kind: BlobKind, plain: Buffer) -> bytes:
        """Store a blob unless it is there; its id."""
        blob = identify(plain)
        if self.depot.claim(kind, blob):
            frame = self.squeezer.squeeze(plain, always=kind is BlobKind.TREE)
            if frame is None:
                self.store(kind, blob, plain, 0)
            else:
                self.store(kind, blob, frame, len(plain))
        return blob

    def store(self, kind: BlobKind, blob: bytes, stored: Buffer, plain_size: int) -> None:
        """Store a claimed blob's stored form, opening it again before it counts."""
        builder = self.builders.get(kind)
        if builder is None:
            builder = self.builders[kind] = self.depot.builder(kind)
        sealed = builder.add(self.hand, blob, stored, plain_size)
        self._count += 1
        if self.depot.options.verify == "full" or self._count % _SAMPLE_ONE_IN == 0:
            try:
                self.opener.open(sealed, blob, plain_size)
            except DamageError as error:
                raise DamageError(
                    f"A blob came out wrong when it was opened again, before it reached vault "
                    f"{self.depot.files.vault.name}",
                    why=(error.why if isinstance(error, SealBrokenError) else f"{error.what}: {error.why}"),
                    todo="run again; if it happens again, test this machine's memory and processor",
                ) from error
        self.added_bytes += len(sealed)
        self.added_blobs += 1
        if builder.size >= self.depot.options.pack_bytes or len(builder.blobs) >= MOST_BLOBS:
            del self.builders[kind]
            self.depot.upload(builder)


class Depot:
    """Takes blobs from many threads into one repository; a context, to be left after `finish`.

    `relied` are the packs that hold blobs which were found to be there already.
    """

    def __init__(self, files: StoredFiles, index: Index, options: RepositoryOptions) -> None:
        self.files = files
        self.index = index
        self.options = options
        self.relied: set[int] = set()
        self._pending: dict[BlobKind, dict[bytes, object]] = {BlobKind.DATA: {}, BlobKind.TREE: {}}
        self._benches: list[Bench] = []
        self._spare: dict[BlobKind, queue.SimpleQueue[PackBuilder]] = {kind: queue.SimpleQueue() for kind in BlobKind}
        self._lock = threading.Lock()
        self._unsaved: list[tuple[bytes, list[PackedBlob]]] = []
        self._unsaved_blobs = 0
        self._saved_at = clock.monotonic()
        self._uploaders: Crew[Hand] = Crew(_UPLOADERS, lambda: Hand(files.sealer.key), name="upload", backlog=1)

    def __enter__(self) -> "Depot":
        self._uploaders.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._uploaders.__exit__(kind, error, trace)

    def bench(self) -> Bench:
        """A new thread's bench."""
        bench = Bench(self)
        with self._lock:
            self._benches.append(bench)
        return bench

    def builder(self, kind: BlobKind) -> PackBuilder:
        """An empty pack to fill."""
        try:
            return self._spare[kind].get_nowait()
        except queue.Empty:
            room = 9 * MIB if kind is BlobKind.DATA else 1 * MIB
            return PackBuilder(kind, self.options.pack_bytes + room)

    def known(self, kind: BlobKind, blob: bytes) -> bool:
        """Whether a blob is stored, or about to be; its pack is relied on from now."""
        pack = self.index.tables[kind].pack_of(blob)
        if pack >= 0:
            self.relied.add(pack)
            return True
        return blob in self._pending[kind]

    def claim(self, kind: BlobKind, blob: bytes) -> bool:
        """Whether the caller is the one who must store this blob."""
        table = self.index.tables[kind]
        pack = table.pack_of(blob)
        if pack >= 0:
            self.relied.add(pack)
            return False
        pending = self._pending[kind]
        mine = object()
        if pending.setdefault(blob, mine) is not mine:
            return False
        if table.pack_of(blob) >= 0:  # its pack was finished between the two looks
            pending.pop(blob, None)
            return False
        return True

    def upload(self, builder: PackBuilder) -> None:
        """Hand a full pack to the uploading threads, waiting for room."""
        self._uploaders.submit(lambda hand: self._upload(hand, builder))

    def finish(self) -> None:
        """Upload what is left in every bench, wait until all is durable, and save the index."""
        for kind in BlobKind:
            last: PackBuilder | None = None
            for bench in self._benches:
                builder = bench.builders.pop(kind, None)
                if builder is None or not builder.blobs:
                    continue
                if last is None:
                    last = builder
                elif last.size + builder.size <= 2 * self.options.pack_bytes:
                    last.absorb(builder)
                else:
                    self.upload(builder)
            if last is not None:
                self.upload(last)
        self._uploaders.join()
        self._uploaders.check()
        with self._lock:
            self._save_index()

    @property
    def added_bytes(self) -> int:
        """Sealed bytes that were stored so far."""
        return sum(bench.added_bytes for bench in self._benches)

    @property
    def added_blobs(self) -> int:
        """Blobs that were stored so far."""
        return sum(bench.added_blobs for bench in self._benches)

    def _upload(self, hand: Hand, builder: PackBuilder) -> None:
        pack, parts = builder.finish(hand)
        self.files.vault.put(self.files.key("data", pack.hex()), parts)
        blobs = builder.blobs
        with self._lock:
            self.relied.add(self.index.add_pack(pack, blobs))
            self._unsaved.append((pack, blobs))
            self._unsaved_blobs += len(blobs)
            late = clock.monotonic() - self._saved_at > self.options.index_seconds
            if late or self._unsaved_blobs >= self.options.index_blobs:
                self._save_index()
        pending = self._pending[builder.kind]
        for blob in blobs:
            pending.pop(blob.id, None)
        builder.clear()
        self._spare[builder.kind].put(builder)

    def _save_index(self) -> None:
        """Save what is not saved yet, in files of bearable size; the caller holds the lock."""
        while self._unsaved:
            part: list[tuple[bytes, list[PackedBlob]]] = []
            count = 0
            while self._unsaved and (not part or count + len(self._unsaved[0][1]) <= self.options.index_blobs):
                part.append(self._unsaved.pop(0))
                count += len(part[-1][1])
            save_index(self.files, part)
        self._unsaved_blobs = 0
        self._saved_at = clock.monotonic()
