"""`version`: what is installed here."""

import platform

from cto_backups import __version__
from cto_backups.cli.command import command
from cto_backups.cli.screen import Screen


@command
def version(screen: Screen) -> None:
    """Show the version of cto.backups, and of the Python that runs it."""
    screen.document({"version": __version__, "python": platform.python_version()})
    screen.show(f"cto.backups {__version__} (Python {platform.python_version()})")
