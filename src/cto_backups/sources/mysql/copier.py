"""The programs that copy a server's files while it works: MariaDB's mariadb-backup and Percona's xtrabackup, for MySQL.

They have one origin, and differ in words: how they are called, what they leave behind, and what they need of a server.
What they ask of it meanwhile is in `mysql_standstill`. xtrabackup is written here by its documentation and not
exercised: https://docs.percona.com/percona-xtrabackup/8.0/
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cto_backups.sources.mysql.connection import Version

SETTINGS: Final = "backup-my.cnf"


@dataclass(frozen=True)
class Copier:
    """One of them: its `name`, the `oldest` series whose files it is used for, and the `rights` that its user needs.

    `log` is the file that is written all the while. `elsewhere` gives names of tables that lie outside of the data
    directory, `encrypted` how many are, and `encrypting` the settings that say so of the rest. `files` are settings
    without which the files are not those that a server looks for.
    """

    name: str
    oldest: tuple[int, int]
    rights: Sequence[str]
    log: bytes
    elsewhere: str
    encrypted: str
    encrypting: Sequence[str]
    files: Sequence[str]
    backing_up: Sequence[str]
    preparing: Sequence[str]
    prepared: "re.Pattern[bytes]"
    """What its checkpoints say of files on which a server starts."""
    package: str
    """Where to have it from, for people."""

    def backup(self, program: str, options: Path, folder: Path, lock_seconds: float) -> list[str]:
        """The command that writes a stream; `options` is an option file, and `folder` has room for small files."""
        given = {"options": options, "folder": folder, "lock": max(1, round(lock_seconds))}
        return [program, *(word.format(**given) for word in self.backing_up)]

    def prepare(self, program: str, data: Path) -> list[str]:
        """The command that carries out the log which came with the files."""
        return [program, *(word.format(settings=data / SETTINGS, data=data) for word in self.preparing)]


MARIADB_BACKUP: Final = Copier(
    name="mariadb-backup",
    oldest=(10, 4),  # it has the statements of the standstill
    rights=("RELOAD", "PROCESS", "LOCK TABLES", "BINLOG MONITOR"),
    log=b"ib_logfile0",
    elsewhere=r"""
        SELECT NAME FROM information_schema.INNODB_SYS_TABLESPACES
        WHERE NAME LIKE '%/%' AND FILENAME NOT LIKE './%' ORDER BY NAME
    """,
    encrypted="SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE ENCRYPTION_SCHEME <> 0",
    encrypting=("innodb_encrypt_log", "aria_encrypt_tables"),
    files=("innodb_data_file_path", "innodb_undo_tablespaces"),
    backing_up=(
        *("--defaults-file={options}", "--backup", "--stream=mbstream", "--target-dir={folder}", "--tmpdir={folder}"),
        *("--parallel=1", "--startup-wait-timeout={lock}"),
    ),
    preparing=("--defaults-file={settings}", "--prepare", "--target-dir={data}"),
    prepared=re.compile(rb"^backup_type = log-applied$", re.MULTILINE),
    package="Debian: apt-get install mariadb-backup",
)
XTRABACKUP: Final = Copier(
    name="xtrabackup",
    oldest=(8, 0),  # it has LOCK INSTANCE FOR BACKUP and performance_schema.log_status
    rights=("RELOAD", "PROCESS", "LOCK TABLES", "REPLICATION CLIENT", "BACKUP_ADMIN"),
    log=b"xtrabackup_logfile",
    elsewhere=r"""
        SELECT TABLESPACE_NAME FROM information_schema.FILES WHERE ENGINE = 'InnoDB'
        AND FILE_NAME LIKE '%/%' AND FILE_NAME NOT LIKE './%' ORDER BY TABLESPACE_NAME
    """,
    encrypted="SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y'",
    encrypting=("innodb_redo_log_encrypt", "innodb_undo_log_encrypt"),
    files=("innodb_data_file_path",),
    backing_up=(
        *("--defaults-file={options}", "--backup", "--stream=xbstream", "--target-dir={folder}", "--tmpdir={folder}"),
        *("--parallel=1", "--backup-lock-timeout={lock}"),
        "--loose-no-version-check",  # it asks its makers whether there is a newer one
    ),
    preparing=("--no-defaults", "--prepare", "--target-dir={data}"),
    prepared=re.compile(rb"^backup_type = full-prepared$", re.MULTILINE),
    package="from Percona: percona-xtrabackup",
)


def copier_of(version: Version) -> Copier:
    """The program for servers of this flavour."""
    return MARIADB_BACKUP if version.is_mariadb else XTRABACKUP
