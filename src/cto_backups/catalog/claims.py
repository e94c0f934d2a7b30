"""Claims in the catalog: taken as a run begins, extended while its process lives, given back as the run ends.

Whatever is written under a claim is written in a transaction that looks first whether the claim still stands. There is
one writer at a time, so that nobody can take it over before that transaction has ended.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cto_backups.catalog import runs
from cto_backups.catalog.database import Connection, Database, First, insertion
from cto_backups.catalog.rows import moment_from_column, moment_to_column, readable_row, run_from_row
from cto_backups.core.claims import GRACE, LEASE, Claim, Outdone, Standing, doing, standing
from cto_backups.core.model import Outcome
from cto_backups.errors import BusyError, ClaimLostError

# The token alone would do, but for a catalog that has gone back in time: there a token may come a second time.
_HOLDER = "SELECT token, host, pid FROM claims WHERE subject = :subject"
_GOOD_FOR_SECONDS = 0.2

_held: ContextVar[tuple[Claim, ...]] = ContextVar("claims", default=())
"""What the action claims that this thread is at: one, and those of what it does on the way."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun, under its claim; `outdone`: who had that before, and gave no sign."""

    run: int
    claim: Claim | None = None
    outdone: Outdone | None = None


def begin(
    connection: Connection,
    row: Mapping[str, Any],
    subject: str,
    now: datetime,
    alive: Callable[[int], bool],
    planned_at: datetime | None,
) -> Begun | Claim | None:
    """Add a run, and let it have the claim; who has it, where that is somebody else; None where it was done since."""
    known = _read(connection, subject)
    match standing(known, row["host"], now, alive):
        case Standing.HELD:
            assert known is not None
            return known
        case Standing.DOUBTFUL:
            assert known is not None
            doubted = replace(known, leased_until=now + GRACE, doubted=True)
            _write(connection, doubted)
            return doubted
    if planned_at is not None and _was_done(connection, row, planned_at, now):
        return None
    outdone = None if known is None or known.leased_until is None else _ended(connection, known, now)
    number = runs.begin(connection, row)
    token = 1 if known is None else known.token + 1
    claim = Claim(subject, token, number, row["host"], row["pid"], now + LEASE)
    _write(connection, claim)
    return Begun(number, claim, outdone)


def _was_done(connection: Connection, row: Mapping[str, Any], planned_at: datetime, now: datetime) -> bool:
    """Whether the same has ended since a moment, well or badly; what a wrong clock dates into the future has not."""
    place = "source" if row["source"] is not None else "vault"
    last = connection.execute(
        f"SELECT outcome, finished_at FROM runs WHERE {place} = :place AND action = :action ORDER BY id DESC LIMIT 1",
        {"place": row[place], "action": row["action"]},
    ).fetchone()
    if last is None or last["outcome"] == Outcome.INTERRUPTED.value:
        return False
    ended = moment_from_column(last["finished_at"])
    return ended is not None and planned_at < ended <= now


def busy(claim: Claim | None) -> BusyError:
    """What is told of a claim that somebody else has, or had."""
    if claim is None:
        return BusyError(
            "Another run has done this since it was planned",
            why="several workers share this catalog",
            todo="Nothing: what is still due is planned anew.",
        )
    holder = f"it is held by process {claim.pid} on {claim.host}"
    return BusyError(
        f"Another run is {doing(claim.subject)}",
        why=f"{holder}, which gives no sign of life" if claim.doubted else holder,
        todo="Wait for it to end; if it hangs, stop that process. Nothing was changed.",
    )


def give_back(connection: Connection, claim: Claim) -> None:
    """Let others have what was claimed."""
    connection.execute(
        "UPDATE claims SET leased_until = NULL"
        " WHERE subject = :subject AND token = :token AND host = :host AND pid = :pid",
        _holder(claim),
    )


class ClaimBook:
    """The claims of an installation."""

    def __init__(self, opened: "ClaimedDatabase") -> None:
        self._database = opened

    @contextmanager
    def under(self, claim: Claim) -> Iterator[None]:
        """What is written in here by this thread is written under the claim as well. Raises ClaimLostError then."""
        before = _held.set((*_held.get(), claim))
        try:
            yield
        finally:
            _held.reset(before)

    def extend(self, claim: Claim, now: datetime) -> bool:
        """Give a sign of life; false when the claim was lost or given back."""
        with self._database.unclaimed.writing() as connection:
            extended = connection.execute(
                """
                UPDATE claims SET leased_until = :until, doubted = 0
                WHERE subject = :subject AND token = :token AND host = :host AND pid = :pid
                    AND leased_until IS NOT NULL
                """,
                {"until": moment_to_column(now + LEASE), **_holder(claim)},
            )
            return extended.rowcount > 0

    def check(self) -> None:
        """Raise ClaimLostError when a claim of what this thread is at was lost; as of a fifth of a second ago."""
        self._database.check_claims()


