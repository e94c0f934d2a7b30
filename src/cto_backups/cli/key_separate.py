"""`key separate`: let a vault open with the key of its own that the policy names, and with the shared one no more."""

from typing import Annotated

import typer

from cto_backups.cli.command import command
from cto_backups.cli.key import shown
from cto_backups.cli.screen import Screen


@command
def separate(
    screen: Screen,
    vault: Annotated[str, typer.Argument(metavar="VAULT", help="A vault whose settings in the policy have a key.")],
) -> None:
    """Let a vault that was used before open with the key of its own, and with the shared secret no more.

    Its secret is made where the policy names a file that is not there, added, wrapped with its key services, and tried;
    only then is the shared one taken away there. Whenever this is stopped, run it again: it goes on from there.
    """
    from cto_backups import app
    from cto_backups.app.own_keys import separate as carry_out
    from cto_backups.cli.logs import configure

    configure(screen.options)
    done = carry_out(app.find_policy(screen.options.policy), vault)
    made = {} if done.made is None else {"made": str(done.made)}
    screen.document({"vault": done.vault, "key": done.key, "removed": list(done.removed)} | made)
    if done.made is not None:
        screen.show(f"Made {done.made}: keep a copy away from this machine and from the vault.")
    screen.show(f"{done.vault}: opens with {shown((done.key,))} of its own; {_taken(done.removed)}")


def _taken(removed: tuple[str, ...]) -> str:
    return f"the shared secret's {shown(removed)} is removed" if removed else "the shared secret opened it no more"
