"""`hold`: legal holds, which keep points until they are released, whatever retention says."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted
from cto_backups.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from cto_backups.core.keeping import Hold
    from cto_backups.flows.hold import Held


@command
def hold(screen: Screen) -> None:
    """List the legal holds in force; it is 'hold list'."""
    _list(screen, everything=False)


@command
def list_holds(
    screen: Screen,
    everything: Annotated[bool, typer.Option("--all", help="Also the holds that were released.")] = False,
) -> None:
    """List the legal holds in force: on what, since when, by whom and why."""
    _list(screen, everything=everything)


@command
def add(
    screen: Screen,
    what: Annotated[str, typer.Argument(metavar="SOURCE|POINT", help="A source, or a recovery point's id.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, such as the number of the case.")],
    approver: Annotated[str | None, typer.Option("--approver", metavar="NAME", help="Who agreed to it.")] = None,
) -> ExitStatus:
    """Put a source or one recovery point under a legal hold, until it is released.

    On a source it holds all its kept points and those made later. No retention, and no expire, drops a held point.
    """
    reason = _said(reason, "hold add SOURCE --reason TEXT")
    with opened(screen) as opening:
        from cto_backups.flows.hold import place

        return _tell(
            screen, place(opening.installation, what, reason=reason, approver=(approver or "").strip() or None)
        )


@command
def release(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="ID", help="The hold's id, or a unique beginning of it.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it ends.")],
) -> ExitStatus:
    """Release a legal hold: from now on retention decides again. Who did it, when and why is signed and kept."""
    reason = _said(reason, "hold release ID --reason TEXT")
    with opened(screen) as opening:
        from cto_backups.flows.hold import release as let_go

        return _tell(screen, let_go(opening.installation, name, reason=reason))


def _said(reason: str, usage: str) -> str:
    words = " ".join(reason.split())
    if not words:
        raise UsageError(
            "A hold needs a reason, to place it and to release it",
            why="the one given is empty",
            todo=f"Run: cto.backups {usage}",
        )
    return words


def _tell(screen: Screen, held: "Held") -> ExitStatus:
    found = held.hold
    subject = found.point or f"source {found.source}, with {counted(held.points, 'kept point')} and those made later,"
    if found.released_at is None:
        screen.show(f"{found.id}: {subject} is under legal hold: {found.reason}")
    else:
        screen.show(f"{found.id}: released; retention decides on {found.point or f'source {found.source}'} again")
    for vault, problem in held.problems.items():
        screen.problem(problem, prefix=f"The signed record is not in {vault} yet")
    for vault, done in held.stores.items():
        screen.show(f"  {vault}: {figures.held(done)}")
    for vault, problem in held.undone.items():
        screen.problem(problem, prefix=f"The store of {vault} does not follow yet; 'vault renew {vault}' does it again")
    status = worst(problem.exit_status for problem in (*held.problems.values(), *held.undone.values()))
    screen.document(
        {
            "status": int(status),
            "hold": documents.hold(found),
            "points": held.points,
            "vault_errors": documents.vault_errors(held.problems),
            "stores": {vault: documents.in_store(done) for vault, done in held.stores.items()},
            "store_errors": documents.vault_errors(held.undone),
        }
    )
    return status


def _list(screen: Screen, *, everything: bool) -> None:
    with opened(screen, write=False) as opening:
        holds = opening.installation.catalog.holds(released=everything)
        screen.document({"holds": [documents.hold(found) for found in holds]})
        if not holds:
            screen.show("There is no hold." if everything else "There is no hold in force.")
        for found in holds:
            screen.show(f"{found.id}: {found.point or f'source {found.source}'}")
            screen.show(f"  since {screen.moment(found.placed_at)} by {found.placing}: {found.reason}")
            if found.released_at is not None:
                when = screen.moment(found.released_at)
                screen.show(f"  released {when} by {found.released_by}: {found.released_because}")


def sentence(screen: Screen, found: "Hold") -> str:
    """A hold in force in one line: its id, on what, who, when and why."""
    on = "this point" if found.point else f"all of {found.source}"
    return f"{found.id} on {on} since {screen.moment(found.placed_at)} by {found.placing}: {found.reason}"
