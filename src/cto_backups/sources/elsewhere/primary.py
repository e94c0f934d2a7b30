"""The server whose backups another program keeps: which one it is, where its log is, and what its archiver says."""

from dataclasses import dataclass
from typing import Final

import psycopg

from cto_backups.core.model import Sample
from cto_backups.errors import SourceError
from cto_backups.sources.elsewhere.program import Words
from cto_backups.sources.elsewhere.standing import Repository
from cto_backups.sources.postgresql.inventory import databases, tablespaces
from cto_backups.sources.postgresql.moments import Mark, mark
from cto_backups.sources.postgresql.server import Server, said
from cto_backups.sources.postgresql.sums import bootstrap

_WHICH: Final = """
    SELECT system_identifier::text, pg_is_in_recovery(), current_setting('archive_mode'),
        (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size')
    FROM pg_control_system()
"""
_FAILED: Final = """
    SELECT last_failed_wal, to_char(last_failed_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
    FROM pg_stat_archiver
    WHERE last_failed_time > coalesce(last_archived_time, '-infinity')
"""


@dataclass(frozen=True)
class Primary:
    """What a server says of itself. `about` is a sample of it for a fingerprint."""

    system: str
    timeline: int
    segment_bytes: int
    databases: tuple[str, ...]
    tablespaces: tuple[int, ...]
    about: Sample


def look(server: Server, words: Words) -> Primary:
    """Look at the server. Raises SourceError, also for one whose log cannot get into an archive, or from one."""
    with server.session("postgres") as session:
        system, standby, archiving, segment_bytes = session.execute(_WHICH).fetchone() or ("", False, "off", 0)
        if standby:
            raise SourceError(
                f"source {server.name}: the server at {server.place} is a standby",
                why="a standby does not tell at which moments its databases were summed up",
                todo="name its primary in the policy",
            )
        if archiving == "off":
            raise SourceError(
                f"source {server.name}: the server at {server.place} archives no log",
                why="its archive_mode is off, so what it commits is in no repository before the next backup",
                todo=f"set archive_mode and archive_command on the server, as {words.title}'s guide says",
            )
        (at,) = session.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone() or ("0",)
        major = session.info.server_version // 10_000
        return Primary(
            str(system),
            int(str(at)[:8], 16),
            int(segment_bytes),
            tuple(databases(session)),
            tablespaces(session),
            Sample("server", {"version": str(major), "bootstrap": bootstrap(session)}),
        )


def refuse_another(server: Server, primary: Primary, repository: Repository, words: Words) -> None:
    """Raise SourceError when a repository holds the backups of another server."""
    if repository.system != primary.system:
        raise SourceError(
            f"source {server.name}: {words.subject} in {repository.name} is of another server",
            why=f"its backups are of system {repository.system}, and {server.place} is system {primary.system}",
            todo=f"correct `{words.setting}`, or `host` and `port`; after initdb or an upgrade, {words.after_upgrade}",
        )


def marked(server: Server) -> Mark:
    """Write an end into the log, and have the server hand the file in which that is to its archive.

    Raises SourceError.
    """
    end = mark(server)
    with server.session("postgres", read_only=False) as session:
        try:
            session.execute("SELECT pg_switch_wal()")
        except psycopg.errors.InsufficientPrivilege as error:
            user = session.info.user
            raise SourceError(
                f"source {server.name}: the server at {server.place} does not hand its log to the archive for us",
                why=said(error),
                todo=f'as its superuser: GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "{user}"',
            ) from error
    return end


def failing(server: Server) -> str:
    """What the server says of its archiver: which file it could not archive last, where it has archived none since."""
    with server.session("postgres") as session:
        row = session.execute(_FAILED).fetchone()
    return "" if row is None else f"the server could not archive {row[0]} at {row[1]}"
