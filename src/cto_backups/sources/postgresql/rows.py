"""What a database holds, summed up: rows of each table whatever their order, and the words of its catalogue.

Of each table the number of its rows, and sums over the numbers that `postgresql_hashes` makes of each row. Sums and not
exclusive ors: those do not see a pair of equal rows that is lost. Of bytes and not of values: equal numbers may be
written differently (1.0 and 1.00).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from cto_backups.sources.postgresql.catalogue import LINES
from cto_backups.sources.postgresql.hashes import COLUMNS, Column, RowHash

Session = psycopg.Connection[tuple[Any, ...]]

_TABLES: Final = """
    SELECT n.nspname, c.relname, array_agg(a.attname ORDER BY a.attname) FILTER (WHERE a.attnum IS NOT NULL),
        array_agg(t.typname ORDER BY a.attname) FILTER (WHERE a.attnum IS NOT NULL),
        array_agg(coalesce(p.proname, '') ORDER BY a.attname) FILTER (WHERE a.attnum IS NOT NULL),
        array_agg(
            t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typsend <> 0
                AND t.typname NOT LIKE 'reg%%' AND t.typname NOT LIKE '\\_reg%%' AND t.typname NOT LIKE '%%aclitem'
                AND t.typname NOT LIKE '%%pg_node_tree' AND t.typname NOT LIKE '%%float_' AND t.typcategory <> 'G'
            ORDER BY a.attname) FILTER (WHERE a.attnum IS NOT NULL),
        array_agg(a.atttypmod >= 0 ORDER BY a.attname) FILTER (WHERE a.attnum IS NOT NULL),
        pg_table_size(c.oid), c.relpersistence = 'u' AND pg_is_in_recovery()
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_proc p ON p.oid = t.typsend
    WHERE c.relkind = 'r' AND c.relpersistence = ANY (%s::"char"[])
        AND n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND d.deptype = 'e')
    GROUP BY n.nspname, c.relname, c.oid
    ORDER BY n.nspname, c.relname
"""

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

_NOTHING: Final = sql.SQL("SELECT ''::bytea WHERE false")

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
class Part:
    """The blocks of a table that are summed up: about `percent` of them (a number as text), drawn by a seed."""

    percent: str
    seed: int


@dataclass(frozen=True, slots=True)
class TableSums:
    """What is said of one table (or of all large objects): how many rows, and the sums, as texts of numbers.

    With a `part`, the sums are of the rows in it alone, of which there are `part_rows`.
    """

    name: str
    rows: int
    sums: tuple[str, ...]
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
    session: Session, row_hash: RowHash = COLUMNS, *, unlogged: bool = True, parts: Parts = whole
) -> Iterator[TableSums]:
    """Every table of the database, as the session's snapshot shows it, and its large objects. Raises psycopg.Error.

    What is not in the log (`unlogged`) is in a dump, and not in what is recovered from the server's files. A standby
    has no rows of it: there such tables are empty, as they are in its dumps.
    """
    kept = ["p", "u"] if unlogged else ["p"]
    session.execute(_WORKERS)
    found = session.execute(_TABLES, (kept,)).fetchall()
    called = names_of([(str(schema), str(name)) for schema, name, *_ in found])
    for spelled, (schema, name, *told, size_bytes, out_of_reach) in zip(called, found, strict=True):
        if out_of_reach:
            yield _sums(session, spelled, row_hash.of_bytes(_NOTHING, session.info.server_version))
            continue
        part = parts(spelled, int(size_bytes or 0))
        columns = [Column(*each) for each in zip(*(of_all or () for of_all in told), strict=True)]
        statement = row_hash.of_columns(_named_t(schema, name, part), columns, session.info.server_version)
        summed = _sums(session, spelled, statement)
        if part is not None:
            table = sql.Identifier(schema, name)
            count = _count(session, sql.SQL("SELECT count(*) FROM ONLY {}").format(table))
            summed = replace(summed, rows=count, part=part, part_rows=summed.rows)
        yield summed
    large_objects = row_hash.of_bytes(_LARGE_OBJECTS, session.info.server_version)
    pieces = _sums(session, "(large objects)", large_objects)
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
    found = session.execute(_SEQUENCES).fetchall()
    called = names_of([(str(schema), str(name)) for schema, name, *_ in found])
    return [
        SequenceAt(name, bool(rising), int(last), bool(used))
        for name, (_, _, rising, last, used) in zip(called, found, strict=True)
    ]


def names_of(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What relations are called, by schema and name: with a dot between them.

    Where two are called alike so (`"a.b".c` and `a."b.c"`), both are quoted; and who is called like one that is quoted.
    """
    called = [f"{schema}.{name}" for schema, name in pairs]
    while len(set(called)) < len(called):
        times = Counter(called)
        called = [
            was if times[was] == 1 else ".".join('"' + part.replace('"', '""') + '"' for part in pair)
            for was, pair in zip(called, pairs, strict=True)
        ]
    return called


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


def _named_t(schema: str, name: str, part: Part | None) -> sql.Composed:
    """A table, or a part of it, as it stands after FROM."""
    # Which blocks are drawn does not depend on how many there are: those that came since hold nothing of the moment.
    drawn = sql.SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE ({})").format(float(part.percent), part.seed) if part else None
    return sql.SQL("ONLY {} t{}").format(sql.Identifier(schema, name), drawn or sql.SQL(""))


def _sums(session: Session, name: str, statement: sql.Composed) -> TableSums:
    try:
        row = session.execute(statement).fetchone()
    except psycopg.Error as error:
        error.add_note(f"while {name} was read")
        raise
    assert row is not None
    return TableSums(name, int(row[0]), tuple(row[1:]))
