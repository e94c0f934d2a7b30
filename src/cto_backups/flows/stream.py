"""Stream: follow a source's log, and bring it to the vaults as it is written. One worker at a time does, under a lease.

What is in one vault counts; a vault that was away gets what it lacks from another. Whoever loses the lease stops before
it stores anything more.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from cto_backups import clock
from cto_backups.core.log_range import follows
from cto_backups.core.streams import (
    Following,
    Follows,
    Look,
    Mark,
    Piece,
    PieceRead,
    StreamFacts,
    Streaming,
    desired,
    gets_nothing,
    unbroken,
)
from cto_backups.errors import BackupsError, BusyError, CatalogError, DamageError, PointNeededError, VaultError
from cto_backups.flows.installation import Installation
from cto_backups.flows.piece_upkeep import fill, join, tidy
from cto_backups.flows.pieces import PieceFiles, read_from_any
from cto_backups.flows.processes import process_alive

log = logging.getLogger("cto_backups")

_TAKE_SECONDS: Final = 0.5
"""How long what comes is gathered before it is brought to the vaults: what a loss of the source may cost."""
_REPORT_EVERY: Final = timedelta(seconds=2)
_FILL_EVERY: Final = timedelta(seconds=30)
_TIDY_EVERY: Final = timedelta(minutes=1)
_COMPARE_EVERY: Final = timedelta(minutes=10)
_JOIN_EVERY: Final = timedelta(minutes=10)
_FIRST_PAUSE: Final = 1.0
_LAST_PAUSE: Final = 60.0
_BUSY_PAUSE: Final = 5.0
"""How often a worker looks whether another one, which follows the log, still does: that one's death costs this long."""


def wanted(installation: Installation) -> tuple[str, ...]:
    """The sources whose log is to be followed: continuous ones, of a kind and set up so that it can be."""

    def able(name: str) -> bool:
        source = installation.source(name)
        return isinstance(source, Streaming) and source.streams

    return desired(((name, source.triggers) for name, source in installation.policy.sources.items()), able)


