"""What was streamed into a vault: which pieces are damaged or missing, and how they are put back.

As with packs: each piece is read in its turn, by the same ledger, and what one vault has lost comes from another. What
none has is streamed once more, or stands in a new recovery point, as long as the source's server still has it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from hashlib import sha256

from cto_backups import clock
from cto_backups.core.log_range import follows
from cto_backups.core.payloads import Damage
from cto_backups.core.streams import Follows, Piece, PieceRead, by_file, cut, gap_after, gets_nothing, unbroken
from cto_backups.core.verification import Ledger, Part, Readings, portion
from cto_backups.errors import BackupsError, DamageError, VaultMissingError
from cto_backups.flows.installation import Installation
from cto_backups.flows.pieces import PieceFiles, pieces_in, read_on
from cto_backups.repository.together import each


@dataclass(frozen=True, slots=True)
class Checked:
    """What a verification read of the pieces in a vault. `stored_bytes` are of all that points need."""

    readings: Readings
    damages: tuple[Damage, ...]
    stored_bytes: int
    read_bytes: int


@dataclass(slots=True)
class Mended:
    """What became of damaged and missing pieces in a vault.

    `mended` came from other vaults. `lost` are in none, and are gone from this one, so that they can be streamed once
    more; `sources` are those that a new recovery point helps: the newest one leads on through what was lost.
    """

    mended: list[Damage] = field(default_factory=list)
    lost: list[Damage] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def check(
    installation: Installation,
    vault_name: str,
    *,
    at: datetime,
    ledger: Ledger | None = None,
    share: Fraction | None = None,
) -> Checked:
    """Look for what is missing, and with a `ledger` read all that points need; with `share`, the next portion of it.

    Raises VaultError, and what keeps the vault's repository from opening.
    """
    damages: list[Damage] = []
    sizes: dict[bytes, int] = {}
    named: dict[bytes, tuple[PieceFiles, Piece]] = {}
    for source, found in pieces_in(installation, vault_name).items():
        files = PieceFiles(installation, vault_name, source)
        wanted = files.wanted(found)
        damages += _gaps(files, wanted)
        for piece in wanted:
            name = sha256(files.key(piece).encode()).digest()
            sizes[name], named[name] = found[piece], (files, piece)

    def wrong(name: bytes) -> tuple[bytes, VaultMissingError | DamageError | None]:
        files, piece = named[name]
        try:
            files.read(piece)
        except (VaultMissingError, DamageError) as error:
            return name, error
        return name, None

    intact, damaged, gone = set[bytes](), set[bytes](), set[bytes]()
    for name, error in each(installation.vault(vault_name), wrong, _turns(sizes, ledger, share)):
        if error is None:
            intact.add(name)
        elif isinstance(error, DamageError):
            files, piece = named[name]
            damaged.add(name)
            damages.append(Damage(f"piece {files.key(piece)}", error.why, _hurt(files.held(), piece)))
        else:
            gone.add(name)  # a new recovery point has taken its place meanwhile
    present = sizes.keys() - gone
    return Checked(
        Readings(at, present, intact, damaged),
        tuple(damages),
        sum(sizes[name] for name in present),
        sum(sizes[name] for name in intact | damaged),
    )


def _turns(sizes: dict[bytes, int], ledger: Ledger | None, share: Fraction | None) -> Collection[bytes]:
    if ledger is None:
        return ()
    if share is None or not sizes.keys() & ledger.last_read.keys():
        return sizes  # where none was there the last time, all of them are new
    return portion(sizes, ledger, Part(share=share))


def put_back(installation: Installation, vault_name: str, *, read_data: bool = True) -> Mended:
    """Bring a vault what it lacks of its pieces from the others. Without `read_data`, only what is missing.

    Raises VaultError, and what keeps the vault's repository from opening.
    """
    done = Mended()
    for source, found in pieces_in(installation, vault_name).items():
        files = PieceFiles(installation, vault_name, source)
        others = _others(installation, vault_name, source)
        wanted = files.wanted(found)
        for damage, lacking in _lacking(files, wanted, read_data=read_data):
            try:
                reads = list(_joined(read_on(installation, source, tuple(others), others, lacking), lacking))
            except BackupsError:
                files.delete(lacking)  # nobody can open it; what is not there is streamed once more
                done.lost.append(damage)
                if _leads_from_newest(installation, source, lacking) and source not in done.sources:
                    done.sources.append(source)
                continue
            for read in reads:
                files.put(read, overwrite=True)
            done.mended.append(damage)
    return done


def _lacking(files: PieceFiles, wanted: Sequence[Piece], *, read_data: bool) -> Iterator[tuple[Damage, Piece]]:
    """What is damaged or missing, each as a stretch of the log."""
    for gap in _stretches_missing(files, wanted):
        yield _gap(files, gap), gap
    for piece in wanted if read_data else ():
        try:
            files.read(piece)
        except VaultMissingError:
            continue
        except DamageError as error:
            yield Damage(f"piece {files.key(piece)}", error.why, _hurt(files.held(), piece)), piece


def _joined(pieces: Iterator[PieceRead], stretch: Piece) -> Iterator[PieceRead]:
    """What others hold of a stretch, in as few pieces as may be."""
    begins = stretch.begins
    for reads in by_file(pieces):
        data = bytearray()
        mark, until = None, None
        for read in reads:
            data += read.data[begins + len(data) - read.piece.begins :]
            if read.piece.ends <= stretch.ends:
                mark, until = read.mark or mark, read.until
        del data[stretch.ends - begins :]
        ends = begins + len(data)
        yield PieceRead(Piece(stretch.log, begins, ends), mark, bytes(data), until, cut(reads[0], begins))
        begins = ends


def _others(installation: Installation, vault_name: str, source: str) -> dict[str, Collection[Piece]]:
    found: dict[str, Collection[Piece]] = {}
    for other in installation.policy.vaults:
        if other == vault_name:
            continue
        try:
            installation.check_readable(other)
            found[other] = PieceFiles(installation, other, source).listed()
        except BackupsError:
            continue  # a vault that is away cannot help
    return found


def _gaps(files: PieceFiles, wanted: Sequence[Piece]) -> Iterator[Damage]:
    stream = files.installation.catalog.facts(clock.now(), [files.source]).sources.get(files.source)
    away = stream is not None and stream.stream is not None and gets_nothing(files.vault_name) in stream.stream.problem
    if not away:  # the stream brings it what it lacks, and its status says so
        yield from (_gap(files, gap) for gap in _stretches_missing(files, wanted))


def _stretches_missing(files: PieceFiles, wanted: Sequence[Piece]) -> Iterator[Piece]:
    """Where pieces go on that no point's log and no piece leads to. One is named for each point at most."""
    held = [told for _, told in files.held()]
    told = set[Piece]()
    for one in held:
        later = [other for other in held if other is not one]
        gap = _missing_after(wanted, one, later)
        if gap is not None:
            # A piece that was stored while its folder was read may have been missed, and not the one after it.
            gap = _missing_after((*wanted, *files.listed()), one, later)
        if gap is not None and gap not in told:
            told.add(gap)
            yield gap


def _missing_after(pieces: Sequence[Piece], after: Follows, later: Sequence[Follows]) -> Piece | None:
    chosen = unbroken(pieces, after.log, after.ends)
    ends = chosen[-1].ends if chosen else after.ends
    begins = gap_after(pieces, after.log, ends, later)
    return Piece(after.log, ends, begins) if begins is not None else None


def _gap(files: PieceFiles, gap: Piece) -> Damage:
    what = f"what was streamed of source {files.source}"
    why = f"pieces are missing from {gap.begins:016X} to {gap.ends:016X}"
    return Damage(what, why, _hurt(files.held(), gap))


def _hurt(held: Sequence[tuple[str, Follows]], piece: Piece) -> tuple[str, ...]:
    """The copy of the point from which one comes to a piece with the least log in between."""
    leading = [
        (told.ends, reference) for reference, told in held if told.log == piece.log and told.ends <= piece.begins
    ]
    return (max(leading)[1],) if leading else ()


def _leads_from_newest(installation: Installation, source: str, piece: Piece) -> bool:
    newest = installation.catalog.latest(source) if source in installation.policy.sources else None
    told = follows(newest) if newest is not None else None
    return told is not None and told.log == piece.log and told.ends <= piece.begins
