"""Streams: what a source writes into its log comes into vaults as it is written, in pieces, between recovery points.

A stream follows a recovery point that holds a log, and goes on where that log ends. Positions count bytes of the log
from its beginning; `log` tells one log from another (a server that was set back writes another one). Pure.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, Protocol, runtime_checkable

from cto_backups.core.duration import roughly
from cto_backups.core.triggers import Continuous, Triggers

LEASE = timedelta(seconds=30)
"""How long a worker that gives no sign keeps a stream to itself."""

CLOCKS_APART = timedelta(hours=1)
"""By how much a lease may end later than one's own clock allows: workers whose clocks differ do not take a stream from
each other for ever. One that ends later still is from a clock that was wrong.
"""

STALL = timedelta(minutes=1)
"""How long nothing may reach a vault before a stream is said to stand still; a quarter of a shorter RPO."""


SMALL_BYTES = 4 << 20
"""Pieces below this size are joined once they are `JOIN_AFTER` old."""

JOINED_BYTES = 16 << 20
"""How much a joined piece holds at most: it is read, and checked, as a whole."""

JOIN_LEAST = 16
"""How many small pieces are worth a larger one: fewer wait for more."""

JOIN_AFTER = timedelta(hours=1)
"""Until then a new recovery point usually takes the place of pieces."""


@dataclass(frozen=True, slots=True)
class Follows:
    """What a stream goes on from: the log of a recovery point, which reaches from `first` (the first position that can
    be returned to) up to `ends`. `about` is what else its source has to know.
    """

    log: str
    first: int
    ends: int
    about: Mapping[str, str]

    def same_as(self, other: "Follows") -> bool:
        """Whether one log is meant, and it may be followed under the same conditions."""
        mine, others = self.about.get("tablespaces"), other.about.get("tablespaces")
        return self.log == other.log and mine == others


@dataclass(frozen=True, slots=True)
class Mark:
    """A position that was written at a moment by the source's clock: who goes that far can return to the moment."""

    position: int
    moment: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """How far a source's log was at a moment by our clock, and the last mark in it (None: there was none yet).

    By the source's own clock, all that was taken before was committed until `moment`.
    """

    at: datetime
    position: int
    moment: datetime
    mark: Mark | None = None


class Following(Protocol):
    """A log that is being followed. Every method raises SourceError; where only a new point helps, PointNeededError."""

    @property
    def ends(self) -> int:
        """The position up to which all of it was taken."""

    def take(self, seconds: float) -> bytes:
        """What follows; empty when nothing came for this long. What comes in quick succession comes together."""

    def about(self, begins: int) -> Mapping[str, str]:
        """What a piece has to say beside its bytes that begins there, in what was taken last."""

    def look(self) -> Look:
        """How far the source is; raises SourceError too when nothing that was taken may be kept, and why.

        Whatever else it raises says that the source is gone: what was taken before may be kept.
        """


@runtime_checkable
class Streaming(Protocol):
    """A source whose log can be followed."""

    @property
    def streams(self) -> bool:
        """Whether it is set up so that its log can be followed."""

    def follow(self, follows: Follows, last: "PieceRead | None") -> AbstractContextManager[Following]:
        """Follow the log on from where the last piece begins, or (None) from where the point's log ends.

        Raises SourceError; where only a new point helps, PointNeededError.
        """


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a log in a vault, without its bytes."""

    log: str
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class PieceRead:
    """A piece with its bytes, and the last mark up to its end.

    By the source's clock, all that is committed in it was until `until` (None: it does not tell). `about` is what its
    source has to know beside the bytes.
    """

    piece: Piece
    mark: Mark | None
    data: bytes
    until: datetime | None = None
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tail:
    """What was streamed after a recovery point: unbroken from the end of its log up to `ends`; `mark` is its last.

    `until` is as in `PieceRead`. `gap` is where the log goes on after pieces that are lost (None: nothing is missing).
    `read` gives the pieces in order, each from a vault that has it intact; raises DamageError, VaultError.
    """

    log: str
    begins: int
    ends: int
    mark: Mark | None
    size_bytes: int
    read: Callable[[], Iterator[PieceRead]]
    until: datetime | None = None
    gap: int | None = None


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What is known of a source's stream: where it is, and who keeps it up.

    All that was committed until `reached_at`, by our clock, is in a vault. The source can be brought back to any moment
    until `moment` by its own clock. `unsent_bytes` were written and not in a vault when it was last looked. `problem`
    is why it stands still (empty: it does not). Since `stuck_since` it leads on from the point `stuck_at` no longer,
    and needs a new one (empty: it leads on). The lease is `holder`'s until `leased_until`; `token` grows with each
    lease, so that who lost it notices.
    """

    source: str
    log: str = ""
    ends: int = 0
    reached_at: datetime | None = None
    moment: datetime | None = None
    unsent_bytes: int = 0
    problem: str = ""
    holder: str = ""
    host: str = ""
    pid: int = 0
    token: int = 0
    leased_until: datetime | None = None
    began_at: datetime | None = None
    stuck_at: str = ""
    stuck_since: datetime | None = None


