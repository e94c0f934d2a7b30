"""The signed records as the catalog keeps them, and which of them each vault has."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cto_backups.catalog.database import Connection, insertion
from cto_backups.evidence.records import Record, SigningKey, record_key, sign

AT_ONCE = 500
"""How many records are read at a time."""
_NAMED_BY_ID = ("recovery-point", "approval-request", "approval")

Said = tuple[str, Mapping[str, Any]]
"""A record's kind, and what it says."""


def append(connection: Connection, signer: SigningKey, kind: str, payload: Mapping[str, Any], now: datetime) -> Record:
    """Sign and keep a record at the next place of the signer's chain; the connection holds the write lock."""
    sequence, previous = last(connection, signer.signer)
    record = sign(signer, kind, payload, sequence=sequence + 1, previous=previous, written_at=now)
    row = _row(record)
    connection.execute(insertion("records", row), row)
    return record


def keep(connection: Connection, record: Record) -> None:
    """Keep a record that was signed before; one that is here already stays."""
    row = _row(record)
    connection.execute(f"{insertion('records', row)} ON CONFLICT DO NOTHING", row)


def _row(record: Record) -> dict[str, Any]:
    return {
        "signer": record.signer,
        "sequence": record.sequence,
        "kind": record.kind,
        "digest": record.digest,
        "subject": record.payload.get("id" if record.kind in _NAMED_BY_ID else "point"),
        "content": record.to_bytes(),
    }


def last(connection: Connection, signer: str) -> tuple[int, str | None]:
    """The number and digest of a signer's last record here; 0 and None when there is none."""
    row = connection.execute(
        "SELECT sequence, digest FROM records WHERE signer = :signer ORDER BY sequence DESC LIMIT 1",
        {"signer": signer},
    ).fetchone()
    return (row[0], row[1]) if row else (0, None)


def contents(connection: Connection, signer: str, sequence: int) -> Sequence[tuple[int, str, bytes]]:
    """The next of a signer's records after this number, so many at a time; fewer at the end.

    As they are stored: number, key in a vault, bytes.
    """
    rows = connection.execute(
        """
        SELECT sequence, kind, content FROM records WHERE signer = :signer AND sequence > :sequence
        ORDER BY sequence LIMIT :limit
        """,
        {"signer": signer, "sequence": sequence, "limit": AT_ONCE},
    )
    return [(number, record_key(signer, number, kind), bytes(content)) for number, kind, content in rows]


def signers(connection: Connection) -> list[str]:
    """Whose records are kept here."""
    found: list[str] = []
    # One look into the index for each, and not one at every record.
    following = "SELECT min(signer) FROM records WHERE signer > :after"
    while (signer := connection.scalar(following, {"after": found[-1] if found else ""})) is not None:
        found.append(str(signer))
    return found


def of_evidence(connection: Connection, evidence_id: str) -> Record | None:
    """The record that a verification or a restore test was signed as."""
    rows = connection.execute(
        "SELECT content FROM records WHERE kind = 'evidence' AND instr(content, :said) > 0 ORDER BY signer, sequence",
        {"said": f'"id":"{evidence_id}"'.encode()},
    )
    found = (Record.from_bytes(content, name=f"The record of {evidence_id} in the catalog") for (content,) in rows)
    return next((record for record in found if record.payload["id"] == evidence_id), None)


def about(connection: Connection, subject: str, kind: str) -> list[Record]:
    """The records of a kind about one point or one approval, by whomever, in order."""
    rows = connection.execute(
        "SELECT content FROM records WHERE subject = :subject AND kind = :kind ORDER BY signer, sequence",
        {"subject": subject, "kind": kind},
    )
    return [Record.from_bytes(content, name=f"A record of {subject} in the catalog") for (content,) in rows]


def head(connection: Connection, vault: str, signer: str) -> int:
    """Up to which number a vault has a signer's records; 0 for none."""
    statement = "SELECT sequence FROM vault_heads WHERE vault = :vault AND signer = :signer"
    return int(connection.scalar(statement, {"vault": vault, "signer": signer}) or 0)


def heads(connection: Connection, vault: str) -> dict[str, int]:
    """Up to which number a vault has each signer's records."""
    rows = connection.execute(
        "SELECT signer, sequence FROM vault_heads WHERE vault = :vault ORDER BY signer", {"vault": vault}
    )
    return {signer: int(sequence) for signer, sequence in rows}


def advance_head(connection: Connection, vault: str, signer: str, sequence: int) -> None:
    """Note that a vault has the records up to this number; never goes back."""
    connection.execute(
        """
        INSERT INTO vault_heads (vault, signer, sequence) VALUES (:vault, :signer, :sequence)
        ON CONFLICT (vault, signer) DO UPDATE SET sequence = excluded.sequence
        WHERE vault_heads.sequence < excluded.sequence
        """,
        {"vault": vault, "signer": signer, "sequence": sequence},
    )
