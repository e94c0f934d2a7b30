"""What goes wrong with a catalog on a server, said plainly: what happened, why, and what to do."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors

from cto_backups.catalog import database
from cto_backups.catalog.database import damaged
from cto_backups.catalog.postgresql.address import Address
from cto_backups.catalog.rows import UnreadableError
from cto_backups.errors import BackupsError, BusyError, CatalogAwayError, CatalogError, CatalogFullError

_REFUSED: Final = (
    r"password authentication failed|no password supplied|authentication failed|pg_hba\.conf|role .* does not exist"
    r"|is not permitted to log in"
)
# What a server says while it refuses a login has no code by the time that the driver tells it.
_WHILE_CONNECTING: Final = (
    (
        _REFUSED,
        "the server refused the login",
        "Check the user in the address, and what it logs in with: ~/.pgpass, a service, PGPASSWORD, or what "
        "`catalog_password` names; and the server's pg_hba.conf.",
    ),
    (
        r"database .* does not exist",
        "the server has no such database",
        "Make it, with encoding UTF8, and let this user create in it: see docs/how-to/run-a-fleet.md.",
    ),
    (
        r"certificate|SSL|TLS",
        "the server's identity could not be verified",
        "Give the authority of its certificate as sslrootcert=FILE in the address; its name must be the host's.",
    ),
    (
        r"too many (clients|connections)|remaining connection slots",
        "the server has no connection left",
        "Raise its max_connections, or end sessions that nobody needs.",
    ),
    (
        r"target_session_attrs|session is (read-only|not read-only)|server is (not )?in hot standby",
        "none of the servers in the address can be written to",
        "Promote one of them, or correct the address; it names those that there are.",
    ),
)


def is_lost(error: BaseException) -> bool:
    """Whether the session ended with what it had not committed, or must be begun anew: nothing of it has happened."""
    if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
        return True
    if isinstance(
        error,
        errors.AdminShutdown
        | errors.CrashShutdown
        | errors.CannotConnectNow
        | errors.IdleInTransactionSessionTimeout
        | errors.IdleSessionTimeout,
    ):
        return True
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    if re.search(_REFUSED, str(error)):
        return False  # a server that refuses the login is there, and goes on refusing: the host was revoked, say
    return error.sqlstate is None or error.sqlstate.startswith("08")


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn what the driver and the rows report into what a user can act on."""
    try:
        yield
    except UnreadableError as error:
        raise damaged(address.place, f"unreadable {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(address.place, type(error).__name__) from error
    except psycopg.IntegrityError:
        raise  # a rule of the schema was broken: a defect of this program, not damage
    except psycopg.Error as error:
        raise told(error, address) from None


def told(error: psycopg.Error, address: Address) -> BackupsError:
    """What a user is told of an error of the driver."""
    place, said = address.place, _said(error)
    if isinstance(error, errors.LockNotAvailable):
        return BusyError(
            f"The catalog {place} is in use",
            why=f"another process has held it for {database.BUSY_SECONDS} seconds",
            todo="Wait for that process, or stop it.",
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return CatalogError(
            f"The catalog {place} cannot be written to",
            why="this server is a standby, or is set to be read only",
            todo="Name the primary in the address; or all servers, with target_session_attrs=read-write.",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return CatalogError(
            f"The catalog {place} may not be used by this user",
            why=said,
            todo="Let it own the schema, or create it in the database: see docs/how-to/run-a-fleet.md. A host that was "
            "enrolled adds what is its own; the rest is done where the fleet is administered.",
        )
    if isinstance(error, errors.DiskFull):
        return CatalogFullError(
            f"The catalog {place} cannot take more",
            why=said,
            todo="Make room on the server's disk. What did not fit has not happened, and is done when there is room.",
        )
    if isinstance(error, errors.OutOfMemory | errors.ConfigurationLimitExceeded):
        return CatalogError(
            f"The catalog {place} cannot take more",
            why=said,
            todo="Let the server have more memory. What did not fit has not happened.",
        )
    if isinstance(
        error, errors.UndefinedTable | errors.UndefinedColumn | errors.UndefinedObject | psycopg.DataError
    ) or (error.sqlstate or "").startswith("XX"):
        return damaged(place, said)
    if error.sqlstate is not None and not is_lost(error):
        return CatalogError(f"The catalog {place} cannot be used", why=said, todo="See the server's log.")
    for pattern, why, todo in _WHILE_CONNECTING:
        if re.search(pattern, said):
            return CatalogError(f"The catalog {place} cannot be opened", why=f"{why}: {said}", todo=todo)
    return CatalogAwayError(
        f"The catalog {place} cannot be reached",
        why=said,
        todo="Start the server, or wait for it; check the address and the network. What is due then is done then.",
    )


def _said(error: psycopg.Error) -> str:
    """What the server or libpq said, in one line: of several attempts the last one, without advice for programmers."""
    diagnosed = error.diag.message_primary
    if diagnosed:
        return " ".join(diagnosed.split())
    text = str(error).split("\nMultiple connection attempts failed", 1)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:2]).removeprefix("connection failed: ") or type(error).__name__
