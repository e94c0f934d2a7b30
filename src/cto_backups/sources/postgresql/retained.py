"""What a server keeps of its log for a source, in replication slots, and how long it can."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg

from cto_backups.core.retained_log import RetainedLog
from cto_backups.sources.postgresql.between import slot_beginning, slot_name
from cto_backups.sources.postgresql.rows import Session
from cto_backups.sources.postgresql.server import Server

_TELLS: Final = 13_00_00
"""The first version that tells what becomes of a slot's log."""
# A slot that has lost its log has no place in it any more; a server that recovers writes none.
_SLOTS: Final = """
    SELECT slot_name, wal_status = 'lost' OR wal_status = 'unreserved', safe_wal_size,
        CASE WHEN pg_is_in_recovery() THEN 0
            ELSE COALESCE(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn), 0) END,
        pg_size_bytes(current_setting('max_wal_size'))
    FROM pg_replication_slots WHERE starts_with(slot_name, %s) AND slot_type = 'physical' ORDER BY 1
"""


def retained_logs(server: Server, state: Path) -> Sequence[RetainedLog]:
    """The slots on the server whose names are of this source. Raises SourceError."""
    own, beginning = slot_name(server.name, state), slot_beginning(server.name)
    with server.session("postgres") as session:
        if session.info.server_version < _TELLS:
            return []
        rows = session.execute(_SLOTS, (beginning,)).fetchall()
        free = _free(server, session) if rows else None
    return [
        RetainedLog(
            slot=str(name),
            retained_bytes=int(retained),
            usual_bytes=int(usual),
            left_bytes=None if left is None else int(left),
            free_bytes=free,
            is_lost=bool(is_lost),
            ours=name == own,
        )
        for name, is_lost, left, retained, usual in rows
        if len(name) == len(own)  # that of a source whose name only begins like this one is longer
    ]


def _free(server: Server, session: Session) -> int | None:
    """The room on the server's disk, where that is this machine's and where it is may be known."""
    if not server.place.startswith("/"):
        return None
    try:
        (folder,) = session.execute("SHOW data_directory").fetchone() or ("",)
        return shutil.disk_usage(Path(str(folder)) / "pg_wal").free
    except (psycopg.Error, OSError):
        return None
