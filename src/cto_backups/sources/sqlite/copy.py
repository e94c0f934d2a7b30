"""A consistent copy of a live SQLite database, and the fingerprint of the same moment.

Copying the file while somebody writes to it damages the copy; one call of SQLite's backup inside one read transaction
does not.
"""

import os
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import SourceError
from cto_backups.sources.names import readable
from cto_backups.sources.sqlite import rows as sqlite_rows
from cto_backups.sources.sqlite import seen

MAGIC = b"SQLite format 3\0"
SIDECARS = ("-wal", "-shm", "-journal")
CARRIED = ("-wal", "-journal")  # what holds content; -shm is an index that SQLite makes anew
_ATTEMPTS = 3
_STEP_PAGES = 4096
_LOOKED_AT = 1024  # of a file that is no database
_RANDOM_VALUES = 200  # so many of the 256 values are in 1024 random bytes, and in hardly anything else
_UNKNOWN = re.compile(r"no such (function|collation sequence): (.+)")


@dataclass(frozen=True, slots=True)
class Staged:
    """A finished copy: when its content was current, and what it holds."""

    captured_at: datetime
    fingerprint: Fingerprint


def take(name: str, database: Path, staged: Path, key: bytes, lock_seconds: float, limit: Limit = UNLIMITED) -> Staged:
    """Copy `database` to `staged` (which is not there yet) and fingerprint it.

    Raises SourceError: missing, not a database, encrypted, locked, damaged, or too large for the free space.
    """
    _check_header(name, database)
    try:
        quiet = _must_stay_quiet(database)
        for _ in range(_ATTEMPTS):
            _check_room(name, database, staged.parent, copies=2 if quiet else 1)
            if quiet:
                copied = _take_quiet(name, database, staged, key, lock_seconds, limit)
                if copied is not None:
                    return copied
                quiet = _must_stay_quiet(database)
                continue
            try:
                return _take_live(name, database, staged, key, lock_seconds, limit)
            except sqlite3.OperationalError as error:
                if _code(error) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                    raise
                # A crash is to be undone first, or its folder is closed: either would need writing beside it.
                _discard(staged)
                quiet = True
    except sqlite3.Error as error:
        raise _refusal(name, database, error, lock_seconds) from error
    except OSError as error:
        raise SourceError(
            f"source {name}: {database} cannot be copied",
            why=error.strerror or str(error),
            todo="check that it may be read, and that the state folder has room for a copy of it",
        ) from error
    raise SourceError(
        f"source {name}: {database} cannot be read at rest",
        why=f"a program wrote to it during each of {_ATTEMPTS} attempts, and lets nobody read meanwhile",
        todo="let the program use SQLite's normal locking_mode, or back it up when the program rests",
    )


def open_still(path: Path) -> sqlite3.Connection:
    """Open a database that nobody writes to, without ever making a file beside it."""
    return _connect(path, "mode=ro&immutable=1", 1.0)


def complaints(connection: sqlite3.Connection, *, thorough: bool) -> list[str]:
    """What SQLite's integrity_check (`thorough`) or quick_check says is wrong.

    An application's own collations and functions are not known here. Checks of the order that they make are left out.
    """
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    pragma = "integrity_check" if thorough else "quick_check"
    known: set[str] = set()
    while True:
        try:
            said = [str(line) for (line,) in connection.execute(f"PRAGMA {pragma}(20)")]
        except sqlite3.OperationalError as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or unknown[0] in known:
                raise
            known.add(unknown[0])
            pragma = "quick_check"
            if unknown[1] == "function":
                connection.create_function(unknown[2], -1, lambda *_: None, deterministic=True)
            else:
                connection.create_collation(unknown[2], lambda one, two: (one > two) - (one < two))
        else:
            return [] if said == ["ok"] else [line for each in said for line in each.splitlines() if "***" not in line]


