"""`approvals` and `approve`: what destructive work waits for, and the people who let it happen."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.core.governance import Standing, Who
from cto_backups.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from cto_backups.core.governance import Approval

_SHOWN = 20


@command
def approvals(
    screen: Screen,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that were denied or used, or have expired.")
    ] = False,
) -> None:
    """List what waits for an approval, and what was approved and is not done yet: what, who asked, until when."""
    with opened(screen, write=False) as opening:
        from cto_backups import clock

        now = clock.now()
        found = [
            each
            for each in opening.installation.catalog.approvals.listed()
            if everything or each.standing(now) in (Standing.OPEN, Standing.GIVEN)
        ]
        screen.document({"approvals": [documents.approval(each, now) for each in found]})
        if not found:
            screen.show("Nothing was ever asked for." if everything else "Nothing waits for an approval.")
        for each in found:
            _show(screen, each, now)


@command
def approve(
    screen: Screen,
    name: Annotated[
        str, typer.Argument(metavar="ID", help="As the refused command tells it, or a unique beginning of it.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is signed and kept.")] = "",
    deny: Annotated[
        bool, typer.Option("--deny", help="Deny it instead, or take an approval back that is not used yet.")
    ] = False,
) -> ExitStatus:
    """Approve exactly what was asked for, once and for a limited time.

    Who does it is the user of the operating system. Where the policy asks for a second person, that must be another
    than the one who asked.
    """
    words = " ".join(reason.split())
    if not words:
        raise UsageError(
            f"{'A denial' if deny else 'An approval'} needs a reason",
            why="--reason is not given, or empty",
            todo=f"Run: cto.backups approve {name}{' --deny' if deny else ''} --reason TEXT",
        )
    with opened(screen, progress=False, notices=False) as opening:
        from cto_backups import clock
        from cto_backups.flows.governance import decide

        done = decide(opening.installation, name, grant=not deny, reason=words)
        now = clock.now()
        _show(screen, done.approval, now)
        if done.approval.standing(now) is Standing.GIVEN:
            screen.show("What was refused before can be run now, once, as it was asked for.")
        for vault, problem in done.problems.items():
            screen.problem(problem, prefix=f"The signed record is not in {vault} yet")
        status = worst(problem.exit_status for problem in done.problems.values())
        screen.document(
            {
                "status": int(status),
                "approval": documents.approval(done.approval, now),
                "vault_errors": documents.vault_errors(done.problems),
            }
        )
        return status


def _show(screen: Screen, found: "Approval", now: "datetime") -> None:
    screen.show(f"{found.id}: {found.standing(now)}")
    screen.show(f"  {found.summary}")
    for name, part in found.parameters.items():
        _show_parameter(screen, name, part)
    screen.show(f"  asked for {screen.moment(found.requested_at)} by {found.requested_by}")
    if found.decided_at is not None:
        word = "approved" if found.granted else "denied"
        screen.show(f"  {word} {screen.moment(found.decided_at)} by {found.decided_by}: {found.reason}")
    if found.used_at is not None:
        screen.show(f"  used {screen.moment(found.used_at)} by {found.used_by}")
    elif found.standing(now) in (Standing.OPEN, Standing.GIVEN):
        second = " by a second person" if found.who is Who.SECOND_PERSON else ""
        done = "used" if found.granted else f"approved{second}"
        screen.show(f"  to be {done} before {screen.moment(found.expires_at)}")


def _show_parameter(screen: Screen, name: str, part: object) -> None:
    if isinstance(part, list | tuple):
        screen.show(f"    {name}: {', '.join(map(str, part[:_SHOWN])) or 'all'}")
        if len(part) > _SHOWN:
            screen.show(f"      … and {len(part) - _SHOWN} more, as --json lists them")
    elif part is not None:
        shown = {True: "yes", False: "no"}[part] if isinstance(part, bool) else part
        screen.show(f"    {name.replace('_', ' ')}: {shown}")
