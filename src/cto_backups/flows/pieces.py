"""What was streamed of a source's log, as it lies in vaults: sealed pieces, beside the repository.

`streams/REPOSITORY/SOURCE/LOG/BEGINS-ENDS.sealed`, positions as 16 hexadecimal digits. Opened, a piece is a line of
JSON that says what it is, and the bytes. A piece is stored whole or not at all, and never changed; it goes when no
recovery point needs it any more.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cto_backups.core.log_range import follows
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.streams import Mark, Piece, PieceRead, Tail, gap_after, needless, unbroken
from cto_backups.errors import BackupsError, DamageError, VaultExistsError
from cto_backups.flows.installation import Installation

_PIECE: Final = re.compile(r"([^/]+)/([0-9A-F]{16})-([0-9A-F]{16})\.sealed")


@dataclass(frozen=True, slots=True)
class PieceFiles:
    """The pieces of one source in one vault. All raise VaultError, and what keeps the repository from opening."""

    installation: Installation
    vault_name: str
    source: str

    @property
    def _folder(self) -> str:
        place = self.installation.policy.vaults[self.vault_name].repository.rpartition("/")[2]
        return f"streams/{place if place != '.' else 'main'}/{self.source}"

    def _key(self, piece: Piece) -> str:
        return f"{self._folder}/{piece.log}/{piece.begins:016X}-{piece.ends:016X}.sealed"

    def listed(self) -> dict[Piece, int]:
        """What is there, with stored sizes in bytes."""
        found: dict[Piece, int] = {}
        for stored in self.installation.vault(self.vault_name).list(self._folder):
            if match := _PIECE.fullmatch(stored.key.removeprefix(self._folder + "/")):
                found[Piece(match[1], int(match[2], 16), int(match[3], 16))] = stored.size_bytes
        return found

    def put(self, read: PieceRead) -> None:
        """Seal and store a piece, durable on return; fine when it is there already."""
        told: dict[str, str | int] = {
            "source": self.source,
            "log": read.piece.log,
            "begins": read.piece.begins,
            "ends": read.piece.ends,
        }
        if read.mark is not None:
            told |= {"mark": read.mark.position, "moment": read.mark.moment.isoformat()}
        if read.until is not None:
            told["until"] = read.until.isoformat()
        content = json.dumps(told).encode() + b"\n" + read.data
        sealed = self.installation.store(self.vault_name).seal(content)
        try:
            self.installation.vault(self.vault_name).put(self._key(read.piece), [sealed])
        except VaultExistsError:
            return

    def read(self, piece: Piece) -> PieceRead:
        """A piece, opened. Raises DamageError when it is not what its name says."""
        content = self.installation.vault(self.vault_name).read(self._key(piece))
        line, _, data = self.installation.store(self.vault_name).unseal(content).partition(b"\n")
        try:
            told = json.loads(line)
            named = (told["source"], told["log"], told["begins"], told["ends"])
            mark = Mark(int(told["mark"]), datetime.fromisoformat(told["moment"])) if "mark" in told else None
            until = datetime.fromisoformat(told["until"]) if "until" in told else None
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(piece, "it does not say what it is") from error
        if named != (self.source, piece.log, piece.begins, piece.ends) or len(data) != piece.ends - piece.begins:
            raise self._damaged(piece, "it is another one, or a part of it")
        return PieceRead(piece, mark, data, until)

    def delete(self, piece: Piece) -> None:
        """Remove it; fine when it is gone already. Raises RefusedError where this host may only add."""
        self.installation.vault(self.vault_name).delete(self._key(piece))

    def _damaged(self, piece: Piece, why: str) -> DamageError:
        return DamageError(
            f"Vault '{self.vault_name}': {self._key(piece)} is damaged",
            why=why,
            todo="Another vault may have it whole; a new recovery point of the source takes its place.",
        )


def tail_of(installation: Installation, point: RecoveryPoint, vault: str | None = None) -> Tail | None:
    """What was streamed after a point, from all vaults that are there, or from one; None when nothing was.

    Where the first piece is lost, nothing of it, with the gap.
    """
    followed = follows(point)
    if followed is None:
        return None
    names = (vault,) if vault is not None else tuple(installation.policy.vaults)
    held = _held(installation, point.source, names)
    sizes = {piece: size for found in held.values() for piece, size in found.items()}
    chosen = unbroken(sizes, followed.log, followed.ends)
    ends = chosen[-1].ends if chosen else followed.ends
    points = installation.catalog.points(point.source)
    later = [told for each in points if each.id != point.id and (told := follows(each)) is not None]
    gap = gap_after(sizes, followed.log, ends, later)
    if gap is not None:
        # A piece that was stored while its folder was read may have been missed, and not the one after it.
        again = _held(installation, point.source, names)
        gap = gap if not unbroken((piece for found in again.values() for piece in found), followed.log, ends) else None
    if not chosen and gap is None:
        return None

    def holding(piece: Piece) -> list[str]:
        return [vault for vault, pieces in held.items() if piece in pieces]

    def last() -> tuple[Mark | None, datetime | None]:
        until: datetime | None = None
        for piece in reversed(chosen):  # each says the last mark up to its end; a worker's first ones do not
            try:
                read = read_from_any(installation, point.source, piece, holding(piece))
            except BackupsError:
                continue  # whoever reads all of them hears why
            until = read.until if piece == chosen[-1] else until
            if read.mark is not None:
                return read.mark if read.mark.position > followed.ends else None, until
        return None, until

    def read() -> Iterator[PieceRead]:
        return (read_from_any(installation, point.source, piece, holding(piece)) for piece in chosen)

    mark, until = last()
    begins = chosen[0].begins if chosen else followed.ends
    size = sum(sizes[piece] for piece in chosen)
    return Tail(followed.log, begins, ends, mark, size, read, until, gap)


def _held(installation: Installation, source: str, vaults: Iterable[str]) -> dict[str, dict[Piece, int]]:
    held: dict[str, dict[Piece, int]] = {}
    for name in vaults:
        try:
            installation.check_readable(name)
            held[name] = PieceFiles(installation, name, source).listed()
        except BackupsError:
            continue  # what others have may do
    return held


def read_from_any(installation: Installation, source: str, piece: Piece, vaults: Iterable[str]) -> PieceRead:
    """A piece, from the first of these vaults that has it intact. Raises DamageError, VaultError."""
    problem: BackupsError | None = None
    for vault in vaults:
        try:
            return PieceFiles(installation, vault, source).read(piece)
        except BackupsError as error:
            problem = error
    assert problem is not None
    raise problem


def fill(installation: Installation, source: str, vault: str, others: list[str], since: int) -> int:
    """Bring a vault the pieces that end after a position and that others have; how many. Raises what vaults raise."""
    files = PieceFiles(installation, vault, source)
    there = files.listed()
    brought = 0
    for other in others:
        theirs = PieceFiles(installation, other, source)
        for piece in sorted(theirs.listed(), key=lambda each: each.begins):
            if piece not in there and piece.ends > since:
                files.put(theirs.read(piece))
                there[piece] = 0
                brought += 1
    return brought


def tidy(installation: Installation, source: str, vault: str) -> int:
    """Remove from a vault the pieces that no recovery point in it needs; how many. Not where this host may only add."""
    if installation.policy.append_only(vault):
        return 0
    files = PieceFiles(installation, vault, source)
    pieces = tuple(files.listed())
    if not pieces:
        return 0
    there = {copy.point for copy in installation.catalog.copies_in(vault)}
    points = (point for point in installation.catalog.points(source) if point.id in there)
    held = [followed for point in points if (followed := follows(point)) is not None]
    gone = needless(pieces, held)
    for piece in gone:
        files.delete(piece)
    return len(gone)
