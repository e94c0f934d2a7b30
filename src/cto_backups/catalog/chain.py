"""The signed records as the catalog keeps them, and which of them each vault has."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from cto_backups.catalog import schema
from cto_backups.evidence.records import Record, SigningKey, sign

_AT_ONCE = 500


def append(connection: Connection, signer: SigningKey, kind: str, payload: Mapping[str, Any], now: datetime) -> Record:
    """Sign and keep a record at the next place of the signer's chain; the connection holds the write lock."""
    records = schema.records
    last = connection.execute(
        select(records.c.sequence, records.c.digest)
        .where(records.c.signer == signer.signer)
        .order_by(records.c.sequence.desc())
        .limit(1)
    ).first()
    sequence, previous = (last[0] + 1, last[1]) if last else (1, None)
    record = sign(signer, kind, payload, sequence=sequence, previous=previous, written_at=now)
    connection.execute(
        insert(records).values(
            signer=signer.signer,
            sequence=sequence,
            kind=kind,
            digest=record.digest,
            subject=payload.get("id") if kind == "recovery-point" else payload.get("point"),
            content=record.to_bytes(),
        )
    )
    return record


def after(connection: Connection, signer: str, sequence: int) -> Sequence[Record]:
    """The next of a signer's records after this number, so many at a time; none at the end."""
    records = schema.records
    rows = connection.execute(
        select(records.c.sequence, records.c.content)
        .where(records.c.signer == signer, records.c.sequence > sequence)
        .order_by(records.c.sequence)
        .limit(_AT_ONCE)
    )
    return [Record.from_bytes(content, name=f"Record {number} in the catalog") for number, content in rows]


def head(connection: Connection, vault: str, signer: str) -> int:
    """Up to which number a vault has a signer's records; 0 for none."""
    heads = schema.vault_heads
    statement = select(heads.c.sequence).where(heads.c.vault == vault, heads.c.signer == signer)
    return int(connection.execute(statement).scalar() or 0)


def advance_head(connection: Connection, vault: str, signer: str, sequence: int) -> None:
    """Note that a vault has the records up to this number; never goes back."""
    heads = schema.vault_heads
    statement = insert(heads).values(vault=vault, signer=signer, sequence=sequence)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["vault", "signer"],
            set_={"sequence": func.max(heads.c.sequence, statement.excluded.sequence)},
        )
    )
