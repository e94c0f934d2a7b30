"""The signed records as the catalog keeps them, and which of them each vault has."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cto_backups.catalog.database import Connection, insertion
from cto_backups.evidence.records import Record, SigningKey, record_key, sign

_AT_ONCE = 500


def append(connection: Connection, signer: SigningKey, kind: str, payload: Mapping[str, Any], now: datetime) -> Record:
    """Sign and keep a record at the next place of the signer's chain; the connection holds the write lock."""
    last = connection.execute(
        "SELECT sequence, digest FROM records WHERE signer = :signer ORDER BY sequence DESC LIMIT 1",
        {"signer": signer.signer},
    ).fetchone()
    sequence, previous = (last[0] + 1, last[1]) if last else (1, None)
    record = sign(signer, kind, payload, sequence=sequence, previous=previous, written_at=now)
    row = {
        "signer": signer.signer,
        "sequence": sequence,
        "kind": kind,
        "digest": record.digest,
        "subject": payload.get("id") if kind == "recovery-point" else payload.get("point"),
        "content": record.to_bytes(),
    }
    connection.execute(insertion("records", row), row)
    return record


def after(connection: Connection, signer: str, sequence: int) -> Sequence[Record]:
    """The next of a signer's records after this number, so many at a time; none at the end."""
    rows = connection.execute(
        """
        SELECT sequence, content FROM records WHERE signer = :signer AND sequence > :sequence
        ORDER BY sequence LIMIT :limit
        """,
        {"signer": signer, "sequence": sequence, "limit": _AT_ONCE},
    )
    return [Record.from_bytes(content, name=f"Record {number} in the catalog") for number, content in rows]


def contents(connection: Connection, signer: str, sequence: int) -> Sequence[tuple[int, str, bytes]]:
    """As `after`, but as they are stored: number, key in a vault, bytes."""
    rows = connection.execute(
        """
        SELECT sequence, kind, content FROM records WHERE signer = :signer AND sequence > :sequence
        ORDER BY sequence LIMIT :limit
        """,
        {"signer": signer, "sequence": sequence, "limit": _AT_ONCE},
    )
    return [(number, record_key(signer, number, kind), bytes(content)) for number, kind, content in rows]


def signers(connection: Connection) -> list[str]:
    """Whose records are kept here."""
    return [str(signer) for signer in connection.scalars("SELECT DISTINCT signer FROM records ORDER BY signer")]


def of_evidence(connection: Connection, evidence_id: str) -> Record | None:
    """The record that a verification or a restore test was signed as."""
    rows = connection.execute(
        "SELECT content FROM records WHERE kind = 'evidence' AND instr(content, :said) > 0 ORDER BY signer, sequence",
        {"said": f'"id":"{evidence_id}"'.encode()},
    )
    found = (Record.from_bytes(content, name=f"The record of {evidence_id} in the catalog") for (content,) in rows)
    return next((record for record in found if record.payload["id"] == evidence_id), None)


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
        ON CONFLICT (vault, signer) DO UPDATE SET sequence = max(sequence, excluded.sequence)
        """,
        {"vault": vault, "signer": signer, "sequence": sequence},
    )
