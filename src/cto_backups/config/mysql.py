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

    physical = source.method == "physical"
    for setting, wrong in (("databases", source.databases), ("accounts: false", not source.accounts)):
        if source.base_every and wrong and not physical:
            refuse(
                ("sources", name, "base_every"),
                f"source '{name}' has base_every with {setting}: the log is of all databases, and of accounts too",
                f"Leave {setting} out, or base_every.",
            )
    for setting, given, why in (
        ("host", not source.host.startswith("/"), "files are read where they lie, and its socket says that it is here"),
        ("databases", bool(source.databases), "the files of a server hold all of its databases"),
        ("accounts", not source.accounts, "the files of a server hold its accounts too"),
    ):
        if physical and given:
            refuse(
                ("sources", name, setting),
                f"source '{name}' has {setting} with method: physical: {why}",
                "Name the path of its socket." if setting == "host" else f"Leave {setting} out, or the method.",
            )
    if source.sums_every and not source.base_every:
        refuse(
            ("sources", name, "sums_every"),
            f"source '{name}' has sums_every without base_every: a dump, or files, come with sums of their own moment",
            "Leave sums_every out, or give base_every.",
        )
    if source.max_rate and not physical:
        refuse(
            ("sources", name, "max_rate"),
            f"source '{name}' has max_rate with method: logical: only files are read at a rate",
            "Leave max_rate out, or choose method: physical.",
        )
    return {
        "method": source.method,
        "max_rate_mib": source.max_rate,
        "base_every_seconds": parse_duration(source.base_every).total_seconds() if source.base_every else None,
        "sums_every_seconds": parse_duration(source.sums_every).total_seconds() if source.sums_every else None,
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
