"""Where a catalog on a server is, and how it is reached: the address is libpq's, and says no password."""

import os
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cto_backups import certificates
from cto_backups.catalog.database import Password
from cto_backups.catalog.postgresql import pooling
from cto_backups.errors import CatalogError

SCHEMA: Final = "cto_backups"
"""The schema of a catalog, unless its address names another one as `schema`."""
CONNECT_SECONDS: Final = 10
_FORM: Final = "Write it like postgresql://backups@db.example.com/backups; the password belongs elsewhere."
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
# Who is gone without a word is noticed within a minute, on both sides.
_ALIVE: Final = {"keepalives_idle": "20", "keepalives_interval": "10", "keepalives_count": "3"}
_TIMED: Final = {**_ALIVE, "connect_timeout": str(CONNECT_SECONDS), "tcp_user_timeout": "60000"}
# A worker that froze in the middle of writing would hold all others up; the server ends what is idle for so long.
_DIRECT: Final[set[str]] = set()
"""The places of which this process has found that sessions are its own."""
_SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "60s",
    "statement_timeout": "0",
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "jit": "off",
    "random_page_cost": "1.1",  # statements look single rows up, in what mostly is in memory
}


@dataclass(frozen=True)
class Address:
    """What libpq is given, but for the password; the schema; and the place as people call it."""

    given: dict[str, Any]
    schema: str = SCHEMA
    password: Password | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, password: Password | None = None) -> "Address":
        """The address in a ``postgresql://…`` URL. Raises CatalogError for one that libpq does not understand."""
        url, schema = _without_schema(url)
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise CatalogError(  # its own words may repeat what stands there
                "The address of the catalog is none that PostgreSQL's library understands", todo=_FORM
            ) from None
        if given.pop("password", None) is not None:
            raise CatalogError("The address of the catalog has a password in it", todo=_FORM)
        return cls(given, schema, password)

    @property
    def place(self) -> str:
        """What people call it: server and database, without who logs in."""
        if "service" in self.given:
            return f"postgresql://service={self.given['service']}"
        hosts = str(self.given.get("host") or "").split(",")
        ports = str(self.given.get("port") or "").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        served = ",".join(host + (f":{port}" if port else "") for host, port in zip(hosts, ports, strict=False))
        named = f"postgresql://{served}/{self.given.get('dbname') or ''}"
        return named if self.schema == SCHEMA else f"{named}?schema={self.schema}"

    @property
    def has_others(self) -> bool:
        """Whether it names several servers, of which another one may be the one that is written to."""
        return "," in str(self.given.get("host") or "") or "service" in self.given

    def beside(self, schema: str) -> str:
        """The URL of another schema in the same database."""
        named = {**self.given, "schema": schema}
        return "postgresql://?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in named.items())

    def connect(self, *, autocommit: bool = False, **more: Any) -> "psycopg.Connection[Any]":
        """A session of this program. Raises psycopg.Error, CatalogError."""
        session = self._open(**more)
        try:
            # Said in the session: poolers of connections take no options with a login, or drop them.
            session.execute("; ".join(f"SET {name} = {value}" for name, value in self._settings().items()))
            self._look_between(session)
            session.autocommit = autocommit
        except BaseException:
            session.close()
            raise
        return session

    def _look_between(self, session: "psycopg.Connection[Any]") -> None:
        """Refuse a pooler that does not do, once in each process."""
        if self.place in _DIRECT:
            return
        if pooling.is_pooled(session):
            pooling.refuse_shared(session, self._open, self.place)
        _DIRECT.add(self.place)

    def _open(self, **more: Any) -> "psycopg.Connection[Any]":
        """A session in autocommit, with the server's own settings."""
        parameters: dict[str, Any] = {**_TIMED, **self._tls(), **self.given, "client_encoding": "UTF8"}
        parameters.setdefault("application_name", "cto.backups")
        if self.password is not None:
            parameters["password"] = self.password()
        session = psycopg.connect(make_conninfo(**parameters), prepare_threshold=None, autocommit=True, **more)
        if "service" in self.given and not session.pgconn.ssl_in_use and not _is_local(session.info.host):
            session.close()
            raise CatalogError(
                f"The catalog {self.place} would be reached without encryption",
                why=f"its service names the host {session.info.host} and no sslmode, and the server offers no TLS",
                todo="Add sslmode=verify-full to the service, and let the server speak TLS.",
            )
        return session

    def _settings(self) -> dict[str, str]:
        said = re.findall(r"(?:-c\s*|--)(\w+)\s*=", str(self.given.get("options") or ""))  # in the address: that stands
        quoted = {name: f"'{value}'" for name, value in _SETTINGS.items() if name not in said}
        return {**quoted, "search_path": _quoted(self.schema)}

    @property
    def is_local(self) -> bool:
        """Whether every host of it is this machine."""
        hosts = str(self.given.get("host") or self.given.get("hostaddr") or _default("host") or "/").split(",")
        return all(map(_is_local, hosts))

    @property
    def trusts(self) -> bool:
        """Whether how the server is trusted was said: in the address, its service or the environment."""
        return "sslmode" in self.given or "service" in self.given or bool(_set_outside("PGSSLMODE"))

    def _tls(self) -> dict[str, str]:
        mode = str(self.given.get("sslmode") or "") if self.is_local or self.trusts else "verify-full"
        if not mode:
            return {}
        verified = mode.startswith("verify") and not _set_outside("PGSSLROOTCERT")
        return {"sslmode": mode, **({"sslrootcert": certificates.of_the_system()} if verified else {})}


def _is_local(host: str) -> bool:
    return host.startswith(("/", "@")) or host in _LOCAL


def _set_outside(variable: str) -> str:
    return os.environ.get(variable, "")


def _default(name: str) -> str | None:
    """What libpq takes where an address does not say it: from the environment, or as it was built."""
    for option in psycopg.pq.Conninfo.get_defaults():
        if option.keyword.decode() == name and option.val:
            return option.val.decode()
    return None


def _without_schema(url: str) -> tuple[str, str]:
    """The URL as libpq knows it, and the schema that it names."""
    base, mark, arguments = url.partition("?")
    kept, schema = [], SCHEMA
    for argument in arguments.split("&") if mark else []:
        name, _, value = argument.partition("=")
        if name == "schema":
            schema = unquote(value)
        else:
            kept.append(argument)
    if not schema or schema.startswith("pg_") or len(schema.encode()) > 63 or "\x00" in schema:
        raise CatalogError("The address of the catalog names a schema that PostgreSQL does not allow", todo=_FORM)
    return base + (f"?{'&'.join(kept)}" if kept else ""), schema


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
