"""What the adapter of instances of Cloud SQL is given, made from what the file says."""

from collections.abc import Callable
from pathlib import Path

from cto_backups.config.cloudsql_models import CloudsqlExpects, CloudsqlSource
from cto_backups.config.secrets import SecretReference
from cto_backups.config.vaults import on_the_way
from cto_backups.core.cloud_sql import Wanted
from cto_backups.core.duration import parse_duration

Place = tuple[str | int, ...]


def cloudsql_options(
    name: str, source: CloudsqlSource, path: Callable[[str, Place], Path], refuse: Callable[[Place, str, str], None]
) -> dict[str, object]:
    """The options of the source `name`; `path` makes what a setting says absolute, or objects to it at its place.

    `refuse` notes a place, what is wrong there, and what to do about it.
    """

    def place(setting: str) -> str:
        written = getattr(source, setting)
        return str(path(written, ("sources", name, setting))) if written else ""

    if not source.export and not source.clone_tests:
        refuse(
            ("sources", name, "clone_tests"),
            f"source '{name}' has export: false and clone_tests: false: nothing of it could ever be tested",
            "Leave one of them out.",
        )
    if source.host and source.address:
        refuse(
            ("sources", name, "address"),
            f"source '{name}' has host and address: each of them says where the instance is reached",
            "Leave one of them out.",
        )
    for setting, message, todo in on_the_way(f"source {name}", source.endpoint, source.tls):
        refuse(("sources", name, setting), message, todo)
    return {
        "project": source.project,
        "instance": source.instance,
        "credentials": SecretReference.parse(source.credentials) if source.credentials else None,
        "user": source.user,
        "password": SecretReference.parse(source.password),
        "databases": tuple(source.databases or ()),
        "address": source.address or "",
        "host": source.host or "",
        "port": source.port,
        "export": source.export,
        "clone_tests": source.clone_tests,
        "on_demand": source.on_demand,
        "moment_seconds": parse_duration(source.moment_within).total_seconds(),
        "log_seconds": parse_duration(source.log_within).total_seconds(),
        "operation_seconds": parse_duration(source.operation_within).total_seconds(),
        "lock_seconds": parse_duration(source.lock_timeout).total_seconds(),
        "timeout_seconds": parse_duration(source.timeout).total_seconds(),
        "tools": place("tools"),
        "scratch": place("scratch"),
        "endpoint": source.endpoint or "",
        "tls": source.tls,
        "expects": _wanted(source.expects or CloudsqlExpects()),
    }


def _wanted(expects: CloudsqlExpects) -> Wanted:
    return Wanted(
        backups_kept=expects.backups_kept,
        log_days=expects.log_days,
        window=expects.window or "",
        region=expects.region or "",
        backup_location=expects.backup_location or "",
        newest_within=parse_duration(expects.newest_within),
        deletion_protection=expects.deletion_protection,
        backups_survive=expects.backups_survive,
        public_address=expects.public_address,
        encrypted=expects.encrypted,
    )
