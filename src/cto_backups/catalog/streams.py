"""Streams in the catalog: leased to one worker at a time, each lease with a number that the next one outdoes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from cto_backups.catalog import due_times
from cto_backups.catalog.database import Connection, Database, insertion
from cto_backups.catalog.rows import moment_from_column, moment_to_column, readable_row
from cto_backups.core.streams import LEASE, StreamFacts, is_leased
from cto_backups.errors import BusyError

_COLUMNS = ("source", "token", "leased_until", "reached_at")
_MOMENTS = ("moment", "began_at", "stuck_since")


class StreamBook:
    """The streams of an installation. Raises CatalogError and BusyError as the catalog does."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def lease(self, source: str, holder: str, host: str, pid: int, now: datetime, alive: Callable[[int], bool]) -> int:
        """Take a stream for oneself; the number of this lease. Raises BusyError while another worker has it.

        One whose process is gone, or that gave no sign in time, has it no longer. `alive` knows this host's processes.
        """
        with self._database.writing() as connection:
            known = read(connection, [source]).get(source, StreamFacts(source))
            ours = (known.host, known.pid) == (host, pid)
            if is_leased(known, now) and not ours and not (known.host == host and not alive(known.pid)):
                raise BusyError(
                    f"The log of source '{source}' is followed by another worker",
                    why=f"it is {known.holder}, process {known.pid} on {known.host}",
                    todo="Nothing: two never follow one log. If that worker is gone, this one takes over by itself.",
                )
            taken = replace(
                known,
                holder=holder,
                host=host,
                pid=pid,
                token=known.token + 1,
                leased_until=now + LEASE,
                began_at=now,
                problem=known.problem if known.stuck_at else "",
            )
            _write(connection, taken)
            return taken.token

    def report(self, facts: StreamFacts, now: datetime) -> bool:
        """Note how far a stream is, and keep it for longer; false, and nothing noted, when another has it by now."""
        with self._database.writing() as connection:
            known = read(connection, [facts.source]).get(facts.source)
            if known is None or known.token != facts.token:
                return False
            _write(connection, replace(facts, leased_until=now + LEASE))
            if (known.stuck_at, known.stuck_since) != (facts.stuck_at, facts.stuck_since):
                due_times.touch(connection, facts.source)
            return True

    def release(self, source: str, token: int) -> None:
        """Give a stream back; what is known of it stays."""
        with self._database.writing() as connection:
            known = read(connection, [source]).get(source)
            if known is not None and known.token == token:
                _write(connection, replace(known, leased_until=None))


def read(connection: Connection, names: Sequence[str]) -> dict[str, StreamFacts]:
    """What is known of the streams of these sources."""
    asked = {"asked": json.dumps(list(names))}
    rows = connection.execute("SELECT * FROM streams WHERE source IN (SELECT value FROM json_each(:asked))", asked)
    return {row["source"]: _facts(row) for row in rows}


@readable_row
def _facts(row: Any) -> StreamFacts:
    told = json.loads(row["told"])
    told |= {name: moment_from_column(told.get(name)) for name in _MOMENTS}
    return StreamFacts(
        source=row["source"],
        token=row["token"],
        leased_until=moment_from_column(row["leased_until"]),
        reached_at=moment_from_column(row["reached_at"]),
        **told,
    )


def _write(connection: Connection, facts: StreamFacts) -> None:
    told = {name: value for name, value in asdict(facts).items() if name not in _COLUMNS}
    told |= {name: moment_to_column(told[name]) for name in _MOMENTS}
    row = {
        "source": facts.source,
        "token": facts.token,
        "leased_until": moment_to_column(facts.leased_until),
        "reached_at": moment_to_column(facts.reached_at),
        "told": json.dumps(told),
    }
    changed = ", ".join(f"{column} = excluded.{column}" for column in row)
    connection.execute(f"{insertion('streams', row)} ON CONFLICT (source) DO UPDATE SET {changed}", row)