class ClaimedDatabase:
    """A database that is written to under the claims that the thread has, if any; a `Database` like the one it has."""

    def __init__(self, opened: Database) -> None:
        self.unclaimed = opened
        self.shared = opened.shared
        self._checked: tuple[tuple[Claim, ...], float] = ((), 0.0)

    def close(self) -> None:
        """Let go of it."""
        self.unclaimed.close()

    def reading(self, *, lasting: bool = False) -> AbstractContextManager[Connection]:
        """A consistent view of everything; with `lasting`, of what no crash takes back."""
        return self.unclaimed.reading(lasting=lasting)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All that is done is there at the end, durably, or none of it. Raises ClaimLostError before anything is."""
        with self.unclaimed.writing() as connection:
            _check(connection)
            yield connection

    def look_first(self, first: First) -> None:
        """Do this before anything is written, once for each server that takes another's place."""
        self.unclaimed.look_first(first)

    def go_on_counting(self, connection: Connection) -> None:
        """Number new rows after those that were brought in with their numbers."""
        self.unclaimed.go_on_counting(connection)

    def check(self) -> tuple[str, ...]:
        """What its own means of checking find wrong; nothing when all is well."""
        return self.unclaimed.check()

    def check_claims(self) -> None:
        """Raise ClaimLostError when a claim that the thread has was lost."""
        held = _held.get()
        claims, at = self._checked
        # Many files are deleted one after the other. Who is stopped between this and the deletion is not kept from it
        # by a question that was asked at that very moment either.
        if not held or (claims == held and time.monotonic() - at < _GOOD_FOR_SECONDS):
            return
        at = time.monotonic()
        with self.reading() as connection:
            _check(connection)
        self._checked = held, at


def _holder(claim: Claim) -> dict[str, Any]:
    return {"subject": claim.subject, "token": claim.token, "host": claim.host, "pid": claim.pid}


def _check(connection: Connection) -> None:
    for claim in _held.get():
        subject = {"subject": claim.subject}
        row = connection.execute(_HOLDER, subject).fetchone()
        if row is None or tuple(row) != (claim.token, claim.host, claim.pid):
            raise ClaimLostError(
                f"This run was {doing(claim.subject)}, and another has taken over",
                why="it gave no sign of life for too long: it was stopped, or its machine was, or the catalog was away",
                todo="Nothing: what it had begun is not shown, and the other run does it. "
                "If processes here are stopped now and then, find out by what.",
            )


def _ended(connection: Connection, claim: Claim, now: datetime) -> Outdone | None:
    """End the run of who gave no sign, unless somebody has; None where it has ended otherwise."""
    interrupted = "SELECT * FROM runs WHERE id = :run AND outcome IN ('running', 'interrupted')"
    row = connection.execute(interrupted, {"run": claim.run}).fetchone()
    if row is None:
        return None
    ended = {
        "outcome": Outcome.INTERRUPTED.value,
        "finished_at": moment_to_column(now),
        "message": f"process {claim.pid} on {claim.host} gave no sign of life: another took over",
    }
    runs.end(connection, claim.run, ended, unless_ended=True)
    return Outdone(run_from_row({**dict(row), **ended}), claim.host, claim.pid)


def _read(connection: Connection, subject: str) -> Claim | None:
    row = connection.execute("SELECT * FROM claims WHERE subject = :subject", {"subject": subject}).fetchone()
    return None if row is None else _claim(row)


@readable_row
def _claim(row: Any) -> Claim:
    until = moment_from_column(row["leased_until"])
    return Claim(row["subject"], row["token"], row["run"], row["host"], row["pid"], until, bool(row["doubted"]))


def _write(connection: Connection, claim: Claim) -> None:
    row = {
        "subject": claim.subject,
        "token": claim.token,
        "run": claim.run,
        "host": claim.host,
        "pid": claim.pid,
        "leased_until": moment_to_column(claim.leased_until),
        "doubted": int(claim.doubted),
    }
    changed = ", ".join(f"{column} = excluded.{column}" for column in row)
    connection.execute(f"{insertion('claims', row)} ON CONFLICT (subject) DO UPDATE SET {changed}", row)
