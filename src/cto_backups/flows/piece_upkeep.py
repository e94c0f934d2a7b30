"""What was streamed, kept within bounds: pieces that nobody needs go, small ones are joined, and no vault lacks any.

Two pieces a second are many. Once they are an hour old, and no recovery point has taken their place, they are joined to
larger ones: such a piece is stored, read back and compared before those that it is made of go.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from cto_backups import clock
from cto_backups.core.governance import Governed
from cto_backups.core.streams import JOIN_AFTER, JOIN_LEAST, Piece, PieceRead, by_file, covered, joinable
from cto_backups.core.wording import counted
from cto_backups.errors import DamageError, VaultMissingError
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation
from cto_backups.flows.pieces import PieceFiles, pieces_in


@dataclass(slots=True)
class Pruned:
    """What a prune does with the pieces in a vault: how many go since nobody needs them, and how many of them (in
    `joined`) become how many larger ones (`larger`). `kept` names sources of whose points nobody here knows. So many as
    are `locked`, the last until `locked_until`, go with a prune after that.
    """

    deleted: int = 0
    deleted_bytes: int = 0
    joined: int = 0
    larger: int = 0
    kept: list[str] = field(default_factory=list)
    locked: int = 0
    locked_bytes: int = 0
    locked_until: datetime | None = None


def fill(installation: Installation, source: str, vault: str, others: list[str], since: int) -> int:
    """Bring a vault the pieces that end after a position and that others have; how many. Raises what vaults raise."""
    files = PieceFiles(installation, vault, source)
    there = set(files.listed())
    brought = 0
    for other in others:
        theirs = PieceFiles(installation, other, source)
        holds = covered(there)  # one vault may have joined what is still small in another
        for piece in sorted(theirs.listed(), key=lambda each: each.begins):
            if piece.ends <= since or holds(piece):
                continue
            with suppress(VaultMissingError):  # it was joined with others meanwhile: the next look finds that one
                files.put(theirs.read(piece))
                there.add(piece)
                brought += 1
    return brought


def tidy(installation: Installation, source: str, vault: str) -> int:
    """Remove from a vault the pieces that no recovery point needs; how many. Not where this host may only add."""
    if installation.policy.append_only(vault):
        return 0
    files = PieceFiles(installation, vault, source)
    pieces = tuple(files.listed())
    gone = _unneeded(files, pieces)
    return sum(files.delete(piece) for piece in gone)


def join(
    installation: Installation, source: str, vault: str, stopped: Callable[[], bool] = lambda: False
) -> tuple[int, int]:
    """Join small pieces in a vault that are old enough: how many, to how many. Not where this host may only add.

    Killed at any moment, nothing is lost: then both are there, and the next run removes the small ones. Raises
    VaultError; DamageError, when what was stored is not what comes back.
    """
    if installation.policy.append_only(vault):
        return 0, 0
    files = PieceFiles(installation, vault, source)
    joined = larger = 0
    pieces = files.wanted(files.listed())
    _remove_joined(files, pieces)
    for group in joinable(pieces):
        if stopped():
            break
        for reads in by_file(_old_enough(files, _free(files, group))):
            if len(reads) < min(JOIN_LEAST, len(group)):
                continue
            _replace(files, reads)
            joined, larger = joined + len(reads), larger + 1
    return joined, larger


def prune(installation: Installation, vault: str, *, dry_run: bool) -> Pruned:
    """Remove from a vault what nobody needs of all sources, and join what may be; or only say what would go.

    Of a source that has no recovery point any more, neither in the catalog nor in the vault, everything goes. Raises
    GovernanceError, VaultError.
    """
    done = Pruned()
    unneeded: list[tuple[PieceFiles, Piece]] = []
    for source, found in pieces_in(installation, vault).items():
        files = PieceFiles(installation, vault, source)
        gone: Collection[Piece]
        if installation.catalog.points(source, limit=1):
            gone = _unneeded(files, found)
        elif _has_points(installation, vault, source):
            done.kept.append(source)
            continue
        else:
            gone = tuple(found)
        for piece in gone:
            until = files.kept_until(piece)
            if until is not None:
                done.locked, done.locked_bytes = done.locked + 1, done.locked_bytes + found[piece]
                done.locked_until = max(until, done.locked_until or until)
                continue
            unneeded.append((files, piece))
            done.deleted_bytes += found[piece]
    done.deleted = len(unneeded)
    if dry_run:
        return done
    if unneeded:
        keys = sorted(files.key(piece) for files, piece in unneeded)
        summary = f"Pruning {counted(len(keys), 'piece')} of logs in vault '{vault}'"
        admit(installation, Governed.PRUNE, {"vault": vault, "pieces": keys}, summary=summary)
    for files, piece in unneeded:
        files.delete(piece)
    for source in pieces_in(installation, vault):
        joined, larger = join(installation, source, vault)
        done.joined, done.larger = done.joined + joined, done.larger + larger
    return done


def _unneeded(files: PieceFiles, pieces: Collection[Piece]) -> list[Piece]:
    wanted = set(files.wanted(pieces))
    return [piece for piece in pieces if piece not in wanted]


def _has_points(installation: Installation, vault: str, source: str) -> bool:
    """Whether the vault itself holds a point of a source, which this catalog need not know: another host's, say."""
    tag = f"source:{source}"
    return any(tag in committed.tags for committed in installation.store(vault).committed())


