"""The place of a catalog, and a new one that is made beside it and put there when it is whole."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cto_backups import clock
from cto_backups.errors import CatalogError, RefusedError

if TYPE_CHECKING:
    from cto_backups.catalog.database import Password
    from cto_backups.config import Configuration


class CatalogPlace(Protocol):
    """Where the policy says that the catalog is."""

    def exists(self) -> bool:
        """Whether there is one."""
        ...

    def beside(self) -> AbstractContextManager[str]:
        """The URL of an empty catalog beside this place; gone at the end, as are those that killed runs left."""
        ...

    def take(self, fresh: str) -> None:
        """Put the one that was made beside it there. Raises RefusedError when another one is there by now."""
        ...


def place_for(configuration: "Configuration") -> CatalogPlace:
    """The place of an installation's catalog."""
    from cto_backups.catalog.database import path_of

    settings = configuration.settings
    path = path_of(settings.catalog_url)
    return ServerPlace(settings.catalog_url, settings.catalog_login) if path is None else FilePlace(path)


@dataclass(frozen=True)
class ServerPlace:
    """A schema of a database on a server; another schema is beside it."""

    url: str
    password: "Password | None"

    def exists(self) -> bool:
        """Whether there is one."""
        from cto_backups.catalog.database import exists_on_server

        return exists_on_server(self.url, self.password)

    def beside(self) -> AbstractContextManager[str]:
        """The URL of an empty catalog beside this place."""
        from cto_backups.catalog.postgresql import making

        return making.beside(self.url, self.password)

    def take(self, fresh: str) -> None:
        """Put the one that was made beside it there."""
        from cto_backups.catalog.postgresql import making

        making.put_in_place(fresh, self.url, self.password)


@dataclass(frozen=True)
class FilePlace:
    """A file; another file is beside it."""

    path: Path

    def exists(self) -> bool:
        """Whether there is one."""
        return self.path.exists()

    @contextlib.contextmanager
    def beside(self) -> Iterator[str]:
        """The URL of an empty catalog beside this place."""
        from cto_backups.catalog.catalog import Catalog

        place = self.path
        for left in place.parent.glob(f".{place.name}.rebuilding-*"):
            if not _alive(left.name.partition("rebuilding-")[2].partition("-")[0]):
                left.unlink(missing_ok=True)
        fresh = place.with_name(f".{place.name}.rebuilding-{os.getpid()}")
        try:
            Catalog.create(f"sqlite:{fresh}", now=clock.now()).close()
            yield f"sqlite:{fresh}"
        finally:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    fresh.with_name(fresh.name + suffix).unlink()

    def take(self, fresh: str) -> None:
        """Put the one that was made beside it there."""
        try:
            os.link(fresh.partition(":")[2], self.path)  # unlike a renaming, it never takes the place of another
        except FileExistsError:
            raise RefusedError(
                f"The catalog {self.path} is there now",
                why="somebody else has made it meanwhile",
                todo="Run this again: it then adds to that one what it lacks.",
            ) from None
        except OSError as error:
            raise CatalogError(
                f"The catalog {self.path} cannot be made",
                why=error.strerror or str(error),
                todo="See to it that its folder can be written to.",
            ) from None


def _alive(pid: str) -> bool:
    return pid.isdecimal() and Path(f"/proc/{pid}").exists()
