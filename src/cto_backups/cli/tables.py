"""Tables that fit 80 columns, and the colours of words."""

from collections.abc import Sequence
from textwrap import wrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cto_backups.cli.errors import clean

STYLES = {
    "HEALTHY": "green",
    "OVERDUE": "yellow",
    "FAILED_TEST": "bold red",
    "UNPROTECTED": "bold red",
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "ok": "green",
    "failed": "bold red",
    "incomplete": "yellow",
}


def table(*columns: str, flexible: Sequence[str] = (), right: Sequence[str] = (), title: str | None = None) -> Table:
    """An unruled table. Only `flexible` columns wrap when there is no room; the others keep to one line."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="bold",
        pad_edge=False,
    )  # fmt: skip
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name not in flexible,
            overflow="fold" if name in flexible else "ellipsis",
        )
    return made


def name(text: str, console: Console, width: int) -> Text:
    """A long name on a terminal, in lines of `width` that end at its hyphens; elsewhere as it is."""
    lines = wrap(text, width) if console.is_terminal and console.width < 100 else [text]
    return Text(clean("\n".join(lines)))


def row(table: Table, *cells: str | Text) -> None:
    """Add a row; words that have a colour get it."""
    table.add_row(*(word(cell) if isinstance(cell, str) else cell for cell in cells))


def word(text: str) -> Text:
    """A cell's text, coloured if it is one of the words that have a colour."""
    return Text(clean(text), style=STYLES.get(text, ""))
