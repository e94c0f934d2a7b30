"""The retentions that policy gave each source: since when, and whether what applied before still binds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from cto_backups.catalog import chain, due_times
from cto_backups.catalog.database import Connection, Database
from cto_backups.catalog.rows import moment_from_column, moment_to_column
from cto_backups.core.expiry import has_waited, history, settles_by_time, succeeds
from cto_backups.core.keeping import RetentionSeen, RetentionTold
from cto_backups.core.policy import Policy
from cto_backups.evidence.payloads import moment_to_text
from cto_backups.evidence.records import SigningKey

Seen = Mapping[str, tuple[RetentionSeen, ...]]


def read(connection: Connection, sources: Iterable[str]) -> dict[str, tuple[RetentionSeen, ...]]:
    """The retentions of each of these sources from its last settled one on, the oldest first."""
    asked = set(sources)
    found: dict[str, list[RetentionSeen]] = defaultdict(list)
    for row in connection.execute("SELECT * FROM retentions ORDER BY source, since"):
        if row["source"] not in asked:
            continue
        since = moment_from_column(row["since"])
        assert since is not None
        seen = RetentionSeen(row["retention"], since, bool(row["settled"]), bool(row["approved"]))
        if seen.settled:
            found[row["source"]].clear()
        found[row["source"]].append(seen)
    return {source: tuple(retentions) for source, retentions in found.items()}


def note(connection: Connection, policy: Policy, signer: SigningKey, by: str, now: datetime) -> None:
    """Note the retentions of a policy, and sign each that has changed; settle those that have waited long enough."""
    noted = read(connection, policy.sources)
    for name in _waited(policy, noted, now):
        settle(connection, name, noted[name][-1].text)
    noted = read(connection, policy.sources)
    for name, new in _new(policy, noted, now).items():
        before = noted.get(name, ())
        due_times.touch(connection, name, kept=True)
        connection.execute(
            """
            INSERT INTO retentions (source, since, retention, settled, approved)
            VALUES (:source, :since, :retention, :settled, 0)
            """,
            {"source": name, "since": moment_to_column(now), "retention": new.text, "settled": new.settled},
        )
        if before:
            payload = {
                "digest": policy.digest,
                "source": name,
                "retention_before": before[-1].text,
                "retention_after": new.text,
                "shorter": not new.settled,
                "first_seen": moment_to_text(now),
                "by": by,
            }
            chain.append(connection, signer, "policy", payload, now)


def _waited(policy: Policy, noted: Seen, now: datetime) -> list[str]:
    """The sources whose newest retention has waited long enough, and needs nothing more."""
    by_time = settles_by_time(policy)
    newest = {name: seen[-1] for name, seen in noted.items()}
    return [
        name
        for name, seen in newest.items()
        if not seen.settled and (by_time or seen.approved) and has_waited(seen, now, approval=not by_time)
    ]


def _new(policy: Policy, noted: Seen, now: datetime) -> dict[str, RetentionSeen]:
    found = {name: succeeds(source, noted.get(name, ()), now) for name, source in policy.sources.items()}
    return {name: new for name, new in found.items() if new is not None}


def settle(connection: Connection, source: str, retention: str) -> None:
    """Note that the newest retention of a source, where it is this one, has waited and is applied from now on."""
    connection.execute(f"UPDATE retentions SET settled = 1 WHERE {_NEWEST}", {"source": source, "retention": retention})
    due_times.touch(connection, source, kept=True)


def approve(connection: Connection, source: str, retention: str) -> bool:
    """Note that the newest retention of a source, which is this one, was approved; whether it was this one."""
    approved = f"UPDATE retentions SET approved = 1 WHERE {_NEWEST}"
    due_times.touch(connection, source, kept=True)
    return connection.execute(approved, {"source": source, "retention": retention}).rowcount > 0


def take(connection: Connection, source: str, told: Sequence[RetentionTold]) -> bool:
    """Bring in the retentions of a source that records tell of, and that came after those here; whether any did."""
    new = history(told, read(connection, [source]).get(source, ()))
    connection.execute_each(
        """
        INSERT INTO retentions (source, since, retention, settled, approved)
        VALUES (:source, :since, :retention, :settled, :approved)
        """,
        [
            {
                "source": source,
                "since": moment_to_column(seen.since),
                "retention": seen.text,
                "settled": seen.settled,
                "approved": seen.approved,
            }
            for seen in new
        ],
    )
    due_times.touch(connection, source, kept=True)
    return bool(new)


_NEWEST = """source = :source AND retention = :retention
    AND since = (SELECT max(since) FROM retentions WHERE source = :source)"""


class Retentions:
    """The retentions of one catalog."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def note(self, policy: Policy, signer: SigningKey, by: str, now: datetime) -> Seen:
        """Note the retentions of a policy as first seen now; those of each source from its last settled one on.

        Nothing is written where nothing is new.
        """
        with self._database.reading() as connection:
            noted = read(connection, policy.sources)
        if not _new(policy, noted, now) and not _waited(policy, noted, now):
            return noted
        with self._database.writing() as connection:
            note(connection, policy, signer, by, now)
            return read(connection, policy.sources)

    def settle(self, source: str, retention: str) -> None:
        """Note that the newest retention of a source, where it is this one, has waited and is applied now."""
        with self._database.writing() as connection:
            settle(connection, source, retention)

    def take(self, told: Mapping[str, Sequence[RetentionTold]]) -> int:
        """Bring in the retentions of sources that records tell of; of how many sources some were unknown."""
        with self._database.writing() as connection:
            return sum([take(connection, source, each) for source, each in told.items()])
