"""Rows that people name by an id, or a unique beginning of one."""

from cto_backups.catalog.database import Connection
from cto_backups.catalog.rows import Row
from cto_backups.errors import NotFoundError

_LAST = "\U0010ffff"
_LOOKED_AT = 20


def row_named(connection: Connection, table: str, name: str, what: str, *, why: str, todo: str) -> Row:
    """The row of a table with this id, or the only one whose id begins so.

    Raises NotFoundError: `what` is the noun in its message, `why` and `todo` are for when there is none.
    """
    rows: list[Row] = connection.execute(
        f"SELECT * FROM {table} WHERE id BETWEEN :name AND :name || :last ORDER BY id LIMIT {_LOOKED_AT}",
        {"name": name, "last": _LAST},
    ).fetchall()
    exact = [row for row in rows if row["id"] == name]
    if len(exact or rows) == 1 and name:
        return (exact or rows)[0]
    if rows:
        raise NotFoundError(
            f"'{name}' is the beginning of more than one {what}",
            why=f"among them {', '.join(row['id'] for row in rows)}",
            todo="Give more of the id.",
        )
    raise NotFoundError(f"There is no {what} '{name}'", why=why, todo=todo)
