"""Which databases there are on a server."""

from typing import Final

from cto_backups.sources.postgresql.rows import Session

_HAS_RELATIONS: Final = """
    SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' LIMIT 1
"""


def databases(session: Session) -> dict[str, int]:
    """The databases that hold data, with their sizes in bytes."""
    statement = """
        SELECT datname, CASE WHEN has_database_privilege(oid, 'connect') THEN pg_database_size(oid) ELSE 0 END
        FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname
        """
    return {str(name): int(size) for name, size in session.execute(statement).fetchall()}


def closed(session: Session) -> list[str]:
    """The databases that nobody can connect to, and templates of the user's own: no dump has them."""
    statement = """
        SELECT datname FROM pg_database
        WHERE (NOT datallowconn OR datistemplate) AND datname NOT IN ('template0', 'template1') ORDER BY datname
        """
    return [str(name) for (name,) in session.execute(statement).fetchall()]


def holds_anything(session: Session) -> bool:
    """Whether anybody has made a relation in the session's database."""
    return session.execute(_HAS_RELATIONS).fetchone() is not None


def tablespaces(session: Session) -> tuple[int, ...]:
    """The numbers of the tablespaces that people made."""
    statement = "SELECT oid::bigint FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1"
    return tuple(int(oid) for (oid,) in session.execute(statement).fetchall())


def unlogged(session: Session) -> list[tuple[str, str]]:
    """The tables whose rows are in no log, by schema and name: a server that recovers empties them."""
    statement = """
        SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relpersistence = 'u' AND c.relkind = 'r' ORDER BY 1, 2
        """
    return [(str(schema), str(name)) for schema, name in session.execute(statement).fetchall()]
