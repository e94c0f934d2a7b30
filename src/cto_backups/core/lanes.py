"""Lanes: which host does an action, where not just any of them can. Pure.

What is read on one machine (its files, programs and sockets) is captured there; what lies in a folder of one machine
is copied, read and pruned there. All else is the pool's, from which every worker takes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cto_backups.core.model import Action, ActionKind
from cto_backups.core.policy import Policy, SourcePolicy, VaultPolicy, Violation

EVERY_HOST: Final = "*"
"""What policy says instead of a host where all of them reach a place, such as a folder on a file server."""
POOL: Final = ""
"""The lane of what any worker may do."""

_ELSEWHERE: Final = frozenset({"bigquery", "bucket", "cloudsql"})
"""Kinds that are read through a service of their provider's."""
_SERVERS: Final = frozenset({"mysql", "postgresql"})
"""Kinds that are read over the network, unless their server is this machine's."""
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Homes:
    """Which host has each source and each vault of which policy does not say it: the first that had them."""

    sources: Mapping[str, str] = field(default_factory=dict)
    vaults: Mapping[str, str] = field(default_factory=dict)


def reads_this_machine(source: SourcePolicy) -> bool:
    """Whether capturing a source needs the machine that it is on; its hooks, too, are that machine's programs."""
    if source.hooks.before or source.hooks.after:
        return True
    if source.kind in _SERVERS:
        host = str(source.options.get("host") or "/")
        return host.startswith(("/", "@")) or host in _LOCAL
    return source.kind not in _ELSEWHERE


def is_folder(vault: VaultPolicy) -> bool:
    """Whether a vault is a folder, which need not be the same one on another host."""
    return vault.url.startswith("file:")


def home_of_source(policy: Policy, name: str, homes: Homes) -> str:
    """The host that captures a source; "" when any can."""
    source = policy.sources[name]
    if (enrolled := policy.enrolled_host(name)) is not None:
        return enrolled
    if source.on_host is not None:
        return "" if source.on_host == EVERY_HOST else source.on_host
    return homes.sources.get(name, "") if reads_this_machine(source) else ""


def home_of_vault(policy: Policy, name: str, homes: Homes) -> str:
    """The host whose folder a vault is; "" when every host reaches it, or policy names it no longer."""
    vault = policy.vaults.get(name)
    if vault is None or not is_folder(vault):
        return ""
    if vault.on_host is not None:
        return "" if vault.on_host == EVERY_HOST else vault.on_host
    return homes.vaults.get(name, "")


def lane(policy: Policy, action: Action, homes: Homes) -> str:
    """The host that is to do an action, or the pool."""
    if action.vault is not None and (home := home_of_vault(policy, action.vault, homes)):
        return home
    source = policy.sources.get(action.source or "")
    if source is not None and action.kind is ActionKind.BACKUP and (own := home_of_source(policy, source.name, homes)):
        return own
    if source is None or action.kind is ActionKind.RESTORE_TEST:
        return POOL
    # A point is made in the first vault, and copied from there; expiry writes to all of them.
    return _first_home(policy, source.vaults if action.kind is ActionKind.EXPIRE else source.vaults[:1], homes)


def _first_home(policy: Policy, vaults: tuple[str, ...], homes: Homes) -> str:
    return next((home for vault in vaults if (home := home_of_vault(policy, vault, homes))), POOL)


def check_hosts(source: SourcePolicy, vaults: Mapping[str, VaultPolicy]) -> Iterator[Violation]:
    """Where a source and its vaults are said to be on hosts between which nothing can travel."""
    known = [vaults[name] for name in source.vaults if name in vaults]
    if not known:
        return
    first, stated = _stated(known[0]), source.on_host if source.on_host != EVERY_HOST else None
    if stated and first and stated != first:
        yield Violation(
            source.name,
            "on_host",
            f"source '{source.name}' is on host {stated}, and its first vault {known[0].name} is a folder of {first}",
            "its points are made in that vault, by the host that reads the source",
            f"name a vault first that {stated} reaches, or let its first vault say 'on_host: \"*\"'",
        )
    for vault in known[1:]:
        home = _stated(vault)
        if home and all(_stated(other) not in (None, home) for other in known if other is not vault):
            yield Violation(
                source.name,
                "vaults",
                f"no copy of source '{source.name}' can come to vault {vault.name}, a folder of host {home}",
                "each other vault of the source is a folder of another host",
                "add a vault that both hosts reach, such as a bucket",
            )


def _stated(vault: VaultPolicy) -> str | None:
    """The host that policy names for a folder; None when it names none, or all."""
    return vault.on_host if is_folder(vault) and vault.on_host != EVERY_HOST else None
