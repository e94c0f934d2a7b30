"""What databases are summed up to, as their sessions see them, and the fingerprint of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.sources.postgresql_catalogue import DATABASE, GLOBALS
from cto_backups.sources.postgresql_rows import (
    SEEDED,
    SHA_256,
    RowHash,
    SequenceAt,
    Session,
    TableSums,
    catalogue,
    line,
    tables,
)

LOGICAL: Final = "postgresql/2"
"""Of databases that are dumped."""
PHYSICAL: Final = "postgresql-physical/2"
"""Of a server whose files are copied."""
LOGICAL_HASHES: Final[Mapping[str, RowHash]] = {"postgresql/1": SHA_256, LOGICAL: SEEDED}
PHYSICAL_HASHES: Final[Mapping[str, RowHash]] = {"postgresql-physical/1": SHA_256, PHYSICAL: SEEDED}
"""How rows are hashed, by the names of algorithms; the first are made no longer, but still compared with."""
_MOST_SAMPLES: Final = 1000


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


def summed_up(session: Session, name: str, row_hash: RowHash = SEEDED, *, unlogged: bool = True) -> Summed:
    """All of a database, as the session's snapshot shows it. Raises psycopg.Error."""
    about = session.execute(DATABASE).fetchone()
    words = line(about or ())
    told = {**catalogue(session), "database": sha256(words.encode()).hexdigest()}
    return Summed(name, list(tables(session, row_hash, unlogged=unlogged)), told)


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
    for each in summed:
        checksums |= {f"{each.name}: {kind}": digest for kind, digest in each.catalogue.items()}
        checksums[f"{each.name}: rows"] = rows_digest(each.tables)
        *own, large_objects = each.tables
        counts["tables"] += len(own)
        counts["rows"] += sum(table.rows for table in own)
        counts["large_objects"] += large_objects.rows
        largest += [(table.rows, _table_sample(each.name, table)) for table in each.tables]
    largest.sort(key=lambda pair: (-pair[0], pair[1].key))
    return Fingerprint(
        algorithm=algorithm,
        checksums=checksums,
        counts=counts,
        samples=(*samples, *(sample for _, sample in largest[:_MOST_SAMPLES])),
    )


def rows_digest(tables: Sequence[TableSums]) -> str:
    """One digest of all that tables hold."""
    content = "\n".join(f"{table.name}\t{table.rows}\t{table.sums[0]}\t{table.sums[1]}" for table in tables)
    return sha256(content.encode()).hexdigest()


def _table_sample(database: str, table: TableSums) -> Sample:
    return Sample(
        f"{database}: {table.name}", {"rows": str(table.rows), "sum_1": table.sums[0], "sum_2": table.sums[1]}
    )


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
