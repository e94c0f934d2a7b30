"""`report`: write what the catalog knows where policy wants it reported."""

from typing import Annotated

import typer

from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted
from cto_backups.errors import ExitStatus


@command
def report(
    screen: Screen,
    again: Annotated[
        bool, typer.Option("--again", help="Deliver all there is, as after 'catalog rebuild'; it is there once.")
    ] = False,
) -> ExitStatus:
    """Report backups, restore tests and the status of sources where the policy says (report_to).

    The worker, and every command that makes facts, do the same when they end; this one waits for as long as it takes.
    """
    with opened(screen) as opening:
        from cto_backups.flows.report import report as deliver

        done = deliver(opening.installation, again=again)
        screen.document({"place": done.place, "copies": done.copies, "tests": done.tests, "sources": done.sources})
        copies = counted(done.copies, "copy", "copies")
        tests, sources = counted(done.tests, "restore test"), counted(done.sources, "source")
        screen.show(f"Reported to {done.place}: {copies}, {tests}, and how {sources} are.")
    return ExitStatus.SUCCESS
