"""Proving that a pack is intact, in pieces: its header, and every blob against its id.

Where this succeeds no byte of the pack is left that its name could prove besides; where it does not, what is wrong is
for `check_pack` to say. docs/adr/0010-packs-proved-by-their-blobs.md has the reasons.
"""

from cto_backups import _native
from cto_backups.errors import DamageError
from cto_backups.repository.fetch import Fetcher, Room


def proved_blobs(fetcher: Fetcher, pack: int, size: int, room: Room) -> int | None:
    """How many blobs a pack of `size` bytes holds; None unless it holds what the index says of it, and nothing else.

    Raises VaultError when it cannot be read.
    """
    index, sealer = fetcher.index.native, fetcher.files.sealer.native
    length = _native.header_room(index, pack, size)
    fits = fetcher.files.reads_alike(fetcher.index.pack_name(pack))
    if fits and fetcher.reach.tail_blobs:
        length = max(length, -(-size // fetcher.reach.reads(size)))
    tail, came = room.of(length), size - length
    fetcher.read_into(pack, came, tail)
    try:
        proof = _native.Proof(index, sealer, pack, size, tail, max(length, fetcher.reach.piece_bytes))
    except DamageError:
        return None
    pieces = list(enumerate(proof.pieces))
    if pieces and pieces[-1][1][0] >= came:
        number, (offset, length) = pieces.pop()
        if not proof.holds(sealer, number, tail[offset - came : offset - came + length]):
            return None
    # The rest of a blob that begins before the tail: its memory is read into again.
    rest = bytes(tail[: sum(pieces[-1][1]) - came]) if fits and pieces and sum(pieces[-1][1]) > came else b""
    for number, (offset, length) in pieces:
        content = room.of(length)
        missing = length - len(rest) if number == pieces[-1][0] else length
        fetcher.read_into(pack, offset, content[:missing])
        if missing < length:
            content[missing:] = rest
        if not proof.holds(sealer, number, content):
            return None
    return proof.blob_count
