"""What a restore with `delete` could destroy: what is refused, and what somebody has to say yes to."""

import os
import pwd
from pathlib import Path

from cto_backups.core.model import RecoveryPoint
from cto_backups.core.ports import RestoreOptions
from cto_backups.core.wording import counted
from cto_backups.errors import RefusedError
from cto_backups.flows.installation import Installation


def check_delete(
    installation: Installation, point: RecoveryPoint, destination: Path | None, options: RestoreOptions | None
) -> None:
    """Raise RefusedError where `delete` would remove what nobody can have meant."""
    if options is None or not options.delete:
        return
    refused = f"Nothing of {point.id} was restored with --delete"
    if (kind := installation.source_policy(point.source).kind) != "files":
        raise RefusedError(
            refused,
            why=f"source '{point.source}' is of the kind {kind}, which comes back as a whole; "
            "only a source of files has folders to remove something from",
            todo="Restore it without --delete.",
        )
    if not point.complete:
        raise RefusedError(
            refused,
            why=f"the point is incomplete: {counted(len(point.problems), 'entry', 'entries')} could not be captured, "
            "and would be removed",
            todo="Restore it without --delete, or choose a complete point: 'cto.backups points'.",
        )
    if destination is None:
        return
    place = destination.resolve()
    own = [installation.state, *(Path(installation.vault(name).location) for name in installation.policy.vaults)]
    for one in own:
        kept = one.resolve()
        if one.is_absolute() and (place.is_relative_to(kept) or kept.is_relative_to(place)):
            raise RefusedError(
                refused,
                why=f"{destination} {'is in' if place.is_relative_to(kept) else 'holds'} {one}, "
                "where this installation keeps its own things",
                todo="Restore into another folder.",
            )


def peril(destination: Path) -> str | None:
    """Why nobody should remove extraneous entries from a folder without being asked; None for an ordinary folder."""
    place = destination.resolve()
    if place == Path("/"):
        return "it is the root of this machine's files"
    for home in sorted(_homes()):
        if home.is_relative_to(place):
            return "it is a home folder" if home == place else f"it holds the home folder {home}"
    if os.path.ismount(place):
        return "a whole file system is mounted there"
    return None


def _homes() -> set[Path]:
    homes = {Path(account.pw_dir) for account in pwd.getpwall() if account.pw_dir.startswith("/")}
    if (own := os.environ.get("HOME", "")).startswith("/"):
        homes.add(Path(own))
    return {home.resolve() for home in homes} - {Path("/")}
