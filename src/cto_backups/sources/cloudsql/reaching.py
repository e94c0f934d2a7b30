"""How the service is asked, and how the servers in its instances are reached, as one source's options say."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.ports import PointReader
from cto_backups.sources.cloudsql.client import AdminApi
from cto_backups.sources.cloudsql.clones import Clones
from cto_backups.sources.cloudsql.service import MYSQL, Service, Way, engine, opened, way
from cto_backups.sources.mysql.server import Server as MysqlServer
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.options import lowest_tls, seconds, text
from cto_backups.sources.postgresql.connection import Address
from cto_backups.sources.postgresql.restore import GLOBALS_FILE
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.source import PostgresqlSource
from cto_backups.sources.staging import make_private

_AUTHORITY: Final = "server-ca.pem"
_NOWHERE: Final = "/nowhere"


class Reaching:
    """The ways of the source `name`, whose options they are; files that they need lie below `state`."""

    def __init__(self, name: str, options: Mapping[str, object], state: Path) -> None:
        self._name = name
        self._options = options
        self._project = text(options, "project")
        self._instance = text(options, "instance")
        self._operation_seconds = seconds(options, "operation_seconds", 10_800.0)
        self._own = state / "sources" / name
        self.state = state

    def service(self, limit: Limit = UNLIMITED) -> AbstractContextManager[Service]:
        """The service, until the limit ends what is asked of it."""
        credentials: Any = self._options.get("credentials")
        endpoint = str(self._options.get("endpoint") or "")
        tls = lowest_tls(self._options)
        api = AdminApi(self._name, credentials, endpoint=endpoint, tls=tls, limit=limit)
        return opened(api, self._project, self._operation_seconds)

    def clones(self, service: Service) -> Clones:
        """The clones that tests of this source make."""
        return Clones(service, self._instance, self._own / "clones")

    def place(self, instance: str) -> str:
        """What people call an instance."""
        return f"{self._project}/{instance}"

    def way(self, told: Mapping[str, Any]) -> Way:
        """How an instance is reached by itself. Raises SourceError."""
        wanted = str(self._options.get("address") or "")
        return way(self._name, told, wanted == "private" if wanted else None)

    def _reached(self, told: Mapping[str, Any]) -> dict[str, object]:
        """Host, port, and how it is trusted. A `host` of policy's leads to the instance itself, and to no clone."""
        host = str(self._options.get("host") or "")
        given = {"port": self._options.get("port")} if self._options.get("port") else {}
        if host and told.get("name") == self._instance:
            return {**given, "host": host}
        found = self.way(told)
        authority = ""
        if found.authority:
            make_private(self._own)
            file = self._own / f"{told.get('name')}-{_AUTHORITY}"
            new = file.with_suffix(".new")
            new.write_text(found.authority, encoding="ascii")
            new.replace(file)
            authority = str(file)
        mode = "verify-full" if found.named else "verify-ca"
        # Without an authority of its own, whom nobody knows by name could be anybody.
        of_mysql = "verify-ca" if authority and not found.named else "verify-identity"
        trusted = {"sslmode": mode, "sslrootcert": authority, "ssl_mode": of_mysql, "ssl_ca": authority}
        return {**given, "host": found.host, **trusted}

    def inner(self, told: Mapping[str, Any]) -> "PostgresqlSource | MysqlSource":
        """The server in the instance, as a source of its own kind."""
        kind = MysqlSource if engine(told) == MYSQL else PostgresqlSource
        return kind(self._name, {**self._given(), **self._reached(told)}, state=self.state)

    def inner_of(self, reader: PointReader, destination: Path | None) -> "PostgresqlSource | MysqlSource":
        """The same, by what a point holds: what goes to a folder needs no instance any more."""
        if destination is None:
            with self.service() as service:
                return self.inner(service.get(self._instance))
        is_postgresql = any(True for _ in reader.listing([f"/{GLOBALS_FILE}"]))
        return self.away(is_postgresql=is_postgresql)

    def away(self, *, is_postgresql: bool) -> "PostgresqlSource | MysqlSource":
        """A source of dumps whose server nobody has to reach."""
        return (PostgresqlSource if is_postgresql else MysqlSource)(self._name, self._given(), state=self.state)

    def _given(self) -> dict[str, object]:
        kept = ("user", "password", "databases", "lock_seconds", "timeout_seconds", "tools", "scratch")
        given = {name: self._options[name] for name in kept if self._options.get(name)}
        # The service lets nobody read passwords of roles, or of accounts.
        return {"method": "logical", "host": _NOWHERE, "role_passwords": False, "accounts": False, **given}

    def mysql(self, told: Mapping[str, Any], limit: Limit = UNLIMITED) -> MysqlServer:
        """The server of MySQL in an instance, as `service` tells of it. Raises SourceError."""
        inner = self.inner(told)
        assert isinstance(inner, MysqlSource)
        return inner.server.within(limit)

    def server(self, told: Mapping[str, Any], limit: Limit = UNLIMITED) -> Server:
        """The server of PostgreSQL in an instance, as `service` tells of it. Raises SourceError."""
        reached = self._reached(told)
        password: Callable[[], str] | None = self._options.get("password")  # type: ignore[assignment]
        address = Address(
            host=str(reached["host"]),
            port=int(str(reached.get("port") or 5432)),
            user=str(self._options.get("user") or ""),
            password=password,
            sslmode=str(reached.get("sslmode") or ""),
            sslrootcert=str(reached.get("sslrootcert") or ""),
            lock_seconds=seconds(self._options, "lock_seconds", 30.0),
        )
        tools, scratch = str(self._options.get("tools") or ""), str(self._options.get("scratch") or "")
        return Server(self._name, address, tools, seconds(self._options, "timeout_seconds", 3600.0), scratch).within(
            limit
        )
