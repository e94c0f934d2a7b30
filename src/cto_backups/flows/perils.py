"""What a restore could destroy: what is refused, what is spared, and what somebody has to say yes to."""

import os
import pwd
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cto_backups.core.model import RecoveryPoint
from cto_backups.core.ports import RestoreOptions
from cto_backups.core.wording import counted
from cto_backups.errors import RefusedError
from cto_backups.flows.installation import Installation

_MANY_THINGS = ("files", "bucket")
"""Kinds of sources that do not come back as a whole."""


def checked(
    installation: Installation, point: RecoveryPoint, destination: Path | None, options: RestoreOptions | None
) -> RestoreOptions:
    """How to restore without harm to what the installation itself uses, which is spared, in place and elsewhere.

    Raises RefusedError for a destination among its own things, and where `delete` would remove what nobody can have
    meant.
    """
    options = options or RestoreOptions()
    if options.delete:
        _check_delete(installation, point, destination)
    if destination is not None:
        _check_place(installation, point, destination, holding=options.delete)
    elif installation.source_policy(point.source).kind != "files":
        return options  # what comes back as a whole takes the place of one thing, which is kept beside it
    spare = _spared(installation.own, (destination or Path("/")).resolve())
    return replace(options, spare=spare, leave=lambda path, _folder: path in spare)


def _check_delete(installation: Installation, point: RecoveryPoint, destination: Path | None) -> None:
    refused = f"Nothing of {point.id} was restored with --delete"
    if (kind := installation.source_policy(point.source).kind) not in _MANY_THINGS:
        raise RefusedError(
            refused,
            why=f"source '{point.source}' is of the kind {kind}, which comes back as a whole; "
            "only of files, and of the objects in a bucket, can some be removed",
            todo="Restore it without --delete.",
        )
    if not point.complete:
        raise RefusedError(
            refused,
            why=f"the point is incomplete: {counted(len(point.problems), 'entry', 'entries')} could not be captured, "
            "and would be removed",
            todo="Restore it without --delete, or choose a complete point: 'cto.backups points'.",
        )


def _check_place(installation: Installation, point: RecoveryPoint, destination: Path, *, holding: bool) -> None:
    """Refuse a place among the installation's own things, and with `holding` one that holds some of them."""
    place = destination.resolve()
    for one in installation.own:
        kept = one.resolve()
        inside = place.is_relative_to(kept)
        if one.is_absolute() and (inside or (holding and kept.is_relative_to(place))):
            raise RefusedError(
                f"Nothing of {point.id} was restored{' with --delete' if holding else ''}",
                why=f"{destination} {'is in' if inside else 'holds'} {one}, "
                "where this installation keeps its own things",
                todo="Restore into another folder.",
            )


def _spared(own: Iterable[Path], base: Path) -> frozenset[bytes]:
    """Where own things lie below a folder, as paths that begin there: by their names, and where links lead."""
    places = {place for one in own for place in (one.parent.resolve() / one.name, one.resolve())}
    return frozenset(b"/" + os.fsencode(place.relative_to(base)) for place in places if place.is_relative_to(base))


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
