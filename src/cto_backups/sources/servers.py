"""What holds data on this machine beside files: database servers on local sockets, and volumes of containers.

Only what can be seen without credentials. A server is found by its listening socket, and asked nothing.
"""

import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cto_backups.core.model import Resource

_SOCKETS = {
    "postgresql": re.compile(r"\.s\.PGSQL\.(\d+)"),
    "mysql": re.compile(r"(?:mysqld?|mariadbd?)(?:[-_.]?\d+)?\.sock"),
}
_LISTENING = 0x10000  # __SO_ACCEPTCON in /proc/net/unix
_TCP_LISTEN = "0A"
_CONNECT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look: folders of sockets, the kernel's tables, TCP ports by the kind of their server, volume folders."""

    sockets: tuple[Path, ...] = (
        Path("/run/postgresql"),
        Path("/run/mysqld"),
        Path("/run/mariadb"),
        Path("/var/lib/mysql"),
        Path("/tmp"),
    )
    kernel: Path = Path("/proc/net")
    ports: Mapping[int, str] = field(default_factory=lambda: {5432: "postgresql", 3306: "mysql"})
    volumes: tuple[Path, ...] = (
        Path("/var/lib/docker/volumes"),
        Path("/var/lib/containers/storage/volumes"),
        Path("~/.local/share/containers/storage/volumes"),
    )


USUAL = Places()


def look(places: Places | None = None) -> list[Resource]:
    """Servers, named ``postgresql:/run/…`` or ``mysql:127.0.0.1:3306``, and volumes, ``volume:/…``; sorted by name.

    A server that listens on a socket in a folder and on its port is one: it is named after the socket.
    """
    places = places or USUAL
    servers = _on_sockets(places)
    known = {(kind, port) for kind, port in servers.values()}
    for port, kind in sorted(_on_ports(places).items()):
        # The name of MySQL's socket does not say its port: one that stands there is taken for the same server.
        if (kind, port) not in known and (kind, None) not in known:
            servers[f"127.0.0.1:{port}"] = (kind, port)
    found = [Resource(f"{kind}:{place}", kind, place) for place, (kind, _) in servers.items()]
    found += [Resource(f"volume:{folder}", "volume", str(folder)) for folder in _volumes(places)]
    return sorted(found, key=lambda resource: resource.name)


def _on_sockets(places: Places) -> dict[str, tuple[str, int | None]]:
    """By the path of its socket: the kind of each server that listens there, and its port where the name says it."""
    listening = set(_listening_paths(places.kernel / "unix"))
    lying = {str(path) for folder in places.sockets for path in _entries(folder) if _is_socket(path)}
    servers: dict[str, tuple[str, int | None]] = {}
    seen: set[str] = set()
    for place in sorted(listening | lying):
        for kind, pattern in _SOCKETS.items():
            named = pattern.fullmatch(Path(place).name)
            real = os.path.realpath(place)
            if named and real not in seen and (place in listening or _answers(place)):
                seen.add(real)  # /var/run is often a link to /run
                servers[place] = (kind, int(named[1]) if named.groups() else None)
    return servers


def _listening_paths(table: Path) -> Iterator[str]:
    for line in _lines(table):
        # Num RefCount Protocol Flags Type St Inode Path
        columns = line.split(maxsplit=7)
        if len(columns) == 8 and columns[7].startswith("/") and int(columns[3], 16) & _LISTENING:
            yield columns[7]


def _on_ports(places: Places) -> dict[int, str]:
    """The ports of servers that take connections from this machine."""
    found: dict[int, str] = {}
    for table in ("tcp", "tcp6"):
        for line in _lines(places.kernel / table):
            columns = line.split()  # sl local_address rem_address st …
            if len(columns) < 4 or columns[3] != _TCP_LISTEN:
                continue
            address, _, port = columns[1].partition(":")
            kind = places.ports.get(int(port, 16))
            if kind is not None and _is_near(address):
                found[int(port, 16)] = kind
    return found


def _is_near(address: str) -> bool:
    """Whether an address of the kernel's tables (words in the machine's order) is loopback, or every one."""
    words = [int(address[start : start + 8], 16).to_bytes(4, "little") for start in range(0, len(address), 8)]
    plain = b"".join(words)
    mapped = plain[12:] if plain[:12] == bytes(10) + b"\xff\xff" else plain
    return not any(plain) or (len(mapped) == 4 and mapped[0] == 127) or plain == bytes(15) + b"\x01"


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]
    except OSError:
        return []


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.expanduser().iterdir())
    except (OSError, RuntimeError):
        return []  # not there, or not ours to look into


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _answers(place: str) -> bool:
    """Whether somebody listens at a socket: one that a dead server left refuses. Nothing is sent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(place)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it does not let us in, or is busy: it is there
    return True


def _volumes(places: Places) -> Iterator[Path]:
    """The folders of volumes in which there is something."""
    for folder in places.volumes:
        for volume in _entries(folder):
            if _entries(volume / "_data"):
                yield volume / "_data"
