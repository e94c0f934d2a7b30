"""Sources in which there is nothing, or next to nothing is left: a failed backup until somebody says it is meant."""

from cto_backups.core.model import RecoveryPoint
from cto_backups.core.payloads import Draft
from cto_backups.core.rows import lost_nearly_all, rows_of
from cto_backups.core.wording import counted
from cto_backups.errors import SourceError


def empty(source: str, draft: Draft, previous: RecoveryPoint | None) -> SourceError:
    """An empty listing is a failure, never a deletion: an unmounted disk or an expired login looks just like one.

    Nor is it a first point: a restore test would prove it at once, and prove nothing.
    """
    if previous is not None and previous.size_bytes > 0:
        what, why = "is empty now", f"the last recovery point, {previous.id}, holds {previous.entry_count} entries"
    else:
        what, why = "is empty", f"not one byte is in it ({counted(draft.entries, 'entry', 'entries')})"
    return SourceError(
        f"Source '{source}' {what}",
        why=why,
        todo="Check that it is mounted and reachable. If it is meant to be empty, take it out of the policy.",
    )


def refuse_emptied(point: RecoveryPoint, previous: RecoveryPoint | None) -> None:
    """The same of a database, whose files never shrink: without its rows it is another one than it was, or was emptied.

    So is one of which next to none are left, by `core.rows`. A server without a table is refused from the first day on.
    Who means it makes a point by hand. Raises SourceError.
    """
    rows = rows_of(point.fingerprint)
    before = rows_of(previous.fingerprint) if previous is not None else None
    counts, meant = point.fingerprint.counts, "to be empty"
    if rows is not None and before is not None and lost_nearly_all(before, rows):
        assert previous is not None
        holds = f"the last recovery point, {previous.id}, holds {_rows(before)}"
        what, why = "is empty now", f"no table has a row; {holds}"
        if rows:
            what, why, meant = "has lost nearly all its rows", f"it holds {_rows(rows)}; {holds}", "to hold so few"
    elif counts.get("databases") is not None and counts.get("tables") == 0:
        what, why = "is empty", f"there is no table on the server ({counted(counts['databases'], 'database')})"
    else:
        return
    raise SourceError(
        f"Source '{point.source}' {what}",
        why=why,
        todo="Check that the policy names the right server and database, and what this user may read. If it is meant "
        f"{meant}: cto.backups backup {point.source} --before 'it was emptied on purpose'",
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
