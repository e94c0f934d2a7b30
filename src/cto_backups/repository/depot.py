"""Where blobs become stored: deduplicated, compressed, sealed, opened again, packed, uploaded, indexed.

Each worker thread seals into packs of its own, so that nothing is shared on the way but the claim on a blob's id.
Full packs go to uploading threads. A blob is visible to `Index` once its pack is durable in the vault.
"""

import gc
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cto_backups import _native, clock
from cto_backups.core.change import NewContent
from cto_backups.core.objects import Ways
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import Summed
from cto_backups.repository.crew import Crew
from cto_backups.repository.index import BlobKind, Index, save_index
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.seal import CameOutWrongError, Sealer
from cto_backups.repository.stored import StoredFiles

_SAMPLE_ONE_IN = 16


@dataclass(slots=True)
class Beside:
    """What a run stored beside packs, and benches that only looked at it, to tell how it compresses.

    `ways`: which way it came, where that is told.
    """

    size_bytes: int = 0
    blobs: int = 0
    blank_bytes: int = 0
    looked: list[_native.Bench] = field(default_factory=list)
    ways: Ways | None = None


class Bench:
    """One worker thread's tools and packs in progress."""

    def __init__(self, depot: "Depot") -> None:
        self.depot = depot
        options = depot.options
        one_in = 1 if options.verify == "full" else _SAMPLE_ONE_IN
        self.native = _native.Bench(
            depot.files.sealer.native, depot.claims, options.compression_level, one_in, options.pack_bytes
        )

    def save(self, kind: BlobKind, plain: Buffer) -> bytes:
        """Store a blob unless it is there; its id."""
        with self._sealing():
            return self.native.save(kind, plain)

    def save_files(self, contents: Sequence[bytes | None]) -> tuple[list[str | None], list[int]]:
        """Store contents of one blob each: for each the ids as JSON, and the places of those that were there already.

        None stays None.
        """
        with self._sealing():
            return self.native.save_files(contents)

    def save_tree(self, nodes: _native.Nodes) -> bytes:
        """Store a folder's tree; its id."""
        with self._sealing():
            return self.native.save_tree(nodes)

    def copy(self, origin: Sealer, kind: BlobKind, blob: bytes, sealed: Buffer, plain_size: int) -> int:
        """Store another repository's blob, as compressed as it is there, unless it is here; the plain bytes it brought.

        Raises DamageError when it does not hold what `blob` names.
        """
        with self._sealing():
            return self.native.copy(origin.native, kind, blob, sealed, plain_size) or 0

    @contextmanager
    def _sealing(self) -> Iterator[None]:
        """Packs that get full meanwhile are handed on, also those that were full before something failed."""
        try:
            yield
        except CameOutWrongError as error:
            name = self.depot.files.vault.name
            raise CameOutWrongError(
                f"A blob came out wrong when it was opened again, before it reached vault {name}",
                why=error.why,
                todo="run again; if it happens again, test this machine's memory and processor",
            ) from error
        finally:
            for pack in self.native.take_full():
                self.depot.upload(pack)


