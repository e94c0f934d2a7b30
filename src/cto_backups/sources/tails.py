"""What was streamed after a point, of whichever source."""

from datetime import datetime

from cto_backups.core.streams import Mark
from cto_backups.errors import RestoreError


def refuse_beyond(source: str, at: datetime | None, mark: Mark | None, problem: str) -> None:
    """Raise RestoreError when a moment is asked for after the last mark; `problem` is why there is no more."""
    if at is not None and (mark is None or mark.moment < at):
        raise RestoreError(
            f"source {source}: the log that was streamed does not lead to {at:%Y-%m-%d %H:%M:%S %Z}",
            why=problem,
            todo=f"ask for a moment until {mark.moment:%Y-%m-%d %H:%M:%S %Z}"
            if mark is not None
            else "restore the point itself, by its id",
        )
