"""The table of claims; beside the others of `schema`."""

from sqlalchemy import Boolean, Column, Integer, Table, Text

from cto_backups.catalog.schema import Moment, metadata

claims = Table(
    "claims",
    metadata,
    Column("subject", Text, primary_key=True),  # a source, a copy of one in a vault, or a vault
    Column("token", Integer, nullable=False),  # each claim outdoes the one before
    Column("run", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("leased_until", Moment),  # none: given back
    Column("doubted", Boolean, nullable=False),  # somebody wants it, and waits for a sign of life
)
