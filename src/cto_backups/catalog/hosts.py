"""The hosts that have a trust domain of their own, and the names that belong to each."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cto_backups.catalog.database import Connection, Database, insertion
from cto_backups.catalog.rows import moment_from_column, moment_to_column
from cto_backups.core.enrolment import Host
from cto_backups.errors import RefusedError


def sources_of_hosts(connection: Connection) -> frozenset[str]:
    """The sources of hosts that are not revoked: what is there of them, the hosts themselves say.

    To a host itself the catalog shows none.
    """
    rows = connection.scalars(
        """
        SELECT n.name FROM host_names n JOIN hosts h ON h.name = n.host
        WHERE n.kind = 'source' AND h.revoked_at IS NULL
        """
    )
    return frozenset(rows)


class HostBook:
    """The enrolled hosts of one catalog."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def listed(self) -> tuple[Host, ...]:
        """All of them, revoked ones included, by name."""
        with self._database.reading() as connection:
            return _listed(connection)

    def one(self, name: str) -> Host | None:
        """The host of this name; None when none was enrolled."""
        return next((host for host in self.listed() if host.name == name), None)

    def enrol(self, host: Host) -> None:
        """Note a host with its names, anew where it is there. Raises RefusedError when a name belongs to another one.

        Sources and vaults that it had stay its own; of signers and keys only the new ones do.
        """
        with self._database.writing() as connection:
            row = {"name": host.name, "role": host.role, "enrolled_at": moment_to_column(host.enrolled_at)}
            connection.execute(
                f"""
                {insertion("hosts", row)} ON CONFLICT (name) DO UPDATE
                SET role = excluded.role, enrolled_at = excluded.enrolled_at, joined_at = NULL, revoked_at = NULL
                """,
                row,
            )
            connection.execute(
                "DELETE FROM host_names WHERE host = :name AND kind NOT IN ('source', 'vault', 'policy')",
                {"name": host.name},
            )
            taken = {(kind, name): other.name for other in _listed(connection) for kind, name in _pairs(other)}
            for kind, name in _pairs(host):
                if (owner := taken.get((kind, name))) not in (None, host.name):
                    raise RefusedError(
                        f"The {kind} '{name}' belongs to host '{owner}'",
                        why="what belongs to one host is not written by another",
                        todo="Choose another name for it.",
                    )
            new = [pair for pair in _pairs(host) if pair not in taken]
            connection.execute_each(
                insertion("host_names", ("kind", "name", "host")),
                [{"kind": kind, "name": name, "host": host.name} for kind, name in new],
            )

    def take(self, hosts: Iterable[Host]) -> None:
        """Note hosts of which records tell; those that are known stay as they are, and what has a name keeps it."""
        with self._database.writing() as connection:
            known = {host.name for host in _listed(connection)}
            for host in hosts:
                if host.name in known:
                    continue
                row: dict[str, Any] = {"name": host.name, "role": host.role}
                for column in ("enrolled_at", "joined_at", "revoked_at"):
                    row[column] = moment_to_column(getattr(host, column))
                connection.execute(insertion("hosts", row), row)
                connection.execute_each(
                    f"{insertion('host_names', ('kind', 'name', 'host'))} ON CONFLICT DO NOTHING",
                    [{"kind": kind, "name": name, "host": host.name} for kind, name in _pairs(host)],
                )

    def revoke(self, name: str, now: datetime, left: Iterable[str] = (), unended: Iterable[str] = ()) -> None:
        """Note that a host is trusted no longer (the first time counts), what people still have to do at which vaults,
        and where (vaults, or "catalog") what it has is not ended yet.
        """
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE hosts SET revoked_at = coalesce(revoked_at, :now) WHERE name = :name",
                {"name": name, "now": moment_to_column(now)},
            )
            connection.execute(
                "DELETE FROM host_names WHERE host = :name AND kind IN ('left', 'unended')", {"name": name}
            )
            connection.execute_each(
                insertion("host_names", ("kind", "name", "host")),
                [
                    {"kind": kind, "name": f"{name}/{place}", "host": name}
                    for kind, places in (("left", left), ("unended", unended))
                    for place in dict.fromkeys(places)
                ],
            )


def _pairs(host: Host) -> Iterable[tuple[str, str]]:
    return [(kind, name) for kind, names in host.names.items() for name in names]


def _listed(connection: Connection) -> tuple[Host, ...]:
    names: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in connection.execute("SELECT * FROM host_names ORDER BY kind, name"):
        names[row["host"]][row["kind"]].append(row["name"])
    found = []
    for row in connection.execute("SELECT * FROM hosts ORDER BY name"):
        enrolled_at = moment_from_column(row["enrolled_at"])
        assert enrolled_at is not None
        joined_at, revoked_at = (moment_from_column(row[column]) for column in ("joined_at", "revoked_at"))
        own = {kind: tuple(each) for kind, each in names[row["name"]].items()}
        found.append(Host(row["name"], row["role"], enrolled_at, joined_at, revoked_at, own))
    return tuple(found)
