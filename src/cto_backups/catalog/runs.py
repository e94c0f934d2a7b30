"""Runs whose process could not end them itself."""

from cto_backups.catalog.database import Database, insertion
from cto_backups.catalog.rows import moment_to_column, words_to_column
from cto_backups.core.model import Run


def note_crash(database: Database, run: Run, host: str, pid: int) -> None:
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
    with database.writing() as connection:
        number = connection.scalar(begun, process)
        if number is not None:
            changed = ", ".join(f"{column} = :{column}" for column in ended)
            connection.execute(f"UPDATE runs SET {changed} WHERE id = :id", {**ended, "id": number})
        else:
            row = {**process, **ended, "source": run.source, "vault": run.vault, "point": run.point, "figures": "{}"}
            connection.execute(insertion("runs", row), row)
