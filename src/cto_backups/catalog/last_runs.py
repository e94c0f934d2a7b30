"""How the last run of each action went, of each source or vault, and how often in a row it has failed."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from cto_backups.catalog.database import Connection
from cto_backups.catalog.rows import run_from_row
from cto_backups.core.model import ActionKind, Outcome, Run
from cto_backups.core.retries import CRASH

_ASKED = "asked (name) AS (SELECT value FROM json_each(:asked))"
_ACTIONS = "actions (action) AS (VALUES " + ", ".join(f"('{kind.value}')" for kind in ActionKind) + ")"

# As a range, so that an index with the action in it gives the order: else PostgreSQL may walk all runs by their ids.
_THIS_ACTION = "action BETWEEN actions.action AND actions.action"
Key = Literal["source", "vault"]


def of(connection: Connection, names: Sequence[str], key: Key) -> dict[str, dict[ActionKind, Run]]:
    """The last run of each action kind of each source (or vault)."""
    statement = f"""
        WITH {_ASKED}, {_ACTIONS}
        SELECT runs.* FROM asked CROSS JOIN actions JOIN runs ON runs.id = (
            SELECT id FROM runs WHERE {key} = asked.name AND {_THIS_ACTION} ORDER BY action DESC, id DESC LIMIT 1)
        """
    found: dict[str, dict[ActionKind, Run]] = defaultdict(dict)
    for row in connection.execute(statement, {"asked": json.dumps(list(names))}):
        run = run_from_row(row)
        found[row[key]][run.action] = run
    crashed = [name for name, runs in found.items() if any(run.error_code == CRASH for run in runs.values())]
    for name, crashes in failures(connection, crashed, key, crashes=True).items() if crashed else ():
        for action, number in crashes.items():
            found[name][action] = replace(found[name][action], crashes=number)
    return found


def failures(
    connection: Connection, names: Sequence[str], key: Key, *, crashes: bool = False
) -> dict[str, dict[ActionKind, int]]:
    """How often in a row each action of each source (or vault) failed: since the last run that went well.

    With `crashes`, only what its process ended of in the middle.
    """
    only = f"AND bad.error_code = '{CRASH}'" if crashes else ""
    good = ", ".join(f"'{each.value}'" for each in (Outcome.SUCCEEDED, Outcome.UNCHANGED, Outcome.INCOMPLETE))
    statement = f"""
        WITH {_ASKED}, {_ACTIONS}
        SELECT asked.name, actions.action, (
            SELECT count(*) FROM runs bad
            WHERE bad.{key} = asked.name AND bad.action = actions.action AND bad.outcome = '{Outcome.FAILED.value}'
                {only} AND bad.id > coalesce((
                    SELECT id FROM runs WHERE {key} = asked.name AND {_THIS_ACTION} AND outcome IN ({good})
                    ORDER BY action DESC, id DESC LIMIT 1), 0))
        FROM asked CROSS JOIN actions
        """
    found: dict[str, dict[ActionKind, int]] = defaultdict(dict)
    for name, action, number in connection.execute(statement, {"asked": json.dumps(list(names))}):
        if number:
            found[name][ActionKind(action)] = number
    return found
