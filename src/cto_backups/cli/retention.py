"""`retention`: how long points are kept; `retention simulate` shows what that comes to."""

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

    from cto_backups.core.simulation import SimulatedDay, Simulation

_ROWS = 16
_BAR = 24
_GIGABYTE = 10**9


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
        typer.Option("--price", metavar="PER_GB_MONTH", min=0, help="What a vault costs for a GB a month."),
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
            answers.append(_document(simulated, len(source.vaults), price))
            if screen.talks:
                _tell(screen, simulated, len(source.vaults), price)
        screen.document({"days": days, "sources": answers})


def _costs(simulated: "Simulation", vaults: int, price: float | None) -> tuple[float, float] | None:
    """What all vaults cost in the month after the end, and in all until then."""
    stored, byte_months = simulated.days[-1].stored_bytes, simulated.byte_months()
    if price is None or stored is None or byte_months is None:
        return None
    each = price * vaults / _GIGABYTE
    return stored * each, byte_months * each


def _document(simulated: "Simulation", vaults: int, price: float | None) -> documents.Document:
    history, costs = simulated.history, _costs(simulated, vaults, price)
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
        "cost_per_month": costs[0] if costs else None,
        "cost": costs[1] if costs else None,
    }


def _tell(screen: Screen, simulated: "Simulation", vaults: int, price: float | None) -> None:
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
    if costs := _costs(simulated, vaults, price):
        screen.show(f"Cost in {counted(vaults, 'vault')} at {price:g} per GB and month:")
        screen.show(f"{costs[0]:,.2f} a month then, {costs[1]:,.2f} until then.")
    elif price is not None:
        screen.show("So its cost is not known either.")
    screen.show("")


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
