"""A server for one restore test: in a private folder, reached by a socket there alone, gone in the end."""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import pymysql

from cto_backups import process
from cto_backups.errors import VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.disposable import Place, disposable, serving
from cto_backups.sources.mysql_connection import Address, Session, Tools, do, rows
from cto_backups.sources.mysql_users import accounts, names

KEEPER: Final = "cto.backups.test"
"""Who the restore test is on a throwaway server: nobody whom the restored one has."""
_START_SECONDS: Final = 120.0
_ZONES: Final = "/usr/share/zoneinfo"
_PLAIN: Final = {"LC_ALL": "C", "PATH": os.defpath}
# It is thrown away: nothing needs to survive a crash, and nobody needs much of this machine.
_SETTINGS: Final = {
    "skip-networking": "",
    "skip-log-bin": "",
    "loose-debug-no-sync": "",  # MariaDB's
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0",
    "innodb-buffer-pool-size": "128M",
    "loose-innodb-log-file-size": "64M",
    "loose-innodb-fast-shutdown": "2",
    "event-scheduler": "OFF",  # events are made, and not carried out
    "performance-schema": "OFF",
    "max-allowed-packet": "1G",
    "max-connections": "20",
    "local-infile": "0",
    "symbolic-links": "0",  # else a table would be made where the server's own lies: outside of this place
    "loose-mysqlx": "OFF",
    "loose-plugin-maturity": "experimental",
}
SAME: Final = ("lower_case_table_names", "innodb_page_size", "character_set_server", "collation_server")
"""Settings in which a throwaway server is as the one that was dumped: names, longest rows and defaults hang on them."""


@contextmanager
def throwaway(
    tools: Tools,
    settings: Mapping[str, str],
    plugins: Mapping[str, str],
    *,
    zones: Sequence[str] = (),
    scratch: str = "",
) -> Iterator[Address]:
    """A new, empty server with these settings, on which there is nobody but us. Raises VerificationError, ToolError.

    `plugins` are libraries by the names of plugins; `zones` are time zones that it must know by their names. Tables
    that name keys of encryption are encrypted by new ones, which are gone with it.
    """
    with disposable("mysql", scratch=scratch) as place:
        same = [f"--{name.replace('_', '-')}={settings[name]}" for name in SAME if name in settings]
        # Each program that begins removes temporary tables from there, and must not find those of servers in use.
        folders = [f"--datadir={place.data / 'data'}", f"--tmpdir={place.data}"]
        _install(tools, place, folders, same)
        socket = place.socket / "s"
        files = [*folders, f"--socket={socket}", f"--pid-file={place.socket / 'pid'}"]
        words = [f"--{name}={value}" if value else f"--{name}" for name, value in _SETTINGS.items()]
        words += _keys(place, settings.get("encryption_keys", ""))
        with serving(place, tools["server"], "--no-defaults", *files, *words, *same) as server:
            first = Address(host=str(socket), user="root")
            session = _connected(first, server, place)
            try:
                _alone(session, tools)
            finally:
                session.close()
            address = Address(host=str(socket), user=KEEPER)
            _prepare(address, tools, plugins, zones)
            yield address


def _keys(place: Place, numbers: str) -> list[str]:
    """The words that make a server know keys of these numbers."""
    if not numbers:
        return []
    file = place.data / "keys"
    file.write_text("".join(f"{number};{secrets.token_hex(32)}\n" for number in numbers.split(",")), encoding="ascii")
    file.chmod(0o600)
    place.own(file)
    return ["--plugin-load-add=file_key_management", f"--file-key-management-filename={file}"]


def _install(tools: Tools, place: Place, folders: list[str], same: list[str]) -> None:
    if tools.version.is_mariadb:
        words = ["--auth-root-authentication-method=normal", "--skip-test-db", "--loose-innodb-log-file-size=64M"]
        words.append("--loose-debug-no-sync")
        command = [tools["install"], "--no-defaults", *folders, *words, *same]
    else:
        command = [tools["server"], "--no-defaults", "--initialize-insecure", *folders, *same]
    environment = dict(place.environment())
    environment["PATH"] += ":/usr/sbin:/usr/libexec"
    try:
        process.run(place.command(*command), environment=environment, timeout_seconds=_START_SECONDS, folder=place.data)
    except ToolError as error:
        raise _no_server(str(error)) from error


def _connected(address: Address, server: "subprocess.Popen[bytes]", place: Place) -> Session:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            return address.connect()
        except pymysql.MySQLError as error:
            if server.poll() is not None or time.monotonic() > until:
                raise _no_server(place.last_words() or str(error)) from error
        time.sleep(0.05)


def _alone(session: Session, tools: Tools) -> None:
    """Let us in, and nobody else: those who were there on the server that was dumped come with the dump."""
    me = f"'{KEEPER}'@'localhost'"
    do(session, f"CREATE USER {me}")
    do(session, f"GRANT ALL PRIVILEGES ON *.* TO {me} WITH GRANT OPTION")
    do(session, f"GRANT PROXY ON ''@'%' TO {me} WITH GRANT OPTION")
    for name in sorted(names(accounts(session, tools.version, {}, without=[KEEPER])) - {"PUBLIC"}):
        do(session, f"DROP USER {name}")


def _prepare(address: Address, tools: Tools, plugins: Mapping[str, str], zones: Sequence[str]) -> None:
    session = address.connect()
    try:
        there = {str(name) for (name,) in rows(session, "SELECT PLUGIN_NAME FROM information_schema.PLUGINS")}
        for name, library in plugins.items():
            if name not in there:
                do(session, f"INSTALL PLUGIN `{name}` SONAME '{library}'")
        for zone in zones:
            script = process.run([tools["zones"], f"{_ZONES}/{zone}", zone], environment=_PLAIN, timeout_seconds=60)
            client = [tools["client"], "--no-defaults", f"--socket={address.host}", f"--user={address.user}", "mysql"]
            process.run(client, environment=_PLAIN, timeout_seconds=60, given=script)
    finally:
        session.close()


def _no_server(why: str) -> VerificationError:
    return VerificationError(
        "no throwaway server of MySQL or MariaDB could be started",
        why=why,
        todo="see that it runs on this machine, and that the folder for temporary files has room",
    )
