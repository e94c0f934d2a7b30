"""What was streamed of a source's log, as it lies in vaults: sealed pieces, beside the repository.

`streams/REPOSITORY/SOURCE/LOG/BEGINS-ENDS.sealed`, positions as 16 hexadecimal digits. Opened, a piece is a line of
JSON that says what it is, and the bytes. A piece is stored whole or not at all, and never changed; it goes when no
recovery point needs it any more.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cto_backups import clock
from cto_backups.core.log_range import follows
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.object_locks import kept_until
from cto_backups.core.streams import Follows, Mark, Piece, PieceRead, Tail, gap_after, needless, unbroken
from cto_backups.core.vaults import LockingVault, store_holds
from cto_backups.errors import (
    BackupsError,
    DamageError,
    VaultError,
    VaultExistsError,
    VaultLockedError,
    VaultMissingError,
)
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
        return f"{_folder_of_all(self.installation, self.vault_name)}/{self.source}"

    def key(self, piece: Piece) -> str:
        """Where it lies in the vault."""
        return f"{self._folder}/{piece.log}/{piece.begins:016X}-{piece.ends:016X}.sealed"

    def listed(self) -> dict[Piece, int]:
        """What is there, with stored sizes in bytes."""
        found: dict[Piece, int] = {}
        for stored in self.installation.vault(self.vault_name).list(self._folder):
            if match := _PIECE.fullmatch(stored.key.removeprefix(self._folder + "/")):
                found[Piece(match[1], int(match[2], 16), int(match[3], 16))] = stored.size_bytes
        return found

    def put(self, read: PieceRead, *, overwrite: bool = False) -> None:
        """Seal and store a piece, durable on return; without `overwrite`, one that is there already is left."""
        told: dict[str, object] = {
            "source": self.source,
            "log": read.piece.log,
            "begins": read.piece.begins,
            "ends": read.piece.ends,
        }
        if read.mark is not None:
            told |= {"mark": read.mark.position, "moment": read.mark.moment.isoformat()}
        if read.until is not None:
            told["until"] = read.until.isoformat()
        if read.about:
            told["about"] = dict(read.about)
        content = json.dumps(told).encode() + b"\n" + read.data
        sealed = self.installation.store(self.vault_name).seal(content)
        try:
            self.installation.vault(self.vault_name).put(self.key(read.piece), [sealed], overwrite=overwrite)
        except VaultExistsError:
            return

    def read(self, piece: Piece) -> PieceRead:
        """A piece, opened. Raises DamageError when it is not what its name says."""
        content = self.installation.vault(self.vault_name).read(self.key(piece))
        line, _, data = self.installation.store(self.vault_name).unseal(content).partition(b"\n")
        try:
            told = json.loads(line)
            named = (told["source"], told["log"], told["begins"], told["ends"])
            mark = Mark(int(told["mark"]), datetime.fromisoformat(told["moment"])) if "mark" in told else None
            until = datetime.fromisoformat(told["until"]) if "until" in told else None
            about = {str(name): str(value) for name, value in told.get("about", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(piece, "it does not say what it is") from error
        if named != (self.source, piece.log, piece.begins, piece.ends) or len(data) != piece.ends - piece.begins:
            raise self._damaged(piece, "it is another one, or a part of it")
        return PieceRead(piece, mark, data, until, about)

    def delete(self, piece: Piece) -> bool:
        """Remove it; fine when it is gone already. False while its lock stands: a later run removes it then.

        Raises RefusedError where this host may only add.
        """
        try:
            self.installation.vault(self.vault_name).delete(self.key(piece))
        except VaultLockedError:
            return False
        return True

    def kept_until(self, piece: Piece) -> datetime | None:
        """Until when a lock or a hold keeps it; None where none does now."""
        vault = self.installation.vault(self.vault_name)
        if not isinstance(vault, LockingVault) or vault.locking is None:
            return None
        key, holds = self.key(piece), store_holds(vault)
        try:
            held = holds is not None and holds.is_on(key)
            return kept_until(vault.lock_of(key), held, vault.locking, clock.now())
        except VaultMissingError:
            return None

    def wanted(self, pieces: Collection[Piece]) -> tuple[Piece, ...]:
        """Of these pieces, those that points need; all, as long as no point is known that has a copy in this vault."""
        copies = {copy.point for copy in self.installation.catalog.copies_in(self.vault_name)}
        points = self.installation.catalog.points(self.source) if pieces else ()
        logs = [(point.id in copies, told) for point in points if (told := follows(point)) is not None]
        here, others = ([told for is_here, told in logs if is_here is wanted] for wanted in (True, False))
        gone = set(needless(tuple(pieces), here, others))
        return tuple(piece for piece in pieces if piece not in gone)

    def held(self) -> list[tuple[str, Follows]]:
        """The logs of the points that have a copy in this vault, with the references of these copies."""
        copies = {copy.point: copy.reference for copy in self.installation.catalog.copies_in(self.vault_name)}
        points = [point for point in self.installation.catalog.points(self.source) if point.id in copies]
        return [(copies[point.id], told) for point in points if (told := follows(point)) is not None]

    def _damaged(self, piece: Piece, why: str) -> DamageError:
        return DamageError(
            f"Vault '{self.vault_name}': {self.key(piece)} is damaged",
            why=why,
            todo="Another vault may have it whole; a new recovery point of the source takes its place.",
        )


def pieces_in(installation: Installation, vault_name: str) -> dict[str, dict[Piece, int]]:
    """All pieces in a vault by their source, with stored sizes in bytes; of any source there ever was."""
    folder = _folder_of_all(installation, vault_name)
    found: dict[str, dict[Piece, int]] = {}
    for stored in installation.vault(vault_name).list(folder):
        source, _, name = stored.key.removeprefix(folder + "/").partition("/")
        if match := _PIECE.fullmatch(name):
            piece = Piece(match[1], int(match[2], 16), int(match[3], 16))
            found.setdefault(source, {})[piece] = stored.size_bytes
    return found


def _folder_of_all(installation: Installation, vault_name: str) -> str:
    place = installation.policy.vaults[vault_name].repository.rpartition("/")[2]
    return f"streams/{place if place != '.' else 'main'}"


def tail_of(installation: Installation, point: RecoveryPoint, vault: str | None = None) -> Tail | None:
    """What was streamed after a point, from all vaults that are there, or from one; None when nothing was.

    Where the first piece is lost, nothing of it, with the gap.
    """
    followed = follows(point)
    if followed is None:
        return None
    names = (vault,) if vault is not None else tuple(installation.policy.vaults)
    held = _held(installation, point.source, names)
    chosen, gap = _leading(installation, point, followed, held)
    if gap is not None:
        # What was stored, or joined, while its folder was read may have been missed, and not what comes after it.
        again = _held(installation, point.source, names)
        held = {name: {**held.get(name, {}), **found} for name, found in again.items()}
        chosen, gap = _leading(installation, point, followed, held)
    if not chosen and gap is None:
        return None
    ends = chosen[-1].ends if chosen else followed.ends
    looked_at: dict[Piece, PieceRead] = {}

    def last() -> tuple[Mark | None, datetime | None]:
        until: datetime | None = None
        for piece in reversed(chosen):  # each says the last mark up to its end; a worker's first ones do not
            try:
                read = read_from_any(installation, point.source, piece, _holding(held, piece))
            except BackupsError:
                continue  # whoever reads all of them hears why
            looked_at[piece] = read
            until = read.until if piece == chosen[-1] else until
            if read.mark is not None:
                return read.mark if read.mark.position > followed.ends else None, until
        return None, until

    def read() -> Iterator[PieceRead]:
        stretch = Piece(followed.log, followed.ends, ends)
        return read_on(installation, point.source, names, held, stretch, looked_at)

    mark, until = last()
    begins = chosen[0].begins if chosen else followed.ends
    sizes = {piece: size for found in held.values() for piece, size in found.items()}
    size = sum(sizes[piece] for piece in chosen)
    return Tail(followed.log, begins, ends, mark, size, read, until, gap)


def _leading(
    installation: Installation, point: RecoveryPoint, followed: Follows, held: Mapping[str, Collection[Piece]]
) -> tuple[tuple[Piece, ...], int | None]:
    """What leads on from a point, and where there is more that nothing leads to."""
    pieces = {piece for found in held.values() for piece in found}
    chosen = unbroken(pieces, followed.log, followed.ends)
    ends = chosen[-1].ends if chosen else followed.ends
    gap = gap_after(pieces, followed.log, ends, ())
    if gap is not None:
        points = installation.catalog.points(point.source)
        later = [told for each in points if each.id != point.id and (told := follows(each)) is not None]
        gap = gap_after(pieces, followed.log, ends, later)
    return chosen, gap


def _held(installation: Installation, source: str, vaults: Iterable[str]) -> dict[str, dict[Piece, int]]:
    held: dict[str, dict[Piece, int]] = {}
    for name in vaults:
        try:
            installation.check_readable(name)
            held[name] = PieceFiles(installation, name, source).listed()
        except BackupsError:
            continue  # what others have may do
    return held


def read_on(
    installation: Installation,
    source: str,
    vaults: Iterable[str],
    held: Mapping[str, Collection[Piece]],
    stretch: Piece,
    known: Mapping[Piece, PieceRead] | None = None,
) -> Iterator[PieceRead]:
    """The pieces that lead through a stretch of the log, in order, each from a vault that has it intact.

    One that none has is gone round where others hold the same. `held` are the pieces in each of the vaults, `known`
    those that were read already. Raises DamageError, VaultError.
    """
    read_already = known or {}
    unread: set[Piece] = set()
    at, problem, names = stretch.begins, None, tuple(vaults)
    while at < stretch.ends:
        there = {piece for pieces in held.values() for piece in pieces if piece not in unread}
        for piece in unbroken(there, stretch.log, at):
            try:
                read = read_already.get(piece) or read_from_any(installation, source, piece, _holding(held, piece))
            except BackupsError as error:
                problem = error
                unread.add(piece)
                if isinstance(error, VaultMissingError):  # it was joined with others meanwhile, perhaps
                    held = _held(installation, source, names)
                break
            yield read
            at = piece.ends
            if at >= stretch.ends:
                return
        else:
            raise problem or VaultError(
                f"Source '{source}': nothing leads through its log from {at:016X} on",
                why="no vault that can be read has that piece",
                todo="Bring a vault back that has it.",
            )


def _holding(held: Mapping[str, Collection[Piece]], piece: Piece) -> list[str]:
    return [vault for vault, pieces in held.items() if piece in pieces]


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
