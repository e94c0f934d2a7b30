"""A vault as the code of repositories sees it where objects lie: each section of an object looks like a pack.

Nothing that is shown so is stored: plain bytes are sealed as they are read, and the header is made from what is known
of the parts. So whoever asks for a blob opens and compares it, as with any pack. `layout` has the places and sizes.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from cto_backups.core.object_locks import FileLock, Hidden, Locking
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import (
    HoldingVault,
    LockingVault,
    StoredFile,
    Streaming,
    Sweeping,
    Vault,
    locking_of,
    requests_at_once,
)
from cto_backups.errors import DamageError, VaultMissingError
from cto_backups.exports import layout
from cto_backups.exports.holds import ViewedHolds
from cto_backups.exports.layout import PART, SEALED_PART, SECTION, Section
from cto_backups.exports.parts import Parts, decoded
from cto_backups.repository.layout import below
from cto_backups.repository.seal import OVERHEAD, Sealer
from cto_backups.repository.stored import is_name

_PARTS_KEPT = 32


class ObjectsView:
    """Implements `core.vaults.Vault` over another one; below ``<prefix>/data`` keys are those of packs. Thread-safe."""

    def __init__(self, vault: Vault, prefix: str, sealer: Sealer) -> None:
        self.vault = vault
        self._prefix = prefix
        self._data = below(prefix, "data")
        self._sealer = sealer
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._trees: set[str] | None = None
        self._parts: OrderedDict[str, Parts] = OrderedDict()

    # -- objects ------------------------------------------------------------------------------------------------------

    def object_key(self, name: str) -> str:
        """Where an object lies in the vault."""
        return below(self._prefix, f"{layout.OBJECTS}/{name[:2]}/{name}")

    def objects(self) -> dict[str, int]:
        """Every object that is there, with its size in bytes."""
        found = {}
        for file in self.vault.list(f"{self._data}/objects"):
            name = file.key.rpartition("/")[2]
            if layout.is_object_name(name) and file.key == self.object_key(name):
                found[name] = file.size_bytes
        with self._lock:
            self._sizes = dict(found)
        return found

    def object_size(self, name: str) -> int:
        """An object's size in bytes, as it was when it was last looked at. Raises VaultMissingError."""
        size = self._sizes.get(name)
        if size is None:
            size = self._sizes[name] = self.vault.size(self.object_key(name))
        return size

    def has_size(self, name: str, size: int) -> bool:
        """Whether an object is there, and just so large."""
        try:
            return self.object_size(name) == size
        except VaultMissingError:
            return False

    def store_object(self, name: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        """Store an object piece by piece. Raises what the pieces raise, and what any vault raises."""
        self.store_file(self.object_key(name), pieces, overwrite=overwrite)
        self._sizes.pop(name, None)

    def store_file(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        """Store a file piece by piece, where the vault can. Raises what the pieces raise, and what any vault raises."""
        if isinstance(self.vault, Streaming) and not isinstance(pieces, Sequence):
            self.vault.put_stream(key, pieces, overwrite=overwrite)
        else:
            self.vault.put(key, list(pieces), overwrite=overwrite)

    def delete_object(self, name: str) -> None:
        """Remove an object, and what is known of its parts; fine when it is gone already."""
        self.vault.delete(self.object_key(name))
        self._sizes.pop(name, None)
        if len(name) != 64:
            self.vault.delete(self.parts_key(name))

    # -- what is known of parts ---------------------------------------------------------------------------------------

    def parts_key(self, name: str) -> str:
        """Where that lies in the vault."""
        return below(self._prefix, f"parts/{name[:2]}/{name}")

    def parts(self, name: str) -> Parts:
        """What is known of an object with a random id. Raises DamageError, VaultError."""
        with self._lock:
            known = self._parts.get(name)
        if known is None:
            known = decoded(self._sealer.open(self.vault.read(self.parts_key(name))), name)
            self._remember(known)
        return known

    def store_parts(self, parts: Parts, *, overwrite: bool = False) -> None:
        """Store it, once its object is stored."""
        sealed = self._sealer.seal(parts.encoded())
        self.vault.put(self.parts_key(parts.object), [sealed], overwrite=overwrite)
        self._remember(parts)

    def _remember(self, parts: Parts) -> None:
        with self._lock:
            self._parts[parts.object] = parts
            while len(self._parts) > _PARTS_KEPT:
                self._parts.popitem(last=False)

    def forget(self) -> None:
        """Look at everything anew from now on."""
        with self._lock:
            self._sizes.clear()
            self._parts.clear()
            self._trees = None

    # -- as a vault ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self.vault.name

    @property
    def requests_at_once(self) -> int:
        """How many requests to have under way."""
        return requests_at_once(self.vault)

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return self.vault.location

    def check(self) -> None:
        """Raise VaultMissingError when the vault is not there."""
        self.vault.check()

    def create(self) -> None:
        """Make the vault's root; fine when it is there already."""
        self.vault.create()

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store a file; a pack is one of trees, since objects are stored by `store_object`."""
        pack = self._pack(key)
        if pack is None:
            self.vault.put(key, parts, overwrite=overwrite)
            return
        self.vault.put(self.tree_key(pack), parts, overwrite=overwrite)
        with self._lock:
            if self._trees is not None:
                self._trees.add(pack)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all. Raises DamageError when a header cannot be made."""
        pack = self._pack(key)
        if pack is None:
            return self.vault.read(key, offset, length)
        if not self._is_tree(pack):
            try:
                return self._read_section(bytes.fromhex(pack), offset, length)
            except VaultMissingError:
                if not self._is_tree(pack, anew=True):
                    raise
        return self.vault.read(self.tree_key(pack), offset, length)

    def size(self, key: str) -> int:
        """Size in bytes; of a section, as a pack. Raises VaultMissingError."""
        pack = self._pack(key)
        if pack is None:
            return self.vault.size(key)
        if self._is_tree(pack):
            return self.vault.size(self.tree_key(pack))
        return layout.pack_bytes(self._plain_size(layout.section_of(bytes.fromhex(pack))))

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix`; in the place of packs, all of those."""
        if prefix.rstrip("/") != self._data:
            yield from self.vault.list(prefix)
            return
        objects, trees = {}, set()
        for file in self.vault.list(self._data):
            folder, _, name = file.key.removeprefix(f"{self._data}/").rpartition("/")
            if file.key == self.tree_key(name) and is_name(name):
                trees.add(name)
                yield StoredFile(self._pack_key(name), file.size_bytes)
            elif folder.startswith("objects/") and layout.is_object_name(name) and file.key == self.object_key(name):
                objects[name] = file.size_bytes
                for number, pack in enumerate(layout.section_names(name, file.size_bytes)):
                    plain = min(SECTION, file.size_bytes - number * SECTION)
                    yield StoredFile(self._pack_key(pack.hex()), layout.pack_bytes(plain))
            else:
                yield file
        with self._lock:
            self._sizes, self._trees = objects, trees

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already. A section goes with all of its object."""
        pack = self._pack(key)
        if pack is None:
            self.vault.delete(key)
        elif self._is_tree(pack):
            self.vault.delete(self.tree_key(pack))
        else:
            self.delete_object(layout.section_of(bytes.fromhex(pack)).object)

    def sweep(self) -> int:
        """Remove the temporary files of dead writers; how many."""
        return self.vault.sweep() if isinstance(self.vault, Sweeping) else 0

    @property
    def locking(self) -> Locking | None:
        """How the vault locks what it stores; None when it does not."""
        return locking_of(self.vault)

    def lock_of(self, key: str) -> FileLock | None:
        """The lock of a stored file; of a section, the one that lasts longest of what goes with it."""
        found = []
        for place in self.places(key):
            with suppress(VaultMissingError):
                found.append(self._locked.lock_of(place))
        return max((lock for lock in found if lock is not None), key=lambda lock: lock.until, default=None)

    def lock(self, key: str) -> FileLock | None:
        """Lock a stored file for a whole window from now; a section with all of its object."""
        locks = [self._locked.lock(place) for place in self.places(key)]
        return None if None in locks else min(filter(None, locks), key=lambda lock: lock.until)

    @property
    def legal_holds(self) -> ViewedHolds:
        """The holds of the vault's store; of a section, those on all that goes with it."""
        assert isinstance(self.vault, HoldingVault), "asked only where `locking` says so"
        return ViewedHolds(self.vault.legal_holds, self.places)

    def hidden(self) -> Iterator[Hidden]:
        """What was deleted or replaced in the vault while its lock stands."""
        return self._locked.hidden()

    def bring_back(self, hidden: Hidden) -> None:
        """Let it be read again, as it was."""
        self._locked.bring_back(hidden)

    # -- how ----------------------------------------------------------------------------------------------------------

    def is_object(self, pack: bytes) -> bool:
        """Whether a pack's name is of a section of an object."""
        return not self._is_tree(pack.hex())

    def _pack(self, key: str) -> str | None:
        """The name of the pack that a key means, if it means one."""
        name = key.rpartition("/")[2]
        return name if key.startswith(self._data) and is_name(name) and key == self._pack_key(name) else None

    @property
    def _locked(self) -> LockingVault:
        assert isinstance(self.vault, LockingVault), "asked only where `locking` says so"
        return self.vault

    def places(self, key: str) -> Sequence[str]:
        """Where in the vault a file lies, with what is deleted with it."""
        pack = self._pack(key)
        if pack is None:
            return [key]
        if self._is_tree(pack):
            return [self.tree_key(pack)]
        name = layout.section_of(bytes.fromhex(pack)).object
        return [self.object_key(name), *([self.parts_key(name)] if len(name) != 64 else [])]

    def _pack_key(self, name: str) -> str:
        return f"{self._data}/{name[:2]}/{name}"

    def tree_key(self, name: str) -> str:
        """Where a pack of trees lies."""
        return f"{self._data}/trees/{name[:2]}/{name}"

    def _is_tree(self, pack: str, *, anew: bool = False) -> bool:
        """Whether it is a pack of trees, by a listing of those, which are few."""
        trees = self._trees
        if trees is None or anew:
            trees = {file.key.rpartition("/")[2] for file in self.vault.list(f"{self._data}/trees")}
            with self._lock:
                self._trees = trees
        return pack in trees

    def _plain_size(self, section: Section) -> int:
        return min(SECTION, self.object_size(section.object) - section.start)

    def _read_section(self, pack: bytes, offset: int, length: int | None) -> bytes:
        section = layout.section_of(pack)
        if length is not None and offset % SEALED_PART == 0 and section.object not in self._sizes:
            return self._sealed(section, offset // SEALED_PART, length)  # whole blobs: nobody asks for less of them
        plain = self._plain_size(section)
        body, whole = layout.body_bytes(plain), layout.pack_bytes(plain)
        end = whole if length is None else offset + length
        if end <= body and offset % SEALED_PART == 0:
            return self._sealed(section, offset // SEALED_PART, end - offset)
        content = b""
        begins = offset
        if offset < body:
            # Of a part of which only the end is caught by a range that goes on into the header, nobody reads anything.
            first = -(-offset // SEALED_PART)
            begins = min(first * SEALED_PART, body)
            content = self._sealed(section, first, body - begins) if begins < body else b""
        content += self._header(section, plain)[max(begins - body, 0) :]
        return (bytes(begins - offset) + content)[: end - offset]

    def _sealed(self, section: Section, first: int, length: int) -> bytes:
        """Whole parts from the `first` on, sealed, which together are `length` bytes."""
        count = -(-length // SEALED_PART)
        start = section.start + first * PART
        plain = self.vault.read(self.object_key(section.object), start, length - OVERHEAD * count)
        seal = self._sealer.seal
        if count == 1:
            return seal(plain)
        view = memoryview(plain)
        return b"".join(seal(view[at : at + PART]) for at in range(0, len(plain), PART))

    def _header(self, section: Section, plain: int) -> bytes:
        """The sealed header of a section and its length behind it."""
        if len(section.object) == 64:
            ids: Sequence[bytes] = [bytes.fromhex(section.object)]
        else:
            first = section.start // PART
            ids = self.parts(section.object).ids[first : first + layout.PARTS]
        if len(ids) != -(-plain // PART):
            raise DamageError(
                f"Object {section.object[:12]} is damaged", why=f"it is not of the size that is known of it: {plain}"
            )
        sizes = (min(PART, plain - number * PART) + OVERHEAD for number in range(len(ids)))
        entries = (b"\0" + size.to_bytes(4, "little") + part for size, part in zip(sizes, ids, strict=True))
        header = self._sealer.seal(b"".join(entries))
        return header + len(header).to_bytes(4, "little")
