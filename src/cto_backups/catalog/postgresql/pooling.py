"""Poolers of connections between this program and a server, such as PgBouncer: which of them do.

The program needs sessions: their settings name the schema, and the server tells a session that a job has come. A
pooler that lends a server's session for one transaction at a time loses both, and lets others have the settings.
"""

from collections.abc import Callable
from typing import Any, Final

import psycopg

from cto_backups.errors import CatalogError

_ROUNDS: Final = 3  # others' transactions may come between
_PID: Final = "SELECT pg_backend_pid()"

Opening = Callable[[], "psycopg.Connection[Any]"]


def is_pooled(session: "psycopg.Connection[Any]") -> bool:
    """Whether somebody stands between: the process that answers is not the one that was announced."""
    return _pid(session) != session.info.backend_pid


def refuse_shared(session: "psycopg.Connection[Any]", another: Opening, place: str) -> None:
    """Raise CatalogError where a pooler lends sessions for one transaction. Sessions are in autocommit."""
    for _ in range(_ROUNDS):
        before = _pid(session)
        beside = another()
        try:
            beside.execute("BEGIN")
            is_shared = _pid(beside) == before or _pid(session) != before
            beside.execute("ROLLBACK")
        except psycopg.OperationalError as error:
            if "pooling mode" not in str(error):
                raise
            is_shared = True  # for one statement at a time, and no transactions at all
        finally:
            beside.close()
        if is_shared:
            raise CatalogError(
                f"The catalog {place} is reached through a pooler that shares sessions",
                why="it lends one for a transaction at a time, so that settings get lost and nothing tells of new jobs",
                todo="Let it pool whole sessions (PgBouncer: pool_mode=session), or name the server itself.",
            )


def _pid(session: "psycopg.Connection[Any]") -> int:
    row = session.execute(_PID).fetchone()
    return int(next(iter(row.values())) if isinstance(row, dict) else row[0]) if row else 0
