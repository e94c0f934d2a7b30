"""What travelled to and from a vault, and what that, what lies there and getting it back costs; pure.

Money is told only where the policy states a vault's prices: none is assumed, since each contract has its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from cto_backups.core.facts import Facts
from cto_backups.core.policy import Policy, Prices

COUNTED_FOR = timedelta(days=30)
"""Over how long what travelled is added up: a month, as prices are told."""

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was asked of a vault: requests that write or list, that read, and that delete; and bytes each way."""

    writes: int = 0
    reads: int = 0
    deletes: int = 0
    up_bytes: int = 0
    down_bytes: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.writes + other.writes,
            self.reads + other.reads,
            self.deletes + other.deletes,
            self.up_bytes + other.up_bytes,
            self.down_bytes + other.down_bytes,
        )

    @property
    def requests(self) -> int:
        """How many requests there were of all kinds."""
        return self.writes + self.reads + self.deletes

    def cost(self, prices: Prices) -> float:
        """What it costs; deletions are free at all providers we know."""
        requests = self.writes / 1000 * prices.writes + self.reads / 1000 * prices.reads
        return requests + self.down_bytes / _GIB * prices.egress


def storage_cost(size_bytes: float, kept: timedelta, prices: Prices) -> float:
    """What it costs to have so many bytes lie there for so long."""
    return size_bytes / _GIB * prices.storage * (max(kept, timedelta(0)) / COUNTED_FOR)


@dataclass(frozen=True, slots=True)
class VaultCosts:
    """One vault: what lies there, what travelled in the last month by the action that it was for, and a full restore.

    `restore` is what restoring the newest point of every source from there would take, at most. Costs are in the
    currency of `prices`; None where the policy states none.
    """

    vault: str
    stored_bytes: int
    month: Mapping[str, Traffic] = field(default_factory=dict)
    restore: Traffic = Traffic()
    prices: Prices | None = None

    @property
    def total(self) -> Traffic:
        """All that travelled in the last month."""
        return sum(self.month.values(), Traffic())

    @property
    def storage_cost(self) -> float | None:
        """What storing it costs a month, as much as there is now."""
        return None if self.prices is None else storage_cost(self.stored_bytes, COUNTED_FOR, self.prices)

    def cost(self, traffic: Traffic) -> float | None:
        """What this much traffic costs."""
        return None if self.prices is None else traffic.cost(self.prices)


def vault_costs(
    policy: Policy, facts: Facts, stored: Mapping[str, int], month: Mapping[str, Mapping[str, Traffic]]
) -> tuple[VaultCosts, ...]:
    """The costs of each vault, in the policy's order, from what lies there and what travelled in the last month."""
    found = []
    for name, vault in policy.vaults.items():
        travelled = month.get(name, {})
        kept = stored.get(name, 0)
        restore = _restore(min(kept, _newest_bytes(policy, facts, name)), travelled.values())
        found.append(VaultCosts(name, kept, travelled, restore, vault.prices))
    return tuple(found)


def _newest_bytes(policy: Policy, facts: Facts, vault: str) -> int:
    """How much the newest complete points of the sources that use a vault hold, as a restore writes them."""
    known = (facts.sources.get(source.name) for source in policy.sources.values() if vault in source.vaults)
    return sum(each.newest.size_bytes for each in known if each is not None and each.newest is not None)


def _restore(size_bytes: int, travelled: Iterable[Traffic]) -> Traffic:
    """Reading so much, in requests as large as those that were seen; none are told where none were."""
    seen = sum(travelled, Traffic())
    reads = -(-size_bytes * seen.reads // seen.down_bytes) if seen.down_bytes else 0
    return Traffic(reads=reads, down_bytes=size_bytes)
