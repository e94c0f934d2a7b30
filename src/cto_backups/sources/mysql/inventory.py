"""Which databases there are on a server, and what its user may do there."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import pymysql

from cto_backups.sources.mysql.connection import Session, rows

_SYSTEM: Final = frozenset({"mysql", "information_schema", "performance_schema", "sys"})
_SCHEMA_OF_HELP: Final = """
    SELECT COUNT(*) FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = 'sys' AND CAST(TABLE_SCHEMA AS BINARY) = 'sys' AND TABLE_NAME = 'sys_config'
"""
"""Whether `sys` is the server's: older ones have none, and somebody may have given a database that name."""
_NO_DATABASE: Final = "#mysql50#"
"""What the server makes of a folder that lies among its databases, like lost+found."""
_NAMES: Final = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA"
# By bytes: the catalogue takes `Shop` and `shop` for one, of which there may be two.
_SIZES: Final = """
    SELECT TABLE_SCHEMA, COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) FROM information_schema.TABLES
    GROUP BY CAST(TABLE_SCHEMA AS BINARY)
"""
READING: Final = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT")
"""What a dump needs: what it may not see, it leaves out, of triggers even without a word."""
STOPPING: Final = frozenset({"RELOAD", "FLUSH_TABLES"})


def databases(session: Session) -> dict[str, int]:
    """The databases that hold data of somebody's, with their sizes in bytes, roughly."""
    sizes = {str(name): int(size) for name, size in rows(session, _SIZES)}
    found = {name: sizes.get(name, 0) for name in sorted(str(name) for (name,) in rows(session, _NAMES))}
    ((own_help,),) = rows(session, _SCHEMA_OF_HELP)
    system = _SYSTEM if own_help else _SYSTEM - {"sys"}
    return {name: size for name, size in found.items() if name not in system and not name.startswith(_NO_DATABASE)}


def folding(session: Session) -> Callable[[str], str]:
    """What makes two names of databases one, where the server does not tell their case apart."""
    ((same,),) = rows(session, "SELECT @@GLOBAL.lower_case_table_names")
    return str.lower if same else str


def is_dumped(database: str) -> bool:
    """Whether the dump program knows such a name from the server's own tables: it takes `Mysql` for `mysql`."""
    return database.lower() != "mysql"


def rights(session: Session, database: str | None = None) -> set[str]:
    """What the session's user, with its roles, may do everywhere, or also in one database."""
    grantees = tuple(_grantees(session))
    places = ", ".join(["%s"] * len(grantees))
    found = rows(
        session,
        f"SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE IN ({places})",
        *grantees,
    )
    if database is not None:
        found += rows(
            session,
            "SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES"
            f" WHERE GRANTEE IN ({places}) AND %s LIKE TABLE_SCHEMA",
            *grantees,
            database,
        )
    return {str(right) for (right,) in found}


def missing_rights(session: Session, chosen: Sequence[str], needed: Iterable[str]) -> list[str]:
    """What this user may not do everywhere, or in one of the chosen databases, in the order of `needed`."""
    granted = [rights(session, name) for name in chosen] or [rights(session)]
    return [right for right in needed if not all(right in each for each in granted)]


def _grantees(session: Session) -> Iterable[str]:
    ((me,),) = rows(session, "SELECT CURRENT_USER()")
    user, _, host = str(me).rpartition("@")
    yield f"'{user}'@'{host}'"
    try:
        roles = rows(session, "SELECT ROLE_NAME FROM information_schema.ENABLED_ROLES WHERE ROLE_NAME IS NOT NULL")
    except pymysql.MySQLError:
        return  # MySQL before version 8 has no roles
    for (role,) in roles:
        yield from (f"'{role}'@''", f"'{role}'", f"'{role}'@'%'")
