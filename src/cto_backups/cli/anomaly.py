"""`anomaly`: the points whose change is suspect, and clearing those whose change was meant."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from cto_backups.core.keeping import Mark
    from cto_backups.core.model import RecoveryPoint


@command
def anomaly(screen: Screen) -> None:
    """List the points under suspicion; it is 'anomaly list'."""
    _list(screen, everything=False)


@command
def list_marks(
    screen: Screen,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were cleared.")] = False,
) -> None:
    """List the points whose change looks like ransomware, a wiper or an accident, and why, the newest first."""
    _list(screen, everything=everything)


@command
def clear(
    screen: Screen,
    what: Annotated[
        str, typer.Argument(metavar="POINT|SOURCE", help="A point under suspicion, or all of them of a source.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What the change was.")],
) -> ExitStatus:
    """Say that a change was meant: the points before it expire again as retention says. It is signed and kept.

    A change of that kind and size is usual for the source from then on.
    """
    words = " ".join(reason.split())
    if not words:
        raise UsageError(
            "Clearing a point needs a reason",
            why="the one given is empty",
            todo="Run: cto.backups anomaly clear POINT --reason TEXT",
        )
    with opened(screen, progress=False) as opening:
        from cto_backups.flows.anomaly import clear as settle

        done = settle(opening.installation, what, reason=words)
        for mark in done.marks:
            screen.show(f"{mark.point}: cleared; the clean points of {mark.source} before it are no longer kept for it")
        for vault, problem in done.problems.items():
            screen.problem(problem, prefix=f"The signed record is not in {vault} yet")
        status = worst(problem.exit_status for problem in done.problems.values())
        screen.document(
            {
                "status": int(status),
                "marks": [documents.mark(mark) for mark in done.marks],
                "vault_errors": documents.vault_errors(done.problems),
            }
        )
        return status


def _list(screen: Screen, *, everything: bool) -> None:
    with opened(screen, write=False) as opening:
        marks = opening.installation.catalog.marks.listed(cleared=everything)
        screen.document({"marks": [documents.mark(mark) for mark in marks]})
        if not marks:
            screen.show("No point was ever under suspicion." if everything else "No point is under suspicion.")
        for mark in marks:
            screen.show(f"{mark.point}: {'; '.join(mark.suspicions)}")
            if mark.cleared_at is not None:
                when = screen.moment(mark.cleared_at)
                screen.show(f"  cleared {when} by {mark.cleared_by}: {mark.cleared_because}")


def sentence(screen: Screen, mark: "Mark") -> str:
    """Why a point is or was under suspicion, in one line."""
    why = "; ".join(mark.suspicions)
    if mark.cleared_at is None:
        return why
    return f"{why} (cleared {screen.moment(mark.cleared_at)} by {mark.cleared_by}: {mark.cleared_because})"


def alarm(point: "RecoveryPoint") -> str:
    """What is said, in one line, of a point that has just been marked."""
    return (
        f"SUSPICIOUS: {point.source}: {'; '.join(point.suspicions)}. {point.id} is marked, and the clean points before "
        f"it do not expire. If this was meant: cto.backups anomaly clear {point.id} --reason TEXT"
    )
