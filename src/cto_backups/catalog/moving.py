"""Bringing all that a catalog holds into an empty one, of whichever kind either is."""

from collections.abc import Iterator
from contextlib import contextmanager

from cto_backups.catalog.database import Connection, Database, insertion
from cto_backups.errors import CatalogError

_AT_ONCE = 1_000


@contextmanager
def moved(origin: Database, target: Database) -> Iterator[int]:
    """Bring every row of each table over; how many there were. Nobody writes to the origin until the block ends.

    Raises CatalogError when they are not all there, after which the target has none of them.
    """
    # Loaded here: it knows which table refers to which, and takes long to load.
    from cto_backups.catalog import schema, schema_claims, schema_due_times, schema_hosts, schema_traffic

    beside = (schema_claims.claims, schema_due_times.due_times, schema_hosts.hosts, schema_traffic.vault_traffic)
    assert all(table.metadata is schema.metadata for table in beside)
    with origin.writing() as old:
        total = 0
        with target.writing() as new:
            for table in schema.metadata.sorted_tables:
                columns = [column.name for column in table.columns]
                brought = _bring(old, new, table.name, columns)
                there = new.scalar(f"SELECT count(*) FROM {table.name}")
                if there != brought:
                    raise CatalogError(
                        "The catalog could not be moved",
                        why=f"of {brought} rows of {table.name}, {there} have arrived",
                        todo="Nothing was changed. Run it again; if it happens again, report it.",
                    )
                total += brought
            target.go_on_counting(new)
        yield total


def _bring(old: Connection, new: Connection, table: str, columns: list[str]) -> int:
    statement, number = insertion(table, columns), 0
    rows = old.execute(f"SELECT {', '.join(columns)} FROM {table}")
    batch: list[dict[str, object]] = []
    for row in rows:
        batch.append(dict(zip(columns, row, strict=True)))
        if len(batch) == _AT_ONCE:
            new.execute_each(statement, batch)
            number, batch = number + len(batch), []
    new.execute_each(statement, batch)
    return number + len(batch)
