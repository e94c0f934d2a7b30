"""A new installation: its policy file, and what that suggests to protect."""

import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.app import POLICY_NAME
from cto_backups.errors import RefusedError

if TYPE_CHECKING:
    from cto_backups.core.model import Resource


# What a quickstart leaves out of a folder's files: made anew by tools, or protected as a git repository.
LEFT_OUT = (".git/", ".venv/", "node_modules/", "__pycache__/", ".cache/", ".*_cache/")


LOCAL_VAULTS = ("one", "two", "three")


def initialise(
    home: Path,
    *,
    business: str,
    sources: Mapping[str, Mapping[str, object]],
    vaults: Mapping[str, Mapping[str, object]] | None = None,
    catalog: str = "sqlite:catalog.db",
) -> Path:
    """Make a new installation in the folder `home`: policy file, keys, vaults with their repositories, catalog.

    Returns the policy file's path. Raises RefusedError when a policy, a key, or a catalog on a server is there already;
    nothing is overwritten. CatalogError when such a server cannot be used, before anything is made.
    """
    from cto_backups.app.vaults import create_vaults
    from cto_backups.catalog.catalog import Catalog
    from cto_backups.config import load
    from cto_backups.config.sample import render
    from cto_backups.config.secrets import create_file_secret
    from cto_backups.evidence.records import SigningKey

    home = home.absolute()
    path = home / POLICY_NAME
    if path.exists():
        raise RefusedError(
            f"{path} is there already",
            why="an installation is made once, and its key must never be replaced by accident",
            todo=f"Use it with --policy {path}, or choose another folder.",
        )
    _refuse_taken(catalog)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    local = {name: _local_vault(name) for name in LOCAL_VAULTS}
    text = render(business=business, sources=sources, vaults=vaults or local, catalog=catalog)
    create_file_secret(home / "keys" / "repository.key", secrets.token_hex(32))
    create_file_secret(home / "keys" / "evidence.key", SigningKey.generate().secret())
    draft = path.with_suffix(".yaml.new")
    draft.write_text(text, encoding="utf-8")
    configuration = load(draft)
    create_vaults(configuration)
    settings = configuration.settings
    Catalog.create(settings.catalog_url, now=clock.now(), password=settings.catalog_login).close()
    # Last: a home with a policy file is a whole installation.
    draft.rename(path)
    return path


def _refuse_taken(catalog: str) -> None:
    """Refuse a catalog on a server that is there already: it may be of other installations."""
    from cto_backups.catalog import database

    if database.is_on_server(catalog) and database.exists_on_server(catalog):
        raise RefusedError(
            f"The catalog {database.place_of(catalog)} is there already",
            why="it is of an installation whose keys are elsewhere",
            todo="Copy the policy and the keys of that installation here; or name another database, or another schema.",
        )


def _local_vault(name: str) -> dict[str, object]:
    return {"url": f"file:vaults/{name}", "provider": "local-disk", "region": "this-machine", "storage": "disk"}


def suggest_sources(folder: Path, home: Path) -> dict[str, dict[str, object]]:
    """Sources for what is found below a folder: the files, git repositories, and SQLite databases with content."""
    from cto_backups.sources.look import look

    folder = folder.resolve()
    found = look(folder, exclude=(home.resolve(),))
    name = _source_name(folder.name or "root")
    suggested: dict[str, dict[str, object]] = {
        f"{name}-files": {
            "kind": "files",
            "class": "configuration",
            "paths": [str(folder)],
            "exclude": [*LEFT_OUT, str(home.resolve())],
        }
    }
    for resource in found:
        inside = Path(resource.location).relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):  # what tools keep for themselves
            _suggest(suggested, resource)
    return suggested


def _suggest(suggested: dict[str, dict[str, object]], resource: "Resource") -> None:
    place = Path(resource.location)
    if resource.kind == "git":
        mapping: dict[str, object] = {"kind": "git", "class": "code-repositories", "url": str(place)}
        name = f"{_source_name(place.name.removesuffix('.git'))}-repository"
    elif resource.kind == "sqlite" and resource.size_bytes:
        mapping = {"kind": "sqlite", "class": "user-data", "path": str(place), "retention": "1 year"}
        name = f"{_source_name(place.stem)}-database"
    else:
        return
    suggested[_unused(name, suggested)] = mapping


def _source_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "source"


def _unused(name: str, taken: Mapping[str, object]) -> str:
    if name not in taken:
        return name
    return next(f"{name}-{number}" for number in range(2, len(taken) + 3) if f"{name}-{number}" not in taken)
