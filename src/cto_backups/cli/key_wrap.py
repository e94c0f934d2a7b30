"""`key wrap`: let the key services of the policy wrap the secret of every vault."""

from typing import Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.attempts import chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.key import Vaults
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.errors import ExitStatus


@command
def wrap(
    screen: Screen,
    anew: Annotated[
        bool, typer.Option("--anew", help="Also where it is done: with the key's newest version, the old goes.")
    ] = False,
    vault: Vaults = None,
) -> ExitStatus:
    """Wrap the secret of each vault with every key service that the policy names for it, and see that it unwraps.

    The wrapped secret lies beside each repository, and here. No stored data is touched.
    """
    with opened(screen) as opening, opening.installation.exclusive_keys():
        from cto_backups.app.wrapping import Wrapping

        wrapping = Wrapping(opening)
        names = chosen_vaults(opening.configuration.policy.vaults, vault)
        wrapping.check(names)

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            done = wrapping.wrap(name, wrapping.secret_of(name), anew=anew)
            for each in done:
                if each.problem is not None:
                    screen.problem(each.problem)
                else:
                    screen.show(f"{name}: {'wrapped' if each.new else 'was wrapped already'} with {each.service}")
            services = [
                {"service": each.service, "new": each.new}
                | ({} if each.problem is None else {"error": as_document(each.problem)})
                for each in done
            ]
            statuses = [each.problem.exit_status for each in done if each.problem is not None]
            return {"vault": name, "services": services}, worst(statuses)

        answers, status = in_each(screen, names, one)
        screen.document({"status": int(status), "vaults": answers})
        return status
