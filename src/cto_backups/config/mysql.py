"""What the adapter of MySQL and MariaDB servers is given, made from what the file says."""

from collections.abc import Callable
from pathlib import Path

from cto_backups.config.models import MysqlSource
from cto_backups.config.secrets import SecretReference
from cto_backups.core.duration import parse_duration

Place = tuple[str | int, ...]


def mysql_options(
    name: str, source: MysqlSource, path: Callable[[str, Place], Path], refuse: Callable[[Place, str, str], None]
) -> dict[str, object]:
    """The options of the source `name`; `path` makes what a setting says absolute, or objects to it at its place.

    `refuse` notes a place, what is wrong there, and what to do about it.
    """

    def place(setting: str) -> str:
        written = getattr(source, setting)
        return str(path(written, ("sources", name, setting))) if written else ""

    for setting, wrong in (("databases", source.databases), ("accounts: false", not source.accounts)):
        if source.base_every and wrong:
            refuse(
                ("sources", name, "base_every"),
                f"source '{name}' has base_every with {setting}: the log is of all databases, and of accounts too",
                f"Leave {setting} out, or base_every.",
            )
    return {
        "base_every_seconds": parse_duration(source.base_every).total_seconds() if source.base_every else None,
        "host": source.host,
        "port": source.port,
        "user": source.user or "",
        "password": SecretReference.parse(source.password) if source.password else None,
        "databases": tuple(source.databases or ()),
        "ssl_mode": source.ssl_mode or "",
        "ssl_ca": place("ssl_ca"),
        "accounts": source.accounts,
        "lock_seconds": parse_duration(source.lock_timeout).total_seconds(),
        "timeout_seconds": parse_duration(source.timeout).total_seconds(),
        "tools": place("tools"),
        "scratch": place("scratch"),
    }