class Depot:
    """Takes blobs from many threads into one repository; a context, to be left after `finish`.

    `finished`: all that its index knows of is stored and listed. Of one that was left before, the index knows blobs
    that were only claimed, and packs that no index file lists: nothing may rest on it any more.
    """

    def __init__(self, files: StoredFiles, index: Index, options: RepositoryOptions) -> None:
        self.files = files
        self.index = index
        self.options = options
        self.claims = _native.Claims(index.native)
        self.beside = Beside()
        self.finished = False
        self._benches: list[Bench] = []
        self._lock = threading.Lock()
        self._unsaved: list[_native.Pack] = []
        self._unsaved_blobs = 0
        self._saved_at = clock.monotonic()
        self._uploaders: Crew[None] = Crew(options.uploaders, lambda: None, name="upload", backlog=1)
        self._room = threading.Semaphore(options.uploaders)

    def __enter__(self) -> "Depot":
        _native.return_freed_memory()
        self._uploaders.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._uploaders.__exit__(kind, error, trace)

    @property
    def relied(self) -> set[int]:
        """The packs that hold blobs which were found to be there already, or were stored here."""
        return self.claims.relied

    def bench(self) -> Bench:
        """A new thread's bench."""
        bench = Bench(self)
        with self._lock:
            self._benches.append(bench)
        return bench

    def known(self, kind: BlobKind, blob: bytes) -> bool:
        """Whether a blob is stored, or about to be; its pack is relied on from now."""
        return self.claims.has(kind, blob)

    def upload(self, pack: _native.Pack) -> None:
        """Hand a full pack to the uploading threads once one has nothing to do: packs that wait only take memory."""
        while not self._room.acquire(timeout=0.5):
            self._uploaders.check()
        self._uploaders.submit(lambda _: self._upload(pack))

    def finish(self) -> None:
        """Upload what is left in every bench, wait until all is durable, and save the index."""
        for kind in BlobKind:
            last: _native.Pack | None = None
            for bench in self._benches:
                pack = bench.native.take_unfilled(kind)
                if pack is None:
                    continue
                if last is None:
                    last = pack
                elif last.size + pack.size <= self.options.pack_bytes * 9 // 8:  # no more room was made for it
                    last.absorb(pack)
                else:
                    self.upload(pack)
            if last is not None:
                self.upload(last)
        self._uploaders.join()
        self._uploaders.check()
        with self._lock:
            self._save_index()
        self.finished = True

    @property
    def added_bytes(self) -> int:
        """Bytes that were stored so far."""
        return self.beside.size_bytes + sum(bench.native.added_bytes for bench in self._benches)

    @property
    def added_blobs(self) -> int:
        """Blobs that were stored so far."""
        return self.beside.blobs + sum(bench.native.added_blobs for bench in self._benches)

    def new_content(self, read_bytes: int) -> NewContent:
        """What was stored so far of data that came as plain bytes, of which so many were read."""
        natives = [*(bench.native for bench in self._benches), *self.beside.looked]
        tallies = [native.data_tally for native in natives]
        new, stored, dense, blank, entropy, sampled = (sum(figures) for figures in zip(*tallies, strict=True))
        mean = round(entropy / sampled, 3) if sampled else 0.0
        return NewContent(read_bytes, int(new), int(stored), int(dense), int(blank) + self.beside.blank_bytes, mean)

    def _upload(self, pack: _native.Pack) -> None:
        try:
            self._store(pack)
        finally:
            self._room.release()

    def _store(self, pack: _native.Pack) -> None:
        name = pack.finish(self.files.sealer.native)
        with memoryview(pack) as content:
            self.files.vault.put(self.files.key("data", name.hex()), Summed.of([content], name))
        _release(pack)
        with self._lock:
            self.claims.rely(self.index.native.add_stored(pack))
            self._unsaved.append(pack)
            self._unsaved_blobs += pack.blob_count
            late = clock.monotonic() - self._saved_at > self.options.index_seconds
            if late or self._unsaved_blobs >= self.options.index_blobs:
                self._save_index()

    def _save_index(self) -> None:
        """Save what is not saved yet, in files of bearable size; the caller holds the lock."""
        while self._unsaved:
            part: list[_native.Pack] = []
            count = 0
            while self._unsaved and (not part or count + self._unsaved[0].blob_count <= self.options.index_blobs):
                part.append(self._unsaved.pop(0))
                count += part[-1].blob_count
            save_index(self.files, part)
        self._unsaved_blobs = 0
        self._saved_at = clock.monotonic()


def _release(pack: _native.Pack) -> None:
    """Give the memory of a stored pack back."""
    try:
        pack.release()
    except BufferError:
        # A try that failed before the one that stored it may have left views of it in its traceback, which is a cycle.
        gc.collect()
        pack.release()
