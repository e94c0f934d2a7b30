"""`hosts`: the hosts of a fleet, and whether their workers live."""

from typing import TYPE_CHECKING

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from datetime import datetime

    from cto_backups.core.hosts import Host


@command
def hosts(screen: Screen) -> ExitStatus:
    """List the hosts: last sign of life, what only they can do (their lane), load, and release.

    Exits with 4 when one is gone, until its workers are forgotten and nothing is its own any more.
    """
    from rich.text import Text

    from cto_backups.cli.tables import row, table
    from cto_backups.core.heartbeat import MOST_NAMED
    from cto_backups.core.hosts import shared
    from cto_backups.flows.fleet import look

    with opened(screen, write=False) as opening:
        found, homes, now = look(opening.installation)
        policy = opening.installation.policy
    status = ExitStatus.RED if any(host.gone for host in found) else ExitStatus.SUCCESS
    sources, vaults = shared(policy, homes)
    screen.document(
        {
            "status": int(status),
            "hosts": [_document(host) for host in found],
            "pool": {"sources": sources, "vaults": vaults},
        }
    )
    if not found:
        screen.show("No worker ever gave a sign of life. Start one: cto.backups worker")
        return status
    shown = table("Host", "Sign of life", "Lane", "Load", "Release", flexible=("Host", "Sign of life"))
    for host in found:
        told = Text(_sign(host, now), style="bold red" if host.gone else "yellow" if host.other_policy else "green")
        lane = f"{counted(host.sources, 'source')}, {counted(host.vaults, 'vault')}"
        row(shown, host.name, told, lane, _load(host), ", ".join(_releases(host)) or "unknown")
    screen.show(shown)
    if sources or vaults:
        screen.show(f"Any of them takes care of {counted(sources, 'source')} and {counted(vaults, 'vault')} besides.")
    for host in found:
        if host.other_policy and not host.gone:
            screen.show(f"{host.name} works under another policy than this one: give all hosts the same file.")
    gone = [host for host in found if host.gone]
    if any(host.workers for host in gone):
        screen.show("Start 'cto.backups worker' there again: what only that host can do waits.")
    dead = [last.name for host in gone for last in host.workers]
    for name in dead[:MOST_NAMED]:
        screen.show(f"If it was retired: cto.backups worker --forget {name}")
    if len(dead) > MOST_NAMED:
        screen.show(f"So with the other {len(dead) - MOST_NAMED} that are gone: cto.backups hosts --json names them.")
    return status


def _sign(host: "Host", now: "datetime") -> str:
    from cto_backups.core.duration import roughly

    if host.seen is None:
        return "never: no worker runs there"
    ago = f"{roughly(max(now - host.seen, now - now))} ago"
    if host.gone:
        return f"GONE, {ago}"
    return f"{ago}, other policy" if host.other_policy else ago


def _load(host: "Host") -> str:
    most = sum(last.most for last in host.workers)
    return f"{sum(last.running for last in host.workers)} of {most}" if most and not host.gone else "-"


def _releases(host: "Host") -> tuple[str, ...]:
    return tuple(sorted({last.version for last in host.workers if last.version}))


def _document(host: "Host") -> documents.Document:
    return {
        "host": host.name,
        "gone": host.gone,
        "last_sign_at": utc(host.seen),
        "sources": host.sources,
        "vaults": host.vaults,
        "other_policy": host.other_policy,
        "workers": [
            {
                "name": last.name,
                "last_sign_at": utc(last.at),
                "next_sign_by": utc(last.next_by),
                "pid": last.pid,
                "running": last.running,
                "most": last.most,
                "busy_with": last.busy_with or None,
                "version": last.version or None,
                "policy": last.policy or None,
            }
            for last in host.workers
        ],
    }
