"""What a server sends of a file that changed, and the manifest of the whole files; where a server would be too much."""

import random
import struct
from hashlib import sha256

import pytest

from cto_backups import _native
from cto_backups.core.trees import Patch
from cto_backups.process import ToolError
from cto_backups.sources.postgresql.incremental import ChangedFile
from cto_backups.sources.postgresql.manifest import Listed, listed, whole_path, with_files, without_maps
from cto_backups.sources.tar import Member, TarReader

BLOCK = 8192
BLOCKS = [random.Random(number).randbytes(BLOCK) for number in range(12)]


def sent(
    kept: int, blocks: dict[int, bytes], *, order: str = "<", magic: int = 0xD3AE1F0D, more: bytes = b""
) -> ChangedFile:
    """What comes of a file that had the first eight of `BLOCKS`."""
    head = struct.pack(f"{order}3I", magic, len(blocks), kept) + struct.pack(f"{order}{len(blocks)}I", *blocks)
    content = head.ljust(-(-len(head) // BLOCK) * BLOCK if blocks else len(head), b"\0") + b"".join(blocks.values())
    content += more
    reader = TarReader("base.tar", iter([memoryview(content)]))
    reader._left = len(content)
    was = b"".join(BLOCKS[:8])
    byteorder = "little" if order == "<" else "big"
    former = Listed(len(was), _native.crc32c(was).to_bytes(4, byteorder))  # type: ignore[arg-type]
    return ChangedFile(Member(b"base/5/1234", 0o100600, 0, 0, len(content), 0, b""), reader, BLOCK, former)


def put_in_place(file: ChangedFile, was: bytes, pieces: int = 5000) -> bytes:
    """The file as a store would make it, which reads in pieces of any size."""
    size = file.member.size
    now = bytearray(was[: file.patch.kept_bytes].ljust(size, b"\0")[:size])
    for begins, length in file.patch.stretches:
        at = begins
        while at < begins + length:
            room = memoryview(now)[at : min(begins + length, at + pieces)]
            at += file.readinto(room)
    assert not file.readinto(memoryview(bytearray(1)))
    return bytes(now)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kept", "changed", "size"),
    [
        (8, {}, 8),
        (8, {2: 9}, 8),
        (8, {0: 9, 1: 10, 7: 11}, 8),
        (8, {6: 9, 8: 10}, 9),
        (8, {11: 9}, 12),
        (11, {9: 9}, 11),
        (0, {0: 9}, 1),
    ],
)
def test_the_blocks_take_their_places_and_the_checksum_is_that_of_the_whole(
    order: str, kept: int, changed: dict[int, int], size: int
) -> None:
    was = b"".join(BLOCKS[:8])
    expected = [(was[n * BLOCK : (n + 1) * BLOCK] or bytes(BLOCK)) if n < kept else bytes(BLOCK) for n in range(size)]
    for number, other in changed.items():
        expected[number] = BLOCKS[other]
    file = sent(kept, {number: BLOCKS[other] for number, other in changed.items()}, order=order)
    assert file.member.size == size * BLOCK
    now = put_in_place(file, was)
    assert now == b"".join(expected)
    checksum = _native.crc32c(now).to_bytes(4, "little" if order == "<" else "big")
    assert file.listed == Listed(size * BLOCK, checksum if kept >= 8 else None)


def test_blocks_in_a_row_are_one_stretch() -> None:
    assert sent(8, {1: BLOCKS[9], 2: BLOCKS[9], 5: BLOCKS[9]}).patch == Patch(
        8 * BLOCK, ((BLOCK, 2 * BLOCK), (5 * BLOCK, BLOCK))
    )


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ToolError, match="not known"):
        sent(8, {1: BLOCKS[9]}, magic=77)
    with pytest.raises(ToolError, match="not known"):
        sent(8, {1: BLOCKS[9]}, more=b"more")
    with pytest.raises(ToolError, match="no order"):
        sent(8, {3: BLOCKS[9], 2: BLOCKS[9]})


def manifest(*lines: bytes) -> bytes:
    """A manifest as a server writes it."""
    files = b",\n".join(lines)
    content = (
        b'{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 77,\n"Files": [\n' + files + b"\n],\n"
        b'"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/3000028", "End-LSN": "0/3000120" }\n],\n'
    )
    return content + b'"Manifest-Checksum": "' + sha256(content).hexdigest().encode() + b'"}\n'


def line(path: str, size: int, checksum: str = "0a0b0c0d", *, encoded: bool = False) -> bytes:
    named = f'"Encoded-Path": "{path.encode("latin-1").hex()}"' if encoded else f'"Path": "{path}"'
    told = f'"Last-Modified": "2026-11-29 06:58:07 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "{checksum}"'
    return f'{{ {named}, "Size": {size}, {told} }}'.encode()


def test_the_manifest_of_whole_files_is_the_servers_but_for_what_changed() -> None:
    told = manifest(
        line("backup_label", 225),
        line("base/5/INCREMENTAL.1234.1", 100),
        line("base/5/INCREMENTAL.\xe9", 100, encoded=True),
        line("global/pg_control", 8192),
    )
    now = {
        b"backup_label": Listed(180, b"\1\2\3\4"),
        b"base/5/1234.1": Listed(4 * BLOCK, None),
        b"base/5/\xe9": Listed(5 * BLOCK, b"\5\6\7\x08"),
    }
    made = with_files(told, now)
    moment = '"Last-Modified": "2026-11-29 06:58:07 GMT"'
    assert made == manifest(
        line("backup_label", 180, "01020304"),
        f'{{ "Path": "base/5/1234.1", "Size": {4 * BLOCK}, {moment} }}'.encode(),
        line("base/5/\xe9", 5 * BLOCK, "05060708", encoded=True),
        line("global/pg_control", 8192),
    )
    assert listed(made) == {**now, b"global/pg_control": Listed(8192, b"\x0a\x0b\x0c\x0d")}
    assert with_files(made, {}) == made


def test_visibility_maps_are_not_told() -> None:
    """At any place, also where nothing else is left, and nothing that is only called like one."""
    table, map_, second = line("base/5/1234", 9), line("base/5/1234_vm", 9), line("pg_tblspc/7/PG_18_1/5/12_vm.1", 9)
    free, named = line("base/5/1234_fsm", 9), line("base/5/about_vm", 9)
    assert without_maps(manifest(map_, table, second, free, map_)) == manifest(table, free)
    assert without_maps(manifest(table, named)) == manifest(table, named)
    assert listed(without_maps(manifest(map_))) == {}


def test_a_manifest_that_does_not_fit_the_files_is_none() -> None:
    told = manifest(line("base/5/INCREMENTAL.1234", 100))
    with pytest.raises(ToolError, match="did not come"):
        with_files(told, {})
    with pytest.raises(ToolError, match="is not in it"):
        with_files(told, {b"base/5/1234": Listed(1, None), b"base/5/1235": Listed(1, None)})
    for wrong in (told[:-80] + told[-70:], told.replace(b"100", b"101"), b""):
        with pytest.raises(ToolError, match="not whole"):
            listed(wrong)


def test_only_the_last_name_says_that_it_is_what_changed() -> None:
    assert whole_path(b"base/5/INCREMENTAL.1234_vm.2") == b"base/5/1234_vm.2"
    assert whole_path(b"INCREMENTAL.d/1234") == b"INCREMENTAL.d/1234"