def describe(
    path: Path,
    stored: str,
    key: bytes,
    rows: Fingerprint | None = None,
    *,
    algorithm: str = sqlite_rows.ALGORITHM,
) -> Fingerprint:
    """The whole fingerprint of a copy at rest: its rows (unless given), its file, and what the file says of itself.

    `stored` is the database's path inside the recovery point.
    """
    with path.open("rb") as file:
        digest = sha256()
        while part := file.read(1 << 20):
            digest.update(part)
        size = file.tell()
    with closing(open_still(path)) as connection:
        if rows is None:
            rows = sqlite_rows.fingerprint(connection, key, algorithm)
        connection.text_factory = str
        fields = {"path": stored}
        for pragma in ("encoding", "page_size", "auto_vacuum"):
            fields[pragma] = str(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
        violations = _violations(connection)
    return replace(
        rows,
        checksums={**rows.checksums, "file": digest.hexdigest()},
        counts={**rows.counts, "bytes": size, "foreign_key_violations": violations},
        samples=(Sample("database", fields), *rows.samples),
    )


def _take_live(name: str, database: Path, staged: Path, key: bytes, lock_seconds: float, limit: Limit) -> Staged:
    """Copy within one read transaction of a read-only connection."""
    rows = None
    with closing(_connect(database, "mode=ro", lock_seconds)) as connection:
        limit.then(connection.interrupt)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        captured_at = clock.now()
        _back_up(connection, staged, limit)
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            # With a write-ahead log, readers hold nobody up: the rows are read from the source itself.
            rows = sqlite_rows.fingerprint(connection, key)
        # With a rollback journal, writers wait for this transaction: the rows are read from the copy, after it.
    return _finished(name, database, staged, key, captured_at, rows)


def _take_quiet(
    name: str, database: Path, staged: Path, key: bytes, lock_seconds: float, limit: Limit
) -> Staged | None:
    """Copy the files of a database that nobody has open; None when somebody wrote meanwhile.

    Opening it, even read-only, would make files beside it, or would need to where that is not possible.
    """
    captured_at = clock.now()
    before = states(database)
    resting = staged.with_name("resting.db")
    for suffix, state in before.items():
        if state is not None:
            _copy(Path(f"{database}{suffix}"), Path(f"{resting}{suffix}"))
    if states(database) != before:
        _discard(resting)
        return None
    with closing(_connect(resting, "mode=rw", lock_seconds)) as connection:
        _back_up(connection, staged, limit)
    _discard(resting)
    return _finished(name, database, staged, key, captured_at, None)


def _finished(
    name: str, database: Path, staged: Path, key: bytes, captured_at: datetime, rows: Fingerprint | None
) -> Staged:
    with closing(open_still(staged)) as connection:
        wrong = complaints(connection, thorough=False)
    if wrong:
        raise SourceError(
            f"source {name}: {database} is damaged",
            why=f"SQLite's quick_check says: {'; '.join(wrong[:3])}",
            todo="restore the last proven recovery point, or repair it with sqlite3's .recover; no new point was made",
        )
    return Staged(captured_at, describe(staged, readable(os.fsencode(database)), key, rows))


def _back_up(connection: sqlite3.Connection, staged: Path, limit: Limit) -> None:
    def go_on(*_: int) -> None:
        if limit.left() == 0:
            raise sqlite3.OperationalError("the time for it is over")

    with closing(sqlite3.connect(staged)) as target:
        target.execute("PRAGMA synchronous = OFF")  # thrown away after it was stored
        # In one transaction: in several, each who writes would have it begin again.
        connection.backup(target, pages=-1 if limit.left() is None else _STEP_PAGES, progress=go_on)


def _violations(connection: sqlite3.Connection) -> int:
    """Rows whose foreign keys lead nowhere: many applications live with some, so they are counted, not refused."""
    try:
        return sum(1 for _ in connection.execute("PRAGMA foreign_key_check"))
    except sqlite3.OperationalError:
        return -1  # a reference to what is no key at all


def _must_stay_quiet(database: Path) -> bool:
    """Whether opening it would make files: a write-ahead log or its index is missing, or a crash must be undone."""
    with database.open("rb") as file:
        header = file.read(20)
    if len(header) == 20 and header[18] == 2:
        return not (Path(f"{database}-wal").exists() and Path(f"{database}-shm").exists())
    return False


def states(database: Path) -> seen.States:
    """What the files that hold a database's content are like."""
    return seen.states(database, ("", *CARRIED))


def _copy(origin: Path, target: Path) -> None:
    with origin.open("rb") as source, target.open("wb") as out:
        while part := source.read(1 << 20):
            out.write(part)


def _discard(database: Path) -> None:
    for suffix in ("", *SIDECARS):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def _connect(path: Path, mode: str, lock_seconds: float) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path))}?{mode}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=lock_seconds)
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _check_header(name: str, database: Path) -> None:
    try:
        with database.open("rb") as file:
            start = file.read(_LOOKED_AT)
    except OSError as error:
        raise SourceError(
            f"source {name}: {database} cannot be read",
            why=error.strerror or str(error),
            todo="correct `path` of this source in the policy, or let this user read the file",
        ) from error
    if start and not start.startswith(MAGIC):
        raise _no_database(name, database, start)


def _no_database(name: str, database: Path, start: bytes) -> SourceError:
    """What a file is that does not begin as a database does, as far as its first bytes tell."""
    todo = "correct `path` of this source in the policy"
    if not any(start):
        why = f"its first {len(start)} bytes are zeroes: a disk or a broken copy has lost them"
        todo = "restore the last proven recovery point; no new point was made"
    elif len(set(start)) > _RANDOM_VALUES:
        why = "its first bytes look random: it is encrypted as a whole, or something else"
        todo = "back it up with what its own program exports (`kind: command`), or as files while that is stopped"
    else:
        why = "its first bytes are not SQLite's"
    return SourceError(f"source {name}: {database} is not a SQLite database", why=why, todo=todo)


def _check_room(name: str, database: Path, folder: Path, *, copies: int) -> None:
    """Refuse before anything is copied what cannot be copied in the end."""
    sizes = [state[0] for state in states(database).values() if state is not None]
    needed, free = copies * sum(sizes), shutil.disk_usage(folder).free
    if needed > free:
        raise SourceError(
            f"source {name}: there is no room for a copy of {database}",
            why=f"it takes up to {_megabytes(needed)} for a while, and {_megabytes(free)} are free in the state folder",
            todo="make room there, or name a folder on a larger disk as `state` in the policy",
        )


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def _refusal(name: str, database: Path, error: sqlite3.Error, lock_seconds: float) -> SourceError:
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SourceError(
            f"source {name}: {database} is locked",
            why=f"another program held it exclusively for more than {lock_seconds:g} seconds",
            todo="find the program (`fuser` names it), or give this source a longer `lock_timeout`",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return SourceError(
            f"source {name}: {database} is damaged",
            why=f"SQLite says: {error}",
            todo="restore the last proven recovery point, or repair it with sqlite3's .recover; no new point was made",
        )
    return SourceError(
        f"source {name}: {database} cannot be read",
        why=f"SQLite says: {error}",
        todo="check that the file and its folder may be read, and that the state folder has room for a copy of it",
    )


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
