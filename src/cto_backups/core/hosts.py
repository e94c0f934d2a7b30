"""The hosts of a fleet, as their workers' signs of life and their lanes tell of them; pure."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from cto_backups.core.facts import Facts, Heartbeat
from cto_backups.core.heartbeat import silent
from cto_backups.core.lanes import Homes, home_of_source, home_of_vault
from cto_backups.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Host:
    """One host: its workers' last signs of life, and how many sources and vaults are its own to look after.

    `gone`: none of its workers is known to be alive. `other_policy`: a living one works under another policy file than
    this one, so that it leaves what was planned under this one to others; one that is enrolled has its own by right.
    """

    name: str
    workers: tuple[Heartbeat, ...]
    gone: bool
    sources: int
    vaults: int
    other_policy: bool = False

    @property
    def seen(self) -> datetime | None:
        """Its last sign of life; None where it never gave one."""
        return max((last.at for last in self.workers), default=None)


def hosts(policy: Policy, facts: Facts, homes: Homes, now: datetime) -> tuple[Host, ...]:
    """Every host that ever had a worker, or has a lane, by name. Raises ValueError when `now` is naive."""
    dead = {last.name for last in silent(policy, facts, now)}
    sources = Counter(home_of_source(policy, name, homes) for name in policy.sources)
    vaults = Counter(home_of_vault(policy, name, homes) for name in policy.vaults)
    names = {last.host for last in facts.heartbeats} | sources.keys() | vaults.keys()
    enrolled = {vault.domain_of for vault in policy.vaults.values()}
    found = []
    for name in sorted(names - {""}):
        workers = tuple(last for last in facts.heartbeats if last.host == name)
        alive = [last for last in workers if last.name not in dead]
        other = name not in enrolled and any(last.policy not in ("", policy.digest) for last in alive)
        found.append(Host(name, workers, not alive, sources[name], vaults[name], other))
    return tuple(found)


def shared(policy: Policy, homes: Homes) -> tuple[int, int]:
    """How many sources and vaults are of no host alone."""
    sources = sum(not home_of_source(policy, name, homes) for name in policy.sources)
    return sources, sum(not home_of_vault(policy, name, homes) for name in policy.vaults)
