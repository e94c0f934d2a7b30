"""The manifest of a point: every entry with its object, its size and its checksums, to be read without this product.

JSON Lines, compressed with gzip. The first line says what follows; each other one is an entry, folders before what is
in them. A path that is no UTF-8 is there in base64 too (``path_raw``). `sha256` is of the whole file, `crc32c` (base64,
as Google writes it) is there for files of several parts. The snapshot, which is sealed, tells the manifest's name,
size and SHA-256: so it is as authentic as that is. docs/reference/formats.md has an example.
"""

import base64
import hashlib
import secrets
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from cto_backups.core.payloads import Node
from cto_backups.core.trees import EntryKind
from cto_backups.errors import DamageError, VaultError
from cto_backups.exports.files import ExportFiles, object_of
from cto_backups.exports.layout import OBJECTS
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, Index
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.snapshot import Snapshot
from cto_backups.repository.tree import decode_tree

FORMAT = "cto.backups manifest 1"
FOLDER = "manifests"

_LEVEL = 6  # of gzip
_TOGETHER = 1 << 20
_STRETCH = 16 << 20


def write_manifest(files: ExportFiles, index: Index, root: bytes, time: str) -> dict[str, Any]:
    """Store the manifest of a tree; its name, size in bytes and SHA-256. Raises DamageError, VaultError."""
    name = f"{time[:10]}-{root.hex()[:12]}-{secrets.token_hex(8)}.jsonl.gz"
    digest, size = hashlib.sha256(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for piece in _packed(files, index, root, time):
            digest.update(piece)
            size += len(piece)
            yield piece

    files.view.store_file(files.key(FOLDER, name), pieces())
    return {"name": name, "size": size, "sha256": digest.hexdigest()}


def make_again(files: ExportFiles, index: Index, snapshot: Snapshot) -> bool:
    """Store the manifest that a snapshot tells of once more, made from the tree; false where it comes out otherwise.

    It does so where an object has been stored anew since, or gzip has become another. Raises DamageError, VaultError.
    """
    name, time = name_of(snapshot.document), snapshot.time.isoformat()
    if name is None:
        return False
    digest = hashlib.sha256()
    for piece in _packed(files, index, snapshot.tree, time):
        digest.update(piece)
    if digest.hexdigest() != snapshot.document["manifest"].get("sha256"):
        return False
    files.view.store_file(files.key(FOLDER, name), _packed(files, index, snapshot.tree, time), overwrite=True)
    return True


def _packed(files: ExportFiles, index: Index, root: bytes, time: str) -> Iterator[bytes]:
    packer = zlib.compressobj(_LEVEL, wbits=31)
    for text in _texts(_lines(files, index, root, time)):
        yield packer.compress(text)
    yield packer.flush()


def name_of(document: dict[str, Any]) -> str | None:
    """The name of the manifest that a snapshot tells of."""
    told = document.get("manifest")
    name = told.get("name") if isinstance(told, dict) else None
    return name if isinstance(name, str) and "/" not in name else None


def wrong_with(files: ExportFiles, document: dict[str, Any]) -> str | None:
    """What is wrong with the manifest that a snapshot tells of; None when it is as it was stored."""
    name = name_of(document)
    if name is None:
        return "the snapshot tells of none"
    key = files.key(FOLDER, name)
    digest = hashlib.sha256()
    try:
        size = files.vault.size(key)
        for offset in range(0, size, _STRETCH):
            digest.update(files.vault.read(key, offset, min(_STRETCH, size - offset)))
    except VaultError as error:
        return error.why or error.what
    return None if digest.hexdigest() == document["manifest"].get("sha256") else "it is not what the snapshot says"


def _texts(lines: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """Lines of JSON, many together."""
    together: list[bytes] = []
    size = 0
    for line in lines:
        together.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        size += len(together[-1])
        if size >= _TOGETHER:
            yield b"".join(together)
            together, size = [], 0
    yield b"".join(together)


def _lines(files: ExportFiles, index: Index, root: bytes, time: str) -> Iterator[dict[str, Any]]:
    yield {"format": FORMAT, "root": root.hex(), "time": time, "objects_below": f"{files.prefix}/{OBJECTS}"}
    fetcher = Fetcher(files, index)
    stack = [(b"", root)]
    while stack:
        path, tree = stack.pop()
        for node in decode_tree(fetcher.tree(tree)):
            inner = path + b"/" + node.entry.name
            yield _described(inner, node) | (_stored(files, index, node) if node.entry.kind is EntryKind.FILE else {})
            if node.subtree is not None:
                stack.append((inner, node.subtree))


def _described(path: bytes, node: Node) -> dict[str, Any]:
    entry = node.entry
    line: dict[str, Any] = {"path": path.decode("utf-8", "replace"), "kind": entry.kind.value}
    if "\ufffd" in line["path"]:
        line["path_raw"] = base64.b64encode(path).decode()
    if entry.kind is EntryKind.FILE:
        line["size"] = entry.size
    if entry.linktarget:
        line["target"] = entry.linktarget.decode("utf-8", "replace")
    line |= {"mode": f"{entry.mode & 0o7777:04o}", "mtime_ns": entry.mtime_ns, "uid": entry.uid, "gid": entry.gid}
    if entry.extended:
        line["attributes"] = {
            name.decode("utf-8", "replace"): base64.b64encode(value).decode() for name, value in entry.extended
        }
    return line


def _stored(files: ExportFiles, index: Index, node: Node) -> dict[str, Any]:
    """Where a file's content lies; an empty one lies nowhere."""
    if not node.content:
        return {"sha256": hashlib.sha256(b"").hexdigest()}
    found = object_of(index, files.view, node.content)
    if found is None:
        return {"parts": list(_scattered(files, index, node.content))}
    name = found[0]
    line: dict[str, Any] = {"object": f"{name[:2]}/{name}"}
    if len(name) == 64:
        return line | {"sha256": name}
    parts = files.view.parts(name)
    return line | {
        "sha256": parts.sha256.hex(),
        "crc32c": base64.b64encode(parts.crc32c.to_bytes(4, "big")).decode(),
    }


def _scattered(files: ExportFiles, index: Index, content: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """Where the parts lie of a file whose own object was lost, and that other objects hold."""
    from cto_backups.exports.layout import PART, SEALED_PART, section_of

    for part in content:
        places = index.locate(BlobKind.DATA, part)
        if not places:
            raise DamageError(f"Part {part.hex()[:12]} of a file is missing", why="no index file lists it")
        place = places[0]
        pack = index.pack_name(place.pack)
        line: dict[str, Any] = {"sha256": part.hex(), "size": place.plain or place.length - OVERHEAD}
        if files.view.is_object(pack):
            section = section_of(pack)
            line |= {
                "object": f"{section.object[:2]}/{section.object}",
                "offset": section.start + place.offset // SEALED_PART * PART,
            }
        yield line
