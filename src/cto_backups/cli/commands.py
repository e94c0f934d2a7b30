"""Every command of `command_table`, made of the function that is loaded when the command is called for.

A command starts as fast as what it needs loads: nobody waits for the modules of the other commands.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command

from cto_backups.cli.command import Command, Group, command
from cto_backups.cli.command_table import COMMANDS, Entry
from cto_backups.cli.screen import Screen

NAME = "cto.backups"
_SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["--help", "-h"], "max_content_width": 100},
}


def build() -> Any:
    """The whole command line, as Typer runs it."""
    app = typer.Typer(cls=_Main, no_args_is_help=True, **_SETTINGS)
    app.callback()(command(_root))
    main = get_command(app)
    assert isinstance(main, _Main)
    main.commands = _Commands(COMMANDS)  # type: ignore[assignment]  # Typer only reads it
    return main


def _root(screen: Screen) -> None:
    """Protect data, copy it to independent places, and prove by restoring that it comes back."""


class _Main(Group):
    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order of the table, which is the order in which people need them."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands from the table, without loading any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(entry.name, entry.short) for entry in COMMANDS])


class _Commands(Mapping[str, Any]):
    """The commands by name, each made when it is asked for."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _made(self._entries[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _made(entry: Entry) -> Any:
    """The command of an entry, its module loaded now."""
    if not entry.below:
        app = typer.Typer(**_SETTINGS)
        app.command(entry.name, cls=Command, **_about(entry))(_function(entry))
        return get_command(app)
    app = typer.Typer(name=entry.name, cls=Group, invoke_without_command=True, **_SETTINGS)
    app.callback(**_about(entry))(_function(entry))
    for lower in entry.below:
        app.command(lower.name, cls=Command, **_about(lower))(_function(lower))
    return get_command(app)


def _about(entry: Entry) -> dict[str, Any]:
    return {
        "short_help": entry.short,
        "epilog": "\n".join(f"{NAME} {example}" for example in entry.examples),
    }


def _function(entry: Entry) -> Any:
    module, name = entry.function.split(":")
    return getattr(import_module(f"cto_backups.cli.{module}"), name)
