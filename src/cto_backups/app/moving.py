"""Move a catalog to where the policy says that it is now, from where it was before: a file to a server, or back."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.app.catalog_place import place_for
from cto_backups.errors import NotFoundError, RefusedError, UsageError
from cto_backups.process import host

if TYPE_CHECKING:
    from cto_backups.catalog.catalog import Catalog


@dataclass(frozen=True)
class Moved:
    """Where a catalog was and is, how many rows it has, and where the file is put aside; None where it was no file."""

    origin: str
    place: str
    rows: int
    aside: Path | None


def move(policy: Path, origin: str) -> Moved:
    """Bring all of the catalog at `origin`, a URL as in the policy, to the place that the policy names.

    There must be none yet: it is there whole, or not at all. A file is put aside then, so that nobody goes on with it.
    Raises UsageError, RefusedError, NotFoundError, CatalogError.
    """
    from cto_backups.catalog import database
    from cto_backups.catalog.catalog import Catalog
    from cto_backups.catalog.moving import moved
    from cto_backups.config import load

    configuration = load(policy)
    settings = configuration.settings
    before = _absolute(origin, settings.home)
    path = database.path_of(before)
    if database.place_of(before) == database.place_of(settings.catalog_url):
        raise UsageError(
            "The catalog is there already",
            why=f"the policy names {database.place_of(before)} too",
            todo="Write the new place as 'catalog:' into the policy first; --from is the old one.",
        )
    place, now = place_for(configuration), clock.now()
    if place.exists():
        raise RefusedError(
            f"The catalog {database.place_of(settings.catalog_url)} is there already",
            why="all that one holds would have to be put together with what the other holds",
            todo="Move that one away, or bring in what it lacks with 'cto.backups catalog rebuild'.",
        )
    if path is not None and not path.exists():
        raise NotFoundError(
            f"There is no catalog at {path}",
            why="--from is where the catalog was until now",
            todo="Write what 'catalog:' was in the policy before, such as --from sqlite:catalog.db.",
        )
    with Catalog.open(before, now=now, password=settings.catalog_login) as held:
        _refuse_at_work(held)
    old = database.open_existing(before, now, password=settings.catalog_login)
    try:
        with place.beside() as fresh:
            new = database.open_existing(fresh, now, password=settings.catalog_login)
            try:
                with moved(old, new) as rows:
                    new.close()  # all of it is in its place before anybody can write to the old one again
                    place.take(fresh)
            finally:
                new.close()
    finally:
        old.close()
    aside = None if path is None else _put_aside(path)
    return Moved(database.place_of(before), database.place_of(settings.catalog_url), rows, aside)


def _absolute(url: str, home: Path) -> str:
    scheme, _, path = url.partition(":")
    return f"sqlite:{home / Path(path).expanduser()}" if scheme == "sqlite" and path else url


def _refuse_at_work(held: "Catalog") -> None:
    """Refuse while a worker is alive that would go on writing where nobody looks any more."""
    from cto_backups.flows.processes import process_alive

    now, here = clock.now(), host()
    for sign in held.facts(now, ()).heartbeats:
        if now <= sign.next_by and (sign.host != here or process_alive(sign.pid)):
            raise RefusedError(
                "The catalog is at work",
                why=f"the worker '{sign.name}', process {sign.pid} on {sign.host}, may write to it",
                todo=f"Stop it first; one that is gone counts as such after {sign.next_by:%H:%M:%S} UTC.",
            )


def _put_aside(path: Path) -> Path:
    """Give the old file another name, so that whoever still has the old policy is told that there is no catalog."""
    aside = path.with_name(f"{path.name}.moved-{clock.now():%Y%m%dT%H%M%SZ}")
    return path.rename(aside)
