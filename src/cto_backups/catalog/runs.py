"""Runs: how one begins, and how one ends whose process could not end it itself."""

from collections.abc import Mapping
from typing import Any

from cto_backups.catalog import due_times
from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.rows import moment_to_column, words_to_column
from cto_backups.core.model import Outcome, Run


def begin(connection: Connection, row: Mapping[str, Any]) -> int:
    """Add a run; its number."""
    # The next number, and not the database's own: it is the same one if this has to be done again.
    due_times.touch_either(connection, row["source"], row["vault"])
    statement = insertion("runs", ["id", *row]).replace(":id", "(SELECT coalesce(max(id), 0) + 1 FROM runs)")
    return int(connection.scalar(f"{statement} RETURNING id", row))


def note_crash(connection: Connection, run: Run, host: str, pid: int) -> None:
    """Note that a process ended in the middle of an action, as `run` tells it.

    What it began itself since then failed so, whatever was noted of that; where there is nothing, `run` is added.
    """
    assert run.finished_at is not None
    ended = {
        "outcome": run.outcome.value,
        "finished_at": moment_to_column(run.finished_at),
        "error_code": run.error_code,
        "message": words_to_column(run.message),
    }
    process = {"host": host, "pid": pid, "action": run.action.value, "started_at": moment_to_column(run.started_at)}
    begun = """
        SELECT max(id) FROM runs
        WHERE host = :host AND pid = :pid AND action = :action AND started_at >= :started_at
        """
    if (number := connection.scalar(begun, process)) is not None:
        end(connection, number, ended)
    else:
        place = {"source": run.source, "vault": run.vault, "point": run.point}
        begin(connection, {**process, **ended, **place, "figures": "{}"})


def end(connection: Connection, number: int, ended: Mapping[str, Any], *, unless_ended: bool = False) -> None:
    """Note how a run ended; with `unless_ended`, only while nobody has noted that."""
    changed = ", ".join(f"{column} = :{column}" for column in ended)
    only = f" AND outcome = '{Outcome.RUNNING.value}'" if unless_ended else ""
    row = connection.execute(
        f"UPDATE runs SET {changed} WHERE id = :id{only} RETURNING source, vault", {**ended, "id": number}
    ).fetchone()
    if row is not None:
        due_times.touch_either(connection, row["source"], row["vault"])
