"""What each vault holds, lags by, and costs: the part of `status --vaults`."""

from typing import TYPE_CHECKING

from cto_backups.cli import documents, figures
from cto_backups.cli.screen import Screen

if TYPE_CHECKING:
    from cto_backups.core.policy import Prices
    from cto_backups.core.traffic import Traffic, VaultCosts
    from cto_backups.flows.status import StatusReport


def tell(screen: Screen, report: "StatusReport") -> None:
    """Show the vaults of a status report to people."""
    from cto_backups.cli.tables import name, row, table

    listing = table("vault", "furthest behind", "stored", "a month", "30 days", "full restore", flexible=("vault",))
    for costs in report.costs:
        row(
            listing,
            name(costs.vault, screen.out, 20),
            _furthest(report, costs.vault),
            figures.size(costs.stored_bytes),
            _money(costs.storage_cost, costs.prices),
            _traffic(costs, costs.total),
            _traffic(costs, costs.restore),
        )
    screen.show("")
    screen.show(listing)
    if any(costs.prices is None for costs in report.costs):
        screen.show("Costs are told of vaults whose prices the policy states. A full restore takes so much at most.")


def _furthest(report: "StatusReport", vault: str) -> str:
    from cto_backups.core.copies import behind, told_lag

    known = [report.facts.sources[name] for name in report.verdicts if vault in report.policy.sources[name].vaults]
    without = [facts.source for facts in known if facts.newest is not None and behind(facts, vault) is None]
    if without:
        return f"no copy of {without[0]}" + (f" and {len(without) - 1} more" if len(without) > 1 else "")
    lags = [(older, facts) for facts in known if (older := behind(facts, vault)) is not None]
    if not lags:
        return "nothing to copy"
    facts = max(lags, key=lambda each: each[0])[1]
    told = told_lag(facts, vault)
    return told if told == "up to date" else f"{facts.source}: {told}"


def _traffic(costs: "VaultCosts", traffic: "Traffic") -> str:
    ways = [
        f"{figures.size(size)} {way}" for size, way in ((traffic.up_bytes, "up"), (traffic.down_bytes, "down")) if size
    ]
    if traffic.requests:
        ways.append(f"{figures.count(traffic.requests)} requests")
    if (money := costs.cost(traffic)) is not None:
        ways.append(_money(money, costs.prices))
    return "\n".join(ways)


def _money(amount: float | None, prices: "Prices | None") -> str:
    return "" if amount is None or prices is None else f"{amount:,.2f} {prices.currency}"


def as_document(report: "StatusReport") -> list[documents.Document]:
    """The vaults of a status report in JSON."""
    return [
        {
            "vault": costs.vault,
            "furthest_behind": _furthest(report, costs.vault),
            "stored_bytes": costs.stored_bytes,
            "currency": costs.prices.currency if costs.prices else None,
            "storage_cost": costs.storage_cost,
            "last_30_days": {action: _document(costs, traffic) for action, traffic in costs.month.items()},
            "full_restore": _document(costs, costs.restore),
        }
        for costs in report.costs
    ]


def _document(costs: "VaultCosts", traffic: "Traffic") -> documents.Document:
    return {
        "writes": traffic.writes,
        "reads": traffic.reads,
        "deletes": traffic.deletes,
        "up_bytes": traffic.up_bytes,
        "down_bytes": traffic.down_bytes,
        "cost": costs.cost(traffic),
    }
