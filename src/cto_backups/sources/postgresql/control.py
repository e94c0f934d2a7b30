"""What a server's control file tells: how its files are made, and what it had room for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cto_backups import process
from cto_backups.process import ToolError
from cto_backups.sources.disposable import Place
from cto_backups.sources.postgresql.connection import Tools

_CONTROL: Final = re.compile(r"^(.+?):\s+(\d+)$", re.MULTILINE)
# What a server must have room for that recovers what another one did; by its own control file.
_ROOM: Final = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}


def controlled(tools: Tools, place: Place, data: Path) -> dict[str, str]:
    """The numbers in a server's control file."""
    command: Sequence[str] = place.command(tools["pg_controldata"], data)
    told = process.run(command, environment=place.environment(), timeout_seconds=60, folder=place.data)
    return {name.strip(): value for name, value in _CONTROL.findall(told.decode("utf-8", "replace"))}


def room(tools: Tools, place: Place, data: Path) -> dict[str, str]:
    """The settings of a server that recovers what this one did. Raises ToolError."""
    found = controlled(tools, place, data)
    try:
        return {setting: found[name] for setting, name in _ROOM.items()}
    except KeyError as error:
        raise ToolError("pg_controldata", 0, f"it does not tell {error.args[0]}") from None
