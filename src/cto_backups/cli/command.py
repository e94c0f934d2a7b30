"""What makes a function a command: global options, its screen, examples in its help, close names for mistypings."""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cto_backups.cli.options import GlobalOptions
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import did_you_mean
from cto_backups.errors import UsageError

GLOBAL_PANEL = "Global options"

_GLOBALS: dict[str, tuple[Any, Any]] = {
    "policy": (
        Annotated[
            Path | None,
            typer.Option(
                "--policy", "-p", metavar="FILE", help="The policy file, or its folder.", rich_help_panel=GLOBAL_PANEL
            ),
        ],
        None,
    ),
    "json": (
        Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=GLOBAL_PANEL)],
        False,
    ),
    "quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.", rich_help_panel=GLOBAL_PANEL)],
        False,
    ),
    "verbose": (
        Annotated[bool, typer.Option("--verbose", "-v", help="Say more; log to stderr.", rich_help_panel=GLOBAL_PANEL)],
        False,
    ),
    "no_color": (
        Annotated[bool, typer.Option("--no-color", help="Use no colours.", rich_help_panel=GLOBAL_PANEL)],
        False,
    ),
}

Callback = Callable[..., Any]


def command(function: Callback) -> Callback:
    """Make `function(screen, …)` a function that Typer can call: it takes the global options and gets a screen instead.

    Of an enclosing group the options are taken over: ``--json status`` is ``status --json``.
    """
    own = list(inspect.signature(function).parameters.values())[1:]
    taken = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _GLOBALS.items()
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    @functools.wraps(function)
    def run(ctx: typer.Context, **given: Any) -> Any:
        options = GlobalOptions(**{name: given.pop(name) for name in _GLOBALS})
        if ctx.parent is not None and isinstance(ctx.parent.obj, GlobalOptions):
            options = ctx.parent.obj.also(options)
        ctx.obj = options
        if ctx.invoked_subcommand is not None:
            return None
        try:
            return function(Screen(options), **given)
        except BrokenPipeError as error:
            raise OutputClosedError from error
        except KeyboardInterrupt as error:
            raise InterruptedByUserError from error

    parameters = [context, *taken, *shared]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


class OutputClosedError(Exception):
    """Whoever read our output has gone."""


class InterruptedByUserError(Exception):
    """A signal asked us to stop; it passes through Typer, which would swallow a KeyboardInterrupt."""


class Command(TyperCommand):
    """A command whose help sets the global options apart and shows its examples as they are typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does, without building a validator for what is text already or was not given."""
        _coerce_lightly(self, ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, own options, examples and global options, in this order."""
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Nothing: the examples stand above the global options."""


def _coerce_lightly(this: Any, ctx: Any) -> None:
    for parameter in this.get_params(ctx):
        if getattr(parameter, "_runtime_param", parameter) is None:
            parameter._runtime_param = _Coercion()


class _Coercion:
    """Typer's coercion of a parameter's value, without a pydantic adapter for what is of its type as it stands."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the parameter's type, None or an empty tuple when none was given."""
        kind, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if info.parser is None:
            if kind is str and type(value) is str:
                return value
            if kind == list[str] and all(type(item) is str for item in value):
                return list(value)
            if kind is Path and type(value) is str and _any_path(info) and os.access(value, os.R_OK):
                return Path(value)
        from typer._coercion import build_runtime_param

        return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)


def _any_path(info: Any) -> bool:
    """Whether a path that can be read is all that a parameter asks for."""
    return info.file_okay and info.dir_okay and not (info.writable or info.resolve_path or info.path_type)


class Group(TyperGroup):
    """A group that names the closest command for a mistyped one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does, without building a validator for what is text already or was not given."""
        _coerce_lightly(self, ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands first: they are what people look for."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Nothing: the examples stand above the global options."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command named first in `args`. Raises UsageError with the closest name for one that is not there."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise UsageError(
                f"There is no command '{name}'{did_you_mean(name, self.commands)}",
                todo=f"See '{ctx.command_path} --help' for the commands there are.",
            )
        return super().resolve_command(ctx, args)


def _write_options(this: Any, ctx: Any, formatter: Any) -> None:
    rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], GLOBAL_PANEL: []}
    for parameter in this.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        shared = getattr(parameter, "rich_help_panel", None) == GLOBAL_PANEL or parameter.name == "help"
        # Without the type that Typer adds after an argument's name: the name says more.
        rows[GLOBAL_PANEL if shared else kind].append((record[0].partition(" <")[0], record[1]))
    examples = this.epilog
    for title, records in rows.items():
        if title == GLOBAL_PANEL and examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"{' ' * formatter.current_indent}{line}\n" for line in examples.splitlines()))
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
