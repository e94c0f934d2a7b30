"""A PostgreSQL server of tests whose backups and log Barman keeps, or WAL-G, or both."""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import postgresql
from servers.postgresql import Server

NAME = "main"
_BARMAN = """
[barman]
barman_user = {user}
barman_home = {place}/barman
barman_lock_directory = {place}/lock
log_file = {place}/barman.log
[main]
description = of tests
conninfo = host={place} user=postgres dbname=postgres
streaming_conninfo = host={place} user=postgres
backup_method = postgres
archiver = on
path_prefix = {bin}
immediate_checkpoint = true
compression = gzip
post_recovery_script = touch {place}/hooked
"""
# The oldest release that can be had calls functions that PostgreSQL 15 has under other names.
_FORMER = (
    "CREATE FUNCTION pg_start_backup(text, boolean, boolean) RETURNS pg_lsn LANGUAGE sql"
    " AS 'SELECT pg_backup_start($1, $2)'",
    "CREATE FUNCTION pg_stop_backup(boolean, OUT lsn pg_lsn, OUT labelfile text, OUT spcmapfile text)"
    " RETURNS SETOF record LANGUAGE sql AS 'SELECT * FROM pg_backup_stop()'",
)


@dataclass(frozen=True)
class Kept:
    """A server, and where it is kept: below its place, in `barman`, and in `wal-g`, which is encrypted with `key`."""

    server: Server
    wal_g: Path | None = None
    key: Path | None = None

    @property
    def barman_config(self) -> Path:
        return self.server.place / "barman.conf"

    @property
    def wal_g_config(self) -> Path:
        return self.server.place / "wal-g.json"

    def barman(self, *words: str) -> None:
        """Have the server's user run Barman."""
        self._run("barman", "-c", str(self.barman_config), *words)

    def push(self) -> None:
        """Have the server's user back it up with WAL-G."""
        assert self.wal_g is not None
        data = str(self.server.place / "data")
        self._run(str(self.wal_g), "--config", str(self.wal_g_config), "backup-push", data)

    def _run(self, *command: str) -> None:
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": pwd.getpwnam("postgres").pw_uid, "extra_groups": []}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(self.server.place), "PGHOST": str(self.server.place)},
            **user,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def copy(self, program: str, place: Path) -> Path:
        """A copy of what a program keeps, which may be damaged; returns settings that name it."""
        shutil.copytree(self.server.place / program, place / program)
        if program == "barman":
            file = place / "barman.conf"
            written = self.barman_config.read_text()
            file.write_text(written.replace(f"= {self.server.place}/barman\n", f"= {place}/barman\n"))
            return file
        return self.wal_g_settings(place / "wal-g.json", place / "wal-g")

    def wal_g_settings(self, file: Path, storage: Path, *, key: bool = True) -> Path:
        """Write settings of WAL-G that name a storage; returns the file."""
        # With more at once it tries what is damaged again and again, and waits for minutes between.
        given = {"WALG_FILE_PREFIX": str(storage), "PGUSER": "postgres", "WALG_DOWNLOAD_CONCURRENCY": "1"}
        if self.key is not None and key:
            given["WALG_PGP_KEY_PATH"] = str(self.key)
        file.write_text(json.dumps(given))
        return file


@contextmanager
def keeping(bin: Path, *, wal_g: Path | None = None, key: bytes | None = None, **settings: str) -> Iterator[Kept]:
    """A new server with some rows, a tablespace, and a backup of it by Barman; with `wal_g`, by that instead."""
    # It runs in the folder of the data: where that will lie is not known before.
    command = "cp %p ../barman/main/incoming/%f && barman -c $PWD/../barman.conf archive-wal main"
    if wal_g is not None:
        command = f"HOME=$PWD/.. {wal_g} --config $PWD/../wal-g.json wal-push $PWD/%p"
    given: Mapping[str, str] = {"archive_mode": "on", "archive_command": f"ls ../ready && {command}", **settings}
    with postgresql.server(bin, **given) as server:
        place = server.place
        kept = Kept(server, wal_g, place / "key" if key else None)
        if wal_g is None:
            user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
            kept.barman_config.write_text(_BARMAN.format(place=place, bin=bin, user=user.pw_name))
            (place / "barman" / NAME / "incoming").mkdir(parents=True)
            (place / "lock").mkdir()
        else:
            (place / "wal-g").mkdir()
            if kept.key is not None and key is not None:
                kept.key.write_bytes(key)
            kept.wal_g_settings(kept.wal_g_config, place / "wal-g")
            server.do(*_FORMER)
        (place / "space").mkdir()
        (place / "ready").touch()
        postgresql.give(place)
        server.do(f"CREATE TABLESPACE apart LOCATION '{place}/space'")
        server.do("CREATE TABLE kept TABLESPACE apart AS SELECT n, 'row ' || n AS word FROM generate_series(1, 500) n")
        server.do("CREATE TABLE twins (word text)", "CREATE INDEX ON kept (word)")
        server.do(
            "CREATE ROLE keeper LOGIN REPLICATION BYPASSRLS",
            "GRANT pg_read_all_data TO keeper",
            "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO keeper",
        )
        if wal_g is None:
            kept.barman("switch-wal", "--archive", "--force", NAME)  # or else it does not begin
            kept.barman("backup", "--wait", NAME)
        else:
            kept.push()
        yield kept
