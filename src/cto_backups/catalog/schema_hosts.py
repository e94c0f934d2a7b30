"""The tables of hosts with a trust domain of their own; beside the others of `schema`."""

from sqlalchemy import Column, ForeignKey, Table, Text

from cto_backups.catalog.schema import Moment, metadata

hosts = Table(
    "hosts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),  # its login at the catalog's server
    Column("enrolled_at", Moment, nullable=False),
    Column("joined_at", Moment),
    Column("revoked_at", Moment),
)

# What belongs to a host, by kind: sources, vaults, signers, policies, and key files as "vault/id".
host_names = Table(
    "host_names",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("host", Text, ForeignKey("hosts.name"), nullable=False),
)
