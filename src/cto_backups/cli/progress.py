"""Progress bars, fed from any thread, redrawn a few times a second however often they are told."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from cto_backups import clock
from cto_backups.cli import figures
from cto_backups.cli.errors import clean

_REDRAW_SECONDS = 0.1


@contextmanager
def bar(console: Console, title: str) -> Iterator["Bar"]:
    """A bar with a title that is gone when the work is done."""
    display = Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=36)),
        _KnownBar(bar_width=16),
        _Done(table_column=Column(no_wrap=True, justify="right")),
        console=console,
        transient=True,
        refresh_per_second=8,
    )
    with display:
        yield Bar(display, clean(title))


class Bar:
    """Progress on a terminal. Counts bytes once a total of them is known, else entries."""

    def __init__(self, display: Progress, title: str) -> None:
        self._display = display
        self._task = display.add_task(
            title,
            total=None,
            entries=0,
            size_bytes=0,
            by_bytes=False,
            expected=None,
            limited=(),
            started=clock.monotonic(),
        )
        self._lock = threading.Lock()
        self._limited: Callable[[], Sequence[tuple[str, int]]] = tuple
        self._entries = self._bytes = 0
        self._total_entries = self._total_bytes = 0
        self._drawn = 0.0

    def tell_limits(self, limited: Callable[[], Sequence[tuple[str, int]]]) -> None:
        """Say so when the bandwidth limits of vaults are what takes the time."""
        self._limited = limited

    def total(self, *, entries: int, size_bytes: int) -> None:
        """Say how much is expected."""
        with self._lock:
            self._total_entries, self._total_bytes = entries, size_bytes
            self._draw()

    def advance(self, *, entries: int = 0, size_bytes: int = 0) -> None:
        """Say that this much more is done; cheap, whoever calls it for each small file."""
        with self._lock:
            self._entries += entries
            self._bytes += size_bytes
            if clock.monotonic() - self._drawn >= _REDRAW_SECONDS:
                self._draw()

    def _draw(self) -> None:
        self._drawn = clock.monotonic()
        by_bytes = self._total_bytes > 0
        done, total = (self._bytes, self._total_bytes) if by_bytes else (self._entries, self._total_entries)
        self._display.update(
            self._task,
            completed=done,
            total=total or None,
            # More than was expected: nobody knows how much is to come. (Rich takes a total of None for no change.)
            expected=total if total and total >= done else None,
            entries=self._entries,
            size_bytes=self._bytes,
            by_bytes=by_bytes,
            limited=self._limited(),
        )


class _KnownBar(BarColumn):
    """A bar where it is known how much there is to do; nothing elsewhere."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        if task.fields["expected"] is None:
            bar.width = 0
        return bar


class _Done(ProgressColumn):
    """How much is done, and how fast: "1.2 GB of 3.4 GB, 120 MB/s", or "1,234 entries, 500 MB, 120 MB/s"."""

    def render(self, task: Task) -> Text:
        """The words beside the bar."""
        entries, size_bytes = task.fields["entries"], task.fields["size_bytes"]
        speed = figures.rate(size_bytes, clock.monotonic() - task.fields["started"])
        if task.fields["by_bytes"] and task.fields["expected"] is not None:
            told = [f"{figures.size(size_bytes)} of {figures.size(task.fields['expected'])}", speed]
        else:
            known = f" of {figures.count(task.fields['expected'])}" if task.fields["expected"] is not None else ""
            told = [
                f"{figures.count(entries)}{known} entries" if entries else "",
                figures.size(size_bytes) if size_bytes else "",
                speed,
            ]
        told += [f"{name} limited to {figures.size(limit)}/s" for name, limit in task.fields["limited"]]
        return Text(", ".join(filter(None, told)) or "…")
