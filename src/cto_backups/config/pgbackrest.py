"""What the adapter of pgBackRest's repositories is given, made from what the file says."""

from collections.abc import Callable
from pathlib import Path

from cto_backups.config.pgbackrest_models import PgbackrestSource
from cto_backups.config.secrets import SecretReference
from cto_backups.core.duration import parse_duration
from cto_backups.core.policy import Access, LockMode, VaultPolicy

Place = tuple[str | int, ...]


def pgbackrest_options(
    name: str, source: PgbackrestSource, path: Callable[[str, Place], Path], refuse: Callable[[Place, str, str], None]
) -> dict[str, object]:
    """The options of the source `name`; `path` makes what a setting says absolute, or objects to it at its place.

    `refuse` notes a place, what is wrong there, and what to do about it.
    """

    def place(setting: str) -> str:
        written = getattr(source, setting)
        return str(path(written, ("sources", name, setting))) if written else ""

    if source.config and source.repository:
        refuse(
            ("sources", name, "repository"),
            f"source '{name}' has config and repository: each of them says where pgBackRest's repositories are",
            "Leave one of them out.",
        )
    for known in source.repositories:
        if not known.removeprefix("repo").isdecimal() or not known.startswith("repo"):
            refuse(
                ("sources", name, "repositories", known),
                f"'{known}' is no repository of pgBackRest",
                "Call it as pgBackRest's settings do: repo1, repo2 …",
            )
    return {
        "stanza": source.stanza,
        "config": place("config"),
        "repository": place("repository"),
        "program": source.program,
        "backup_every": parse_duration(source.backup_every).total_seconds() if source.backup_every else None,
        "sums_every": parse_duration(source.sums_every).total_seconds() if source.sums_every else None,
        "archive_within": parse_duration(source.archive_within).total_seconds(),
        "timeout_seconds": parse_duration(source.timeout).total_seconds(),
        "host": source.host or "",
        "port": source.port,
        "user": source.user or "",
        "password": SecretReference.parse(source.password) if source.password else None,
        "sslmode": source.sslmode or "",
        "sslrootcert": place("sslrootcert"),
        "lock_seconds": parse_duration(source.lock_timeout).total_seconds(),
        "tools": place("tools"),
        "scratch": place("scratch"),
    }


def pgbackrest_repositories(source: PgbackrestSource) -> dict[str, VaultPolicy]:
    """What the policy says of each repository, as of a vault."""
    return {
        name: VaultPolicy(
            name=f"pgBackRest's {name}",
            url="",
            provider=said.provider,
            region=said.region,
            storage=said.storage,
            off_site=said.off_site,
            lock_mode=LockMode(said.lock),
            access=Access(said.access),
        )
        for name, said in source.repositories.items()
    }
