"""A pooler of connections before a PostgreSQL server of tests: PgBouncer, as Debian has it."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers.postgresql import Server, await_answer

SETTINGS = """\
[databases]
* = host={server.place} port={server.port} user={server.user}
[pgbouncer]
unix_socket_dir = {place}
listen_port = 6432
auth_type = any
auth_file =
pool_mode = {mode}
default_pool_size = 40
logfile = {place}/log
pidfile = {place}/pid
{more}
"""


@contextmanager
def pooler(program: Path, server: Server, mode: str, more: str = "") -> Iterator[Server]:
    """A pooler that lends sessions in this mode; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        place = Path(folder)
        settings = place / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(server=server, place=place, mode=mode, more=more))
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(place, user.pw_uid, user.pw_gid)
            place.chmod(0o755)
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        libraries = [str(found) for found in program.parent.parent.glob("lib/*-linux-gnu")]
        process = subprocess.Popen(
            [program, "-q", settings],
            env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": ":".join(libraries)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity,
        )
        try:
            made = Server(place, server.bin, 6432, server.user)
            await_answer(made, process, place / "log")
            yield made
        finally:
            process.terminate()
            process.wait(30)
