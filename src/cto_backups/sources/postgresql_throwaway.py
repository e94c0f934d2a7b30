"""A server for one restore test: in a private folder, reached by a socket there alone, gone in the end.

It dies with the process that started it, whatever happens to that one. PostgreSQL refuses to run as root: then an
ordinary user runs it.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from cto_backups import process
from cto_backups.errors import VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql_connection import Address, Tools

_PREFIX: Final = "cto-backups-pg"
_START_SECONDS: Final = 120.0
_LOG_LINES: Final = 5
# It is thrown away: nothing needs to survive a crash, and nobody needs much of this machine.
_SETTINGS: Final = {
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
    "max_parallel_workers_per_gather": "0",
    "logging_collector": "off",
    "unix_socket_permissions": "0777",  # its folder is private
}


@contextmanager
def throwaway(tools: Tools, bootstrap: str, *, scratch: str = "") -> Iterator[Address]:
    """A new, empty server of this version, whose first superuser is called `bootstrap`. Raises VerificationError."""
    _sweep(scratch)
    place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}.{os.getpid()}.", dir=scratch or None))
    # Apart from the data: a socket's path may have 107 bytes and no more.
    socket = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}.{os.getpid()}."))
    server: subprocess.Popen[bytes] | None = None
    try:
        user = _somebody_else() if os.geteuid() == 0 else None
        if user is not None:
            for folder in (place, socket):
                os.chown(folder, user.pw_uid, user.pw_gid)
        data = place / "data"
        try:
            process.run(
                [
                    *_as(user),
                    tools["initdb"],
                    "-D",
                    data,
                    "-U",
                    bootstrap,
                    "-A",
                    "trust",
                    "-E",
                    "UTF8",
                    "--locale=C",
                    "--no-sync",
                    "--no-instructions",
                ],
                environment=_environment(place),
                timeout_seconds=_START_SECONDS,
                folder=place,
            )
            server = _started(tools, place, socket, user)
        except ToolError as error:
            raise _no_server(str(error)) from error
        address = Address(host=str(socket), user=bootstrap)
        _wait(address, server, place)
        yield address
    finally:
        if server is not None:
            process.end(server)
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(socket, ignore_errors=True)


def _started(tools: Tools, place: Path, socket: Path, user: "pwd.struct_passwd | None") -> "subprocess.Popen[bytes]":
    settings = {**_SETTINGS, "unix_socket_directories": str(socket)}
    command = [*_as(user), tools["postgres"], "-D", str(place / "data"), "-F"]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (place / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(place),
            cwd=place,
            start_new_session=True,
        )


def _wait(address: Address, server: "subprocess.Popen[bytes]", place: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            address.connect("postgres").close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > until:
                said = (place / "log").read_text("utf-8", "replace").strip().splitlines()[-_LOG_LINES:]
                raise _no_server("; ".join(said) or str(error)) from error
        time.sleep(0.05)


def _as(user: "pwd.struct_passwd | None") -> Sequence[str]:
    """Run as this user, and die with whoever waits for it: a server that nobody stops would stay for ever."""
    identity = [] if user is None else [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *identity, "--pdeathsig=QUIT", "--"] if shutil.which("setpriv") else []


def _somebody_else() -> "pwd.struct_passwd":
    for name in ("nobody", "postgres"):  # the latter may log in to this machine's own servers
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise _no_server("it does not run as root, and there is neither a user postgres nor a user nobody")


def _environment(place: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(place), "LC_ALL": "C", "TZ": "UTC"}


def _sweep(scratch: str) -> None:
    """Remove what killed processes left; their servers died with them."""
    for folder in {tempfile.gettempdir(), scratch or tempfile.gettempdir()}:
        for left in Path(folder).glob(f"{_PREFIX}.*.*"):
            pid = left.name.split(".")[1]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)


def _no_server(why: str) -> VerificationError:
    return VerificationError(
        "no throwaway server of PostgreSQL could be started",
        why=why,
        todo="see that initdb runs on this machine, and that the folder for temporary files has room",
    )
