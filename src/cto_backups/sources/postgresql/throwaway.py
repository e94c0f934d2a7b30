"""A server for one restore test: in a private folder, reached by a socket there alone, gone in the end."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from cto_backups import process
from cto_backups.errors import VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.disposable import Place, disposable, serving
from cto_backups.sources.postgresql.connection import Address, Tools

_START_SECONDS: Final = 120.0
# It is thrown away: nothing needs to survive a crash, and nobody needs much of this machine.
SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "20",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "autovacuum": "off",
    "max_parallel_workers_per_gather": "1",
    "logging_collector": "off",
    "unix_socket_permissions": "0777",  # its folder is private
}
"""What each of our servers is started with."""


@contextmanager
def throwaway(tools: Tools, bootstrap: str, *, scratch: str = "") -> Iterator[Address]:
    """A new, empty server of this version, whose first superuser is called `bootstrap`. Raises VerificationError."""
    with disposable("pg", scratch=scratch) as place:
        options = ["-U", bootstrap, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        try:
            process.run(
                place.command(tools["initdb"], "-D", place.data / "data", *options),
                environment=place.environment(),
                timeout_seconds=_START_SECONDS,
                folder=place.data,
            )
        except ToolError as error:
            raise _no_server(str(error)) from error
        settings = {**SETTINGS, "unix_socket_directories": str(place.socket)}
        words = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with serving(place, tools["postgres"], "-D", place.data / "data", "-F", *words) as server:
            address = Address(host=str(place.socket), user=bootstrap)
            _wait(address, server, place)
            yield address


def _wait(address: Address, server: "subprocess.Popen[bytes]", place: Place) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            address.connect("postgres").close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > until:
                raise _no_server(place.last_words() or str(error)) from error
        time.sleep(0.05)


def _no_server(why: str) -> VerificationError:
    return VerificationError(
        "no throwaway server of PostgreSQL could be started",
        why=why,
        todo="see that initdb runs on this machine, and that the folder for temporary files has room",
    )
