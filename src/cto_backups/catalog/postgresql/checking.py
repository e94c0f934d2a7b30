"""Whether a catalog on a server is whole: every row can be read, every index is valid, every reference leads somewhere.

Where the extension amcheck is installed and allowed, it compares each index with its table as well.
"""

from typing import Any, Final

import psycopg

from cto_backups.catalog.database import Connection

_TABLES: Final = """
    SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind = 'r' ORDER BY c.relname
    """
_INDEXES: Final = """
    SELECT c.relname AS name, i.indisvalid AND i.indisready AS valid, c.oid::bigint AS number
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() ORDER BY c.relname
    """
_REFERENCES: Final = """
    SELECT c.conname AS name, c.conrelid::regclass::text AS child, c.confrelid::regclass::text AS parent,
        (SELECT attname FROM pg_attribute WHERE attrelid = c.conrelid AND attnum = c.conkey[1]) AS column,
        (SELECT attname FROM pg_attribute WHERE attrelid = c.confrelid AND attnum = c.confkey[1]) AS key
    FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
    WHERE n.nspname = current_schema() AND c.contype = 'f' ORDER BY c.conname
    """
_HAS_AMCHECK: Final = """
    SELECT p.oid::regproc::text AS name FROM pg_proc p
    WHERE p.proname = 'bt_index_check' AND p.pronargs = 2
        AND has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(p.pronamespace, 'USAGE')
    """


def complaints(connection: Connection) -> tuple[str, ...]:
    """What is wrong. Raises psycopg.Error where a table cannot be read at all."""
    found: list[str] = []
    for table in connection.scalars(_TABLES):
        # Every byte of every row, the long ones as well, which lie elsewhere.
        wrong, _ = _tried(connection, f"table {table}", f'SELECT max(hashtext(t::text)) FROM "{table}" t')
        found += wrong
    check = connection.scalar(_HAS_AMCHECK)
    for index in list(connection.execute(_INDEXES)):
        if not index["valid"]:
            found.append(f"index {index['name']} is not valid")
        elif check is not None:
            compared = f"SELECT {check}({index['number']}::regclass, true)"
            found += _tried(connection, f"index {index['name']}", compared)[0]
    for reference in list(connection.execute(_REFERENCES)):
        counted = f"""
            SELECT count(*) FROM {reference["child"]} c WHERE NOT EXISTS (
                SELECT 1 FROM {reference["parent"]} p WHERE p."{reference["key"]}" = c."{reference["column"]}")
            """
        wrong, lost = _tried(connection, f"foreign key {reference['name']}", counted)
        found += wrong
        if lost:
            found.append(f"foreign key {reference['name']}: {lost} rows of {reference['child']} lead nowhere")
    return tuple(found)


def _tried(connection: Connection, what: str, statement: str) -> tuple[list[str], Any]:
    """What is wrong with what a statement reads, and what it gave."""
    connection.execute("SAVEPOINT tried")
    try:
        given = connection.scalar(statement)
    except (psycopg.errors.DataError, psycopg.errors.InternalError) as error:
        connection.execute("ROLLBACK TO SAVEPOINT tried")
        return [f"{what}: {error.diag.message_primary}"], None
    connection.execute("RELEASE SAVEPOINT tried")
    return [], given
