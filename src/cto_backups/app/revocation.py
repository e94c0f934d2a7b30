"""Revoke a host: from the first step on the catalog shows it nothing, and each further one may be done again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cto_backups import clock
from cto_backups.app import Opened
from cto_backups.app.host_access import HostAccess
from cto_backups.core.enrolment import Host
from cto_backups.errors import BackupsError, RefusedError


@dataclass(frozen=True)
class Revoked:
    """What was ended, what people still have to do, by vault, and what went wrong where."""

    host: Host
    ended: tuple[str, ...]
    left: Mapping[str, str]
    problems: Mapping[str, BackupsError]


def revoke(opening: Opened, name: str, done: Collection[str] = ()) -> Revoked:
    """End what a host may do. `done` are the vaults at which people say they have done their part.

    Raises NotFoundError, GovernanceError, ApprovalNeededError before anything is ended.
    """
    from cto_backups.catalog.postgresql import hosts as roles
    from cto_backups.flows import hosts

    installation, settings = opening.installation, opening.configuration.settings
    host = hosts.known(installation, name)
    _check(host, done)
    if host.revoked_at is None:
        hosts.allow_ending(installation, name)
    vaults = [vault for vault in host.names.get("vault", ()) if vault in opening.configuration.policy.vaults]
    access = {vault: HostAccess(opening, name, vault) for vault in vaults}
    said_done = {vault for vault in vaults if vault in done or (host.revoked_at and vault not in host.left)}
    by_hand = [vault for vault in vaults if vault not in said_done and access[vault].needs_people]
    # Killed from here on, it is red until it is run again.
    installation.catalog.hosts.revoke(name, clock.now(), by_hand, ("catalog", *vaults))
    ended, problems = ["its rows in the catalog"], {}
    try:
        roles.shut_out(settings.catalog_url, host.role, settings.catalog_login)
        ended.append(f"role {host.role} at the catalog's server")
    except BackupsError as error:
        problems["catalog"] = error
    left: dict[str, str] = {}
    for vault in vaults:
        try:
            step = access[vault].shut_out()
        except BackupsError as error:
            problems[vault] = error
            continue
        if step is None:
            ended.append(f"its user at vault {vault}")
        elif vault in by_hand:
            left[vault] = step
    keys = hosts.end_keys(installation, host)
    ended += [f"key {each.rpartition('/')[2][:12]} of vault {each.rpartition('/')[0]}" for each in keys.removed]
    problems |= keys.problems
    installation.catalog.hosts.revoke(name, clock.now(), by_hand, problems)
    problems |= hosts.record_revocation(installation, host, list(left))
    return Revoked(host, tuple(ended), left, problems)


def _check(host: Host, done: Collection[str]) -> None:
    for vault in done:
        if vault not in host.left:
            raise RefusedError(
                f"Nothing is left to be done for host '{host.name}' at '{vault}'",
                why=f"left is: {', '.join(host.left) or 'nothing'}",
                todo="Run 'cto.backups host' to see what is left.",
            )
