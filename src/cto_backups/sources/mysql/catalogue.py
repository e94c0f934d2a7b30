"""What a database is made of, in words: every column of the server's own catalogue that a restore must bring back.

Whatever another version adds to the catalogue is compared as well; what is left out is named here, with its reason.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import pymysql

from cto_backups.sources.mysql.connection import Session, quoted, rows, told_in_bytes

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "database": ("SCHEMATA", "SCHEMA_NAME"),
    "tables": ("TABLES", "TABLE_SCHEMA"),
    "columns": ("COLUMNS", "TABLE_SCHEMA"),
    "indexes": ("STATISTICS", "TABLE_SCHEMA"),
    "constraints": ("TABLE_CONSTRAINTS", "TABLE_SCHEMA"),
    "keys": ("KEY_COLUMN_USAGE", "TABLE_SCHEMA"),
    "references": ("REFERENTIAL_CONSTRAINTS", "CONSTRAINT_SCHEMA"),
    "checks": ("CHECK_CONSTRAINTS", "CONSTRAINT_SCHEMA"),
    "partitions": ("PARTITIONS", "TABLE_SCHEMA"),
    "views": ("VIEWS", "TABLE_SCHEMA"),
    "triggers": ("TRIGGERS", "TRIGGER_SCHEMA"),
    "routines": ("ROUTINES", "ROUTINE_SCHEMA"),
    "parameters": ("PARAMETERS", "SPECIFIC_SCHEMA"),
    "events": ("EVENTS", "EVENT_SCHEMA"),
}
_LEFT_OUT: Final = frozenset(
    {
        # how much there is, and where: another server counts and lays out anew
        *("TABLE_ROWS", "AVG_ROW_LENGTH", "DATA_LENGTH", "MAX_DATA_LENGTH", "INDEX_LENGTH", "MAX_INDEX_LENGTH"),
        *("DATA_FREE", "CARDINALITY", "CHECKSUM", "VERSION", "TEMPORARY", "TABLESPACE_NAME", "NODEGROUP"),
        # when
        *("CREATE_TIME", "UPDATE_TIME", "CHECK_TIME", "CREATED", "LAST_ALTERED", "LAST_EXECUTED"),
        "AUTO_INCREMENT",  # moves on: see `mysql_rows.sequences`
        "PRIVILEGES",  # of who asks
        "ROW_FORMAT",  # as it was usual once: where somebody asked for it, SHOW CREATE TABLE says so
        "VIEW_DEFINITION",  # older servers of MySQL 8.0 show it to who made it alone: SHOW CREATE VIEW says it
        "ORIGINATOR",  # the number of the server
    }
)
# What this user may not do is none of these: a view that somebody else may use is to be dumped, or nothing is.
_INVALID: Final = frozenset({1054, 1146, 1305, 1356, 1449})
_ENCRYPTED: Final = re.compile(r"\bENCRYPTED`?=['`]?YES\b", re.IGNORECASE)
_KEY: Final = re.compile(r"\bENCRYPTION_KEY_ID`?=(\d+)", re.IGNORECASE)
_AUTO_INCREMENT: Final = re.compile(r"(?<=\) ENGINE=)(\S+) AUTO_INCREMENT=\d+")
# MySQL says so where somebody said it once, and all the same once it was dumped; COLUMNS says it of all.
_SAID_OF_COLUMN: Final = re.compile(
    r"^(  `(?:[^`]|``)*` [a-z]+(?:\((?:[^()']|'(?:[^']|'')*')*\))?)(?: CHARACTER SET \w+)?(?: COLLATE \w+)?",
    re.MULTILINE,
)
# Where a table lies is not what it is; and how older servers stored moments, a dump does not keep.
_STORAGE: Final = re.compile(r" ?(?:DATA|INDEX) DIRECTORY ?= ?'(?:[^']|'')*'| /\* mariadb-5\.3 \*/")
_DENIED: Final = frozenset({1044, 1142, 1143, 1227, 1370, 1305})
_STATEMENT_AT: Final = {"VIEW": 1, "EVENT": 3}
"""Where in a row of SHOW CREATE the statement is."""
_SEQUENCE: Final = "minimum_value, maximum_value, start_value, increment, cache_size, cycle_option"
_SNAPSHOTS: Final = frozenset({"innodb", "rocksdb", "tokudb"})
# Their rows are with other servers or in other tables: dumps have what they are, and not what they show.
_ELSEWHERE: Final = frozenset(
    {"mrg_myisam", "mrg_isam", "connect", "oqgraph", "spider", "vp", "federated", "federatedx", "blackhole"}
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with rows: its engine in small letters, whether it keeps its former rows, and about how much there is."""

    name: str
    engine: str
    versioned: bool
    size_bytes: int = 0

    @property
    def is_elsewhere(self) -> bool:
        """Whether its rows are kept by something else."""
        return self.engine in _ELSEWHERE

    @property
    def is_unsafe(self) -> bool:
        """Whether it is in no snapshot."""
        return self.engine not in _SNAPSHOTS and not self.is_elsewhere


