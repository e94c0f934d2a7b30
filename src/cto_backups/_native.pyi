"""The inner loops, in Rust (native/). Ids of blobs and names of packs are 32 bytes; kinds of blobs: 0 data, 1 tree."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, TypeVar, final

from cto_backups.core.trees import Buffer, Entry, EntryKind

# -- repository ----------------------------------------------------------------------------------------------------

@final
class Sealer:
    """Seals and opens with one master key. Any thread may call."""

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None: ...
    def seal(self, plain: Buffer) -> bytes: ...
    def open(self, sealed: Buffer) -> bytes: ...

@final
class BlobIndex:
    """Where every blob of a repository lies, at well under a hundred bytes a blob. Any thread may call."""

    def __init__(self) -> None: ...
    def load(self, plain: Buffer, usable: Mapping[bytes, int] | None = None) -> tuple[int, list[bytes]]: ...
    def add_pack(self, pack: bytes, blobs: Sequence[tuple[int, bytes, int, int, int]]) -> int: ...
    def add_stored(self, pack: Pack) -> int: ...
    @property
    def pack_count(self) -> int: ...
    def pack(self, number: int) -> tuple[bytes, int, int]: ...
    def count(self, kind: int) -> int: ...
    def pack_of(self, kind: int, blob: bytes) -> int: ...
    def locate(self, kind: int, blob: bytes) -> list[tuple[int, int, int, int]]: ...
    def only(self, packs: AbstractSet[int]) -> BlobIndex: ...
    def listing(self, start: int, most_blobs: int) -> tuple[bytes, int]: ...
    def blobs_in(self, packs: AbstractSet[int]) -> list[tuple[int, bytes, tuple[int, int, int, int]]]: ...

@final
class Needs:
    """What snapshots need, at a bit a blob of the index. One thread walks; any may ask."""

    def __init__(self, index: BlobIndex) -> None: ...
    def add(self, tree: bytes) -> None: ...
    def next(self) -> bytes | None: ...
    def enter(self, plain: Buffer) -> None: ...
    def has(self, kind: int, blob: bytes) -> bool: ...
    def missing(self, kind: int) -> list[bytes]: ...
    def packs(self) -> set[int]: ...
    def uses(
        self, damaged: AbstractSet[tuple[int, bytes, int]]
    ) -> tuple[list[tuple[int, int, int, int]], list[tuple[int, bytes, int]], int]:
        """For each pack by number: kinds in it (1 data, 2 trees, 3 both), bytes used and unused, blobs used.

        Then the needed blobs that lie in several packs, each with the pack that it is needed of, and how many places
        that is beyond one each. `damaged` places are not relied on.
        """

    def held_in(self, packs: AbstractSet[int]) -> list[tuple[int, bytes, tuple[int, int, int, int]]]: ...

@final
class Claims:
    """Which blobs a run stores, and which it found to be there. Any thread may call."""

    def __init__(self, index: BlobIndex) -> None: ...
    def has(self, kind: int, blob: bytes) -> bool: ...
    def rely(self, pack: int) -> None: ...
    @property
    def relied(self) -> set[int]: ...

@final
class Pack:
    """A pack that is complete or as full as it will get; a buffer of its bytes once it is finished."""

    @property
    def kind(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def blob_count(self) -> int: ...
    def absorb(self, other: Pack) -> None: ...
    def finish(self, sealer: Sealer) -> bytes: ...
    def release(self) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Nodes:
    """The nodes of one folder, in the order of its entries, known one by one. Any thread may call."""

    def __init__(self, count: int) -> None: ...
    def compare(
        self, entries: list[Entry], parent: bytes | None, claims: Claims
    ) -> tuple[list[int], list[int], list[tuple[int, bytes | None]], set[int] | None, int, int, int]: ...
    def file(self, place: int, entry: Entry, content: str, size: int) -> None: ...
    def folder(self, place: int, entry: Entry, subtree: bytes) -> None: ...
    def leave_out(self, place: int) -> None: ...
    def json(self) -> bytes: ...

@final
class Bench:
    """One worker thread's tools. Every call may complete packs: fetch them with `take_full`."""

    def __init__(self, sealer: Sealer, claims: Claims, level: int, verify_one_in: int, pack_bytes: int) -> None: ...
    def save(self, kind: int, plain: Buffer) -> bytes: ...
    def save_files(self, contents: Sequence[bytes | None]) -> tuple[list[str | None], list[int]]: ...
    def save_tree(self, nodes: Nodes) -> bytes: ...
    def copy(self, origin: Sealer, kind: int, blob: bytes, sealed: Buffer, plain_size: int) -> int | None: ...
    def take_full(self) -> list[Pack]: ...
    def take_unfilled(self, kind: int) -> Pack | None: ...
    @property
    def added_bytes(self) -> int: ...
    @property
    def added_blobs(self) -> int: ...
    @property
    def data_tally(self) -> tuple[int, int, int, int, float, int]: ...

