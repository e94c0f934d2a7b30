"""A server that follows another one: whether it does, and how far it has come."""

from datetime import datetime
from typing import Final

from cto_backups.sources.postgresql.rows import Session

# What its primary committed last of what it has; where it has all that was sent, also what was said then, of which the
# walreceiver tells those who may see it; and without either, since a restart, the checkpoint it goes on from.
_REACHED: Final = """
    SELECT greatest(
        pg_last_xact_replay_timestamp(),
        (SELECT last_msg_send_time FROM pg_stat_wal_receiver
            WHERE status = 'streaming' AND latest_end_lsn <= pg_last_wal_replay_lsn()),
        (SELECT checkpoint_time FROM pg_control_checkpoint()))
"""


def is_standby(session: Session) -> bool:
    """Whether the server follows another one. Raises psycopg.Error."""
    return session.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


def reached(session: Session, now: datetime) -> datetime:
    """A moment, by the primary's clock, until which a standby surely has what was committed; no later than `now`.

    Raises psycopg.Error.
    """
    (moment,) = session.execute(_REACHED).fetchone() or (None,)
    return min(now, moment) if moment is not None else now
