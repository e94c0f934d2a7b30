"""Trees: the JSON of one folder, node for node as restic writes it, and back with nothing taken on trust."""

import base64
import binascii
import grp
import pwd
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from cto_backups.core.ports import Buffer, Entry, EntryKind
from cto_backups.errors import DamageError
from cto_backups.repository.gotime import format_ns, parse_ns
from cto_backups.repository.names import json_text, quote, unquote

_TYPE_BITS = {
    EntryKind.FILE: (0, stat.S_IFREG),
    EntryKind.FOLDER: (1 << 31, stat.S_IFDIR),
    EntryKind.SYMLINK: (1 << 27, stat.S_IFLNK),
    EntryKind.DEVICE: (1 << 26, stat.S_IFBLK),
    EntryKind.CHARACTER_DEVICE: (1 << 26 | 1 << 21, stat.S_IFCHR),
    EntryKind.FIFO: (1 << 25, stat.S_IFIFO),
    EntryKind.SOCKET: (1 << 24, stat.S_IFSOCK),
}
_SPECIAL_BITS = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_KINDS = {kind.value: kind for kind in EntryKind}
_LINKED = frozenset((EntryKind.FILE, EntryKind.SYMLINK, EntryKind.DEVICE, EntryKind.CHARACTER_DEVICE))
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")
_TYPE_TEXT = {kind: f'","type":"{kind.value}"' for kind in EntryKind}
_UNSIGNED_64 = 1 << 64


@dataclass(slots=True)
class Node:
    """One node of a stored tree: the entry, the ids of a file's blobs in order, the id of a folder's tree."""

    entry: Entry
    content: tuple[bytes, ...] = ()
    subtree: bytes | None = None


# -- writing ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def go_mode(kind: EntryKind, mode: int) -> int:
    """st_mode as Go's FileMode."""
    bits = _TYPE_BITS[kind][0] | mode & 0o777
    for go, unix in _SPECIAL_BITS:
        if mode & unix:
            bits |= go
    return bits


@lru_cache(maxsize=4096)
def _user_text(uid: int) -> str:
    try:
        return f',"user":"{json_text(pwd.getpwuid(uid).pw_name)}"'
    except (KeyError, OverflowError):
        return ""


@lru_cache(maxsize=4096)
def _group_text(gid: int) -> str:
    try:
        return f',"group":"{json_text(grp.getgrgid(gid).gr_name)}"'
    except (KeyError, OverflowError):
        return ""


def content_text(content: Sequence[bytes]) -> str:
    """The ids of a file's blobs as JSON."""
    if not content:
        return "[]"
    return '["' + '","'.join([blob.hex() for blob in content]) + '"]'


def encode_node(entry: Entry, *, content: str = "null", size: int = 0, subtree: str = "") -> str:
    """The JSON of a node; `content` is JSON already (for files), `subtree` the hexadecimal id (for folders)."""
    kind = entry.kind
    modified = format_ns(entry.mtime_ns)
    mode = go_mode(kind, entry.mode)
    mode_text = f',"mode":{mode}' if mode else ""
    text = (
        f'{{"name":"{json_text(quote(entry.name))}{_TYPE_TEXT[kind]}{mode_text}'
        f',"mtime":"{modified}","atime":"{modified}","ctime":"{format_ns(entry.ctime_ns)}"'
        f',"uid":{entry.uid},"gid":{entry.gid}{_user_text(entry.uid)}{_group_text(entry.gid)}'
    )
    if entry.inode:
        text += f',"inode":{entry.inode}'
    if entry.links > 1 and kind is not EntryKind.FOLDER:
        text += f',"device_id":{entry.device_id}'  # tells hard links apart; elsewhere it only varies between boots
    if size:
        text += f',"size":{size}'
    if kind in _LINKED or (entry.links > 1 and kind is not EntryKind.FOLDER):
        text += f',"links":{entry.links}'
    if kind is EntryKind.SYMLINK:
        text += _link_text(entry.linktarget)
    if entry.extended:
        text += _extended_text(entry.extended)
    if entry.device:
        text += f',"device":{entry.device}'
    text += f',"content":{content}'
    if subtree:
        text += f',"subtree":"{subtree}"'
    return text + "}"


