"""The tables of when each source and vault is due next, of who plans, and of who lives; beside those of `schema`."""

from sqlalchemy import JSON, Column, Index, Integer, Table, Text

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
    Column("judged_at", Moment),  # when a source was found to be well, and until when it is
    Column("well_until", Moment),  # none: it is to be judged
    Index("due_times_next", "next_due_at"),
    Index("due_times_looked", "looked_at"),
)

leases = Table(  # who does for all what one is to do
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Moment, nullable=False),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("next_by", Moment, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("busy_with", Text, nullable=False),
    Column("told", JSON, nullable=False, server_default="{}"),  # what else it says of itself
)
