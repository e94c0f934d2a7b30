"""Statements that a process which was killed left to a server: it goes on with them, since it does not look who waits.

Each long statement says whose it is: which machine, which of its namespaces of processes, which process, and when that
was started. So nobody takes another's for his own, nor a process that lives for one that does not.
"""

import os
import re
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import pymysql

from cto_backups.process import started
from cto_backups.sources.mysql.connection import Session, do, rows

_MACHINE: Final = Path("/etc/machine-id")
_MARK: Final = re.compile(r"/\* cto\.backups ([0-9a-f]{16}) (\d+) (\d+) \*/")
_STATEMENTS: Final = """
    SELECT ID, INFO FROM information_schema.PROCESSLIST
    WHERE ID <> CONNECTION_ID() AND USER = SUBSTRING_INDEX(USER(), '@', 1) AND INFO LIKE '%/* cto.backups %'
"""


def mark() -> str:
    """Whose a statement is, as a comment in it; nothing where no process can be told from another."""
    here, pid = _place(), os.getpid()
    return f"/* cto.backups {here} {pid} {started(pid)} */ " if here else ""


def end_left(session: Session) -> None:
    """End what processes of this machine that are no more left to the server. Raises pymysql.MySQLError."""
    here = _place()
    if not here:
        return
    for number, statement in rows(session, _STATEMENTS):
        told = _MARK.search(str(statement))
        if told is not None and told[1] == here and started(int(told[2])) != int(told[3]):
            with suppress(pymysql.MySQLError):  # it came to its end meanwhile
                do(session, f"KILL {int(number)}")


@cache
def _place() -> str:
    """This machine, and the namespace in which this process has its number."""
    try:
        machine = _MACHINE.read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return sha256(f"{machine}\0{namespace}".encode()).hexdigest()[:16] if machine else ""
