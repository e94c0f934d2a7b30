"""Single tables with their rows, and what they cannot be without, made into a database of their own.

What that is the server's own records of dependencies tell: schemas, types, functions, sequences, extensions, and the
definition of a table that another is a part of. Foreign keys to tables that are not taken are left out.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg import sql

from cto_backups.core.wording import did_you_mean
from cto_backups.errors import NotFoundError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql.archive import About, Archive
from cto_backups.sources.postgresql.connection import Address, Tools
from cto_backups.sources.postgresql.rows import Session

_MOST_NAMED: Final = 20
_ENTRY: Final = re.compile(r"\d+; ((\d+) (\d+) (.*))")
# How names are written where pg_restore lists what is in an archive, a line each.
_LISTED: Final = str.maketrans("\r\n", "  ")

_TABLES: Final = """
    SELECT n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname), c.relname, c.oid::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
"""
# With their partitions, and with those that inherit from them: a query of the table shows these rows too.
_WITH_PARTS: Final = """
    WITH RECURSIVE below(oid) AS (
        SELECT unnest(%s::oid[])
        UNION SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid
    )
    SELECT c.oid::bigint, format('"%%s"."%%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')),
        n.nspname, c.relname
    FROM below JOIN pg_class c ON c.oid = below.oid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_NEEDED: Final = """
    WITH RECURSIVE chosen AS (SELECT unnest(%(tables)s::oid[]) AS oid),
    needed(classid, objid) AS (
        SELECT * FROM (
            SELECT 'pg_class'::regclass::oid, oid FROM chosen
            UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index JOIN chosen ON indrelid = chosen.oid
            UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN chosen ON conrelid = chosen.oid
                WHERE contype <> 'f' OR confrelid IN (SELECT oid FROM chosen)
            UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN chosen ON tgrelid = chosen.oid
                WHERE NOT tgisinternal
            UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p JOIN chosen ON polrelid = chosen.oid
            UNION ALL SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r JOIN chosen ON ev_class = chosen.oid
            UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid
                FROM pg_statistic_ext s JOIN chosen ON stxrelid = chosen.oid
            UNION ALL SELECT 'pg_class'::regclass, s.oid FROM pg_depend d JOIN chosen ON d.refobjid = chosen.oid
                JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        ) AS parts
        UNION
        SELECT more.classid, more.objid FROM needed n CROSS JOIN LATERAL (
            SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_depend d
                WHERE d.classid = n.classid AND d.objid = n.objid
            UNION ALL SELECT 'pg_attrdef'::regclass, a.oid FROM pg_attrdef a
                WHERE n.classid = 'pg_class'::regclass AND a.adrelid = n.objid
            UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c WHERE c.contype = 'c' AND (
                (n.classid = 'pg_class'::regclass AND c.conrelid = n.objid)
                OR (n.classid = 'pg_type'::regclass AND c.contypid = n.objid))
            UNION ALL SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r JOIN pg_class k ON k.oid = r.ev_class
                WHERE n.classid = 'pg_class'::regclass AND r.ev_class = n.objid AND k.relkind IN ('v', 'm')
            UNION ALL SELECT 'pg_class'::regclass, t.typrelid FROM pg_type t
                WHERE n.classid = 'pg_type'::regclass AND t.oid = n.objid AND t.typrelid <> 0
        ) AS more
    )
    SELECT classid::bigint, objid::bigint FROM needed
"""
_SEQUENCES: Final = """
    SELECT format('"%%s"."%%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.oid = ANY(%s)
"""
# A partitioned table has no rows of its own: those of the partitions that were taken are in it.
_DEFINED: Final = """
    SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.oid = ANY(%(needed)s) AND c.oid <> ALL(%(tables)s) AND n.nspname !~ '^pg_' ORDER BY 1
"""
_FOREIGN_KEYS: Final = """
    SELECT count(*), count(*) FILTER (WHERE confrelid = ANY(%(tables)s)) FROM pg_constraint
    WHERE contype = 'f' AND conrelid = ANY(%(tables)s) AND conparentid = 0
"""
# They need rows that are not there, or do something of their own.
_NOT_WITHOUT_ROWS: Final = (
    "FK CONSTRAINT ",
    "MATERIALIZED VIEW DATA ",
    "EVENT TRIGGER ",
    "PUBLICATION ",
    "SUBSCRIPTION ",
)


