"""Rebuild the catalog from signed records in vaults: add what it lacks, or make it anew where there is none.

A new one is made beside its place and put there when it is whole: until then every other command says that there is no
catalog, instead of working with half of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.app import ProgressFactory, assembled, reviewed, silent
from cto_backups.app.adapters import Adapters
from cto_backups.app.catalog_place import place_for
from cto_backups.errors import KeyProblemError, PolicyError

if TYPE_CHECKING:
    from cto_backups.config import Configuration
    from cto_backups.flows.installation import Installation
    from cto_backups.flows.rebuilt import Rebuilt


@dataclass(frozen=True)
class Outcome:
    """What was added; whether the catalog is a new one, and the file of an evidence key that was made now, if any."""

    rebuilt: "Rebuilt"
    new_catalog: bool
    new_key: Path | None
    recovered: tuple[str, ...]


def rebuild(
    policy: Path, vaults: Sequence[str], *, trusted: frozenset[str], progress: ProgressFactory = silent
) -> Outcome:
    """Rebuild the catalog of a policy file from these vaults, from all of them when none is named.

    An evidence key that is lost is made anew: it starts a chain of its own. Raises PolicyError, KeyProblemError,
    CatalogError, VaultError, NotFoundError.
    """
    from cto_backups.config import load
    from cto_backups.core.wording import not_declared
    from cto_backups.flows.rebuild import rebuild as rebuild_from

    configuration = load(policy)
    for name in vaults:
        if name not in configuration.policy.vaults:
            raise not_declared("vault", name, configuration.policy.vaults)
    chosen = tuple(dict.fromkeys(vaults or configuration.policy.vaults))
    place = place_for(configuration)
    new_key = _evidence_key(configuration, chosen)
    read_retentions = partial(_retentions_in, policy)
    work = partial(rebuild_from, vault_names=chosen, trusted=trusted, retentions_in=read_retentions)
    if place.exists():
        done, recovered = _rebuilt(configuration, work, progress)
        _secure(configuration)
        return Outcome(done, False, new_key, recovered)
    with place.beside() as fresh:
        settings = replace(configuration.settings, catalog_url=fresh)
        done, _ = _rebuilt(replace(configuration, settings=settings), work, progress)
        place.take(fresh)
    _secure(configuration)
    return Outcome(done, True, new_key, ())


def _secure(configuration: "Configuration") -> None:
    """Let enrolled hosts do again what they did, and nothing else."""
    from cto_backups.catalog.catalog import Catalog
    from cto_backups.catalog.database import is_on_server

    url, login = configuration.settings.catalog_url, configuration.settings.catalog_login
    if not is_on_server(url):
        return
    with Catalog.open(url, now=clock.now(), write=False, password=login) as catalog:
        hosts = catalog.hosts.listed()
    if hosts:
        from cto_backups.catalog.postgresql.hosts import secure

        secure(url, login)


def _rebuilt(
    configuration: "Configuration", work: "Callable[[Installation], Rebuilt]", progress: ProgressFactory
) -> "tuple[Rebuilt, tuple[str, ...]]":
    """Do the work on this catalog, and only then what every opening does: it signs, and needs to know what is known."""
    adapters = Adapters(configuration)
    try:
        with assembled(configuration, adapters, progress=progress, write=True, review=False) as opening:
            done = work(opening.installation)
            if done.parted:
                return done, ()
            settled = reviewed(opening)
            done.remarks.extend(settled.notices)
            return done, settled.recovered
    finally:
        adapters.close()


def _retentions_in(policy: Path, text: bytes) -> Mapping[str, str]:
    """The retention of each source, if a policy file with this text stood in the place of this one."""
    from cto_backups.config.reading import parse
    from cto_backups.core.retention import format_retention

    try:
        sources = parse(policy.absolute(), text).policy.sources
    except PolicyError:
        return {}
    return {name: format_retention(source.retention) for name, source in sources.items()}


def _check_secrets(adapters: Adapters, vaults: Sequence[str]) -> None:
    """Raise KeyProblemError when the secret of none of these vaults is there."""
    problems: list[KeyProblemError] = []
    for secret in dict.fromkeys([*map(adapters.secrets.of, vaults), adapters.secrets.shared]):
        try:
            secret.any()
        except KeyProblemError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def _evidence_key(configuration: "Configuration", vaults: Sequence[str]) -> Path | None:
    """Make the evidence key where it is a file that is not there; its path, None when nothing was made."""
    from cto_backups.config.secrets import create_file_secret
    from cto_backups.evidence.records import SigningKey

    settings = configuration.settings
    path = settings.evidence_key.path(settings.home)
    if path is None or path.exists() or not path.parent.is_dir():  # its disk may not be mounted
        return None
    # Before anything is made: without what opens the vaults there is nothing to rebuild from.
    _check_secrets(Adapters(configuration), vaults)
    create_file_secret(path, SigningKey.generate().secret())
    return path
