"""What to try after a quickstart: real commands with real ids, and the same repository through stock restic."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.cli.screen import Screen
from cto_backups.errors import NotFoundError

if TYPE_CHECKING:
    from cto_backups.app import Opened

_PATIENCE_SECONDS = 60


def tell(screen: Screen, opening: "Opened") -> list[str]:
    """Show three commands to try, and restic's if it is here; the commands."""
    commands = suggest(opening)
    if commands:
        screen.show("  Three commands to try:")
    for command in commands:
        screen.show_whole(f"    {command}")
    listing = _restic_command(opening)
    if listing is None:
        return commands
    words, variables = listing
    line = " ".join([f"{name}={shlex.quote(value)}" for name, value in variables.items()] + [shlex.join(words)])
    if _works(words, variables):
        screen.show("  The vaults are restic repositories; stock restic lists them too:")
        screen.show_whole(f"    {line}")
        return [*commands, line]
    screen.note("  Stock restic is installed, but could not list the repository with:")
    screen.note(f"    {line}")
    return commands


def suggest(opening: "Opened") -> list[str]:
    """A restore, a look at the points, and the worker, as they can be typed here."""
    program, policy = _program(), _policy(opening.configuration.path)
    points = opening.installation.catalog.points(limit=1000)
    if not points:
        return []
    # The smallest is the quickest to come back.
    point = min(points, key=lambda each: each.size_bytes)
    return [
        shlex.join([*program, "restore", point.id, "--to", "restored", *policy]),
        shlex.join([*program, "points", point.source, *policy]),
        shlex.join([*program, "worker", "--once", *policy]),
    ]


def _program() -> list[str]:
    """How this program was started, if its short name would not be found."""
    if shutil.which("cto.backups"):
        return ["cto.backups"]
    started = Path(sys.argv[0])
    if started.name in ("cto.backups", "cto-backups"):
        return [_short(started)]
    return [_short(Path(sys.executable)), "-m", "cto_backups"]


def _policy(path: Path) -> list[str]:
    from cto_backups import app

    try:
        found = app.find_policy(None)
    except NotFoundError:
        found = None
    if found is not None and found.exists() and path.samefile(found):
        return []
    return ["--policy", _short(path)]


def _short(path: Path) -> str:
    """The path from here, where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _restic_command(opening: "Opened") -> tuple[list[str], dict[str, str]] | None:
    settings = opening.configuration.settings
    folders = [vault for vault in opening.configuration.policy.vaults.values() if vault.url.startswith("file:")]
    key = next(iter(settings.key_of(folders[0].name).paths(settings.home)), None) if folders else None
    if shutil.which("restic") is None or key is None:
        return None
    location = Path(opening.installation.vault(folders[0].name).location)
    repository = location / "repositories" / settings.domain
    return (
        ["restic", "-r", _short(repository), "--no-cache", "snapshots"],
        {"RESTIC_PASSWORD_FILE": _short(key)},
    )


def _works(words: list[str], variables: dict[str, str]) -> bool:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RESTIC_")}
    try:
        done = subprocess.run(
            words, env={**environment, **variables}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_PATIENCE_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
