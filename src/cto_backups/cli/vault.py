"""`vault`: the vaults of the policy and what each lacks; `vault init` makes one, `vault fill` brings what it lacks."""

from functools import partial
from typing import Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import attempt, chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, ExitStatus


@command
def vault(screen: Screen) -> None:
    """List the vaults of the policy: where each is, whether it is there, and how many recovery points it lacks."""
    with opened(screen, write=False) as opening:
        from cto_backups.flows.copy import lacking

        installation = opening.installation
        answers: list[documents.Document] = []
        for name in installation.policy.vaults:
            place = installation.vault(name)
            held, lacks = len(installation.catalog.copies_in(name)), len(lacking(installation, name))
            answer: documents.Document = {"vault": name, "location": place.location, "points": held, "lacks": lacks}
            found = attempt(screen, partial(installation.check_readable, name))
            if isinstance(found, BackupsError):
                answer["error"] = as_document(found)
            answers.append(answer)
            short = f", lacks {lacks}" if lacks else ""
            screen.show(f"{name}: {place.location}: {counted(held, 'recovery point')}{short}")
        screen.document({"vaults": answers})


@command
def init(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A vault of the policy.")],
) -> None:
    """Make a vault that was added to the policy: its folder, and a repository that cuts data as the others do.

    The newest point of each source comes there by itself, with the next backup or worker; 'vault fill' brings all.
    """
    with opened(screen) as opening:
        from cto_backups.app.vaults import init_vault
        from cto_backups.flows.copy import lacking

        chosen_vaults(opening.configuration.policy.vaults, [name])
        made = init_vault(opening, name)
        location = opening.installation.vault(name).location
        lacks = len(lacking(opening.installation, name))
        screen.document({"vault": name, "location": location, "made": made, "lacks": lacks})
        screen.show(f"{name}: made at {location}" if made else f"{name}: is at {location} already, nothing was changed")
        if lacks:
            screen.show(f"It lacks {counted(lacks, 'recovery point')}. Next: cto.backups vault fill {name}")


@command
def fill(
    screen: Screen,
    vaults: Annotated[
        list[str] | None, typer.Argument(metavar="VAULT", help="Vaults of the policy; all when left out.")
    ] = None,
) -> ExitStatus:
    """Bring vaults every kept recovery point that they lack, the newest first, from vaults that have it."""
    with opened(screen) as opening:
        from cto_backups.flows.copy import copy, lacking

        installation = opening.installation

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            statuses: list[ExitStatus] = []
            copies: list[documents.Document] = []
            failed: list[documents.Document] = []
            for point in lacking(installation, name):
                result = attempt(screen, partial(copy, installation, point, name))
                if isinstance(result, BackupsError):
                    failed.append({"point": point.id, "error": as_document(result)})
                    statuses.append(result.exit_status)
                    continue
                screen.show(f"{name}: {point.id} from {result.origin}, {figures.size(result.added_bytes)}")
                copies.append({"point": point.id, "origin": result.origin, "added_bytes": result.added_bytes})
            screen.show(f"{name}: {_summary(len(copies), len(failed))}")
            return {"vault": name, "copies": copies, "failed": failed}, worst(statuses)

        answers, status = in_each(screen, chosen_vaults(installation.policy.vaults, vaults), one)
        screen.document({"status": int(status), "vaults": answers})
        return status


def _summary(copied: int, failed: int) -> str:
    if not copied and not failed:
        return "lacks nothing"
    return f"{counted(copied, 'recovery point')} came" + (f", {failed} did not" if failed else "")
