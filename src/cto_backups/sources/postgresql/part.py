"""Of a server's files, those that the recovery of one database needs: the others' tables and indexes stay behind.

In their place come files of the same size with nothing in them: they take no room. What the log changes in these it has
whole, as after every checkpoint, and so recovery goes through. Nobody may read them afterwards.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cto_backups.core.trees import Entry, EntryKind
from cto_backups.sources.postgresql.rows import Session

NUMBERS: Final = "databases"
"""What of the sample `server` tells the numbers of the databases, by their names, as JSON."""
_FIRST_OF_PEOPLE: Final = 16_384
"""The number of the first database that somebody made: those below are the server's own."""
_RELATION: Final = re.compile(rb"/(?:data/base|tablespaces/\d+/PG_[^/]+)/(\d+)/(?:\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?)")


def numbered(session: Session) -> str:
    """The numbers of a server's databases, as `NUMBERS` tells them."""
    rows = session.execute("SELECT datname, oid::bigint FROM pg_database ORDER BY 1").fetchall()
    return json.dumps({str(name): int(number) for name, number in rows})


def number_of(about: Mapping[str, str], database: str) -> int | None:
    """The number of a database when the server's files were read; None where that is not told."""
    return _numbers(about).get(database)


def number_of_now(session: Session, database: str) -> int:
    """The number that a database has on this server. Raises psycopg.Error."""
    (number,) = session.execute("SELECT oid::bigint FROM pg_database WHERE datname = %s", (database,)).fetchone() or (
        0,
    )
    return int(number)


def not_needed(
    about: Mapping[str, str], database: str, entries: Iterable[tuple[bytes, Entry]]
) -> Iterator[tuple[bytes, int]]:
    """The files of other databases, with their sizes; none where it is not known which those are."""
    numbers = _numbers(about)
    if database not in numbers:
        return
    others = {str(number).encode() for name, number in numbers.items() if name != database}
    others = {number for number in others if int(number) >= _FIRST_OF_PEOPLE}
    for path, entry in entries:
        found = _RELATION.fullmatch(path) if entry.kind is EntryKind.FILE else None
        if found is not None and found[1] in others:
            yield path, entry.size


def blank(restored: Path, files: Mapping[bytes, int]) -> None:
    """Put files of these sizes in their places, with nothing in them. Raises OSError."""
    for path, size in files.items():
        file = restored / os.fsdecode(path.lstrip(b"/"))
        with file.open("xb") as made:
            made.truncate(size)
        file.chmod(0o600)


def _numbers(about: Mapping[str, str]) -> dict[str, int]:
    try:
        return {str(name): int(number) for name, number in json.loads(about.get(NUMBERS, "{}")).items()}
    except (ValueError, AttributeError, TypeError):
        return {}