class Streams:
    """Keeps up a worker's streams, each on a thread of its own; a context, which ends them."""

    def __init__(self, installation: Installation, holder: str, warn: Callable[[str], None]) -> None:
        self._installation = installation
        self._holder = holder
        self._warn = warn
        self._stop = threading.Event()
        self._stuck = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    def __enter__(self) -> "Streams":
        for name in wanted(self._installation):
            thread = threading.Thread(target=self._keep_up, args=(name,), name=f"stream-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads.values():
            thread.join()

    def need_point(self) -> bool:
        """Whether a stream has come to need a new point since this was asked last: the plan knows of which source."""
        needed = self._stuck.is_set()
        self._stuck.clear()
        return needed

    def _keep_up(self, name: str) -> None:
        """Follow again whenever it ends, after pauses that grow; told once for each reason."""
        pause, told = _FIRST_PAUSE, ""
        while not self._stop.is_set():
            began, busy, stuck = clock.monotonic(), False, False
            try:
                follow(self._installation, name, self._holder, self._stop)
                reason = ""
            except BusyError:
                reason, busy = "", True  # another worker is at it: it is asked for again
            except BackupsError as error:
                reason, stuck = str(error), isinstance(error, PointNeededError)
            except Exception as error:
                log.exception("stream ended", extra={"fields": {"source": name}})
                reason = f"defect: {type(error).__name__}"
            if reason and reason != told:
                log.warning("stream", extra={"fields": {"source": name, "message": reason}})
                self._warn(f"The log of source '{name}' is not followed: {reason}")
            told = reason
            pause = _FIRST_PAUSE if clock.monotonic() - began > _LAST_PAUSE else min(2 * pause, _LAST_PAUSE)
            if stuck:
                self._stuck.set()
                self._wait_for_point(name, _LAST_PAUSE)
            else:
                self._stop.wait(_BUSY_PAUSE if busy else pause)

    def _wait_for_point(self, name: str, seconds: float) -> None:
        """Until there is another newest point, and no longer than this: the old log may be there again."""
        until = clock.monotonic() + seconds
        with suppress(CatalogError):
            newest = self._installation.catalog.latest(name)
            while clock.monotonic() < until and not self._stop.wait(_FIRST_PAUSE):
                if self._installation.catalog.latest(name) != newest:
                    return
        self._stop.wait(max(until - clock.monotonic(), 0.0))


def follow(installation: Installation, name: str, holder: str, stop: threading.Event) -> None:
    """Follow one source's log until `stop` is set, or the source has a point that begins another log.

    Returns at once while it has no point with a log: the first backup makes one. Raises BusyError while another worker
    follows it, SourceError, VaultError.
    """
    source = installation.source(name)
    assert isinstance(source, Streaming)
    start = _start(installation, name)
    if start is None:
        return
    host, pid = installation.host, os.getpid()
    book = installation.catalog.streams
    token = book.lease(name, holder, host, pid, clock.now(), process_alive)
    stream = _Stream(installation, name, start, stop)
    began = StreamFacts(name, start.log, holder=holder, host=host, pid=pid, token=token, began_at=clock.now())
    stream.facts = replace(began, reached_at=stream.known.reached_at, moment=stream.known.moment)
    try:
        last = stream.resumed()
        with source.follow(start, last) as following:
            stream.run(following, stream.compared(following, last) if last is not None else b"")
    except PointNeededError as error:
        same = stream.known.stuck_at == stream.point
        since = stream.known.stuck_since if same else clock.now()
        facts = replace(stream.facts, problem=str(error), stuck_at=stream.point, stuck_since=since)
        book.report(facts, clock.now())
        raise
    except BackupsError as error:
        book.report(replace(stream.facts, problem=str(error)), clock.now())
        raise
    finally:
        book.release(name, token)


def _start(installation: Installation, name: str) -> Follows | None:
    point = installation.catalog.latest(name)
    return follows(point) if point is not None else None


@dataclass
class _Stream:
    """One stretch of following."""

    installation: Installation
    name: str
    follows: Follows
    stop: threading.Event
    vaults: list[str] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    known: StreamFacts = field(init=False)
    facts: StreamFacts = field(init=False)
    point: str = ""
    untidy: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        facts = self.installation.catalog.facts(clock.now(), [self.name]).sources[self.name]
        self.known = facts.stream or StreamFacts(self.name)
        if self.known.log != self.follows.log:
            self.known = StreamFacts(self.name)
        self.point = facts.newest.id if facts.newest is not None else ""

    def resumed(self) -> PieceRead | None:
        """The last whole piece that leads on from the point. Every vault that is there gets what it lacks."""
        pieces: set[Piece] = set()
        names = self.installation.source_policy(self.name).vaults
        problems: dict[str, BackupsError] = {}
        for vault in names:
            try:
                self.installation.vault(vault).check()
                pieces.update(PieceFiles(self.installation, vault, self.name).listed())
                self.vaults.append(vault)
            except BackupsError as error:
                problems[vault] = error
        self.away = {vault: str(error) for vault, error in problems.items()}
        if not self.vaults:
            raise VaultError(
                f"Source '{self.name}': no vault is there to take its log",
                why="; ".join(self.away.values()),
                todo="Bring one back; it is tried again by itself.",
            )
        for vault in list(self.vaults):
            self._fill(vault)
        found = unbroken(pieces, self.follows.log, self.follows.ends)
        for piece in reversed(found):
            with suppress(DamageError):  # it is streamed once more
                return read_from_any(self.installation, self.name, piece, self.vaults)
        return None

    def compared(self, following: Following, last: PieceRead) -> bytes:
        """Take what the last piece holds once more; what came after it.

        A server that was set back goes on in its own way from there. Raises SourceError.
        """
        taken = b""
        while following.ends < last.piece.ends and not self.stop.is_set():
            taken += following.take(_TAKE_SECONDS)
        if not last.data.startswith(taken[: len(last.data)]):
            raise PointNeededError(
                f"Source '{self.name}': its log is not the one that was streamed before",
                why="the server was set back to an older state, and has come as far again",
                todo="Back it up: a new point begins where it is now.",
            )
        return taken[len(last.data) :]

    def run(self, following: Following, data: bytes) -> None:
        """Bring what was taken to the vaults, and what comes, until there is a reason to stop."""
        with self._joining():
            self._run(following, data)

    @contextmanager
    def _joining(self) -> Iterator[None]:
        """What is old is joined on a thread of its own: nothing that comes waits for that."""
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(_JOIN_EVERY.total_seconds()):
                for vault in list(self.vaults):
                    try:
                        join(self.installation, self.name, vault, lambda: ended.is_set() or self.stop.is_set())
                    except BackupsError as error:
                        log.warning("pieces stay", extra={"fields": {"source": self.name, "message": str(error)}})

        thread = threading.Thread(target=go_on, name=f"join-{self.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _run(self, following: Following, data: bytes) -> None:
        now = clock.monotonic()  # the clock of the wall may be set meanwhile
        reported, filled, compared, tidied = now, now, now, now - _TIDY_EVERY.total_seconds()
        mark: Mark | None = None
        looks: deque[Look] = deque()  # how far the source was, and has not been followed yet
        while not self.stop.is_set():
            data = data or following.take(_TAKE_SECONDS)
            look = self._looked(following, data)
            if look.mark is not None and look.mark.position <= following.ends:
                mark = look.mark
            self._keep(following, data, mark, look.moment)
            data = b""
            looks.append(look)
            reached = self.facts.reached_at
            while looks and looks[0].position <= following.ends:
                reached = looks.popleft().at
            self._note(following.ends, reached, max(look.position - following.ends, 0), mark)
            now = clock.monotonic()
            if now - reported >= _REPORT_EVERY.total_seconds():
                reported = now
                if not self.installation.catalog.streams.report(self.facts, clock.now()):
                    raise BusyError(
                        f"The log of source '{self.name}' is followed by another worker now",
                        why="this one gave no sign in time",
                        todo="Nothing: what it stored stays.",
                    )
            if self.away and now - filled >= _FILL_EVERY.total_seconds():
                filled = now
                self._bring_back()
            if now - tidied >= _TIDY_EVERY.total_seconds():
                tidied = now
                if self._tidied():
                    return
            if now - compared >= _COMPARE_EVERY.total_seconds():
                compared = now
                self._compare(following.ends)

    def _looked(self, following: Following, data: bytes) -> Look:
        """How far the source is. Where it is gone, its last words are kept: they are all that there will be."""
        try:
            return following.look()
        except BackupsError:
            raise
        except Exception:
            self._keep(following, data, None, None)
            raise

    def _keep(self, following: Following, data: bytes, mark: Mark | None, until: datetime | None) -> None:
        if data:
            begins = following.ends - len(data)
            piece = Piece(self.follows.log, begins, following.ends)
            self._store(PieceRead(piece, mark, data, until, following.about(begins)))

    def _compare(self, ends: int) -> None:
        """See that what was stored is there still. Raises VaultError: it is streamed once more then, if it can be."""
        if ends <= self.follows.ends:
            return
        for vault in self.vaults:
            pieces = PieceFiles(self.installation, vault, self.name)
            if self._leads(pieces, ends):
                continue
            self._fill(vault)
            if not self._leads(pieces, ends):
                raise VaultError(
                    f"Source '{self.name}': pieces of its log are gone from the vaults",
                    why=f"nothing in '{vault}' leads to where its log was stored",
                    todo="See who removed them. They are streamed once more, as far as the server has them.",
                )

    def _leads(self, pieces: PieceFiles, ends: int) -> bool:
        found = unbroken(pieces.listed(), self.follows.log, self.follows.ends)
        return bool(found) and found[-1].ends >= ends

    def _store(self, read: PieceRead) -> None:
        for vault in list(self.vaults):
            try:
                PieceFiles(self.installation, vault, self.name).put(read)
            except BackupsError as error:
                self.vaults.remove(vault)
                self.away[vault] = str(error)
        if not self.vaults:
            raise VaultError(
                f"Source '{self.name}': no vault takes its log",
                why="; ".join(self.away.values()),
                todo="See what keeps them from it; it is tried again by itself.",
            )

    def _note(self, ends: int, reached: datetime | None, unsent: int, mark: Mark | None) -> None:
        away = "; ".join(f"{gets_nothing(name)}: {why}" for name, why in self.away.items())
        self.facts = replace(
            self.facts,
            ends=ends,
            reached_at=reached,
            moment=mark.moment if mark is not None else self.facts.moment,
            unsent_bytes=unsent,
            problem=away,
        )

    def _bring_back(self) -> None:
        for vault in list(self.away):
            try:
                self.installation.vault(vault).check()
                self._fill(vault)
            except BackupsError as error:
                self.away[vault] = str(error)
                continue
            del self.away[vault]
            self.vaults.append(vault)

    def _fill(self, vault: str) -> None:
        others = [other for other in self.vaults if other != vault]
        fill(self.installation, self.name, vault, others, self.follows.ends)

    def _tidied(self) -> bool:
        """Remove what points hold by now; whether the newest of them begins another log."""
        newest = self.installation.catalog.latest(self.name)
        if newest is None:
            return False
        if newest.id != self.point:
            told = follows(newest)
            if told is None or not told.same_as(self.follows):
                return True
            self.point, self.follows = newest.id, told
            self.untidy = set(self.installation.source_policy(self.name).vaults)
        for known in self.installation.catalog.copies(newest.id) if self.untidy else ():
            vault = known.copy.vault
            if vault in self.untidy and vault in self.vaults:
                self.untidy.discard(vault)
                try:
                    tidy(self.installation, self.name, vault)
                except BackupsError as error:
                    log.warning("pieces stay", extra={"fields": {"source": self.name, "message": str(error)}})
        return False
