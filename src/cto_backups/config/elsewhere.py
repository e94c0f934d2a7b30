"""What the adapters of repositories that other programs keep are given, made from what the file says."""

from collections.abc import Callable
from pathlib import Path

from cto_backups.config.elsewhere_models import BarmanSource, KeptElsewhere, PgbackrestSource, WalGSource
from cto_backups.config.secrets import SecretReference
from cto_backups.core.duration import parse_duration
from cto_backups.core.policy import Access, LockMode, VaultPolicy

Place = tuple[str | int, ...]
Absolute = Callable[[str, Place], Path]
Refuse = Callable[[Place, str, str], None]

_WAL_G_STORAGE = "storage"


def elsewhere_options(
    name: str, source: PgbackrestSource | BarmanSource | WalGSource, path: Absolute, refuse: Refuse
) -> dict[str, object]:
    """The options of the source `name`; `path` makes what a setting says absolute, or objects to it at its place.

    `refuse` notes a place, what is wrong there, and what to do about it.
    """
    given: dict[str, object] = {"program": source.program, "config": _absolute(name, source, "config", path)}
    called = _WAL_G_STORAGE
    match source:
        case PgbackrestSource():
            given["stanza"] = source.stanza
            called = "repo1, repo2 …"
        case BarmanSource():
            given["server"] = called = source.server
        case WalGSource():
            pass
    for known in source.repositories:
        numbered = known.startswith("repo") and known.removeprefix("repo").isdecimal()
        if not (numbered if isinstance(source, PgbackrestSource) else known == called):
            refuse(
                ("sources", name, "repositories", known),
                f"'{known}' is no repository of {source.title}",
                f"Call it as {source.title}'s settings do: {called}",
            )
    if not isinstance(source, BarmanSource):
        given["repository"] = _absolute(name, source, "repository", path)
        if source.config and source.repository:
            refuse(
                ("sources", name, "repository"),
                f"source '{name}' has config and repository: each of them says where {source.title}'s repositories are",
                "Leave one of them out.",
            )
    return {**given, **_shared(name, source, path)}


def _absolute(name: str, source: KeptElsewhere, setting: str, path: Absolute) -> str:
    written = getattr(source, setting)
    return str(path(written, ("sources", name, setting))) if written else ""


def _shared(name: str, source: KeptElsewhere, path: Absolute) -> dict[str, object]:
    """The options that every program's source has."""
    return {
        "backup_every": parse_duration(source.backup_every).total_seconds() if source.backup_every else None,
        "sums_every": parse_duration(source.sums_every).total_seconds() if source.sums_every else None,
        "archive_within": parse_duration(source.archive_within).total_seconds(),
        "timeout_seconds": parse_duration(source.timeout).total_seconds(),
        "host": source.host or "",
        "port": source.port,
        "user": source.user or "",
        "password": SecretReference.parse(source.password) if source.password else None,
        "sslmode": source.sslmode or "",
        "sslrootcert": _absolute(name, source, "sslrootcert", path),
        "lock_seconds": parse_duration(source.lock_timeout).total_seconds(),
        "tools": _absolute(name, source, "tools", path),
        "scratch": _absolute(name, source, "scratch", path),
    }


def kept_repositories(source: object) -> dict[str, VaultPolicy]:
    """What the policy says of each repository of a source, as of a vault; nothing of sources that have none."""
    if not isinstance(source, KeptElsewhere):
        return {}
    return {
        name: VaultPolicy(
            name=f"{source.title}'s {name}",
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
