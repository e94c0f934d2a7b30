"""Servers on real sockets, and folders of volumes: what a look around a machine finds without credentials."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cto_backups.sources.servers import Places, look


@contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        yield


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("s")  # paths of sockets are short
    yield made
    shutil.rmtree(made)


ADDRESSES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::1")]


def names(places: Places) -> list[str]:
    return [resource.name for resource in look(places)]


def test_servers_are_found_by_their_sockets_in_the_usual_folders(folder: Path) -> None:
    places = Places(sockets=(folder,), kernel=folder / "none", volumes=())
    with ExitStack() as stack:
        for name in (".s.PGSQL.5433", "mysqld.sock", "another.sock"):
            stack.enter_context(listening(folder / name))
        found = look(places)
    assert [(each.name, each.kind, each.location) for each in found] == [
        (f"mysql:{folder}/mysqld.sock", "mysql", f"{folder}/mysqld.sock"),
        (f"postgresql:{folder}/.s.PGSQL.5433", "postgresql", f"{folder}/.s.PGSQL.5433"),
    ]


def test_a_socket_that_a_dead_server_left_is_no_server(folder: Path) -> None:
    with listening(folder / ".s.PGSQL.5432"):
        pass
    (folder / ".s.PGSQL.5432.lock").write_text("1\n")
    (folder / "mysql.sock").write_text("no socket")
    assert names(Places(sockets=(folder,), kernel=folder / "none", volumes=())) == []


def test_servers_elsewhere_are_found_in_the_kernels_table(folder: Path) -> None:
    places = Places(sockets=(), ports={}, volumes=())
    with listening(folder / "mariadb.sock"):
        assert f"mysql:{folder}/mariadb.sock" in names(places)
    assert f"mysql:{folder}/mariadb.sock" not in names(places)


def test_one_server_is_found_once_whatever_leads_to_it(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    with listening(folder / "real" / "mysqld.sock"):
        places = Places(sockets=(folder / "link", folder / "real"), kernel=folder / "none", volumes=())
        assert len(names(places)) == 1


@pytest.mark.parametrize(("family", "address"), ADDRESSES)
def test_servers_are_found_by_their_ports_of_this_machine(folder: Path, family: int, address: str) -> None:
    try:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.bind((address, 0))
    except OSError:
        pytest.skip("this machine has no such address")
    with server:
        port = server.getsockname()[1]
        places = Places(sockets=(folder,), ports={port: "postgresql"}, volumes=())
        name = f"postgresql:127.0.0.1:{port}"
        assert name not in names(places), "it is bound, and does not listen"
        server.listen()
        assert name in names(places)
        with listening(folder / f".s.PGSQL.{port}"):
            found = names(places)
        assert name not in found and f"postgresql:{folder}/.s.PGSQL.{port}" in found, "one server, named once"
        with listening(folder / ".s.PGSQL.1"):
            assert name in names(places), "another server's socket"


def test_a_port_of_another_address_is_not_of_this_machine_alone(folder: Path) -> None:
    (folder / "tcp").write_text("head\n   0: 0100000A:1538 0:0 0A\n   1: 0100007F:0CEA 0:0 01\n")
    (folder / "tcp6").write_text("head\n   0: 0000000000000000FFFF00000100007F:1538 0:0 0A\n")
    assert names(Places(sockets=(), kernel=folder, volumes=())) == ["postgresql:127.0.0.1:5432"]
    (folder / "tcp6").unlink()
    assert names(Places(sockets=(), kernel=folder, volumes=())) == []


def test_the_port_of_mysql_is_that_of_its_socket(folder: Path) -> None:
    (folder / "tcp").write_text("head\n   0: 00000000:0CEA 00000000:0000 0A\n")
    places = Places(sockets=(folder,), kernel=folder, volumes=())
    assert names(places) == ["mysql:127.0.0.1:3306"]
    with listening(folder / "mysqld.sock"):
        assert names(places) == [f"mysql:{folder}/mysqld.sock"]


def test_volumes_with_something_in_them_are_found(tmp_path: Path) -> None:
    (tmp_path / "volumes" / "app" / "_data").mkdir(parents=True)
    (tmp_path / "volumes" / "app" / "_data" / "file").touch()
    (tmp_path / "volumes" / "unused" / "_data").mkdir(parents=True)
    (tmp_path / "volumes" / "metadata.db").touch()
    places = Places(sockets=(), kernel=tmp_path / "none", volumes=(tmp_path / "volumes", tmp_path / "none"))
    (found,) = look(places)
    place = f"{tmp_path}/volumes/app/_data"
    assert (found.name, found.kind, found.location) == (f"volume:{place}", "volume", place)