@final
class Folders:
    """The destination's folders by number (0 is the destination), opened when asked for; for one thread. No link is
    followed below the destination. Raises OSError."""

    def __init__(self, destination: bytes, parents: Sequence[int], names: Sequence[bytes]) -> None: ...
    def descriptor(self, number: int) -> int:
        """A descriptor of a folder, valid until the next call."""

    def sync(self) -> None:
        """Bring everything that was written to the destination's file system to its disk."""

_Metadata = tuple[int, int, int, int, tuple[tuple[bytes, bytes], ...]]
_Place = tuple[int, bytes, bytes | None, int, bool, _Metadata | None]
_Lack = tuple[int, bytes, int]
_Expected = tuple[int, bytes, int, int, bytes, _Metadata, int, int, Sequence[bytes]]
_Seen = tuple[int, int, int, tuple[int, int], int, list[int], list[tuple[int, bytes]]]

def write_parts(
    folders: Folders,
    sealer: Sealer,
    sealed: Buffer,
    parts: Sequence[tuple[int, int, bytes, int, Sequence[_Place]]],
    owners: bool,
) -> list[list[tuple[int, list[_Lack]]] | None]:
    """Write a stretch of a pack: parts of (offset in `sealed`, length, blob, plain size, places in files).

    A place is folder, name, final name if that is another, offset in the file, whether something stands there in the
    file (zeros are written, then), and for a file written whole uid, gid, mode, mtime in nanoseconds, extended
    attributes. For each part None when it cannot be opened, else for each place errno (0: written) and what could not
    be set: 0 owner, 1 extended attribute, 2 mode, 3 time; which; errno.
    """

def compare_entries(
    folders: Folders,
    index: BlobIndex,
    entries: Sequence[_Expected],
    owners: bool,
    trust_times: bool,
    from_disk: bool,
) -> list[_Seen]:
    """Compare what stands in folders with entries of a point.

    An entry is folder, name, format (S_IFMT), device, link target, metadata as in `write_parts`, size, and of a file
    where the next ones of its blobs begin, and these. Seen are errno (0: it is there), format, number of names, device
    and inode, size, where the blobs begin that are intact there, and what differs: 0 owner, 1 extended attribute, 2
    mode, 3 time, 4 link target or device; which. With `trust_times` files of the right size and time are not read;
    with `from_disk` nothing is taken from the cache that the disk can give.
    """

def take_over(
    folders: Folders,
    index: BlobIndex,
    folder: int,
    name: bytes,
    copy: bytes,
    start: int,
    blobs: Sequence[bytes],
    intact: Sequence[int],
) -> list[int]:
    """Copy blobs that begin at `intact`, and are still intact, from a file to the same places of another; which ones.

    `blobs` are some of the file's, from `start` on. Raises OSError.
    """

def compress_file(plain: Buffer) -> bytes: ...
def expand_file(frame: Buffer, limit: int) -> bytes: ...
def open_blob(sealer: Sealer, sealed: Buffer, blob: bytes, plain_size: int) -> bytes: ...
def check_pack(
    index: BlobIndex, sealer: Sealer, number: int, content: Buffer
) -> tuple[str, list[tuple[int, bytes]], int]: ...
def header_room(index: BlobIndex, number: int, size: int) -> int: ...

class Proof:
    """Pieces of a pack, by what its header lists: where each begins and how long it is."""

    def __init__(self, index: BlobIndex, sealer: Sealer, number: int, size: int, tail: Buffer, most: int) -> None: ...
    @property
    def blob_count(self) -> int: ...
    @property
    def pieces(self) -> list[tuple[int, int]]: ...
    def holds(self, sealer: Sealer, piece: int, content: memoryview) -> bool: ...

def decode_tree(
    plain: Buffer, node_class: type[Any], entry_class: type[Any], kinds: Mapping[str, Any]
) -> list[Any]: ...
def tree_references(plain: Buffer) -> tuple[list[bytes], list[bytes]]: ...
def put_files(files: Sequence[tuple[Nodes, int, Entry, str, int]]) -> None: ...
def format_ns(moment: int) -> str: ...
def parse_ns(text: str) -> int: ...
def return_freed_memory() -> None: ...
def inject_fault(kind: str | None, from_bytes: int = 0) -> None: ...
def index_json(packs: Sequence[Pack]) -> bytes: ...
def read_header(sealer: Sealer, sealed: Buffer, end: int) -> list[tuple[int, bytes, int, int, int]]: ...

# -- sources

_E = TypeVar("_E")
_Picked = tuple[int, bytes, Entry, bytes]
_Trouble = tuple[bytes, int, bool]

