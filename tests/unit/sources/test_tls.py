"""Servers whose hosts are names must show a certificate of that name, by an authority that is trusted: to every session
of ours, for dumps, for files and for the log, and to each of the server's programs that read or write for us.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from source_contract import captured

from cto_backups.errors import SourceError
from cto_backups.process import ToolError, run
from cto_backups.sources.mysql.connection import Address as MysqlAddress
from cto_backups.sources.mysql.connection import Version
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.postgresql.connection import Address, find_tools
from cto_backups.sources.postgresql.replication import Replication
from cto_backups.sources.postgresql.server import Server as PostgresqlServer
from cto_backups.sources.postgresql.source import PostgresqlSource
from servers import mariadb, postgresql
from servers.certificates import Certificate, certificate

PASSWORD = "secret of tests"


@dataclass(frozen=True)
class Showing:
    """A server on this machine, of which `show` decides what certificate it has from now on."""

    port: int
    show: Callable[[Certificate], None]
    bin: Path


@dataclass(frozen=True)
class Certificates:
    """Of this machine, and of another one."""

    right: Certificate
    wrong: Certificate

    @property
    def refused(self) -> list[tuple[Certificate, dict[str, Any], str]]:
        """What is shown, what is trusted, and what is said then."""
        return [
            (self.right, {}, "certificate verify failed"),
            (self.right, {"ca": str(self.wrong.shown)}, "certificate verify failed"),
            (self.wrong, {"ca": str(self.wrong.shown)}, "not"),
        ]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    return Certificates(certificate(folder, "localhost"), certificate(folder, "elsewhere"))


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(postgresql_programs: Path, certificates: Certificates) -> Iterator[Showing]:
    port = mariadb.free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "wal_level": "logical"}
    with postgresql.server(postgresql_programs, **settings) as made:
        place = made.place / "data"
        (place / "pg_hba.conf").write_text(
            "local all all trust\nlocal replication all trust\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication all 127.0.0.1/32 scram-sha-256\n"
        )
        made.do("CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)")

        def show(which: Certificate) -> None:
            which.put(place / "server.crt", place / "server.key", place)
            before = made.do("SELECT pg_conf_load_time()")
            made.do("ALTER SYSTEM SET ssl = on")
            made.do("SELECT pg_reload_conf()")
            while made.do("SELECT pg_conf_load_time()") == before:
                time.sleep(0.01)

        show(certificates.right)
        yield Showing(port, show, postgresql_programs)


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_postgresql_is_read_from_the_right_host_alone(
    shop: Showing, certificates: Certificates, tmp_path: Path, method: str
) -> None:
    def source(**options: Any) -> PostgresqlSource:
        given = {"host": "localhost", "port": shop.port, "user": "postgres", "password": lambda: PASSWORD}
        given |= {"method": method, "sslrootcert": options.get("ca", "")}
        return PostgresqlSource("shop", given, state=tmp_path)

    shop.show(certificates.right)
    _, expected = captured(source(ca=str(certificates.right.shown)))
    assert expected.counts["rows"] == 1
    for shown, trusted, told in certificates.refused:
        shop.show(shown)
        with pytest.raises(SourceError) as raised:
            captured(source(**trusted))
        assert told in raised.value.why and "certificate" in raised.value.why
        assert "sslrootcert" in raised.value.todo and "password" not in raised.value.todo


def test_of_a_server_without_tls_the_setting_is_named_that_lets_it_be() -> None:
    """It is neither the password nor what the user may read."""
    server = PostgresqlServer("shop", Address("127.0.0.1"), tools="", timeout_seconds=1.0, scratch="")
    refused = psycopg.OperationalError("server does not support SSL, but SSL was required")
    assert "`sslmode: disable`" in server.unreadable("shop", refused).todo
    assert "`password`" not in server.unreadable("shop", refused).todo


def test_postgresqls_log_and_programs_come_from_and_go_to_the_right_host_alone(
    shop: Showing, certificates: Certificates
) -> None:
    """Each by itself: of a backup, our first session would notice before them."""
    tools = find_tools(15, str(shop.bin))

    def address(**options: Any) -> Address:
        return Address("localhost", shop.port, "postgres", lambda: PASSWORD, sslrootcert=options.get("ca", ""))

    def dump(at: Address) -> bytes:
        return run([tools["pg_dump"], "-s", "postgres"], environment=at.environment().variables, timeout_seconds=30)

    def log(at: Address) -> None:
        with Replication(at, 30.0) as connection:
            connection.place()

    def restore(at: Address) -> bytes:
        command = [tools["psql"], "-X", "-c", "SELECT 1", "postgres"]
        return run(command, environment=at.environment().variables, timeout_seconds=30)

    for way in (dump, log, restore):
        shop.show(certificates.right)
        way(address(ca=str(certificates.right.shown)))
        for shown, trusted, told in certificates.refused:
            shop.show(shown)
            with pytest.raises(ToolError) as raised:
                way(address(**trusted))
            assert told in raised.value.detail and "certificate" in raised.value.detail


# -- MariaDB -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo(mariadbd: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Showing]:
    """Its files need its socket, and nothing else."""
    folder = tmp_path_factory.mktemp("shown")
    shown, key = folder / "server.crt", folder / "server.key"
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    certificates.right.put(shown, key, folder)
    for file in (shown, key):
        file.chmod(0o644)
    with mariadb.server(mariadbd, **{"ssl-cert": str(shown), "ssl-key": str(key), "binlog-format": "ROW"}) as made:
        made.do(
            f"CREATE USER keeper@'127.0.0.1' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL",
            f"CREATE USER keeper@localhost IDENTIFIED BY '{PASSWORD}' REQUIRE SSL",
            "GRANT ALL ON *.* TO keeper@'127.0.0.1'",
            "GRANT ALL ON *.* TO keeper@localhost",
            "CREATE DATABASE zoo",
            "CREATE TABLE zoo.kept (n int)",
            "INSERT INTO zoo.kept VALUES (1)",
        )

        def show(which: Certificate) -> None:
            which.put(shown, key, folder)
            for file in (shown, key):
                file.chmod(0o644)
            made.do("FLUSH SSL")

        yield Showing(made.port, show, mariadbd.parent)


def test_mariadb_is_read_from_the_right_host_alone(zoo: Showing, certificates: Certificates, tmp_path: Path) -> None:
    def source(**options: Any) -> MysqlSource:
        given = {"host": "localhost", "port": zoo.port, "user": "keeper", "password": lambda: PASSWORD}
        return MysqlSource("zoo", {**given, "ssl_ca": options.get("ca", "")}, state=tmp_path)

    zoo.show(certificates.right)
    _, expected = captured(source(ca=str(certificates.right.shown)))
    assert expected.counts["rows"] == 1
    for shown, trusted, told in certificates.refused:
        zoo.show(shown)
        with pytest.raises(SourceError) as raised:
            captured(source(**trusted))
        assert told in raised.value.why and "certificate" in raised.value.why.lower()
        assert "ssl_ca" in raised.value.todo and "password" not in raised.value.todo


@pytest.mark.parametrize("program", ["mariadb-dump", "mariadb"])
def test_mariadbs_programs_reach_the_right_host_alone(
    zoo: Showing, certificates: Certificates, tmp_path: Path, program: str
) -> None:
    """Each by itself: of a backup, our first session would notice before them."""
    words = {"mariadb-dump": ["zoo"], "mariadb": ["-e", "SELECT 1"]}[program]

    def reach(**options: Any) -> bytes:
        address = MysqlAddress("localhost", zoo.port, "keeper", lambda: PASSWORD, ssl_ca=options.get("ca", ""))
        file = address.option_file(tmp_path, Version("mariadb", (10, 11)))
        variables = address.environment(tmp_path).variables
        return run([program, f"--defaults-file={file}", *words], environment=variables, timeout_seconds=30)

    zoo.show(certificates.right)
    assert reach(ca=str(certificates.right.shown))
    for shown, trusted, _ in certificates.refused:
        zoo.show(shown)
        with pytest.raises(ToolError, match=r"(?i)certificate|TLS|SSL"):
            reach(**trusted)
