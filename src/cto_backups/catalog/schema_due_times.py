"""The table of when each source and vault is due next; beside the others of `schema`."""

from sqlalchemy import Column, Index, Integer, Table, Text

from cto_backups.catalog.schema import Moment, metadata

due_times = Table(
    "due_times",
    metadata,
    Column("place", Text, primary_key=True),  # "source" or "vault"
    Column("name", Text, primary_key=True),
    Column("next_due_at", Moment),  # none: not before something changes
    Column("expiry_at", Moment),  # when the kept points of a source are to be read next
    Column("looked_at", Moment, nullable=False),
    Column("touched", Integer, nullable=False),  # how often something changed there
    Index("due_times_next", "next_due_at"),
    Index("due_times_looked", "looked_at"),
)
