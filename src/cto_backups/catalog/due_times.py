"""When each source and vault is due next, so that planning reads what is due, and not all there is.

Whatever writes a fact that plans are made from calls `touch`, `touch_source_of` or `touch_vault` in the same
transaction: the place is looked at again at once. `review` is for what concerns very many at once, such as another
policy: these are looked at as there is time, beside what is due. What a planner came to is only noted where nothing was
touched since it began; so nothing that is written while somebody plans is overlooked.

Beside that it says until when each source is known to be well: none of the policy's alert rules has anything to say of
it before then. Whatever touches it has it judged again.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from cto_backups.catalog.database import Connection, Database
from cto_backups.catalog.rows import moment_from_column, moment_to_column
from cto_backups.core.looks import EVERYTHING_WITHIN, Looked, Place
from cto_backups.core.schedule import AT_ONCE

_AT_ONCE = moment_to_column(AT_ONCE)
_TOUCH = "UPDATE due_times SET next_due_at = :at_once, touched = touched + 1, well_until = NULL"
_KEPT = ", expiry_at = :at_once"
SOURCE, VAULT = "source", "vault"


def touch(connection: Connection, source: str, *, kept: bool = False) -> None:
    """Have a source looked at again at once; with `kept`, its kept points as well."""
    connection.execute(
        f"{_TOUCH}{_KEPT if kept else ''} WHERE place = 'source' AND name = :source",
        {"source": source, "at_once": _AT_ONCE},
    )


def touch_source_of(connection: Connection, point: str, *, kept: bool = False) -> None:
    """The same for the source of a recovery point."""
    connection.execute(
        f"""
        {_TOUCH}{_KEPT if kept else ""}
        WHERE place = 'source' AND name = (SELECT source FROM points WHERE id = :point)
        """,
        {"point": point, "at_once": _AT_ONCE},
    )


def touch_vault(connection: Connection, vault: str) -> None:
    """Have a vault looked at again at once."""
    connection.execute(f"{_TOUCH} WHERE place = 'vault' AND name = :vault", {"vault": vault, "at_once": _AT_ONCE})


def touch_either(connection: Connection, source: str | None, vault: str | None) -> None:
    """Have looked at again what a run, or evidence, is of: a source, or where it is of none, a vault."""
    if source is not None:
        touch(connection, source)
    elif vault is not None:
        touch_vault(connection, vault)


def judge_again(connection: Connection, vault: str) -> None:
    """Have all sources judged again that have copies in a vault, whose bytes are not as they were thought to be."""
    connection.execute(
        """
        UPDATE due_times SET well_until = NULL, touched = touched + 1
        WHERE place = 'source' AND name IN (SELECT source FROM source_vaults WHERE vault = :vault)
        """,
        {"vault": vault},
    )


def review(connection: Connection) -> None:
    """Have everything looked at again that is active, and its kept points, as there is time; forget what is not."""
    now = {"at_once": _AT_ONCE}
    connection.execute(
        "DELETE FROM due_times WHERE place = 'source' AND name NOT IN (SELECT name FROM sources WHERE active = 1)"
    )
    connection.execute(
        """
        UPDATE due_times
        SET looked_at = :at_once, expiry_at = :at_once, touched = touched + 1, well_until = NULL
        """,
        now,
    )
    for place, those in ((SOURCE, "sources WHERE active = 1"), (VAULT, "vaults WHERE 1 = 1")):
        connection.execute(
            f"""
            INSERT INTO due_times (place, name, next_due_at, expiry_at, looked_at, touched)
            SELECT '{place}', name, :at_once, :at_once, :at_once, 0 FROM {those} ON CONFLICT DO NOTHING
            """,
            now,
        )


def to_look_at(
    connection: Connection,
    now: datetime,
    limit: int,
    at_leisure: int,
    also: Iterable[Place] = (),
    until: datetime | None = None,
) -> tuple[Place, ...]:
    """What is due `until` a moment (now), or was touched, up to `limit`; of what was not looked at for long, some more.

    And what `also` names. What was looked at in the future counts as due: a clock was put back.
    """
    rows = connection.execute(
        """
        SELECT place, name, expiry_at, touched FROM (
            SELECT * FROM due_times WHERE next_due_at <= :until ORDER BY next_due_at LIMIT :limit) AS due
        UNION
        SELECT place, name, expiry_at, touched FROM (
            SELECT * FROM due_times WHERE looked_at > :now ORDER BY looked_at LIMIT :limit) AS ahead
        UNION
        SELECT place, name, expiry_at, touched FROM (
            SELECT * FROM due_times WHERE looked_at <= :before ORDER BY looked_at LIMIT :at_leisure) AS old
        """,
        {
            "now": moment_to_column(now),
            "before": moment_to_column(now - EVERYTHING_WITHIN),
            "limit": limit,
            "at_leisure": at_leisure,
            "until": moment_to_column(until or now),
        },
    )
    found = {place.key: place for place in map(_place, rows)}
    missing = [place for place in also if place.key not in found]
    return (*found.values(), *_named(connection, missing))


def _named(connection: Connection, wanted: Collection[Place]) -> list[Place]:
    found: list[Place] = []
    for kind in (SOURCE, VAULT):
        names = [place.name for place in wanted if place.is_vault is (kind == VAULT)]
        if names:
            rows = connection.execute(
                f"""
                SELECT place, name, expiry_at, touched FROM due_times
                WHERE place = '{kind}' AND name IN (SELECT value FROM json_each(:asked))
                """,
                {"asked": json.dumps(names)},
            )
            found += map(_place, rows)
    return found


def _place(row: Any) -> Place:
    return Place(row["name"], row["place"] == VAULT, moment_from_column(row["expiry_at"]), row["touched"])


def note(connection: Connection, looked: Iterable[Looked], now: datetime) -> None:
    """Note what looks came to, where nothing was touched since they began."""
    connection.execute_each(
        """
        UPDATE due_times SET next_due_at = :next_due_at, expiry_at = :expiry_at, looked_at = :now
        WHERE place = :place AND name = :name AND touched = :touched
        """,
        [
            {
                "place": VAULT if each.place.is_vault else SOURCE,
                "name": each.place.name,
                "touched": each.place.touched,
                "next_due_at": moment_to_column(each.next_due_at),
                "expiry_at": moment_to_column(each.expiry_at),
                "now": moment_to_column(now),
            }
            for each in looked
        ],
    )


def next_look(connection: Connection, now: datetime) -> datetime | None:
    """When there is something to look at next; None where there is nothing at all."""
    row = connection.execute(
        """
        SELECT (SELECT next_due_at FROM due_times WHERE next_due_at IS NOT NULL ORDER BY next_due_at LIMIT 1) AS due,
            (SELECT looked_at FROM due_times ORDER BY looked_at LIMIT 1) AS oldest,
            (SELECT looked_at FROM due_times ORDER BY looked_at DESC LIMIT 1) AS newest
        """
    ).fetchone()
    due, oldest, newest = (moment_from_column(row[name]) for name in ("due", "oldest", "newest"))
    if oldest is None or newest is None:
        return None
    if newest > now:
        return now
    sweep = oldest + EVERYTHING_WITHIN
    return sweep if due is None else min(due, sweep)


def to_judge(connection: Connection, now: datetime) -> tuple[Place, ...]:
    """The sources that are not known to be well now. What was judged in the future is not: a clock was put back.

    All rows are read, once a minute or so: that costs less than an index, which each touch would have to keep.
    """
    rows = connection.execute(
        """
        SELECT place, name, expiry_at, touched FROM due_times
        WHERE place = 'source' AND (well_until IS NULL OR well_until <= :now OR judged_at > :now) ORDER BY name
        """,
        {"now": moment_to_column(now)},
    )
    return tuple(map(_place, rows))


def note_well(connection: Connection, well: Mapping[Place, datetime], now: datetime) -> None:
    """Note until when sources are well, where nothing was touched since that was judged."""
    connection.execute_each(
        """
        UPDATE due_times SET well_until = :until, judged_at = :now
        WHERE place = 'source' AND name = :name AND touched = :touched
        """,
        [
            {
                "name": place.name,
                "touched": place.touched,
                "until": moment_to_column(until),
                "now": moment_to_column(now),
            }
            for place, until in well.items()
        ],
    )


class DueTimes:
    """When the sources and vaults of one catalog are due."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def to_look_at(
        self,
        now: datetime,
        *,
        limit: int,
        at_leisure: int,
        also: Iterable[Place] = (),
        until: datetime | None = None,
    ) -> tuple[Place, ...]:
        """What is due until a moment (now) or was touched; of what was not looked at for long, some; what is named."""
        with self._database.reading() as connection:
            return to_look_at(connection, now, limit, at_leisure, also, until)

    def note(self, looked: Collection[Looked], now: datetime) -> None:
        """Note what looks came to, where nothing was touched since they began."""
        if looked:
            with self._database.writing() as connection:
                note(connection, looked, now)

    def next_look(self, now: datetime) -> datetime | None:
        """When there is something to look at next; None where there is nothing at all."""
        with self._database.reading() as connection:
            return next_look(connection, now)

    def to_judge(self, now: datetime) -> tuple[Place, ...]:
        """The sources that are not known to be well now."""
        with self._database.reading() as connection:
            return to_judge(connection, now)

    def note_well(self, well: Mapping[Place, datetime], now: datetime) -> None:
        """Note until when sources are well, where nothing was touched since that was judged."""
        if well:
            with self._database.writing() as connection:
                note_well(connection, well, now)
