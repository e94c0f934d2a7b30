"""`init`: make a new installation."""

import getpass
import shlex
from pathlib import Path
from typing import Annotated

import typer

from cto_backups.cli.command import command
from cto_backups.cli.screen import Screen
from cto_backups.errors import UsageError


@command
def init(
    screen: Screen,
    home: Annotated[
        Path | None, typer.Argument(metavar="HOME", help="The folder for policy, keys, vaults and catalog.")
    ] = None,
    business: Annotated[str, typer.Option("--business", metavar="NAME", help="Whose data it is.")] = "",
    protect: Annotated[
        list[Path] | None,
        typer.Option("--protect", metavar="DIR", help="Protect what is found below this folder; may be repeated."),
    ] = None,
    catalog: Annotated[
        str, typer.Option("--catalog", metavar="URL", help="Where the catalog is: a file, or a database for a fleet.")
    ] = "sqlite:catalog.db",
) -> None:
    """Make a new installation: a commented policy file, keys, three local vaults and a catalog.

    Nothing that is there already is overwritten. Without --protect, the current folder is what the policy protects at
    first; edit backups.yaml to say what must survive.
    """
    from cto_backups.app import starting
    from cto_backups.cli.logs import configure

    configure(screen.options)
    place = home or Path("cto-backups")
    sources: dict[str, dict[str, object]] = {}
    for folder in protect or [Path()]:
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder} to protect", todo="Name an existing folder after --protect.")
        for name, mapping in starting.suggest_sources(folder, place).items():
            sources[_unused(name, sources)] = mapping
    policy = starting.initialise(place, business=business or default_business(), sources=sources, catalog=catalog)
    key = policy.parent / "keys" / "repository.key"
    screen.document({"policy": str(policy), "key": str(key), "sources": sources})
    screen.show(f"Wrote {policy} with {len(sources)} source{'s' if len(sources) != 1 else ''}: {', '.join(sources)}.")
    screen.show(keep_the_key(key))
    screen.show(part_the_keys(policy))
    screen.show(f"Next: cto.backups backup --policy {shlex.quote(str(policy))}")


def default_business() -> str:
    """The business of a policy whose maker did not name one: the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "business"


def keep_the_key(key: Path) -> str:
    """The one sentence that a new key's owner must read."""
    return f"Keep a copy of {key} somewhere else: without this key, nobody can restore anything."


def part_the_keys(policy: Path) -> str:
    """That both keys lie in one folder, which the audit finds, and where to read how to part them."""
    return (
        f"The key that signs evidence lies beside it, in {policy.parent / 'keys'}. Move one of them to another place, "
        "and name it under 'keys:' in the policy: until then, the audit says so."
    )


def _unused(name: str, taken: dict[str, dict[str, object]]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
