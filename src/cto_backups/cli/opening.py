"""Open the installation that a command works on."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cto_backups.cli.screen import Screen
from cto_backups.errors import BackupsError

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.config import Configuration
    from cto_backups.core.policy import Policy


@contextmanager
def opened(
    screen: Screen,
    *,
    write: "bool | Callable[[Policy], bool]" = True,
    progress: bool = True,
    notices: bool = True,
    ahead: "Callable[[Policy], str | None] | None" = None,
    in_haste: bool = False,
    configuration: "Configuration | None" = None,
) -> Iterator["Opened"]:
    """Open the installation of the policy that the user means, and tell what was put right after killed runs.

    Told too is what in the policy waits for an approval, unless `notices` is False.
    `ahead` names a vault whose repository is needed for sure. `in_haste` does without bandwidth limits. With
    `configuration`, the policy is one that was loaded already.
    """
    from cto_backups import app
    from cto_backups.cli.logs import configure

    configure(screen.options)
    policy = configuration or app.find_policy(screen.options.policy)
    display = screen.progress if progress else app.silent
    with app.opened(policy, progress=display, write=write, ahead=ahead or app.nothing, in_haste=in_haste) as opened:
        screen.zone = ZoneInfo(opened.configuration.policy.timezone)
        for sentence in (*opened.recovered, *(opened.notices if notices else ())):
            screen.note(sentence)
        if not gc.isenabled():  # `main` had it off while the program loaded: none of that is garbage
            gc.freeze()
            gc.enable()
        try:
            yield opened
        except BackupsError:
            _report(screen, opened)
            raise
        _report(screen, opened)


def _report(screen: Screen, opened: "Opened") -> None:
    """Once a command is done, what it came to is reported where policy wants that; whatever becomes of it is a note."""
    if opened.written and opened.configuration.policy.report_to is not None:
        from cto_backups.flows.report import report_beside

        if problem := report_beside(opened.installation):
            screen.note(problem)
