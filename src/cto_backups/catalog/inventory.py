"""Writing what policy declares and discovery finds: sources, their vaults, their resources."""

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from cto_backups.catalog import due_times
from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.hosts import sources_of_hosts
from cto_backups.catalog.rows import moment_to_column, words_to_column
from cto_backups.core.copies import allowed_lag, is_scheduled
from cto_backups.core.model import Resource
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.errors import ForeignRepositoryError


def is_known(connection: Connection, policy: Policy, keep: Collection[str] = ()) -> bool:
    """Whether `sync_policy` would change nothing: then no command need wait for the disk."""
    theirs = sources_of_hosts(connection)
    declared = {name: _source_row(policy, source) for name, source in policy.sources.items()}
    for name in theirs & set(declared):
        del declared[name]["policy_digest"]  # the host has a policy of its own, which says the same of it
    keep = {*keep, *theirs}
    active = connection.execute("SELECT * FROM sources WHERE active = 1").fetchall()
    sources = [row for row in active if row["name"] in declared or row["name"] not in keep]
    stored = {row["name"]: {column: row[column] for column in declared.get(row["name"], {})} for row in sources}
    vaults = {(row["source"], row["vault"], row["lag_seconds"]) for row in _stored_in(policy)}
    return (
        stored == declared
        and {
            tuple(row)
            for row in connection.execute("SELECT source, vault, lag_seconds FROM source_vaults")
            if row["source"] in declared or row["source"] not in theirs
        }
        == vaults
        and set(connection.scalars("SELECT name FROM vaults")) >= set(policy.vaults)
        and connection.scalar("SELECT 1 FROM policies WHERE digest = :digest", {"digest": policy.digest}) is not None
    )


def sync_policy(connection: Connection, policy: Policy, text: bytes, now: datetime, keep: Collection[str] = ()) -> None:
    """Bring the sources and vaults of the policy in; sources that are gone become inactive, but for those to `keep`.

    What an enrolled host says of its own sources stays, where this policy does not name them.
    """
    theirs = sources_of_hosts(connection) - set(policy.sources)
    connection.execute(
        "UPDATE sources SET active = 0 WHERE name NOT IN (SELECT value FROM json_each(:keep))",
        {"keep": json.dumps([*keep, *theirs])},
    )
    connection.execute(
        "DELETE FROM source_vaults WHERE source NOT IN (SELECT value FROM json_each(:keep))",
        {"keep": json.dumps(sorted(theirs))},
    )
    rows = [_source_row(policy, source) for source in policy.sources.values()]
    if rows:
        changed = ", ".join(f"{column} = excluded.{column}" for column in rows[0])
        first = {"first_seen": moment_to_column(now)}
        connection.execute_each(
            f"{insertion('sources', rows[0] | first)} ON CONFLICT (name) DO UPDATE SET {changed}",
            [row | first for row in rows],
        )
    connection.execute_each(
        "INSERT INTO source_vaults (source, vault, lag_seconds) VALUES (:source, :vault, :lag_seconds)",
        _stored_in(policy),
    )
    connection.execute_each(
        "INSERT INTO vaults (name) VALUES (:name) ON CONFLICT DO NOTHING", [{"name": name} for name in policy.vaults]
    )
    connection.execute(
        "INSERT INTO policies (digest, text, first_seen) VALUES (:digest, :text, :now) ON CONFLICT DO NOTHING",
        {"digest": policy.digest, "text": text, "now": moment_to_column(now)},
    )
    due_times.review(connection)


def _stored_in(policy: Policy) -> list[dict[str, Any]]:
    """The vaults of each source, and how long a point may wait for one that has a schedule of its own."""
    return [
        {"source": source.name, "vault": vault, "lag_seconds": _lag_seconds(policy, source, vault)}
        for source in policy.sources.values()
        for vault in dict.fromkeys(source.vaults)
    ]


def _lag_seconds(policy: Policy, source: SourcePolicy, vault: str) -> int | None:
    if not is_scheduled(policy, vault):
        return None
    return int(allowed_lag(policy.vaults[vault].copies, source.category.rpo).total_seconds())


def _source_row(policy: Policy, source: SourcePolicy) -> dict[str, Any]:
    """What policy says of a source; what the catalog itself learned of it stays."""
    return {
        "name": source.name,
        "kind": source.kind,
        "category": source.category.name,
        "data_class": source.data_class,
        "business": policy.business,
        "rpo_seconds": int(source.category.rpo.total_seconds()),
        "test_every_seconds": None if source.test_every is None else int(source.test_every.total_seconds()),
        "read_within_seconds": int(source.category.read_within.total_seconds()),
        "expects_change_seconds": (
            None if source.expects_change is None else int(source.expects_change.total_seconds())
        ),
        "active": True,
        "policy_digest": policy.digest,
    }


def record_resources(connection: Connection, source: str, resources: Iterable[Resource], now: datetime) -> None:
    """Remember all that discovery found in a source; what it did not find any more stays as history."""
    moment = moment_to_column(now)
    rows = [
        {
            "source": source,
            "name": words_to_column(resource.name),
            "kind": resource.kind,
            "location": words_to_column(resource.location),
            "size_bytes": resource.size_bytes,
            "first_seen": moment,
            "last_seen": moment,
            "changed_at": moment_to_column(resource.changed_at),
            "covered": resource.covered,
        }
        for resource in resources
    ]
    connection.execute(
        "UPDATE sources SET discovered_at = :now WHERE name = :source", {"source": source, "now": moment}
    )
    if rows:
        connection.execute_each(
            f"""
            {insertion("resources", rows[0])} ON CONFLICT (source, name) DO UPDATE
            SET kind = excluded.kind, location = excluded.location, size_bytes = excluded.size_bytes,
                last_seen = excluded.last_seen, changed_at = excluded.changed_at, covered = excluded.covered
            """,
            rows,
        )


def repository_of(connection: Connection, vault: str) -> str | None:
    """The repository that belongs to a vault, once it is known."""
    known: str | None = connection.scalar("SELECT repository FROM vaults WHERE name = :vault", {"vault": vault})
    return known


def note_away(connection: Connection, away: Collection[str], now: datetime, but: Collection[str] = ()) -> None:
    """Note which vaults cannot be read now, and since when; nothing of those that were not looked at (`but`)."""
    values = {"away": json.dumps(sorted(away)), "now": moment_to_column(now), "but": json.dumps(sorted(but))}
    connection.execute(
        """
        UPDATE vaults SET away_since =
            CASE WHEN name IN (SELECT value FROM json_each(:away)) THEN coalesce(away_since, :now) END
        WHERE name NOT IN (SELECT value FROM json_each(:but))
        """,
        values,
    )


def away(connection: Connection) -> frozenset[str]:
    """The vaults that could not be read when a worker last looked."""
    return frozenset(connection.scalars("SELECT name FROM vaults WHERE away_since IS NOT NULL"))


def expect_repository(connection: Connection, vault: str, repository: str) -> None:
    """Remember which repository belongs to a vault, the first time; raise ForeignRepositoryError for another."""
    here = {"vault": vault, "repository": repository}
    known = repository_of(connection, vault)
    if known is None:
        connection.execute("INSERT INTO vaults (name) VALUES (:vault) ON CONFLICT DO NOTHING", here)
        connection.execute("UPDATE vaults SET repository = :repository WHERE name = :vault", here)
    elif known != repository:
        raise ForeignRepositoryError(
            f"Vault '{vault}' holds another repository than before",
            why=f"it is {repository[:12]}…, the catalog knows {known[:12]}…",
            todo="Check that the right disk is mounted there, and that its url in backups.yaml is right.",
        )
