"""The table of what travelled to and from vaults; beside the others of `schema`."""

from sqlalchemy import BigInteger, Column, Table, Text

from cto_backups.catalog.schema import metadata

vault_traffic = Table(
    "vault_traffic",
    metadata,
    Column("vault", Text, primary_key=True),
    Column("day", Text, primary_key=True),  # in UTC
    Column("action", Text, primary_key=True),
    Column("writes", BigInteger, nullable=False),
    Column("reads", BigInteger, nullable=False),
    Column("deletes", BigInteger, nullable=False),
    Column("up_bytes", BigInteger, nullable=False),
    Column("down_bytes", BigInteger, nullable=False),
)
