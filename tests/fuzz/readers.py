"""Every reader of stored bytes, each with valid content to start from: what it may do with any other is fail as ours.

What is sealed is changed before it is sealed, with the key of the tests, and stored under the name that fits: the seal
and the names, which stop anybody without the key, do not hide what stands behind them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import store_tree

from cto_backups import _native
from cto_backups.core.vaults import Vault
from cto_backups.errors import BackupsError, DamageError
from cto_backups.evidence.records import Record, SigningKey, sign, verify_chain
from cto_backups.repository.index import Index, load_index
from cto_backups.repository.keys import open_key
from cto_backups.repository.locks import read_locks
from cto_backups.repository.marks import load_marks
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.seal import MasterKey, Sealer
from cto_backups.repository.snapshot import list_committed, load_snapshot
from cto_backups.repository.store import RepositoryStore
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.tree import decode_tree
from cto_backups.vaults.local import LocalVault
from fuzz.mutate import Choose, mutated, spoiled

PREFIX = "repositories/main"
PASSWORD = "secret"
SEALER = Sealer(MasterKey.from_bytes(bytes(range(64))))
SIGNER = SigningKey(bytes(32))
MOMENT = "2026-01-01T12:00:00.5Z"


@dataclass(frozen=True)
class Reader:
    """`valid` content, as a JSON document or bytes; `read` reads it, and may raise nothing but BackupsError."""

    valid: tuple[Any, ...]
    read: Callable[[bytes], None]

    def content(self, choose: Choose) -> bytes:
        """Content made wrong."""
        valid = self.valid[choose(len(self.valid))]
        return spoiled(valid, choose) if isinstance(valid, bytes) else mutated(valid, choose)

    def fails_as_ours(self, content: bytes) -> bool:
        """Whether it refused the content, which must be with an error that says something."""
        try:
            self.read(content)
        except BackupsError as error:
            assert error.what
            return True
        return False


def _stored(folder: str, plain: bytes) -> tuple[StoredFiles, str]:
    files = StoredFiles(MemoryVault(), PREFIX, SEALER)
    return files, files.save_plain(folder, plain)


def _snapshot(plain: bytes) -> None:
    files, name = _stored("snapshots", plain)
    for committed in list_committed(files, {}):
        assert committed.time.tzinfo
    load_snapshot(files, name).committed()


def _index(plain: bytes) -> None:
    files, _ = _stored("index", plain)
    index = load_index(files)
    for kind, blob, place in index.blobs_in(range(index.pack_count)):
        assert place in index.locate(kind, blob)
        assert index.pack_end(place.pack) >= place.offset + place.length
    if index.damages:
        raise DamageError("An index file is damaged", why=index.damages[0][1])


def _locks(plain: bytes) -> None:
    files, _ = _stored("locks", plain)
    locks, damaged = read_locks(files)
    for lock in locks:
        lock.stale(datetime(2026, 1, 2, tzinfo=UTC), "elsewhere")
        assert str(lock)
    assert len(locks) + len(damaged) == 1


def _marks(plain: bytes) -> None:
    files, _ = _stored("unlisted", plain)
    for since in load_marks(files)[0].values():
        assert since.tzinfo


def _tree(plain: bytes) -> None:
    for node in decode_tree(plain):
        assert b"/" not in node.entry.name
    _native.Needs(_native.BlobIndex()).enter(plain)
    _native.tree_references(plain)


def _header(plain: bytes) -> None:
    """A pack's header that opens; of any pack that is long enough for its first length."""
    body = bytes(200)
    sealed = SEALER.seal(plain)
    pack = body + sealed + len(sealed).to_bytes(4, "little")
    blobs = _native.read_header(SEALER.native, sealed, len(body))
    assert sum(blob[3] for blob in blobs) == len(body)
    index = Index()
    index.add_pack(hashlib.sha256(pack).digest(), [])
    _native.check_pack(index.native, SEALER.native, 0, pack)


def _pack(content: bytes) -> None:
    index = Index()
    index.add_pack(hashlib.sha256(content).digest(), [])
    _native.check_pack(index.native, SEALER.native, 0, content)


def _blob(content: bytes) -> None:
    """What opens as a blob, and is not what its id or its size says."""
    size = int.from_bytes(content[:4], "little")
    _native.open_blob(SEALER.native, SEALER.seal(content[4:]), bytes(32), size)


def _file(content: bytes) -> None:
    files, name = StoredFiles(MemoryVault(), PREFIX, SEALER), ""
    sealed = SEALER.seal(content)
    name = hashlib.sha256(sealed).hexdigest()
    files.vault.put(files.key("snapshots", name), [sealed])
    files.load("snapshots", name)


def _seal(content: bytes) -> None:
    SEALER.open(content)


def _key(content: bytes) -> None:
    vault = MemoryVault()
    vault.put(f"{PREFIX}/keys/{hashlib.sha256(content).hexdigest()}", [content])
    open_key(vault, PREFIX, PASSWORD)


