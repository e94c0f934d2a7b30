"""What the adapter of PostgreSQL servers is given, made from what the file says."""

from collections.abc import Callable
from pathlib import Path

from cto_backups.config.models import PostgresqlSource
from cto_backups.config.secrets import SecretReference
from cto_backups.core.duration import parse_duration

Place = tuple[str | int, ...]


def postgresql_options(
    name: str, source: PostgresqlSource, path: Callable[[str, Place], Path], refuse: Callable[[Place, str, str], None]
) -> dict[str, object]:
    """The options of the source `name`; `path` makes what a setting says absolute, or objects to it at its place.

    `refuse` notes a place, what is wrong there, and what to do about it.
    """

    def place(setting: str) -> str:
        written = getattr(source, setting)
        return str(path(written, ("sources", name, setting))) if written else ""

    physical = source.method == "physical"
    for setting, wrong, why in (
        ("databases", physical and source.databases, "the files of a server hold all of its databases"),
        ("role_passwords", physical and not source.role_passwords, "the files of a server hold the passwords too"),
        ("max_rate", not physical and source.max_rate, "only files are read at a rate"),
        ("sums", not physical and source.sums != "all", "rows of a dump lie in other places once they are restored"),
        ("base_every", not physical and source.base_every, "a dump is always of all"),
        ("full_every", not physical and source.full_every, "a dump is always of all"),
    ):
        if wrong:
            refuse(
                ("sources", name, setting),
                f"source '{name}' has {setting} with method: {source.method}: {why}",
                f"Leave {setting} out, or choose the other method.",
            )
    return {
        "method": source.method,
        "sums": source.sums,
        "base_every_seconds": parse_duration(source.base_every).total_seconds() if source.base_every else None,
        "full_every_seconds": parse_duration(source.full_every).total_seconds() if source.full_every else None,
        "max_rate_kib": source.max_rate * 1024 if source.max_rate else None,
        "host": source.host,
        "port": source.port,
        "user": source.user or "",
        "password": SecretReference.parse(source.password) if source.password else None,
        "databases": tuple(source.databases or ()),
        "sslmode": source.sslmode or "",
        "sslrootcert": place("sslrootcert"),
        "role_passwords": source.role_passwords,
        "lock_seconds": parse_duration(source.lock_timeout).total_seconds(),
        "timeout_seconds": parse_duration(source.timeout).total_seconds(),
        "tools": place("tools"),
        "scratch": place("scratch"),
    }
