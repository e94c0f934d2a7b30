"""`key escrow`: hand out word shares of a secret that opens every vault, to one custodian after the other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import listed
from cto_backups.errors import ExitStatus, NotFoundError, UsageError

if TYPE_CHECKING:
    from cto_backups.cli.share_pages import Presenter
    from cto_backups.flows.key_escrow import HandedOut


@command
def escrow(
    screen: Screen,
    pages: Annotated[
        Path | None, typer.Option("--pages", metavar="FOLDER", help="Write each page into this folder, one at a time.")
    ] = None,
    print_with: Annotated[
        str | None, typer.Option("--print", metavar="COMMAND", help="Give each page to this command, to print it.")
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Let the shares that are out open vaults that came later; asks for them.")
    ] = False,
) -> ExitStatus:
    """Make a secret that opens every vault, and hand out word shares of it to the custodians of the policy.

    One share at a time is on the terminal, in a folder or on paper, and none in any log. The secret itself is kept
    nowhere. A new set does not end the one before: the keys to remove are named.
    """
    if (pages is not None) + (print_with is not None) + extend > 1:
        raise UsageError("Only one of --pages, --print and --extend is possible")
    with opened(screen, progress=False) as opening, opening.installation.exclusive_keys():
        from cto_backups import clock
        from cto_backups.app.escrow import known_escrow
        from cto_backups.flows import key_escrow

        asked = opening.configuration.policy.escrow
        if asked is None:
            raise NotFoundError(
                "The policy names no custodians",
                why="there is no keys: escrow: in it",
                todo="Add for example: escrow: {custodians: [Ada, Grace, Linus], threshold: 2}",
            )
        before = known_escrow(opening).shares
        if extend:
            from cto_backups.cli.share_input import gathered

            key_escrow.check_set(before, before.identifier if before else 0)
            assert before is not None  # checked
            done = key_escrow.extend(opening.installation, before, gathered(screen, ()))
        else:
            present = _presenter(pages, print_with)
            done = key_escrow.hand_out(opening.installation, asked, present, clock.now())
        for error in done.problems.values():
            screen.problem(error)
        status = worst(error.exit_status for error in done.problems.values())
        former = dict(before.keys) if before is not None and not extend else {}
        screen.document(_document(done, former, status))
        _tell(screen, done, former)
        return status


def _presenter(pages: Path | None, print_with: str | None) -> "Presenter":
    from cto_backups.cli import share_pages

    terminal = share_pages.Terminal()
    if pages is not None:
        return share_pages.written_to(pages, terminal)
    if print_with is not None:
        return share_pages.printed_by(print_with, terminal)
    return share_pages.shown_on(terminal)


def _document(done: "HandedOut", former: dict[str, str], status: ExitStatus) -> dict[str, object]:
    shares = done.shares
    return {
        "status": int(status),
        "set": shares.identifier,
        "threshold": shares.threshold,
        "custodians": list(shares.custodians),
        "vaults": [
            {"vault": name, "key": shares.keys.get(name)}
            | ({"error": as_document(done.problems[name])} if name in done.problems else {})
            for name in dict.fromkeys([*shares.keys, *done.problems])
        ],
        "former_keys": sorted(set(former.values())),
    }


def _tell(screen: Screen, done: "HandedOut", former: dict[str, str]) -> None:
    shares = done.shares
    screen.show(f"Set {shares.identifier}: {listed(shares.custodians)} hold a share each.")
    if shares.keys:
        screen.show(f"Any {shares.threshold} of them open {listed(shares.keys)}.")
    if done.problems:
        screen.show(f"They do not open {listed(done.problems)} yet: run it again with --extend.")
    if former:
        screen.show("The set before still opens them. When its pages are destroyed, take it away:")
        screen.show(f"  cto.backups key remove {' '.join(sorted(key[:12] for key in set(former.values())))}")
    screen.show("Try them now: cto.backups key drill")