def desired(sources: Iterable[tuple[str, Triggers]], able: Callable[[str], bool]) -> tuple[str, ...]:
    """The sources whose log is to be followed: those that are to be protected continuously, and can be."""
    return tuple(name for name, triggers in sources if is_continuous(triggers) and able(name))


def is_continuous(triggers: Triggers) -> bool:
    """Whether a source is to be protected all the time."""
    return any(isinstance(trigger, Continuous) for trigger in triggers)


def is_leased(facts: StreamFacts, now: datetime) -> bool:
    """Whether a worker has the stream, as far as its lease tells."""
    return facts.leased_until is not None and now < facts.leased_until <= now + LEASE + CLOCKS_APART


def stall_after(rpo: timedelta) -> timedelta:
    """How long nothing may reach a vault before people hear of it."""
    return min(STALL, rpo / 4)


def standing(facts: StreamFacts, rpo: timedelta, now: datetime) -> str | None:
    """Why a stream stands still, in words that follow "its log"; None: it goes on."""
    late = facts.reached_at is None or now - facts.reached_at > stall_after(rpo)
    since = f", for {roughly(now - facts.reached_at)}" if facts.reached_at is not None else ""
    if facts.stuck_at:
        return f"leads on from {facts.stuck_at} no longer{since}, so that a new point is due at once: {facts.problem}"
    if not is_leased(facts, now):
        return f"is followed by no worker{since}{': ' + facts.problem if facts.problem else ''}"
    if late and (facts.began_at is None or now - facts.began_at > stall_after(rpo)):
        behind = f", {facts.unsent_bytes} bytes behind" if facts.unsent_bytes else ""
        return f"does not reach the vaults{since}{behind}{': ' + facts.problem if facts.problem else ''}"
    return f"does not reach every vault: {facts.problem}" if facts.problem else None


def going(facts: StreamFacts, now: datetime) -> str:
    """How far a stream is, in words that follow "its log"."""
    if facts.reached_at is None:
        return f"is followed by {facts.holder}, and nothing of it is in a vault yet"
    behind = f"{facts.unsent_bytes} bytes behind" if facts.unsent_bytes else "nothing behind"
    return f"is in the vaults until {roughly(max(now - facts.reached_at, timedelta()))} ago, {behind}"


def unbroken(pieces: Iterable[Piece], log: str, begins: int) -> tuple[Piece, ...]:
    """The pieces that lead on from a position without a gap, in order; where they overlap, the fewest."""
    ordered = sorted(
        (piece for piece in pieces if piece.log == log and piece.ends > begins), key=lambda piece: piece.begins
    )
    chosen: list[Piece] = []
    at = begins
    best: Piece | None = None
    for piece in ordered:
        if piece.begins > at:
            if best is None or best.ends <= at:
                break
            chosen.append(best)
            at = best.ends
            if piece.begins > at:
                break
        if best is None or piece.ends > best.ends:
            best = piece
    if best is not None and best.ends > at:
        chosen.append(best)
    return tuple(chosen)


