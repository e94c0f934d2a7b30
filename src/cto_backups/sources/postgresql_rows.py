"""What a database holds, summed up: rows of each table whatever their order, and the words of its catalogue.

``postgresql/2``: of each table the number of its rows, and two sums over each row's binary form, hashed by the server's
own `hashbyteaextended` with the seeds 1 and 2, as signed numbers. ``postgresql/1``: over the first and second 8 bytes
of its SHA-256. Sums and not exclusive ors: those do not see a pair of equal rows that is lost. Of bytes and not of
values: equal numbers may be written differently (1.0 and 1.00). What embeds numbers that a restored server gives anew
(types of the user's own, references to objects) goes in as text.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from cto_backups.sources.postgresql_catalogue import LINES

Session = psycopg.Connection[tuple[Any, ...]]

_TABLES: Final = """
    SELECT n.nspname, c.relname, array_agg(a.attname ORDER BY a.attname) FILTER (WHERE a.attnum IS NOT NULL),
        array_agg(
            t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typsend <> 0
                AND t.typname NOT LIKE 'reg%%' AND t.typname NOT LIKE '\\_reg%%' AND t.typname NOT LIKE '%%aclitem'
                AND t.typname NOT LIKE '%%pg_node_tree' AND t.typname NOT LIKE '%%float_' AND t.typcategory <> 'G'
            ORDER BY a.attname) FILTER (WHERE a.attnum IS NOT NULL),
        pg_table_size(c.oid)
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relkind = 'r' AND c.relpersistence = ANY (%s::"char"[])
        AND n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND d.deptype = 'e')
    GROUP BY n.nspname, c.relname, c.oid
    ORDER BY n.nspname, c.relname
"""

# The inner part is worked out once a row, and not once a sum: an OFFSET, even of nothing, keeps the planner from
# merging it into the outer one. As a constant of its type it forbids no parallel workers.
_SUMMED: Final = sql.SQL("""
    SELECT count(*), coalesce(sum({first}), 0)::text, coalesce(sum({second}), 0)::text
    FROM (SELECT {once} FROM ({rows}) raw (bytes) OFFSET '0'::bigint) each (h)
""")
# Production goes on meanwhile: one more process for a session at most, and none where the server forbids it.
_WORKERS: Final = """
    SELECT set_config('max_parallel_workers_per_gather',
        least(current_setting('max_parallel_workers_per_gather')::int, 1)::text, false)
"""

_NAMES: Final = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY n.nspname, c.relname
"""

_SIZES: Final = """
    SELECT m.oid::bigint AS number, m.oid AS oid, s.bytes
    FROM pg_largeobject_metadata m, LATERAL lo_open(m.oid, 262144) f, LATERAL lo_lseek64(f, 0, 2) s (bytes),
        LATERAL lo_close(CASE WHEN s.bytes >= 0 THEN f END)  -- only once its size is known
"""
_WHOLE_BYTES: Final = 1 << 26
# A value holds 1 GB at most: what is large is summed up part by part, its number and place before each part.
_LARGE_OBJECTS: Final = sql.SQL(f"""
    SELECT int8send(number) || lo_get(oid) FROM ({_SIZES}) small WHERE bytes <= {_WHOLE_BYTES}
    UNION ALL
    SELECT int8send(number) || int8send(begins) || lo_get(oid, begins, {_WHOLE_BYTES})
    FROM ({_SIZES}) large, generate_series(0, bytes - 1, {_WHOLE_BYTES}) begins WHERE bytes > {_WHOLE_BYTES}
""")

# What the server writes anew from its parsed form differs after each restore in casts and brackets, and in them alone:
# "('a'::varchar)::text" for "'a'::text", a list of casts for the cast of a list.
_DEPARSED: Final = frozenset(
    {"columns", "constraints", "functions", "indexes", "policies", "rules", "triggers", "views"}
)
_CAST: Final = re.compile(
    r"::(?:\"[^\"]+\"|[a-z_][\w.]*)(?: varying| precision| with(?:out)? time zone)*(?:\(\d+(?:,\d+)?\))?(?:\[\])*"
)
_BRACKETS: Final = re.compile(r"[()\[\]\s]")

_SEQUENCES: Final = """
    SELECT schemaname, sequencename, increment_by > 0, coalesce(last_value, 0)::text, last_value IS NOT NULL
    FROM pg_sequences WHERE schemaname !~ '^pg_' AND NOT cycle ORDER BY schemaname, sequencename
"""


@dataclass(frozen=True, slots=True)
class RowHash:
    """How a row's bytes become two numbers that are added up, in SQL: `once` of `bytes` is the `h` of the other two."""

    once: sql.SQL
    first: sql.SQL
    second: sql.SQL


SHA_256: Final = RowHash(
    sql.SQL("sha256(bytes)"),
    sql.SQL("('x' || encode(substr(h, 1, 8), 'hex'))::bit(64)::bigint::numeric"),
    sql.SQL("('x' || encode(substr(h, 9, 8), 'hex'))::bit(64)::bigint::numeric"),
)
SEEDED: Final = RowHash(
    sql.SQL("ROW(bytes)"), sql.SQL("hash_record_extended(h, 1)"), sql.SQL("hash_record_extended(h, 2)")
)
# Of a record of one field, the hash is that of the field: it has a name of its own from version 18 on, and takes less.
_NAMED: Final = RowHash(sql.SQL("bytes"), sql.SQL("hashbyteaextended(h, 1)"), sql.SQL("hashbyteaextended(h, 2)"))
_NAMED_SINCE: Final = 18_00_00


@dataclass(frozen=True, slots=True)
class Part:
    """The blocks of a table that are summed up: about `percent` of them (a number as text), drawn by a seed."""

    percent: str
    seed: int