def _remove_joined(files: PieceFiles, pieces: Sequence[Piece]) -> None:
    """What somebody who was killed left: pieces that a larger one holds, which is whole."""
    within: dict[Piece, list[Piece]] = {}
    larger: Piece | None = None
    for piece in sorted(pieces, key=lambda each: (each.log, each.begins, -each.ends)):
        if larger is not None and piece.log == larger.log and piece.ends <= larger.ends:
            within.setdefault(larger, []).append(piece)
        else:
            larger = piece
    for larger, smaller in within.items():
        with suppress(DamageError, VaultMissingError):  # then the small ones are all there is
            files.read(larger)
            for piece in smaller:
                files.delete(piece)


def _replace(files: PieceFiles, reads: Sequence[PieceRead]) -> None:
    whole = _whole(reads)
    files.put(whole)
    if files.read(whole.piece) != whole:
        files.delete(whole.piece)
        raise DamageError(
            f"Vault '{files.vault_name}': pieces of the log of source '{files.source}' are not joined",
            why="what comes back of the larger one is not what was stored",
            todo=f"Look for the cause (disk, memory), and run 'cto.backups verify {files.vault_name}'."
            " Nothing was removed.",
        )
    for read in reads:
        files.delete(read.piece)


def _free(files: PieceFiles, group: Sequence[Piece]) -> Sequence[Piece]:
    """From the first piece on those that no lock keeps, which could not go: locks end in the order of pieces."""
    if files.kept_until(group[-1]) is None:
        return group
    if files.kept_until(group[0]) is not None:
        return ()
    return group[: bisect_left(group, True, key=lambda piece: files.kept_until(piece) is not None)]


def _old_enough(files: PieceFiles, group: Sequence[Piece]) -> list[PieceRead]:
    """From the first piece on those that are an hour old. One that is damaged, or gone, ends them."""
    reads: list[PieceRead] = []
    before = clock.now() - JOIN_AFTER
    for piece in group:
        try:
            read = files.read(piece)
        except (DamageError, VaultMissingError):
            break
        if read.until is None or read.until > before:
            break
        reads.append(read)
    return reads


def _whole(reads: Sequence[PieceRead]) -> PieceRead:
    piece = Piece(reads[0].piece.log, reads[0].piece.begins, reads[-1].piece.ends)
    mark = next((read.mark for read in reversed(reads) if read.mark is not None), None)
    return PieceRead(piece, mark, b"".join(read.data for read in reads), reads[-1].until, reads[0].about)
