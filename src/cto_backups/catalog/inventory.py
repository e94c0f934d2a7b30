"""Writing what policy declares and discovery finds: sources, their vaults, their resources."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert

from cto_backups.catalog import schema
from cto_backups.core.model import Resource
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.errors import ForeignRepositoryError

# What the catalog itself learned of a source; policy does not change it.
_LEARNED = {"name", "first_seen", "confirmed_at", "discovered_at", "next_due_at", "point_count"}


def sync_policy(connection: Connection, policy: Policy, text: bytes, now: datetime) -> None:
    """Bring the sources and vaults of the policy in; sources that are gone become inactive."""
    connection.execute(update(schema.sources).values(active=False))
    connection.execute(schema.source_vaults.delete())
    rows = [_source_row(policy, source, now) for source in policy.sources.values()]
    if rows:
        statement = insert(schema.sources)
        changed = {c.name: statement.excluded[c.name] for c in schema.sources.c if c.name not in _LEARNED}
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=changed), rows)
    stored_in = [
        {"source": source.name, "vault": vault}
        for source in policy.sources.values()
        for vault in dict.fromkeys(source.vaults)
    ]
    if stored_in:
        connection.execute(insert(schema.source_vaults), stored_in)
    for name in policy.vaults:
        connection.execute(insert(schema.vaults).values(name=name).on_conflict_do_nothing())
    connection.execute(
        insert(schema.policies).values(digest=policy.digest, text=text, first_seen=now).on_conflict_do_nothing()
    )


def _source_row(policy: Policy, source: SourcePolicy, now: datetime) -> dict[str, Any]:
    return {
        "name": source.name,
        "kind": source.kind,
        "category": source.category.name,
        "data_class": source.data_class,
        "business": policy.business,
        "rpo_seconds": int(source.category.rpo.total_seconds()),
        "test_every_seconds": None if source.test_every is None else int(source.test_every.total_seconds()),
        "read_within_seconds": int(source.category.read_within.total_seconds()),
        "active": True,
        "first_seen": now,
        "policy_digest": policy.digest,
    }


def record_resources(connection: Connection, source: str, resources: Iterable[Resource], now: datetime) -> None:
    """Remember all that discovery found in a source; what it did not find any more stays as history."""
    rows = [
        {
            "source": source,
            "name": resource.name,
            "kind": resource.kind,
            "location": resource.location,
            "size_bytes": resource.size_bytes,
            "first_seen": now,
            "last_seen": now,
        }
        for resource in resources
    ]
    connection.execute(update(schema.sources).where(schema.sources.c.name == source).values(discovered_at=now))
    if rows:
        statement = insert(schema.resources)
        changed = {name: statement.excluded[name] for name in ("kind", "location", "size_bytes", "last_seen")}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["source", "name"], set_=changed),
            rows,
        )


def expect_repository(connection: Connection, vault: str, repository: str) -> None:
    """Remember which repository belongs to a vault, the first time; raise ForeignRepositoryError for another."""
    vaults = schema.vaults
    connection.execute(insert(vaults).values(name=vault).on_conflict_do_nothing())
    known = connection.execute(select(vaults.c.repository).where(vaults.c.name == vault)).scalar()
    if known is None:
        connection.execute(update(vaults).where(vaults.c.name == vault).values(repository=repository))
    elif known != repository:
        raise ForeignRepositoryError(
            f"Vault '{vault}' holds another repository than before",
            why=f"it is {repository[:12]}…, the catalog knows {known[:12]}…",
            todo="Check that the right disk is mounted there, and that its url in backups.yaml is right.",
        )