def covered(pieces: Iterable[Piece]) -> Callable[[Piece], bool]:
    """Whether pieces hold all that is in another one, however they are cut."""
    stretches: dict[str, list[tuple[int, int]]] = {}
    for piece in sorted(pieces, key=lambda each: each.begins):
        of_log = stretches.setdefault(piece.log, [])
        if of_log and piece.begins <= of_log[-1][1]:
            of_log[-1] = of_log[-1][0], max(of_log[-1][1], piece.ends)
        else:
            of_log.append((piece.begins, piece.ends))

    def holds(piece: Piece) -> bool:
        of_log = stretches.get(piece.log, [])
        at = bisect_right(of_log, piece.begins, key=lambda stretch: stretch[0]) - 1
        return at >= 0 and piece.ends <= of_log[at][1]

    return holds


FILE: Final = "file"
"""In `PieceRead.about`, the file of the source's log that a piece is of, where it matters: no piece is of two."""
OFFSET: Final = "offset"
"""With it, the place in that file where the piece begins."""


def cut(read: PieceRead, begins: int) -> Mapping[str, str]:
    """What a piece says beside its bytes, without those before this position."""
    if OFFSET not in read.about:
        return read.about
    return {**read.about, OFFSET: str(int(read.about[OFFSET]) + begins - read.piece.begins)}


def by_file(reads: Iterable[PieceRead]) -> Iterator[list[PieceRead]]:
    """Pieces that follow each other, in groups that may become one piece."""
    for _, group in groupby(reads, key=lambda read: read.about.get(FILE)):
        yield list(group)


def joinable(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, ...]]:
    """Small pieces that follow each other, in groups of at least `JOIN_LEAST`, or as much as a joined one may hold."""
    group: list[Piece] = []
    for piece in sorted(pieces, key=lambda each: (each.log, each.begins, each.ends)):
        follows = bool(group) and (piece.log, piece.begins) == (group[-1].log, group[-1].ends)
        is_small = piece.ends - piece.begins < SMALL_BYTES
        if group and not (follows and is_small):
            if len(group) >= JOIN_LEAST:
                yield tuple(group)
            group = []
        if is_small:
            group.append(piece)
        if group and group[-1].ends - group[0].begins >= JOINED_BYTES - SMALL_BYTES:
            yield tuple(group)
            group = []
    if len(group) >= JOIN_LEAST:
        yield tuple(group)


def gets_nothing(vault: str) -> str:
    """How the problem of a stream names a vault that it cannot store to."""
    return f"vault {vault} gets nothing"


def gap_after(pieces: Iterable[Piece], log: str, ends: int, held: Iterable[Follows]) -> int | None:
    """Where pieces of a log go on beyond this position, if nothing leads there: neither they nor a point's own log."""
    if any(follows.log == log and follows.ends > ends for follows in held):
        return None  # what lies between belongs to a later point, or went with one
    return min((piece.begins for piece in pieces if piece.log == log and piece.begins > ends), default=None)


def needless(pieces: Sequence[Piece], held: Sequence[Follows], others: Sequence[Follows] = ()) -> tuple[Piece, ...]:
    """The pieces that nobody needs: a point's own log holds them, or no point leads to them, and newer ones are there.

    `held` are the logs of the points that the same vault keeps, `others` those that only others keep: what leads on
    from one of these is waiting for it.
    """
    wanted: set[Piece] = set()
    for follows in (*held, *others):
        wanted.update(unbroken(pieces, follows.log, follows.ends))
    newest: dict[str, int] = {}  # positions of one log say nothing of another's
    for follows in held:
        newest[follows.log] = max(follows.ends, newest.get(follows.log, 0))

    def is_held(piece: Piece) -> bool:
        return any(each.log == piece.log and each.first <= piece.begins and piece.ends <= each.ends for each in held)

    return tuple(
        piece
        for piece in pieces
        if is_held(piece) or (piece not in wanted and held and piece.ends <= newest.get(piece.log, piece.ends))
    )
