"""A server's backup manifest: the files of a base backup, how long they are, and the CRC-32C of each.

As the manual's chapter on the backup manifest format has it; the server writes one line for each file.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cto_backups.process import ToolError
from cto_backups.sources.postgresql.replication import PROGRAM

_FILE: Final = (b'{ "Path": ', b'{ "Encoded-Path": ')
_MAP: Final = re.compile(rb"/\d+_vm(?:\.\d+)?\Z")
_LAST: Final = b'"Manifest-Checksum": "'

PREFIX: Final = "INCREMENTAL."
"""How the name of a file begins of which only what changed is told."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest says of a file: how many bytes it has, and its CRC-32C; None where it does not tell that.

    That is four bytes, in the order in which the server's processor has them in memory.
    """

    size: int
    checksum: bytes | None


def listed(manifest: bytes) -> dict[bytes, Listed]:
    """The files by their paths, as the server has them. Raises ToolError."""
    found: dict[bytes, Listed] = {}
    for line in _lines(manifest):
        if line.startswith(_FILE):
            told = _told(line)
            found[_path(told)] = Listed(_size(told), _checksum(told))
    return found


def whole_path(path: bytes) -> bytes:
    """The path of the file, where this is that of what changed in it."""
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + name.removeprefix(PREFIX.encode())


def with_files(manifest: bytes, now: Mapping[bytes, Listed]) -> bytes:
    """The same manifest where these files are as they are told here, and by the paths that they have themselves.

    Raises ToolError: no file may be left of which only what changed is there.
    """
    made: list[bytes] = []
    missing = set(now)
    for line in _lines(manifest):
        if line.startswith(_FILE):
            told = _told(line)
            path = whole_path(_path(told))
            if path in now:
                missing.discard(path)
                line = _written(told, path, now[path]) + (b",\n" if line.rstrip().endswith(b",") else b"\n")
            elif path != _path(told):
                raise _unknown(f"{path.decode('utf-8', 'replace')} did not come")
        made.append(line)
    if missing:
        raise _unknown(f"{min(missing).decode('utf-8', 'replace')} is not in it")
    return _summed(made)


def without_maps(manifest: bytes) -> bytes:
    """The same manifest without visibility maps: a server to which it is told sends these whole. Raises ToolError.

    What changed in other files is told by the blocks that the log names. Where a row is changed, it names the row's
    block alone, although a bit of the map goes out too (PostgreSQL 18.4): what says that a page has no dead rows would
    stay, and index-only scans would find rows that are gone. `pg_combinebackup` makes the same of it.
    """
    made: list[bytes] = []
    for line in _lines(manifest):
        if line.startswith(_FILE):
            if _MAP.search(_path(_told(line))):
                continue
            line = line.rstrip().rstrip(b",") + b",\n"
        elif line.startswith(b"]") and made[-1].endswith(b",\n"):
            made[-1] = made[-1].removesuffix(b",\n") + b"\n"
        made.append(line)
    return _summed(made)


def _summed(lines: Sequence[bytes]) -> bytes:
    content = b"".join(lines)
    return content + _LAST + sha256(content).hexdigest().encode() + b'"}\n'


def _lines(manifest: bytes) -> Iterator[bytes]:
    """All lines but the last, which is the sum of those before. Raises ToolError where that is wrong."""
    begins = manifest.rfind(_LAST)
    if begins < 0 or sha256(memoryview(manifest)[:begins]).hexdigest().encode() not in manifest[begins:]:
        raise _unknown("it is not whole")
    at = 0
    while at < begins:
        end = manifest.index(b"\n", at) + 1
        yield manifest[at:end]
        at = end


def _written(told: Mapping[str, Any], path: bytes, now: Listed) -> bytes:
    entry: dict[str, Any] = {}
    if "Path" in told:
        entry["Path"] = path.decode()
    else:
        entry["Encoded-Path"] = path.hex()
    entry |= {"Size": now.size, "Last-Modified": told["Last-Modified"]}
    if now.checksum is not None:
        entry |= {"Checksum-Algorithm": "CRC32C", "Checksum": now.checksum.hex()}
    words = ", ".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in entry.items())
    return f"{{ {words} }}".encode()


def _told(line: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(line.rstrip().rstrip(b",")))
    except ValueError as error:
        raise _unknown("it has a line that cannot be read") from error


def _path(told: Mapping[str, Any]) -> bytes:
    try:
        return str(told["Path"]).encode() if "Path" in told else bytes.fromhex(told["Encoded-Path"])
    except (ValueError, TypeError) as error:
        raise _unknown("it has a path that cannot be read") from error


def _size(told: Mapping[str, Any]) -> int:
    size = told.get("Size")
    if not isinstance(size, int):
        raise _unknown("it does not tell how long a file is")
    return size


def _checksum(told: Mapping[str, Any]) -> bytes | None:
    if told.get("Checksum-Algorithm") != "CRC32C":
        return None
    try:
        return bytes.fromhex(told["Checksum"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unknown("it has a checksum that cannot be read") from error


def _unknown(why: str) -> ToolError:
    return ToolError(PROGRAM, None, f"the server's backup manifest is none that is known: {why}")
