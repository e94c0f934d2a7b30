"""`retention`: how long points are kept; `retention simulate` shows what that comes to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import chosen
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, seconds, utc
from cto_backups.core.schedule import format_triggers
from cto_backups.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cto_backups.core.policy import Prices
    from cto_backups.core.simulation import SimulatedDay, Simulation

_ROWS = 16
_BAR = 24
_GIGABYTE = 10**9
_GIB = 1 << 30


@command
def retention(screen: Screen) -> None:
    """List how long the points of each source are kept; 'retention simulate' shows what that comes to."""
    with opened(screen, write=False) as opening:
        from cto_backups.core.retention import format_retention

        policies = opening.installation.policy.sources
        kept = {name: format_retention(source.retention) for name, source in policies.items()}
        screen.document({"sources": [{"source": name, "retention": rule} for name, rule in kept.items()]})
        for name, rule in kept.items():
            screen.show(f"{name}: {rule}")


@command
def simulate(
    screen: Screen,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Sources of the policy; all when left out.")
    ] = None,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=3660, help="How far to look ahead.")] = 400,
    price: Annotated[
        float | None,
        typer.Option(
            "--price", metavar="PER_GB_MONTH", min=0, help="What a vault costs for a GB a month, instead of its prices."
        ),
    ] = None,
) -> None:
    """Show which points there would be if triggers and retention stay as they are; nothing is changed.

    It goes on from the points there are. Each run makes a point, and what was stored by past ones says how large.
    """
    with opened(screen, write=False) as opening:
        from cto_backups import clock
        from cto_backups.core.simulation import simulate as run

        policy, now = opening.installation.policy, clock.now()
        named = [opening.installation.source_policy(name) for name in chosen(policy.sources, sources)]
        facts = opening.installation.catalog.facts(now, [source.name for source in named], kept_points=True)
        answers: list[documents.Document] = []
        for source in named:
            simulated = run(
                source,
                facts.kept_points.get(source.name, ()),
                now=now,
                days=days,
                zone=ZoneInfo(policy.timezone),
                holds=facts.holds.get(source.name, ()),
            )
            costs = _costs(simulated, [policy.vaults[name].prices for name in source.vaults], price)
            answers.append(_document(simulated, len(source.vaults), price, costs))
            if screen.talks:
                _tell(screen, simulated)
                _tell_costs(screen, simulated, len(source.vaults), price, costs)
                screen.show("")
        screen.document({"days": days, "sources": answers})


@dataclass(frozen=True)
class _Costs:
    """What `vaults` whose prices are in one currency cost: in the month after the end, and in all until then."""

    currency: str
    vaults: int
    month: float
    until: float


def _costs(simulated: "Simulation", prices: "Sequence[Prices | None]", price: float | None) -> list[_Costs]:
    """What all vaults cost, or those whose prices are known; nothing without history."""
    stored, byte_months = simulated.days[-1].stored_bytes, simulated.byte_months()
    if stored is None or byte_months is None:
        return []
    if price is not None:
        each = price * len(prices) / _GIGABYTE
        return [_Costs("", len(prices), stored * each, byte_months * each)]
    found = []
    known = [each for each in prices if each is not None]
    for currency in dict.fromkeys(each.currency for each in known):
        same = [each.storage / _GIB for each in known if each.currency == currency]
        found.append(_Costs(currency, len(same), stored * sum(same), byte_months * sum(same)))
    return found


def _document(
    simulated: "Simulation", vaults: int, price: float | None, costs: "Sequence[_Costs]"
) -> documents.Document:
    history = simulated.history
    return {
        "source": simulated.source,
        "triggers": format_triggers(simulated.triggers),
        "history": {
            "points": history.points,
            "mean_size_bytes": None if history.size_bytes is None else round(history.size_bytes),
            "mean_added_bytes": None if history.added_bytes is None else round(history.added_bytes),
            "gap_seconds": None if history.gap is None else seconds(history.gap),
        },
        "made": simulated.made,
        "by_age": simulated.by_age(),
        "kept": [utc(point.captured_at) for point in simulated.kept],
        "course": [
            {"at": utc(day.at), "points": day.points, "stored_bytes": day.stored_bytes} for day in simulated.days
        ],
        "vaults": vaults,
        "cost_per_month": costs[0].month if costs and price is not None else None,
        "cost": costs[0].until if costs and price is not None else None,
        "costs": [
            {"currency": each.currency, "vaults": each.vaults, "per_month": each.month, "total": each.until}
            for each in costs
            if price is None
        ],
    }


def _tell(screen: Screen, simulated: "Simulation") -> None:
    from cto_backups.cli.tables import row, table

    history, last = simulated.history, simulated.days[-1]
    length = counted(len(simulated.days), "day")
    screen.show(
        f"{simulated.source}: {counted(last.points, 'point')} after {length}; {simulated.made} are made until then"
    )
    screen.show(f"Runs: {format_triggers(simulated.triggers)}")
    ages = simulated.by_age()
    listing = table("age", *ages, right=tuple(ages))
    row(listing, "points", *(figures.count(number) for number in ages.values()))
    screen.show(listing)
    _chart(screen, simulated.days)
    if history.size_bytes is None:
        screen.show("There is no history, so nobody knows how many bytes a point takes.")
    elif history.added_bytes is None:
        screen.show("There is one complete point only: what later ones add is not counted.")
    else:
        screen.show(f"Bytes in each vault: {figures.size(history.size_bytes)} of content, before compression,")
        screen.show(f"and {figures.size(history.added_bytes)} that each further point adds, on average.")


def _tell_costs(
    screen: Screen, simulated: "Simulation", vaults: int, price: float | None, costs: "Sequence[_Costs]"
) -> None:
    for each in costs:
        if price is not None:
            screen.show(f"Cost in {counted(vaults, 'vault')} at {price:g} per GB and month:")
            screen.show(f"{each.month:,.2f} a month then, {each.until:,.2f} until then.")
        else:
            screen.show(f"Storage in {counted(each.vaults, 'vault')} at the policy's prices, in {each.currency}:")
            screen.show(f"{each.month:,.2f} a month then, {each.until:,.2f} until then.")
    if price is not None and not costs:
        screen.show("So its cost is not known either.")
    elif price is None and costs and (unknown := vaults - sum(each.vaults for each in costs)):
        screen.show(f"Of {counted(unknown, 'vault')} the policy states no prices.")


def _chart(screen: Screen, days: "Sequence[SimulatedDay]") -> None:
    """Points and bytes over time, each with a bar, in at most 80 columns."""
    rows = min(_ROWS, len(days))
    shown = [days[(number + 1) * len(days) // rows - 1] for number in range(rows)]
    most = max(day.points for day in shown)
    largest = max(day.stored_bytes or 0 for day in shown)
    for day in shown:
        line = f"{day.at.astimezone(screen.zone):%Y-%m-%d} {day.points:>7} {_bar(day.points, most)}"
        if day.stored_bytes is not None:
            line = f"{line:<{11 + 8 + _BAR}} {figures.size(day.stored_bytes):>8} {_bar(day.stored_bytes, largest)}"
        screen.show(line.rstrip())


def _bar(value: int, most: int) -> str:
    return "#" * max(1, round(value * _BAR / most)) if value else ""
