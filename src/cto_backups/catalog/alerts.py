"""Alerts in the catalog: raised, stepped up, acknowledged and closed together with the signed record that says so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cto_backups.catalog import chain
from cto_backups.catalog.database import EVERYTHING, Connection, Database, insertion
from cto_backups.catalog.naming import row_named
from cto_backups.catalog.rows import (
    alert_from_row,
    alert_to_row,
    moment_to_column,
    telling_from_row,
    time_of,
    words_to_column,
)
from cto_backups.core.alerts import Alert, Telling
from cto_backups.errors import RefusedError
from cto_backups.evidence.payloads import alert_to_payload
from cto_backups.evidence.records import SigningKey

TELLINGS_KEPT = timedelta(days=400)


class AlertBook:
    """What somebody was told, or is to be told. Raises CatalogError and BusyError as the catalog does."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def listed(self, *, closed: bool = False, limit: int | None = None) -> tuple[Alert, ...]:
        """The open alerts, or with the closed ones, newest first."""
        which = "" if closed else "WHERE closed_at IS NULL"
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT * FROM alerts {which} ORDER BY raised_at DESC, id DESC LIMIT :limit",
                {"limit": EVERYTHING if limit is None else limit},
            )
            return tuple(alert_from_row(row) for row in rows)

    def one(self, name: str) -> Alert:
        """An alert by its id, or a unique beginning of one. Raises NotFoundError."""
        with self._database.reading() as connection:
            return _named(connection, name)

    def tellings(self, alert: str) -> tuple[Telling, ...]:
        """Every attempt to tell somebody of an alert, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM tellings WHERE alert = :alert ORDER BY id", {"alert": alert})
            return tuple(telling_from_row(row) for row in rows)

    def note(self, alert: Alert, event: str, signer: SigningKey, now: datetime) -> bool:
        """Sign and keep what has happened to an alert: `event` is raised, stepped-up or closed; whether it has.

        It has not where somebody else was faster: who raised or closed the same, or answered what would be stepped up.
        An answer that was given meanwhile stays.
        """
        with self._database.writing() as connection:
            row = connection.execute(
                """
                SELECT * FROM alerts
                WHERE id = :id OR (closed_at IS NULL AND rule = :rule AND subject = :subject)
                """,
                alert_to_row(alert),
            ).fetchone()
            known = None if row is None else alert_from_row(row)
            if known is not None:
                if known.id != alert.id or known.closed_at is not None:
                    return False
                if known.acknowledged_at is not None:
                    if event == "stepped-up":
                        return False
                    at, by = known.acknowledged_at, known.acknowledged_by
                    alert = replace(alert, acknowledged_at=at, acknowledged_by=by, note=known.note)
            _note(connection, alert, event, signer, now)
            return True

    def told(self, alert: Alert | None, tellings: Iterable[Telling], now: datetime) -> None:
        """Keep attempts to tell somebody, and when that was done; of `alert`, where they are about one."""
        with self._database.writing() as connection:
            for telling in tellings:
                row = {
                    "at": moment_to_column(telling.at),
                    "person": telling.person,
                    "channel": telling.channel,
                    "alert": telling.alert,
                    "problem": None if telling.problem is None else words_to_column(telling.problem),
                }
                connection.execute(insertion("tellings", row), row)
                _replace(connection, "last_tellings", "channel", row)
                if telling.problem is None:
                    _replace(connection, "reached", "person", {"person": row["person"], "at": row["at"]})
            if alert is not None:
                row = alert_to_row(alert)
                connection.execute(
                    "UPDATE alerts SET told = :told, told_at = :told_at, stepped_at = :stepped_at WHERE id = :id",
                    {name: row[name] for name in ("id", "told", "told_at", "stepped_at")},
                )
            connection.execute(
                "DELETE FROM tellings WHERE at < :before", {"before": moment_to_column(now - TELLINGS_KEPT)}
            )

    def acknowledge(self, name: str, *, by: str, note: str | None, signer: SigningKey, now: datetime) -> Alert:
        """Sign and keep that somebody takes care of an alert; the alert as it is then.

        Raises NotFoundError, and RefusedError when it is closed, or somebody was faster.
        """
        with self._database.writing() as connection:
            alert = _named(connection, name)
            if alert.closed_at is not None:
                raise RefusedError(
                    f"Alert {alert.id} is closed",
                    why=f"{alert.cause}, on {alert.closed_at:%Y-%m-%d %H:%M} UTC",
                    todo="Nothing is left to do; 'cto.backups alerts' lists the open ones.",
                )
            if alert.acknowledged_at is not None:
                raise RefusedError(
                    f"Alert {alert.id} was acknowledged before",
                    why=f"by {alert.acknowledged_by} on {alert.acknowledged_at:%Y-%m-%d %H:%M} UTC",
                    todo="Ask them what they know already.",
                )
            answered = replace(alert, acknowledged_at=now, acknowledged_by=by, note=note)
            _note(connection, answered, "acknowledged", signer, now)
            return answered

    def take(self, alerts: Sequence[Alert]) -> int:
        """Bring in alerts that signed records tell of; how many were unknown. A known one stays as it is."""
        with self._database.writing() as connection:
            rows = [alert_to_row(alert) for alert in alerts]
            return sum(
                [connection.execute(f"{insertion('alerts', row)} ON CONFLICT DO NOTHING", row).rowcount for row in rows]
            )


def _note(connection: Connection, alert: Alert, event: str, signer: SigningKey, now: datetime) -> None:
    chain.append(connection, signer, "alert", alert_to_payload(alert, event), now)
    row = alert_to_row(alert)
    changed = ", ".join(f"{column} = excluded.{column}" for column in row if column != "id")
    connection.execute(f"{insertion('alerts', row)} ON CONFLICT (id) DO UPDATE SET {changed}", row)


def _named(connection: Connection, name: str) -> Alert:
    row = row_named(
        connection,
        "alerts",
        name,
        "alert",
        why="no alert, open or closed, has an id that begins so",
        todo="See 'cto.backups alerts --all' for those there are.",
    )
    return alert_from_row(row)


def _replace(connection: Connection, table: str, key: str, row: Mapping[str, Any]) -> None:
    changed = ", ".join(f"{column} = excluded.{column}" for column in row if column != key)
    connection.execute(f"{insertion(table, row)} ON CONFLICT ({key}) DO UPDATE SET {changed}", row)


def last_tellings(connection: Connection) -> dict[str, Telling]:
    """The last attempt to tell somebody on each channel."""
    return {row["channel"]: telling_from_row(row) for row in connection.execute("SELECT * FROM last_tellings")}


def reached(connection: Connection) -> dict[str, datetime]:
    """When a channel last took a message to each person."""
    return {row["person"]: time_of(row) for row in connection.execute("SELECT * FROM reached")}