@cache
def _repository() -> MemoryVault:
    """A small repository that nothing is wrong with."""
    vault = MemoryVault()
    options = RepositoryOptions(scrypt=ScryptParameters(n=2))
    store = RepositoryStore.create(
        vault, PREFIX, PASSWORD, now=datetime(2026, 1, 1, tzinfo=UTC), hostname="h", username="u", options=options
    )
    store_tree(store, MemoryTree({b"a": b"a" * 1000, b"d": {b"b": b"b"}}))
    return vault


def _opened(vault: Vault) -> RepositoryStore:
    return RepositoryStore.open(vault, PREFIX, PASSWORD)


def _config(plain: bytes) -> None:
    vault = MemoryVault()
    vault.files = dict(_repository().files)
    sealer = _opened(vault).files.sealer
    vault.files[f"{PREFIX}/config"] = sealer.seal(plain)
    assert _opened(vault).polynomial


def _record(content: bytes) -> None:
    record = Record.from_bytes(content)
    assert isinstance(record.faults(), tuple)
    assert record.key and record.kind and record.signer is not None
    verify_chain([record])


def _marker(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "vault.json").write_bytes(content)
        assert isinstance(LocalVault("v", Path(folder)).identity, str)


def _key_file() -> Any:
    vault = _repository()
    (key,) = vault.keys("/keys/")
    return orjson.loads(vault.files[key])


def _pack_file() -> bytes:
    vault = _repository()
    return vault.files[vault.keys("/data/")[0]]


SNAPSHOT = {
    "time": MOMENT, "tree": "ab" * 32, "paths": ["/a"], "hostname": "h", "username": "u", "uid": 0, "gid": 0,
    "parent": "cd" * 32, "tags": ["x"], "program_version": "p", "original": "ef" * 32,
    "summary": {"backup_start": MOMENT, "files_new": 1},
}  # fmt: skip
NODE = {
    "name": "file", "type": "file", "mode": 420, "mtime": MOMENT, "atime": MOMENT, "ctime": MOMENT, "uid": 1, "gid": 2,
    "user": "u", "group": "g", "inode": 3, "device_id": 4, "size": 5, "links": 1, "content": ["ab" * 32],
    "extended_attributes": [{"name": "user.x", "value": "AAA="}],
}  # fmt: skip
TREE = {
    "nodes": [
        NODE,
        {"name": "folder", "type": "dir", "mode": 2147484141, "mtime": MOMENT, "subtree": "cd" * 32},
        {"name": "link", "type": "symlink", "mode": 134218239, "linktarget": "x", "linktarget_raw": "eA=="},
        {"name": "null", "type": "chardev", "mode": 69206454, "device": 259},
    ]
}
INDEX = {
    "supersedes": ["ab" * 32],
    "packs": [
        {
            "id": "ab" * 32,
            "blobs": [
                {"id": "cd" * 32, "type": "data", "offset": 0, "length": 38, "uncompressed_length": 20},
                {"id": "ef" * 32, "type": "tree", "offset": 38, "length": 64},
            ],
        }
    ],
}
LOCK = {
    "time": MOMENT, "exclusive": True, "hostname": "h", "username": "u", "pid": 1234567, "uid": 0, "gid": 0,
}  # fmt: skip
MARKS = {"packs": [{"id": "ab" * 32, "since": MOMENT}, {"id": "cd" * 32, "since": MOMENT}]}
CONFIG = {"version": 2, "id": "ab" * 32, "chunker_polynomial": "25b468838dcb75"}
HEADER = bytes([0]) + (100).to_bytes(4, "little") + bytes(32)
SQUEEZED = bytes([3]) + (100).to_bytes(4, "little") + (500).to_bytes(4, "little") + bytes(32)
ENVELOPE = sign(
    SIGNER, "run", {"a": 1, "b": [None, "é"]}, sequence=1, previous=None, written_at=datetime(2026, 1, 1, tzinfo=UTC)
).to_bytes()

READERS = {
    "blob": Reader((b"\x05\0\0\0" + _native.compress_file(b"hello"), b"\0\0\0\0plain"), _blob),
    "config": Reader((CONFIG,), _config),
    "header": Reader((HEADER + SQUEEZED, SQUEEZED + SQUEEZED, HEADER), _header),
    "index": Reader((INDEX,), _index),
    "key": Reader((_key_file(),), _key),
    "lock": Reader((LOCK,), _locks),
    "marker": Reader(({"format": 1, "id": "ab" * 16},), _marker),
    "marks": Reader((MARKS,), _marks),
    "pack": Reader((_pack_file(),), _pack),
    "record": Reader((ENVELOPE, orjson.loads(ENVELOPE)), _record),
    "seal": Reader((SEALER.seal(b"hello"),), _seal),
    "snapshot": Reader((SNAPSHOT,), _snapshot),
    "stored file": Reader((b"\x02" + _native.compress_file(orjson.dumps(SNAPSHOT)), b"{}"), _file),
    "tree": Reader((TREE,), _tree),
}
