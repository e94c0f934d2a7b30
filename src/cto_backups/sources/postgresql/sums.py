"""What databases are summed up to, as their sessions see them, and the fingerprint of that."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cto_backups.core.comparison import BEYOND_SAMPLES
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.rows import rows_samples
from cto_backups.sources.postgresql.catalogue import DATABASE, GLOBALS
from cto_backups.sources.postgresql.hashes import COLUMNS, SEEDED, SHA_256, RowHash
from cto_backups.sources.postgresql.rows import (
    Part,
    Parts,
    SequenceAt,
    Session,
    TableSums,
    catalogue,
    line,
    tables,
    whole,
)

LOGICAL: Final = "postgresql/3"
"""Of databases that are dumped."""
PHYSICAL: Final = "postgresql-physical/3"
"""Of a server whose files are copied."""
SAMPLED: Final = "postgresql-physical-sampled/3"
"""The same, with sums over parts of large tables."""
LOGICAL_HASHES: Final[Mapping[str, RowHash]] = {
    "postgresql/1": SHA_256,
    "postgresql/2": SEEDED,
    LOGICAL: COLUMNS,
}
PHYSICAL_HASHES: Final[Mapping[str, RowHash]] = {
    "postgresql-physical/1": SHA_256,
    "postgresql-physical/2": SEEDED,
    "postgresql-physical-sampled/2": SEEDED,
    PHYSICAL: COLUMNS,
    SAMPLED: COLUMNS,
}
"""How rows are hashed, by the names of algorithms; the former are made no longer, but still compared with."""
_MOST_SAMPLES: Final = 1000
_WHOLE_BYTES: Final = 1 << 30
_PART_BYTES: Final = 256 << 20
_LEAST_PERCENT: Final = 1.0


@dataclass(frozen=True)
class Summed:
    """What a database holds at one moment."""

    name: str
    tables: Sequence[TableSums]
    catalogue: Mapping[str, str]


@dataclass(frozen=True)
class Shared:
    """What all databases of a server share: digests by kind, the number of roles; its first superuser; its version."""

    digests: Mapping[str, str]
    roles: int
    bootstrap: str
    major: int


def shared_lines(session: Session) -> tuple[dict[str, str], int]:
    """The digests of what all databases share, and how many roles there are."""
    digests, roles = {}, 0
    for kind, statement in GLOBALS.items():
        lines = sorted(map(line, session.execute(statement)))
        digests[kind] = sha256("\n".join(lines).encode()).hexdigest()
        if kind == "roles":
            roles = len(lines)
    return digests, roles


def bootstrap(session: Session) -> str:
    """The name of the server's first superuser: no dump makes it, since initdb does."""
    row = session.execute("SELECT rolname FROM pg_roles WHERE oid = 10").fetchone()
    return str(row[0]) if row else "postgres"


def drawn(name: str, size_bytes: int) -> Part | None:
    """A part of a table that is large, other blocks each time; None: all of it."""
    if size_bytes < _WHOLE_BYTES:
        return None
    percent = max(_LEAST_PERCENT, 100 * _PART_BYTES / size_bytes)
    return Part(f"{percent:.3f}", secrets.randbelow(1 << 31))


def drawn_before(database: str, expected: Fingerprint) -> Parts:
    """The same parts of a database's tables as in a fingerprint."""
    fields = {sample.key: sample.fields for sample in expected.samples}

    def part(name: str, _: int) -> Part | None:
        told = fields.get(f"{database}: {name}", {})
        return Part(told["percent"], int(told["seed"])) if "seed" in told else None

    return part


def summed_up(
    session: Session, name: str, row_hash: RowHash = COLUMNS, *, unlogged: bool = True, parts: Parts = whole
) -> Summed:
    """All of a database, as the session's snapshot shows it. Raises psycopg.Error."""
    about = session.execute(DATABASE).fetchone()
    words = line(about or ())
    told = {**catalogue(session), "database": sha256(words.encode()).hexdigest()}
    return Summed(name, list(tables(session, row_hash, unlogged=unlogged, parts=parts)), told)


def fingerprint_of(
    summed: Sequence[Summed],
    shared: Mapping[str, str],
    roles: int,
    samples: Sequence[Sample],
    algorithm: str,
) -> Fingerprint:
    """The fingerprint of all that was summed up; of the tables, the largest are samples."""
    checksums = {f"server: {kind}": digest for kind, digest in shared.items()}
    counts = {"databases": len(summed), "roles": roles, "tables": 0, "rows": 0, "large_objects": 0}
    largest: list[tuple[int, Sample]] = []
    rows: dict[str, int] = {}
    for each in summed:
        checksums |= {f"{each.name}: {kind}": digest for kind, digest in each.catalogue.items()}
        checksums[f"{each.name}: rows"] = rows_digest(each.tables)
        *own, large_objects = each.tables
        rows[each.name] = sum(table.rows for table in own)
        counts["tables"] += len(own)
        counts["rows"] += rows[each.name]
        counts["large_objects"] += large_objects.rows
        beyond = sum(table.rows - table.part_rows for table in each.tables if table.part is not None)
        if beyond:
            counts[BEYOND_SAMPLES] = counts.get(BEYOND_SAMPLES, 0) + beyond
        largest += [(table.rows, _table_sample(each.name, table)) for table in each.tables]
    # Of which a part was summed up, it must stand there which: whoever compares draws it again.
    largest.sort(key=lambda pair: ("seed" not in pair[1].fields, -pair[0], pair[1].key))
    most = max(_MOST_SAMPLES, sum("seed" in sample.fields for _, sample in largest))
    return Fingerprint(
        algorithm=algorithm,
        checksums=checksums,
        counts=counts,
        samples=(*samples, *rows_samples(rows), *(sample for _, sample in largest[:most])),
    )


def rows_digest(tables: Sequence[TableSums]) -> str:
    """One digest of all that tables hold."""
    content = "\n".join("\t".join((table.name, str(table.rows), *table.sums)) for table in tables)
    return sha256(content.encode()).hexdigest()


def _table_sample(database: str, table: TableSums) -> Sample:
    fields = {"rows": str(table.rows)}
    fields |= {f"sum_{number}": text for number, text in enumerate(table.sums, 1)}
    if table.part is not None:
        fields |= {
            "percent": table.part.percent,
            "seed": str(table.part.seed),
            "rows_in_sample": str(table.part_rows),
        }
    return Sample(f"{database}: {table.name}", fields)


def sequence_key(database: str, sequence: SequenceAt) -> str:
    """What the sample of a sequence is called."""
    return f"{database}: sequence {sequence.name}"


def sequence_sample(key: str, sequence: SequenceAt) -> Sample:
    """How far a sequence had come."""
    fields = {"last": str(sequence.last), "used": str(sequence.used).lower(), "rising": str(sequence.rising).lower()}
    return Sample(key, fields)


def sequence_from(sample: Sample) -> SequenceAt:
    """What `sequence_sample` wrote."""
    fields = sample.fields
    return SequenceAt(sample.key, fields["rising"] == "true", int(fields["last"]), fields["used"] == "true")