@dataclass(frozen=True, slots=True)
class TableSums:
    """What is said of one table (or of all large objects): how many rows, and the two sums, as texts of numbers.

    With a `part`, the sums are of the rows in it alone, of which there are `part_rows`.
    """

    name: str
    rows: int
    sums: tuple[str, str]
    part: Part | None = None
    part_rows: int = 0


Parts = Callable[[str, int], Part | None]
"""Which part of a table is summed up, by its name and its bytes; None: all of it."""


def whole(name: str, size_bytes: int) -> Part | None:
    """All of every table."""
    return None


@dataclass(frozen=True, slots=True)
class SequenceAt:
    """How far a sequence had come; going on, it only moves on in its direction. `used` says that it gave a number."""

    name: str
    rising: bool
    last: int
    used: bool

    def reached(self, before: "SequenceAt") -> bool:
        """Whether it has come at least as far as it had before."""
        if not before.used:
            return True
        return self.used and (self.last >= before.last if self.rising else self.last <= before.last)


def tables(
    session: Session, row_hash: RowHash = SEEDED, *, unlogged: bool = True, parts: Parts = whole
) -> Iterator[TableSums]:
    """Every table of the database, as the session's snapshot shows it, and its large objects. Raises psycopg.Error.

    What is not in the log (`unlogged`) is in a dump, and not in what is recovered from the server's files.
    """
    kept = ["p", "u"] if unlogged else ["p"]
    session.execute(_WORKERS)
    for schema, name, columns, binary, size_bytes in session.execute(_TABLES, (kept,)).fetchall():
        part = parts(f"{schema}.{name}", int(size_bytes or 0))
        rows = _rows(schema, name, columns or (), binary or (), part)
        summed = _sums(session, row_hash, f"{schema}.{name}", rows)
        if part is not None:
            table = sql.Identifier(schema, name)
            count = _count(session, sql.SQL("SELECT count(*) FROM ONLY {}").format(table))
            summed = replace(summed, rows=count, part=part, part_rows=summed.rows)
        yield summed
    pieces = _sums(session, row_hash, "(large objects)", _LARGE_OBJECTS)
    yield replace(pieces, rows=_count(session, sql.SQL("SELECT count(*) FROM pg_largeobject_metadata")))


def hold(session: Session) -> str:
    """Hold the database as it is now, from dropping and emptying too; the name by which others share the moment.

    Locks come before the moment: what is emptied in between would be empty for all who share it. Raises psycopg.Error.
    """
    names = table_names(session)
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    lock(session, names, "ACCESS SHARE")
    row = session.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])


def table_names(session: Session) -> list[tuple[str, str]]:
    """Schema and name of each table that people made. Raises psycopg.Error."""
    return [(str(schema), str(name)) for schema, name in session.execute(_NAMES).fetchall()]


def lock(session: Session, names: Sequence[tuple[str, str]], mode: LiteralString) -> None:
    """Lock tables until the transaction ends. Raises psycopg.Error."""
    if names:
        listed = sql.SQL(", ONLY ").join(sql.Identifier(*each) for each in names)
        session.execute(sql.SQL("LOCK TABLE ONLY {} IN " + mode + " MODE").format(listed))


def sequences(session: Session) -> list[SequenceAt]:
    """Every sequence. A sequence is in no snapshot: these may have moved on when something else looks."""
    return [
        SequenceAt(f"{schema}.{name}", bool(rising), int(last), bool(used))
        for schema, name, rising, last, used in session.execute(_SEQUENCES).fetchall()
    ]


def catalogue(session: Session) -> dict[str, str]:
    """The SHA-256 of what the database is made of, by kind: schemas, relations, columns, constraints, functions …"""
    found = {}
    for kind, statement in LINES.items():
        told = map(line, session.execute(statement))
        lines = sorted(map(_settled, told) if kind in _DEPARSED else told)
        found[kind] = sha256("\n".join(lines).encode()).hexdigest()
    return found


def line(row: Iterable[object]) -> str:
    """A row of a catalogue as a line of text; what is null is nothing."""
    return "\t".join("" if part is None else str(part) for part in row)


def _settled(told: str) -> str:
    return _BRACKETS.sub("", _CAST.sub("", told))


def _count(session: Session, statement: sql.SQL | sql.Composed) -> int:
    row = session.execute(statement).fetchone()
    return int(row[0]) if row else 0


def _rows(schema: str, name: str, columns: Sequence[str], binaries: Sequence[bool], part: Part | None) -> sql.Composed:
    values = [
        sql.SQL("t.{}").format(sql.Identifier(column))
        if binary
        else sql.SQL("t.{}::text").format(sql.Identifier(column))
        for column, binary in zip(columns, binaries, strict=True)
    ]
    # Which blocks are drawn does not depend on how many there are: those that came since hold nothing of the moment.
    drawn = sql.SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE ({})").format(float(part.percent), part.seed) if part else None
    return sql.SQL("SELECT record_send(ROW({columns})) FROM ONLY {table} t{drawn}").format(
        columns=sql.SQL(", ").join(values), table=sql.Identifier(schema, name), drawn=drawn or sql.SQL("")
    )


def _sums(session: Session, row_hash: RowHash, name: str, rows: sql.Composable) -> TableSums:
    if row_hash is SEEDED and session.info.server_version >= _NAMED_SINCE:
        row_hash = _NAMED
    statement = _SUMMED.format(rows=rows, once=row_hash.once, first=row_hash.first, second=row_hash.second)
    try:
        row = session.execute(statement).fetchone()
    except psycopg.Error as error:
        error.add_note(f"while {name} was read")
        raise
    assert row is not None
    return TableSums(name, int(row[0]), (row[1], row[2]))