@dataclass(frozen=True)
class Chosen:
    """Tables that were asked for, as they are called; with their parts, by number, as (schema, name), for pg_dump."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    parts: frozenset[tuple[str, str]]
    patterns: tuple[str, ...]


def choose(session: Session, database: str, wanted: Sequence[str]) -> Chosen:
    """The tables meant by SCHEMA.TABLE, or by TABLE where there is one of that name. Raises NotFoundError."""
    found: dict[int, str] = {}
    there = [tuple(row) for row in session.execute(_TABLES).fetchall()]
    for word in wanted:
        hits = [row for row in there if word in row[:2]] or [row for row in there if word == row[2]]
        if len(hits) != 1:
            names = [str(row[0]) for row in hits or there]
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            hint = "" if hits else did_you_mean(word, names)
            raise NotFoundError(
                f"Which table '{word}'?" if hits else f"There is no table '{word}' in database '{database}'{hint}",
                why=f"{'there are' if names else 'it has'} {', '.join(names[:_MOST_NAMED]) or 'no tables'}{more}",
                todo="Name it as SCHEMA.TABLE.",
            )
        found[int(hits[0][3])] = str(hits[0][0])
    parts = session.execute(_WITH_PARTS, (list(found),)).fetchall()
    numbers = tuple(int(number) for number, *_ in parts)
    pairs = frozenset((str(schema), str(name)) for _, _, schema, name in parts)
    return Chosen(
        tuple(found.values()),
        numbers,
        pairs,
        tuple(str(pattern) for _, pattern, *_ in parts),
    )


def foreign_keys(session: Session, chosen: Chosen) -> tuple[int, int]:
    """How many foreign keys the tables have, and how many of these to one another."""
    every, inner = session.execute(_FOREIGN_KEYS, {"tables": list(chosen.numbers)}).fetchone() or (0, 0)
    return int(every), int(inner)


def cut(tools: Tools, address: Address, database: str, chosen: Chosen, name: str, folder: Path) -> list[str]:
    """On a throwaway server, make the tables a database called `name`, by way of files in `folder`.

    The tables that came along without rows, for their definitions. Raises ToolError, psycopg.Error.
    """
    with address.connect(database) as session:
        rows = session.execute(_NEEDED, {"tables": list(chosen.numbers)}).fetchall()
        needed = {(int(classid), int(objid)) for classid, objid in rows}
        objects = [objid for _, objid in needed]
        sequences = session.execute(_SEQUENCES, (objects,)).fetchall()
        defined = session.execute(_DEFINED, {"needed": objects, "tables": list(chosen.numbers)}).fetchall()
    tables = [f"--table={pattern}" for pattern in chosen.patterns]
    whole = Archive.of(tools, address, database, folder / "schema.dump", "--schema-only")
    own = Archive.of(tools, address, database, folder / "tables.dump", "--schema-only", *tables)
    more = [f"--table={pattern}" for (pattern,) in sequences]
    rows_of = Archive.of(tools, address, database, folder / "rows.dump", "--data-only", "--compress=0", *tables, *more)
    theirs = {found[1] for entry in own.entries() if (found := _ENTRY.fullmatch(entry))}
    entries = [entry for entry in whole.entries() if _is_needed(entry, needed, theirs)]
    identifier = sql.Identifier(name)
    about = whole.about(identifier.as_string())
    with address.connect("postgres", read_only=False) as session:
        session.execute(about.create.encode())
    _give_properties(address, name, about)
    whole.load(address, name, "--section=pre-data", entries=entries)
    rows_of.load(address, name)
    whole.load(address, name, "--section=post-data", entries=entries)
    for archive in (whole, own, rows_of):
        archive.file.unlink()
    return [str(table) for (table,) in defined]


def with_rows_of(archive: Archive, address: Address, database: str, wanted: Sequence[str]) -> tuple[Chosen, int]:
    """On a throwaway server, make a dumped database in which only these tables have rows.

    The tables, and how many foreign keys lead from them to others. Raises NotFoundError, ToolError, psycopg.Error.
    """
    about = archive.about(sql.Identifier(database).as_string())
    with address.connect("template1", read_only=False) as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(database)))
        session.execute(about.create.encode())
    _give_properties(address, database, about)
    archive.load(address, database, "--section=pre-data")
    with address.connect(database) as session:
        chosen = choose(session, database, wanted)
    described = [(found[4], entry) for entry in archive.entries() if (found := _ENTRY.fullmatch(entry))]
    listed = [f"{schema} {name} ".translate(_LISTED) for schema, name in chosen.parts]
    rows = tuple(f"TABLE DATA {name}" for name in listed)
    data = [entry for words, entry in described if words.startswith((*rows, "SEQUENCE SET "))]
    archive.load(address, database, "--section=data", entries=data)
    later = [entry for words, entry in described if not words.startswith(_NOT_WITHOUT_ROWS)]
    archive.load(address, database, "--section=post-data", entries=later)
    keys = tuple(f"FK CONSTRAINT {name}" for name in listed)
    foreign = [entry for words, entry in described if words.startswith(keys)]
    for entry in foreign:
        with suppress(ToolError):  # one to a table without rows
            archive.load(address, database, entries=[entry])
    with address.connect(database) as session:
        _, inner = foreign_keys(session, chosen)
    return chosen, len(foreign) - inner


def _give_properties(address: Address, name: str, about: About) -> None:
    # In the database itself, in whose encoding its comment is.
    with address.connect(name, read_only=False) as session:
        session.execute(about.properties.encode("utf-8", "surrogateescape"))


def _is_needed(entry: str, needed: set[tuple[int, int]], theirs: set[str]) -> bool:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return False
    number = int(found[2]), int(found[3])
    if found[4].startswith("FK CONSTRAINT "):
        return number in needed
    return number in needed or found[1] in theirs
