"""A PostgreSQL server of tests whose log goes to a repository of pgBackRest, and that repository."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import postgresql
from servers.postgresql import Server

STANZA = "main"
_SETTINGS = """
[global]
{repositories}
log-path={place}/log
lock-path={place}/lock
spool-path={place}/spool
log-level-file=off
job-retry=0
start-fast=y
compress-type=zst
[main]
pg1-path={place}/data
pg1-socket-path={place}
"""
SECRET = "passphrase of tests"


@dataclass(frozen=True)
class Kept:
    """A server, and where pgBackRest keeps it: `repository`, encrypted, as the settings in `config` say."""

    server: Server

    @property
    def repository(self) -> Path:
        return self.server.place / "repository"

    @property
    def config(self) -> Path:
        return self.server.place / "pgbackrest.conf"

    def run(self, *words: str) -> str:
        """What pgBackRest prints when the server's user runs it."""
        user = {} if os.geteuid() else {"user": pwd.getpwnam("postgres").pw_uid, "extra_groups": []}
        done = subprocess.run(
            ["pgbackrest", f"--config={self.config}", f"--stanza={STANZA}", *words],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(self.server.place)},
            **user,  # type: ignore[call-overload]
        )
        return str(done.stdout)

    def copy(self, place: Path, *, of: Path | None = None) -> Path:
        """A copy of the repository, that may be damaged; returns it."""
        shutil.copytree(of or self.repository, place)
        return place

    def settings(self, file: Path, *repositories: Path) -> Path:
        """Write settings that name these repositories; returns the file."""
        file.write_text(_written(self.server.place, *repositories))
        return file


def _written(place: Path, *repositories: Path) -> str:
    lines = [
        f"repo{number}-path={path}\nrepo{number}-cipher-type=aes-256-cbc\nrepo{number}-cipher-pass={SECRET}\n"
        f"repo{number}-retention-full=9\nrepo{number}-bundle=y"
        for number, path in enumerate(repositories, start=1)
    ]
    return _SETTINGS.format(repositories="\n".join(lines), place=place)


@contextmanager
def archiving(bin: Path, **settings: str) -> Iterator[Kept]:
    """A new server with a database with a bit of everything, a tablespace, and one full backup of it."""
    # It runs in the folder of the data: where that will lie is not known before.
    command = "pgbackrest --config=$PWD/../pgbackrest.conf --stanza=main archive-push %p"
    with postgresql.server(bin, **{"archive_mode": "on", "archive_command": command, **settings}) as server:
        kept = Kept(server)
        kept.settings(kept.config, kept.repository)
        (server.place / "space").mkdir()
        postgresql.give(server.place)
        kept.run("stanza-create")
        postgresql.fill(server)
        server.do(f"CREATE TABLESPACE apart LOCATION '{server.place}/space'")
        server.do("CREATE TABLE kept TABLESPACE apart AS SELECT n, 'row ' || n AS word FROM generate_series(1, 500) n")
        _allow(server)
        kept.run("backup", "--type=full")
        yield kept


def _allow(server: Server) -> None:
    """A role that may do what docs/how-to/test-pgbackrest.md asks for, and no more."""
    server.do(
        "CREATE ROLE keeper LOGIN REPLICATION BYPASSRLS",
        "GRANT pg_read_all_data TO keeper",
        "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO keeper",
    )
    server.do(
        "GRANT SELECT ON pg_largeobject, pg_largeobject_metadata TO keeper",
        """DO $$ DECLARE number oid; BEGIN FOR number IN SELECT oid FROM pg_largeobject_metadata LOOP
            EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO keeper', number); END LOOP; END $$""",
        database="my shop",
    )
