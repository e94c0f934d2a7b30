"""Reading blobs back: from the pack that holds them, opened, expanded, and compared with their id."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from cto_backups import _native
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import ReadingInto, requests_at_once
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.index import BlobKind, Index, Location
from cto_backups.repository.memory import fresh
from cto_backups.repository.options import MIB
from cto_backups.repository.seal import OVERHEAD, SealBrokenError
from cto_backups.repository.stored import StoredFiles


@dataclass(frozen=True, slots=True)
class Reach:
    """How packs are read: about so many bytes in one request, over gaps of so many that nobody wants.

    `window_bytes` are read around a tree, and `windows` of them kept; `piece_bytes` are read at once to be proved. With
    `tail_blobs` blobs come with a pack's header; else it comes alone.
    """

    read_bytes: int
    gap_bytes: int
    window_bytes: int
    windows: int
    piece_bytes: int
    tail_blobs: bool

    def reads(self, length: int) -> int:
        """In how many requests so many bytes are best read."""
        return max(1, round(length / self.read_bytes))


# Larger reads cost more memory than they save in calls; a piece stays in a processor's cache from reading to hashing.
NEAR = Reach(
    read_bytes=2 * MIB, gap_bytes=MIB // 4, window_bytes=MIB // 4, windows=32, piece_bytes=MIB, tail_blobs=False
)
# A request costs what it costs to read some MiB more; each thread has memory for one.
FAR = Reach(read_bytes=8 * MIB, gap_bytes=MIB, window_bytes=2 * MIB, windows=8, piece_bytes=8 * MIB, tail_blobs=True)


class Room:
    """Memory of one thread that is read into again and again."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")

    def of(self, length: int) -> memoryview:
        """So many bytes of it, to be written over by the next who asks.

        Half as much again is kept for the next, which is seldom of the same length; what is not written to costs none.
        """
        if length > self._memory.nbytes:
            self._memory = fresh(length + length // 2)
        return self._memory[:length]


class Fetcher:
    """Fetches single blobs, keeping what it read of packs for neighbours. Any thread may call."""

    def __init__(self, files: StoredFiles, index: Index) -> None:
        self.files = files
        self.index = index
        self.reach = FAR if requests_at_once(files.vault) > 1 else NEAR
        self._into = files.vault if isinstance(files.vault, ReadingInto) else None
        self._windows: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def pack_name(self, number: int) -> str:
        """A pack's name."""
        return self.index.pack_name(number).hex()

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """Bytes of a pack as they are stored. Raises VaultError, also for a vault that gives fewer than it should."""
        content = self.files.vault.read(self.files.key("data", self.pack_name(pack)), offset, length)
        if len(content) != length:
            raise VaultError(
                f"Vault {self.files.vault.name} gave a part of pack {self.pack_name(pack)[:12]} of the wrong length",
                why=f"{length} bytes from {offset} were asked for, {len(content)} came",
                todo="verify this vault",
            )
        return content

    def read_into(self, pack: int, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with bytes of a pack as they are stored. Raises as `read` does."""
        if self._into is not None:
            self._into.read_into(self.files.key("data", self.pack_name(pack)), offset, buffer)
        else:
            buffer[:] = self.read(pack, offset, buffer.nbytes)

    def open(self, sealed: Buffer, blob: bytes, plain_size: int) -> bytes:
        """A sealed blob's plain bytes. Raises DamageError unless they are what `blob` names."""
        return _native.open_blob(self.files.sealer.native, sealed, blob, plain_size)

    def tree_if_readable(self, blob: bytes | None) -> bytes | None:
        """A parent's tree; None when there is none, or it cannot be read: then everything is read anew."""
        if blob is None:
            return None
        try:
            return self.tree(blob)
        except (DamageError, VaultError):
            return None

    def tree(self, blob: bytes) -> bytes:
        """A tree's plain bytes. Raises DamageError, VaultError."""
        return self._any_place(BlobKind.TREE, blob)

    def data(self, blob: bytes) -> bytes:
        """A data blob's plain bytes. Raises DamageError, VaultError."""
        return self._any_place(BlobKind.DATA, blob)

    def _any_place(self, kind: BlobKind, blob: bytes) -> bytes:
        """From the first place where the blob is intact."""
        problem: DamageError | VaultError | None = None
        for place in self.index.locate(kind, blob):
            try:
                sealed = self._stored(place) if kind is BlobKind.TREE else self.read(*place[:3])
                return self.open(sealed, blob, place.plain)
            except SealBrokenError as error:
                problem = DamageError(
                    f"Pack {self.pack_name(place.pack)[:12]} is damaged", why=f"blob {blob.hex()[:12]}: {error.why}"
                )
            except DamageError as error:
                problem = DamageError(
                    f"Pack {self.pack_name(place.pack)[:12]} is damaged", why=f"{error.what}: {error.why}"
                )
            except VaultError as error:
                problem = error
        raise problem or missing(kind, blob)

    def _stored(self, place: Location) -> bytes:
        if place.length < OVERHEAD:
            raise DamageError("An index entry is damaged", why="it lists a blob shorter than its seal")
        size = self.reach.window_bytes
        first, last = place.offset // size, (place.offset + place.length - 1) // size
        if last - first > 2:
            return self.read(place.pack, place.offset, place.length)
        parts = b"".join(self._window(place.pack, number) for number in range(first, last + 1))
        start = place.offset - first * size
        return parts[start : start + place.length]

    def _window(self, pack: int, number: int) -> bytes:
        key = pack, number
        with self._lock:
            window = self._windows.get(key)
            if window is not None:
                self._windows.move_to_end(key)
                return window
        size = self.reach.window_bytes
        start = number * size
        window = self.read(pack, start, min(size, self.index.pack_end(pack) - start))
        with self._lock:
            self._windows[key] = window
            while len(self._windows) > self.reach.windows:
                self._windows.popitem(last=False)
        return window


def missing(kind: BlobKind, blob: bytes) -> DamageError:
    """What to say of a blob that is nowhere."""
    return DamageError(
        f"{kind.name.capitalize()} blob {blob.hex()[:12]} is missing",
        why="no readable index file of the repository lists it",
    )