def crc32c(content: Buffer, before: int = 0) -> int:
    """The CRC-32C of content, or of what `before` is that of with this content behind it."""

def crc32c_joined(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32C of two contents, one behind the other, by theirs and by how long the second is."""

def token(path: bytes, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> bytes:
    """What identifies one state of one file: 16 bytes."""

def extended_attributes(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Those of the entry at `path` (of a link itself), sorted by name. Raises OSError."""

class KnownDigests:
    """SHA-256 by token, over records of both that begin at `start`. Raises ValueError for a wrong length."""

    def __init__(self, stored: bytes, start: int = 0) -> None: ...
    def __len__(self) -> int: ...
    def get(self, token: bytes) -> bytes | None:
        """The SHA-256 for a token, if it is known."""

class LearnedDigests:
    """Records of files that have not changed since `settled_ns`; what is `known` is not held a second time."""

    def __init__(self, settled_ns: int, known: KnownDigests | None = None) -> None: ...
    def add(self, token: bytes, digest: bytes, changed_ns: int) -> None:
        """Learn a file's SHA-256; `changed_ns` is its mtime or ctime, whichever is later."""

    def part(self, number: int) -> bytes | None:
        """Token and SHA-256 of some of the files; None from some number on."""

class Literals:
    """Names, and absolute paths, to leave out: with a slash at its end one means a folder, else anything else."""

    def __init__(self, names: AbstractSet[bytes], paths: AbstractSet[bytes]) -> None: ...
    def names(self, path: bytes, folder: bool) -> bool:
        """Whether the entry at an absolute path is named."""

def read_files(
    entries: Sequence[Entry], prefix: bytes, cut: int, user: int, tally: Tally, learned: LearnedDigests
) -> tuple[list[bytes | None], list[_Picked]]:
    """The contents of files that are just as they were listed, counted and learned, and whom `tally` tells of.

    None for each file that has changed or cannot be read: nothing of it is counted. As `user`, leave the access times
    of one's own files alone (root: of all files). Raises MemoryError.
    """

class Tally:
    """What was added to a fingerprint so far; any thread may add.

    `roots` are always told of, folders in `above` do not count. `wanted` are the samples or, when it is None, the
    `samples` ones with the smallest hash under `key`. Who is to be told of is a rank (the smallest first), a path
    inside the snapshot, an entry, and its content. Raises ValueError for a key longer than 64 bytes.
    """

    def __init__(
        self,
        key: bytes,
        roots: AbstractSet[bytes],
        above: AbstractSet[bytes],
        wanted: AbstractSet[bytes] | None,
        samples: int,
    ) -> None: ...
    def add(self, path: bytes, entry: Entry, content: bytes) -> int | None:
        """Add one entry; its rank if it is to be told of."""

    def add_listed(self, entries: Sequence[Entry], prefix: bytes, cut: int) -> list[_Picked]:
        """Add those of a folder's entries that are no files; their paths are `prefix` and their own from `cut` on."""

    def add_known(
        self, entries: list[Entry], prefix: bytes, cut: int, learned: LearnedDigests
    ) -> tuple[list[bool], list[_Picked]]:
        """Add those files whose digest is known, and learn it again; which ones those are."""

    def totals(self) -> tuple[tuple[bytes, bytes, bytes, bytes, bytes], tuple[int, int, int, int, int]]:
        """The sums of the records, and what was counted.

        Sums of content, metadata, extended attributes, ownership, hard links; counts of files, folders, symbolic links,
        others, and bytes in the files.
        """

class Lister(Generic[_E]):
    """Lists folders. `make` takes the fields of a `TreeEntry` in their order; `kinds` are by format (S_IFMT).

    With `ahead`, so many threads list folders that were found, and were not chosen, before they are asked for.
    A trouble is a path, an errno, and whether only the extended attributes, which the entry then lacks, are concerned.
    """

    def __init__(
        self,
        make: Callable[..., _E],
        kinds: Mapping[int, EntryKind],
        known: KnownDigests,
        leave_out: Literals,
        ahead: int,
    ) -> None: ...
    def folder(
        self,
        path: bytes,
        choose: Callable[[Sequence[bytes], Sequence[bool]], Sequence[tuple[bool, bool] | None]] | None,
    ) -> tuple[list[_E], list[_Trouble]]:
        """The entries in a folder (empty path: the root), sorted by name.

        What `leave_out` names is not looked at. `choose` decides instead: it is told names, and which are folders, and
        says for each: None to leave it out, or its `inside` and `taken`.
        """

    def one(
        self, name: bytes, path: bytes, follow: bool, inside: bool, taken: bool
    ) -> tuple[_E | None, list[_Trouble]]:
        """The entry at `path`, if it can be looked at."""