def _link_text(target: bytes) -> str:
    try:
        return f',"linktarget":"{json_text(target.decode("utf-8"))}"'
    except UnicodeDecodeError:
        # As Go's encoder: an escaped replacement character for each byte that is not UTF-8.
        readable = _NOT_UTF_8.sub(r"\\ufffd", json_text(target.decode("utf-8", "surrogateescape")))
        return f',"linktarget":"{readable}","linktarget_raw":"{base64.b64encode(target).decode("ascii")}"'


def _extended_text(extended: Sequence[tuple[bytes, bytes]]) -> str:
    parts = [
        f'{{"name":"{json_text(name.decode("utf-8", "replace"))}","value":"{base64.b64encode(value).decode("ascii")}"}}'
        for name, value in extended
    ]
    return f',"extended_attributes":[{",".join(parts)}]'


def encode_tree(nodes: Sequence[str]) -> bytes:
    """A tree of nodes, which must be sorted by the bytes of their names."""
    return f'{{"nodes":[{",".join(nodes)}]}}\n'.encode()


# -- reading ----------------------------------------------------------------------------------------------------------


def raw_nodes(plain: Buffer) -> list[dict[str, Any]]:
    """The nodes of a tree as JSON has them. Raises DamageError."""
    try:
        document = orjson.loads(plain)
    except orjson.JSONDecodeError as error:
        raise DamageError("A tree is damaged", why="it is not JSON") from error
    nodes = document.get("nodes") if isinstance(document, dict) else None
    if nodes is None and isinstance(document, dict) and "nodes" in document:
        return []  # Go writes an empty list as null
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise DamageError("A tree is damaged", why="it holds no list of nodes")
    return nodes


def decode_tree(plain: Buffer) -> list[Node]:
    """The nodes of a tree. Raises DamageError for anything that does not belong in one, such as a name with a '/'."""
    nodes = [decode_node(raw) for raw in raw_nodes(plain)]
    seen = {node.entry.name for node in nodes}
    if len(seen) != len(nodes):
        raise DamageError("A tree is damaged", why="two of its nodes have the same name")
    return nodes


def decode_node(raw: dict[str, Any]) -> Node:
    """One node. Raises DamageError."""
    try:
        kind = _KINDS[raw["type"]]
        name = unquote(raw["name"])
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            raise DamageError("A tree is damaged", why=f"a node is called {name!r:.80}")
        get = raw.get
        mode = get("mode", 0)
        entry = Entry(
            name=name,
            path=name,
            kind=kind,
            mode=_unix_mode(kind, mode),
            uid=_number(get("uid", 0)),
            gid=_number(get("gid", 0)),
            size=_number(get("size", 0)),
            mtime_ns=parse_ns(raw["mtime"]) if "mtime" in raw else 0,
            ctime_ns=parse_ns(raw["ctime"]) if "ctime" in raw else 0,
            inode=_number(get("inode", 0)),
            device_id=_number(get("device_id", 0)),
            links=_number(get("links", 1)),
            device=_number(get("device", 0)),
            linktarget=_linktarget(raw) if kind is EntryKind.SYMLINK else b"",
            extended=_extended(raw["extended_attributes"]) if get("extended_attributes") else (),
        )
        return Node(
            entry,
            tuple([_identifier(blob) for blob in get("content") or ()]) if kind is EntryKind.FILE else (),
            _identifier(raw["subtree"]) if kind is EntryKind.FOLDER else None,
        )
    except DamageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, binascii.Error) as error:
        raise DamageError("A tree is damaged", why=f"a node of it makes no sense ({error!r:.80})") from error


@lru_cache(maxsize=4096)
def _unix_mode(kind: EntryKind, mode: int) -> int:
    bits: int = _TYPE_BITS[kind][1] | _number(mode) & 0o777
    for go, unix in _SPECIAL_BITS:
        if mode & go:
            bits |= unix
    return bits


def _number(value: Any) -> int:
    if type(value) is int and 0 <= value < _UNSIGNED_64:
        return value
    raise ValueError("not an unsigned number")


def _identifier(text: str) -> bytes:
    if len(text) != 64:
        raise ValueError("not an id")
    return bytes.fromhex(text)


def _linktarget(raw: dict[str, Any]) -> bytes:
    exact = raw.get("linktarget_raw")
    target = base64.b64decode(exact, validate=True) if exact else raw["linktarget"].encode("utf-8")
    if not isinstance(target, bytes) or not target or b"\0" in target:
        raise ValueError("a symlink without target")
    return target


def _extended(raw: Any) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (attribute["name"].encode("utf-8"), base64.b64decode(attribute["value"] or "", validate=True))
        for attribute in raw
    )