@dataclass(frozen=True)
class Catalogue:
    """What a database is made of: a SHA-256 by kind, and what is in it.

    `state` changes also when a table is made anew just as it was. `objects` are names of relations and routines.
    `broken` are the statements of views that nobody can use, as what they show is gone; they are no part of the rest.
    `keys` are the numbers of the keys that tables name by which they are encrypted.
    """

    name: str
    digests: Mapping[str, str]
    tables: Sequence[Table]
    sequences: Sequence[str]
    objects: frozenset[str]
    zones: frozenset[str]
    state: str
    unreadable: Sequence[str]
    broken: Mapping[str, str]
    keys: frozenset[int] = frozenset()

    @property
    def unsafe(self) -> list[str]:
        """The tables that are in no snapshot."""
        return [table.name for table in self.tables if table.is_unsafe]


def catalogue(session: Session, name: str) -> Catalogue:
    """All that `name` is made of. Raises pymysql.MySQLError."""
    there = {str(table).upper() for (table,) in rows(session, _INFORMATION)}
    found: dict[str, list[dict[str, object]]] = {
        kind: _read(session, table, column, name) for kind, (table, column) in _KINDS.items() if table in there
    }
    broken = _broken(session, name, found["tables"])
    for kind in ("tables", "columns", "views"):
        found[kind] = [each for each in found[kind] if each["TABLE_NAME"] not in broken]
    digests = {kind: _digest(_without(each) for each in entries) for kind, entries in found.items()}
    tables, sequences = [], []
    for each in sorted(found["tables"], key=lambda entry: str(entry["TABLE_NAME"])):
        kind = str(each["TABLE_TYPE"])
        if kind == "SEQUENCE":
            sequences.append(str(each["TABLE_NAME"]))
        elif kind in ("BASE TABLE", "SYSTEM VERSIONED"):
            versioned = kind == "SYSTEM VERSIONED"
            tables.append(Table(str(each["TABLE_NAME"]), str(each["ENGINE"] or "").lower(), versioned, _size(each)))
    definitions = [_definition(session, name, table.name) for table in tables]
    definitions += [_sequence(session, name, sequence) for sequence in sequences]
    made = sorted(_made(found))
    told = {each: _creating(session, name, *each) for each in made}
    definitions += [statement for statement in told.values() if statement is not None]
    digests["definitions"] = sha256("\n".join(definitions).encode()).hexdigest()
    relations = {str(each["TABLE_NAME"]).lower() for each in found["tables"]}
    routines = {str(each["ROUTINE_NAME"]).lower() for each in found["routines"]}
    # An archive says of itself when it was last written to.
    aged = [each for each in found["tables"] if each["ENGINE"] != "ARCHIVE"]
    born = sorted(f"{each['TABLE_NAME']}\t{each['CREATE_TIME']}" for each in aged)
    return Catalogue(
        name=name,
        digests=digests,
        tables=tables,
        sequences=sequences,
        objects=frozenset(relations | routines),
        zones=frozenset(str(each["TIME_ZONE"]) for each in found["events"]),
        state=_digest([*sorted(digests.items()), *((line,) for line in born)]),
        unreadable=[f"{word.lower()} {each}" for (word, each), statement in told.items() if statement is None],
        broken=broken,
        keys=frozenset(key for each in found["tables"] for key in _keys(str(each["CREATE_OPTIONS"]))),
    )


