"""Reading blobs back: from the pack that holds them, opened, expanded, and compared with their id."""

import threading
from collections import OrderedDict

from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.blob import Squeezer, identify
from cto_backups.repository.index import BlobKind, Index, Location
from cto_backups.repository.options import MIB
from cto_backups.repository.seal import OVERHEAD, Hand, SealBrokenError
from cto_backups.repository.stored import StoredFiles

_WINDOW = 1 * MIB
_WINDOWS = 32


class Opener:
    """One thread's tools to open blobs."""

    def __init__(self, hand: Hand, squeezer: Squeezer) -> None:
        self.hand = hand
        self.squeezer = squeezer
        self._scratch = bytearray(1 * MIB)

    def verified_form(self, sealed: memoryview, blob: bytes, plain_size: int) -> memoryview:
        """A blob still compressed, valid until the next call. Raises DamageError unless it holds what `blob` names."""
        stored = self.hand.open_into(sealed, self._room(len(sealed)))
        if identify(self.squeezer.expand(stored, plain_size) if plain_size else stored) != blob:
            raise DamageError(f"Blob {blob.hex()[:12]} is damaged", why="its bytes are not what its id says")
        return stored

    def _room(self, needed: int) -> bytearray:
        # A new buffer instead of a grown one: the caller may still hold a view of the last blob.
        if len(self._scratch) < needed:
            self._scratch = bytearray(needed + needed // 4)
        return self._scratch

    def open(self, sealed: memoryview, blob: bytes, plain_size: int) -> memoryview | bytes:
        """A blob's plain bytes, valid until the next call. Raises DamageError unless they are what `blob` names."""
        plain: memoryview | bytes = self.hand.open_into(sealed, self._room(len(sealed)))
        if plain_size:
            plain = self.squeezer.expand(plain, plain_size)
        if identify(plain) != blob:
            raise DamageError(f"Blob {blob.hex()[:12]} is damaged", why="its bytes are not what its id says")
        return plain


class Fetcher:
    """Fetches single blobs, keeping what it read of packs for neighbours. Any thread may call."""

    def __init__(self, files: StoredFiles, index: Index) -> None:
        self.files = files
        self.index = index
        self._local = threading.local()
        self._windows: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def opener(self) -> Opener:
        """The calling thread's opener."""
        opener: Opener | None = getattr(self._local, "opener", None)
        if opener is None:
            opener = self._local.opener = Opener(Hand(self.files.sealer.key), Squeezer(3))
        return opener

    def pack_name(self, number: int) -> str:
        """A pack's name."""
        return self.index.packs[number].hex()

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """Bytes of a pack as they are stored. Raises VaultError."""
        return self.files.vault.read(self.files.key("data", self.pack_name(pack)), offset, length)

    def tree(self, blob: bytes) -> bytes:
        """A tree's plain bytes. Raises DamageError, VaultError."""
        return self._any_place(BlobKind.TREE, blob)

    def data(self, blob: bytes) -> bytes:
        """A data blob's plain bytes. Raises DamageError, VaultError."""
        return self._any_place(BlobKind.DATA, blob)

    def _any_place(self, kind: BlobKind, blob: bytes) -> bytes:
        """From the first place where the blob is intact."""
        problem: DamageError | VaultError | None = None
        for place in self.index.tables[kind].locate(blob):
            try:
                sealed = self._stored(place) if kind is BlobKind.TREE else self.read(*place[:3])
                return bytes(self.opener().open(memoryview(sealed), blob, place.plain))
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
        if problem is None:
            raise DamageError(
                f"{kind.name.capitalize()} blob {blob.hex()[:12]} is missing",
                why="no readable index file of the repository lists it",
            )
        raise problem

    def _stored(self, place: Location) -> bytes:
        if place.length < OVERHEAD:
            raise DamageError("An index entry is damaged", why="it lists a blob shorter than its seal")
        first, last = place.offset // _WINDOW, (place.offset + place.length - 1) // _WINDOW
        if last - first > 2:
            return self.read(place.pack, place.offset, place.length)
        parts = b"".join(self._window(place.pack, number) for number in range(first, last + 1))
        start = place.offset - first * _WINDOW
        return parts[start : start + place.length]

    def _window(self, pack: int, number: int) -> bytes:
        key = pack, number
        with self._lock:
            window = self._windows.get(key)
            if window is not None:
                self._windows.move_to_end(key)
                return window
        start = number * _WINDOW
        window = self.read(pack, start, min(_WINDOW, self.index.pack_ends[pack] - start))
        with self._lock:
            self._windows[key] = window
            while len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
        return window
