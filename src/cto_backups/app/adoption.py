"""Take over a repository that restic made: a vault of the policy, sources for what is in it, recovery points of them.

No byte that is there is rewritten or moved. What is added: a key file for the installation's secret, the vault's
marker, records and policies. Run twice, the second run takes over what restic added since, or changes nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.app import opened, user
from cto_backups.app.adapters import Adapters
from cto_backups.core.wording import did_you_mean
from cto_backups.errors import KeyProblemError, NotFoundError, RefusedError, UsageError

if TYPE_CHECKING:
    from cto_backups.config import Configuration
    from cto_backups.config.secrets import Secret
    from cto_backups.core.model import RecoveryPoint
    from cto_backups.core.payloads import Committed
    from cto_backups.core.policy import Policy
    from cto_backups.flows.adopt import Group
    from cto_backups.repository.store import RepositoryStore

REPOSITORY = "."


@dataclass(frozen=True)
class Wish:
    """What the user said: the folder, its vault's name, whose snapshots beside this host's, names of sources."""

    folder: Path
    vault: str | None
    hosts: frozenset[str]
    sources: Mapping[str, frozenset[str]]
    data_class: str


@dataclass
class Adoption:
    """What is taken over, or would be. `new` are sources that the policy gets; `left` are groups with the reason."""

    vault: str
    new_vault: bool
    location: str
    taken: "dict[str, tuple[Committed, ...]]" = field(default_factory=dict)
    new: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left: "list[tuple[Group, str]]" = field(default_factory=list)
    points: "tuple[RecoveryPoint, ...]" = ()


def adopt(policy: Path, wish: Wish, password: "Secret | None", *, host: str, dry_run: bool) -> Adoption:
    """Take a repository over. Raises NotFoundError, RefusedError, KeyProblemError, PolicyError, DamageError."""
    from cto_backups.config import edit, load

    configuration = load(policy)
    folder = wish.folder.resolve()
    plan, store = _planned(configuration, wish, folder, password, host)
    edited = _edited(configuration, plan, wish.data_class)  # also in a dry run, and before anything is written
    if dry_run:
        return plan
    store.vault.create()
    secret = Adapters(configuration).secrets.of(plan.vault).any().reveal()
    store.keys.add(secret, username=user(), hostname=host, chosen=False)
    if edited is not configuration:
        edit.save(configuration, edited)
    with opened(policy) as opening:
        from cto_backups.flows.adopt import catalogue

        plan.points = catalogue(opening.installation, plan.vault, plan.taken)
    return plan


def _edited(configuration: "Configuration", plan: Adoption, data_class: str) -> "Configuration":
    """The policy with the vault and the sources that are new. Raises PolicyError for a name or a class that is none."""
    from cto_backups.config import edit

    edited = configuration
    if plan.new_vault:
        place = {"provider": "local-disk", "region": "this-machine", "storage": "disk", "repository": REPOSITORY}
        edited = edit.with_vault(edited, plan.vault, {"url": f"file:{plan.location}", **place})
    vaults = [plan.vault, *(name for name in configuration.policy.vaults if name != plan.vault)]
    for name, paths in plan.new.items():
        mapping = {"kind": "files", "class": data_class, "paths": list(paths), "vaults": vaults}
        edited = edit.with_source(edited, name, mapping)
    return edited


def _planned(
    configuration: "Configuration", wish: Wish, folder: Path, password: "Secret | None", host: str
) -> "tuple[Adoption, RepositoryStore]":
    from cto_backups.flows.adopt import groups
    from cto_backups.vaults.local import LocalVault

    policy = configuration.policy
    present = _present(policy, folder)
    name = present or wish.vault or _name(folder.name)
    if present is None and name in policy.vaults:
        raise RefusedError(f"There is a vault named '{name}' already", todo="Choose another name with --vault NAME.")
    store = _open(configuration, LocalVault(name, folder), password)
    plan = Adoption(name, present is None, str(folder))
    found = groups(store.committed())
    _refuse_unmatched(wish, found)
    for group in found:
        _assign(plan, policy, wish, group, host)
    return plan, store


def _present(policy: "Policy", folder: Path) -> str | None:
    """The vault that the folder is already. Raises RefusedError when it is one that we made, or its repository.

    The same repository under two names would be counted as two copies.
    """
    found = None
    for vault in policy.vaults.values():
        if not vault.url.startswith("file:"):
            continue
        place = Path(vault.url.removeprefix("file:")).resolve()
        if place == folder and vault.repository == REPOSITORY:
            found = vault.name
        elif folder in (place, (place / vault.repository).resolve()):
            raise RefusedError(
                f"{folder} is vault '{vault.name}' of this installation already",
                why=f"its repository is at {vault.repository} there, made by this program",
                todo="Name the folder of a repository that restic made.",
            )
    return found


def _open(configuration: "Configuration", vault: "object", password: "Secret | None") -> "RepositoryStore":
    from cto_backups.repository.store import RepositoryStore
    from cto_backups.vaults.local import LocalVault

    assert isinstance(vault, LocalVault)
    if not (vault.root / "config").is_file():
        raise NotFoundError(
            f"There is no restic repository in {vault.root}",
            why=f"there is no file {vault.root / 'config'}",
            todo="Name the folder that 'restic -r' gets, with config, data and keys in it.",
        )
    try:
        return RepositoryStore.open(vault, REPOSITORY, Adapters(configuration).secrets.of(vault.name).any().reveal())
    except KeyProblemError:
        if password is None:
            raise KeyProblemError(
                f"The repository in {vault.root} has a password of its own",
                why="the secret of this installation does not open it",
                todo="Say where its password is: --password file:PATH, env:NAME or command:CMD.",
            ) from None
    try:
        return RepositoryStore.open(vault, REPOSITORY, password.reveal())
    except KeyProblemError as error:
        raise KeyProblemError(
            f"The password does not open the repository in {vault.root}",
            why=error.why,
            todo="Check it with stock restic (restic -r FOLDER snapshots), and give it with --password.",
        ) from None


def _refuse_unmatched(wish: Wish, found: "Sequence[Group]") -> None:
    hosts = sorted({group.host for group in found})
    for host in sorted(wish.hosts - set(hosts)):
        raise NotFoundError(
            f"No snapshot is of host '{host}'{did_you_mean(host, hosts)}",
            why=f"there are: {', '.join(hosts) or 'none'}",
            todo="Correct --host, or leave it out.",
        )
    there = [frozenset(group.paths) for group in found]
    for name, paths in wish.sources.items():
        if paths not in there:
            raise UsageError(
                f"No snapshot is of exactly {', '.join(sorted(paths))}, which source '{name}' is to have",
                why="there are: " + "; ".join(sorted({", ".join(sorted(each)) for each in there})),
                todo="Name all paths of one of them, each with --source NAME=PATH.",
            )


def _assign(plan: Adoption, policy: "Policy", wish: Wish, group: "Group", host: str) -> None:
    """Find the source that a group is of, or make one, or leave it alone."""
    paths = frozenset(group.paths)
    named = next((name for name, wanted in wish.sources.items() if wanted == paths), None)
    if group.host != host and group.host not in wish.hosts:
        plan.left.append((group, f"it is of host {group.host}; take it over with --host {group.host}"))
        return
    if not paths or not all(path.startswith("/") and path.isprintable() for path in paths):
        plan.left.append((group, "its paths are none that a source on this machine can have"))
        return
    known = {
        name: frozenset(source.options["paths"])  # type: ignore[call-overload]
        for name, source in policy.sources.items()
        if source.kind == "files"
    } | {name: frozenset(mine) for name, mine in plan.new.items()}
    same = next((name for name, mine in known.items() if mine == paths and named in (None, name)), None)
    name = named or same or _free(_name("-".join(Path(path).name or "root" for path in group.paths)), policy, plan)
    if known.get(name, paths) != paths or (name in policy.sources and name not in known):
        raise RefusedError(
            f"Source '{name}' protects something else than {', '.join(sorted(paths))}",
            why="recovery points of two different things would stand under one name",
            todo="Choose another name with --source NAME=PATH.",
        )
    if name not in known:
        plan.new[name] = group.paths
    snapshots = (*plan.taken.get(name, ()), *group.snapshots)
    plan.taken[name] = tuple(sorted(snapshots, key=lambda snapshot: snapshot.time))


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50] or "adopted"


def _free(name: str, policy: "Policy", plan: Adoption) -> str:
    number, free = 2, name
    while free in policy.sources or free in plan.new:
        free, number = f"{name}-{number}", number + 1
    return free