def line(row: Iterable[object]) -> str:
    """A row of the catalogue as a line of text; what is null is not what is empty."""
    return "\t".join("\\N" if part is None else _plain(part) for part in row)


_INFORMATION: Final = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'information_schema'"


def _read(session: Session, table: str, column: str, name: str) -> list[dict[str, object]]:
    with session.cursor() as cursor:
        cursor.execute(
            # By bytes too: the catalogue takes `Shop` and `shop` for one, of which there may be two.
            f"SELECT * FROM information_schema.{table} WHERE {column} = %s AND CAST({column} AS BINARY) = %s",
            (name, name),
        )
        titles = [str(described[0]).upper() for described in cursor.description]
        return [dict(zip(titles, row, strict=True)) for row in cursor.fetchall()]


def _without(entry: Mapping[str, object]) -> list[object]:
    # Aria says less of a table made by default than of one made by SHOW CREATE TABLE, which is compared.
    left_out = _LEFT_OUT | {"CREATE_OPTIONS"} if entry.get("ENGINE") == "Aria" else _LEFT_OUT
    kept = sorted(title for title in entry if title not in left_out)
    return [
        f"{title}={'NULL' if entry[title] is None else repr(_STORAGE.sub('', _plain(entry[title])))}" for title in kept
    ]


def _size(entry: Mapping[str, object]) -> int:
    told = entry.get("DATA_LENGTH")
    return int(told) if isinstance(told, int) else 0


def _plain(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _digest(entries: Iterable[Iterable[object]]) -> str:
    return sha256("\n".join(sorted(map(line, entries))).encode("utf-8", "surrogatepass")).hexdigest()


def _definition(session: Session, database: str, table: str) -> str:
    ((_, told),) = told_in_bytes(session, f"SHOW CREATE TABLE {quoted(database)}.{quoted(table)}")
    return _STORAGE.sub("", _AUTO_INCREMENT.sub(r"\1", _SAID_OF_COLUMN.sub(r"\1", _plain(told))))


def _made(found: Mapping[str, Sequence[Mapping[str, object]]]) -> Iterator[tuple[str, str]]:
    """What is made by a statement that the server keeps: what that makes, in SQL's words, and its name."""
    yield from (("VIEW", str(each["TABLE_NAME"])) for each in found["views"])
    yield from (("TRIGGER", str(each["TRIGGER_NAME"])) for each in found["triggers"])
    yield from (("EVENT", str(each["EVENT_NAME"])) for each in found["events"])
    yield from ((str(each["ROUTINE_TYPE"]), str(each["ROUTINE_NAME"])) for each in found["routines"])


def _creating(session: Session, database: str, word: str, name: str) -> str | None:
    """The statement that makes something, if this user may see it.

    `information_schema` tells it as well, but with question marks for all letters beyond the first 65,536 of Unicode.
    """
    try:
        ((*told,),) = told_in_bytes(session, f"SHOW CREATE {word} {quoted(database)}.{quoted(name)}")
    except pymysql.MySQLError as error:
        if error.args[0] in _DENIED:
            return None
        raise
    statement = told[_STATEMENT_AT.get(word, 2)]
    return None if statement is None else _plain(statement)


def _sequence(session: Session, database: str, name: str) -> str:
    (told,) = rows(session, f"SELECT {_SEQUENCE} FROM {quoted(database)}.{quoted(name)}")
    return line((name, *told))


def _keys(options: str) -> list[int]:
    named = _KEY.search(options)
    return [int(named[1]) if named else 1] if named or _ENCRYPTED.search(options) else []


def _broken(session: Session, database: str, found: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """The views that have no columns, as what they show is gone, or those who may show it; not for a moment alone."""
    broken = {}
    for each in found:
        if each["TABLE_TYPE"] != "VIEW" or each["TABLE_COMMENT"] == "VIEW":
            continue  # of others the server says what is wrong
        view = f"{quoted(database)}.{quoted(str(each['TABLE_NAME']))}"
        try:
            rows(session, f"SHOW FIELDS FROM {view}")
        except pymysql.MySQLError as error:
            if error.args[0] not in _INVALID:
                raise
            broken[str(each["TABLE_NAME"])] = _plain(told_in_bytes(session, f"SHOW CREATE VIEW {view}")[0][1])
    return broken
