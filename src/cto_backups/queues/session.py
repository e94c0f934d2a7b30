"""A session with the server that keeps a queue, as Procrastinate's job manager asks for one; and its tables, made.

The manager's methods are coroutines; on a session that answers at once none of them ever waits, so that they are run
to their end right here, without a loop.
"""

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, TypeVar

import psycopg
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager, migrations_path
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from cto_backups.catalog.postgresql.address import Address

_Given = TypeVar("_Given")
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('cto.backups queue'), hashtext(current_schema()))"
# What is looked for twice a second, when something has come; and which of Procrastinate's migrations are applied.
_MORE: Final = """
    CREATE INDEX cto_backups_waiting ON procrastinate_jobs (queue_name, priority DESC, id) WHERE status = 'todo';
    CREATE TABLE cto_backups_applied (migration text PRIMARY KEY);
    """


def address_of(catalog: Address) -> Address:
    """Where the queue is: in the catalog's database, in a schema of its own beside it."""
    return replace(catalog, schema=f"{catalog.schema[:50]}_queue")


class Session:
    """One session in autocommit; lost with its server. Every method raises psycopg.Error."""

    def __init__(self, address: Address) -> None:
        self.connection = address.connect(autocommit=True, row_factory=dict_row)
        connector: Any = self  # it asks for these methods, and for nothing else of its class
        self.manager: Any = JobManager(connector)

    def close(self) -> None:
        """Let go of the server."""
        self.connection.close()

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Run one statement; the rows that it gives."""
        cursor = self.connection.execute(statement, {name: _wrapped(value) for name, value in values.items()})
        return cursor.fetchall() if cursor.description else []

    def listen(self, channel: str) -> None:
        """Be told of what is said on a channel."""
        self.connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))

    def lock(self) -> None:
        """Wait for whoever puts, or makes tables, in a transaction that has begun."""
        self.connection.execute(_LOCK)

    # -- what a job manager calls a connector --------------------------------------------------------------------------

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        """Run a statement."""
        self.rows(query, **arguments)

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        """The one row that a statement gives."""
        return self.rows(query, **arguments)[0]

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """The rows that a statement gives."""
        return self.rows(query, **arguments)


def at_once(coroutine: Coroutine[Any, Any, _Given]) -> _Given:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        given: _Given = ended.value
        return given
    coroutine.close()
    raise AssertionError("a method of the job manager waited for something")


def make(address: Address) -> None:
    """Make the tables of a queue, or bring them up to what the installed Procrastinate has. Raises psycopg.Error."""
    session = Session(address)
    try:
        with session.connection.transaction():
            session.connection.execute(
                "SELECT pg_advisory_xact_lock(hashtext('cto.backups queue'), hashtext(%s))", (address.schema,)
            )
            name = psycopg.sql.Identifier(address.schema)
            there = session.rows("SELECT 1 FROM pg_namespace WHERE nspname = %(name)s", name=address.schema)
            if not there:
                session.connection.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(name))
            known = sorted(path.name for path in migrations_path.glob("*.sql"))
            if not session.rows("SELECT to_regclass('procrastinate_jobs') AS it")[0]["it"]:
                session.connection.execute(SchemaManager.get_schema())
                session.connection.execute(_MORE)
                _note(session, known)
                return
            applied = {row["migration"] for row in session.rows("SELECT migration FROM cto_backups_applied")}
            missing = [name for name in known if name not in applied]
            for migration in missing:
                session.connection.execute((migrations_path / migration).read_bytes())
            _note(session, missing)
    finally:
        session.close()


def _note(session: Session, migrations: list[str]) -> None:
    session.rows("INSERT INTO cto_backups_applied SELECT unnest(%(names)s::text[])", names=migrations)


def _wrapped(value: Any) -> Any:
    """A value as the driver is to have it: documents as JSON, jobs as rows of the type that takes them."""
    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, tuple):
        return tuple(_wrapped(part) for part in value)
    return [_wrapped(part) for part in value] if isinstance(value, list) else value
