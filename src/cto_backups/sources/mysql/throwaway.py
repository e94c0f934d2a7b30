"""A server for one restore test: in a private folder, reached by a socket there alone, gone in the end."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pymysql

from cto_backups import process
from cto_backups.errors import VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.disposable import Place, disposable, serving
from cto_backups.sources.mysql.connection import Address, Session, Tools, do, rows
from cto_backups.sources.mysql.copier import copier_of
from cto_backups.sources.mysql.users import accounts, names

KEEPER: Final = "cto.backups.test"
"""Who the restore test is on a throwaway server: nobody whom the restored one has."""
_ME: Final = f"'{KEEPER}'@'localhost'"
_LETTING_US_IN: Final = (
    f"CREATE USER {_ME}",
    f"GRANT ALL PRIVILEGES ON *.* TO {_ME} WITH GRANT OPTION",
    f"GRANT PROXY ON ''@'%' TO {_ME} WITH GRANT OPTION",
)
_START_SECONDS: Final = 120.0
_LEAST_POOL: Final = 128 << 20
_LARGEST_POOL: Final = 2 << 30
_ZONES: Final = "/usr/share/zoneinfo"
_PLAIN: Final = {"LC_ALL": "C", "PATH": os.defpath}
# It is thrown away: nothing needs to survive a crash, and nobody needs much of this machine.
_SETTINGS: Final = {
    "skip-networking": "",
    "skip-log-bin": "",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0",
    "loose-innodb-log-file-size": "64M",
    "loose-innodb-fast-shutdown": "2",
    "event-scheduler": "OFF",  # events are made, and not carried out
    "performance-schema": "OFF",
    "max-allowed-packet": "1G",
    "max-connections": "20",
    "local-infile": "0",
    # Else a table would be made where the server's own lies: outside of this place. Newest MySQL never does that.
    "loose-symbolic-links": "0",
}
_SETTINGS_OF: Final = {
    "mariadb": {"loose-debug-no-sync": "", "plugin-maturity": "experimental"},
    "mysql": {
        "innodb-flush-method": "nosync",
        "secure-file-priv": "NULL",  # else some look for a folder that only installing a server makes
        "loose-mysqlx": "OFF",
        "loose-persisted-globals-load": "OFF",  # what somebody set on the server for ever lies among its files
    },
}
SAME: Final = ("lower_case_table_names", "innodb_page_size", "character_set_server", "collation_server")
"""Settings in which a throwaway server is as the one that was dumped: names, longest rows and defaults hang on them."""
# Rules for passwords would keep us out, who have none; what was installed on the server is on its files as well.
_LENIENT: Final = (
    *("--loose-skip-slave-start", "--loose-skip-replica-start"),
    *("--loose-simple-password-check=OFF", "--loose-cracklib-password-check=OFF", "--loose-validate-password=OFF"),
)


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
    # Told to quit, a server may go on for minutes, or for ever: what it has is thrown away.
    with disposable("mysql", scratch=scratch, ends_by="KILL") as place:
        same = _words({name: settings[name] for name in SAME if name in settings})
        _install(tools, place, _folders(place), same)
        with _serving(place, tools, same, _keys(place, settings.get("encryption_keys", ""))) as (server, socket):
            session = _connected(Address(host=socket, user="root"), server, place)
            try:
                _alone(session, tools)
            finally:
                session.close()
            address = Address(host=socket, user=KEEPER)
            _prepare(address, tools, plugins, zones)
            yield address


@contextmanager
def brought_up(
    tools: Tools, data: Path, settings: Mapping[str, str], plugins: Mapping[str, str], *, scratch: str = ""
) -> Iterator[Address]:
    """A server on these files, which are moved to where it may read them; we are on it beside who was there.

    Raises VerificationError, ToolError.
    """
    with disposable("mysql", scratch=scratch, ends_by="KILL") as place:
        shutil.move(data, place.data / "data")
        first = place.data / "first.sql"
        first.write_text("".join(f"{statement};\n" for statement in _LETTING_US_IN), encoding="ascii")
        for folder, folders, files in os.walk(place.data):
            place.own(*(Path(folder, name) for name in (*folders, *files)))
        same = _words({name: settings[name] for name in (*SAME, *copier_of(tools.version).files) if name in settings})
        with _serving(place, tools, same, [f"--init-file={first}", *_LENIENT]) as (server, socket):
            address = Address(host=socket, user=KEEPER)
            _connected(address, server, place).close()
            _prepare(address, tools, plugins, ())
            yield address


def _words(settings: Mapping[str, str]) -> list[str]:
    """Settings as a program's arguments."""
    return [f"--{name.replace('_', '-')}={value}" if value else f"--{name}" for name, value in settings.items()]


def _folders(place: Place) -> list[str]:
    # Each program that begins removes temporary tables from there, and must not find those of servers in use.
    return [f"--datadir={place.data / 'data'}", f"--tmpdir={place.data}"]


@contextmanager
def _serving(
    place: Place, tools: Tools, same: Sequence[str], more: Sequence[str]
) -> "Iterator[tuple[subprocess.Popen[bytes], str]]":
    """A server on the files in this place, and its socket."""
    socket = str(place.socket / "s")
    files = [*_folders(place), f"--socket={socket}", f"--pid-file={place.socket / 'pid'}"]
    pool = {"innodb-buffer-pool-size": str(_pool_bytes())}
    given = {**_SETTINGS, **pool, **_SETTINGS_OF[tools.version.flavour]}
    with serving(place, tools["server"], "--no-defaults", *files, *_words(given), *more, *same) as server:
        yield server, socket


def _pool_bytes() -> int:
    """An eighth of the memory of this machine, within bounds; a server takes of it only what its tables fill.

    CHECK TABLE … EXTENDED looks each row up in each index: where these do not fit, it reads them again and again.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(memory // 8, _LEAST_POOL), _LARGEST_POOL)


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
        own = _words(_SETTINGS_OF[tools.version.flavour])
        command = [tools["server"], "--no-defaults", "--initialize-insecure", *folders, *own, *same]
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
    for statement in _LETTING_US_IN:
        do(session, statement)
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
