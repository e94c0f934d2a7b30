"""The screen: what a command prints, where, and whether at all. Answers go to stdout, everything else to stderr."""

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from cto_backups.cli import errors, figures
from cto_backups.cli.options import GlobalOptions
from cto_backups.errors import BackupsError

if TYPE_CHECKING:
    from rich.console import Console

    from cto_backups.core.ports import Progress

PIPED_WIDTH = 400
_LINE = "\n"  # within text, JSON escapes it


class Screen:
    """What one command shows. `zone` is the policy's time zone once it is known: moments are told in it."""

    def __init__(self, options: GlobalOptions) -> None:
        self.options = options
        self.zone: tzinfo = UTC

    @property
    def talks(self) -> bool:
        """Whether people are answered in sentences and tables: not with --json or --quiet."""
        return not (self.options.json or self.options.quiet)

    @cached_property
    def out(self) -> "Console":
        """The console for answers."""
        return _console(self.options, stderr=False)

    @cached_property
    def err(self) -> "Console":
        """The console for all that is not the answer: progress, notes, questions."""
        return _console(self.options, stderr=True)

    def show(self, renderable: Any) -> None:
        """Print part of the answer for people: a table, or a sentence."""
        if self.talks:
            self._print(renderable, stderr=False)

    def show_whole(self, text: str) -> None:
        """Print a command that is to be copied: where a terminal would break it, it goes on after a backslash."""
        if self.talks and not self._said(text, stderr=False):
            self.out.print(_continued(errors.clean(text), self.out), soft_wrap=True)

    def as_it_is(self, text: str) -> None:
        """Print what a file is to hold, for people: no terminal's width may change it."""
        if self.talks:
            sys.stdout.write(text)
            sys.stdout.flush()

    def line_of_many(self, text: str) -> None:
        """Print one of perhaps millions of lines, as it is: nothing in it may need `clean`."""
        if self.talks:
            sys.stdout.write(f"{text}\n")

    def note(self, text: str, style: str = "") -> None:
        """Tell something beside the answer."""
        if self.talks:
            self._print(text, stderr=True, style=style)

    def problem(self, error: BackupsError, prefix: str = "Error") -> None:
        """Show an error that does not end the command; in JSON it is part of the document."""
        if not self.options.json:
            errors.show(error, colored=self.options.colored, prefix=prefix)

    def document(self, document: Mapping[str, Any]) -> None:
        """Print the whole answer as JSON, when it is asked for."""
        if self.options.json:
            sys.stdout.writelines(as_json(document))

    def document_of_many(
        self,
        head: Mapping[str, Any],
        name: str,
        items: Iterable[Mapping[str, Any]],
        rest: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Print an answer of which one part is a list of very many, which are not in memory at once: as JSON.

        `rest` is asked for once all of them are there. Nothing is printed before the end, so that what fails on the
        way leaves no half of a document: a long one waits in a file that nobody else can open. Raises UsageError
        where there is no room for it.
        """
        # Loaded when used: few commands answer so much.
        from cto_backups.cli.spool import whole

        sys.stdout.writelines(whole(_of_many(head, name, items, rest)))

    def line(self, document: Mapping[str, Any]) -> None:
        """Print one thing that happened as a line of JSON, at once: for commands that go on."""
        if self.options.json:
            print(json.dumps(document), flush=True)  # noqa: T201

    def progress(self, title: str) -> "AbstractContextManager[Progress]":
        """A progress bar on stderr, or silence when nobody watches."""
        if self.talks and not _is_plain(sys.stderr) and self.err.is_terminal and not self.err.is_dumb_terminal:
            from cto_backups.cli.progress import bar

            return bar(self.err, title)
        from cto_backups.core.ports import Silent

        return nullcontext(Silent())

    def moment(self, moment: datetime) -> str:
        """A moment on the policy's clocks, to the minute."""
        return figures.local(moment, self.zone)

    @property
    def zone_name(self) -> str:
        """The policy's time zone, for headings."""
        return str(self.zone)

    def _print(self, renderable: Any, *, stderr: bool, style: str = "") -> None:
        if isinstance(renderable, str):
            if not self._said(renderable, stderr=stderr):
                console = self.err if stderr else self.out
                console.print(_fitted(errors.clean(renderable), console), style=style, soft_wrap=True)
        else:
            (self.err if stderr else self.out).print(renderable)

    def _said(self, text: str, *, stderr: bool) -> bool:
        """Print a sentence where Rich would print it as it is, without loading Rich for that; False elsewhere."""
        stream, text = sys.stderr if stderr else sys.stdout, errors.clean(text)
        if ("err" if stderr else "out") in vars(self) or not _is_plain(stream) or "\t" in text:
            return False
        print(text, file=stream, flush=True)
        return True


def seconds(length: timedelta | None) -> float | None:
    """A length of time in JSON documents: seconds."""
    return None if length is None else length.total_seconds()


def utc(moment: datetime | None) -> str | None:
    """A moment in JSON documents: ISO 8601, in UTC, to the microsecond, so that --at takes it back."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_plain(stream: TextIO) -> bool:
    """Whether this is surely no terminal, nor to be treated as one (Rich's variables): what is drawn there is text."""
    return not (stream.isatty() or "FORCE_COLOR" in os.environ or "TTY_COMPATIBLE" in os.environ)


def _fitted(text: str, console: "Console") -> str:
    """The text wrapped to the terminal, what is wrapped indented further; piped sentences stay on one line for grep."""
    if not console.is_terminal or len(text) <= console.width:
        return text
    label = re.match(r" *(?:(?:Why|Next): +)?", text)
    assert label is not None  # it may be empty
    indent = " " * (len(label[0]) if label[0].strip() else len(label[0]) + 2)
    together = re.sub(r"(?<=\d) (?=\w)", "\u00a0", text)  # a number and its unit
    filled = textwrap.fill(
        together, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return filled.replace("\u00a0", " ")


def _continued(command: str, console: "Console") -> str:
    """A command in lines that a shell joins again; words, also quoted ones, stay whole."""
    if not console.is_terminal or len(command) <= console.width:
        return command
    indent = command[: len(command) - len(command.lstrip())]
    lines = [indent]
    for word in re.findall(r"(?:[^\s']|'[^']*')+", command):
        if len(lines[-1]) + len(word) + len(" \\") > console.width and lines[-1].strip():
            lines[-1] += "\\"
            lines.append(f"{indent}    ")
        lines[-1] += f"{word} "
    return "\n".join(lines).rstrip()


def as_json(document: Mapping[str, Any]) -> Iterator[str]:
    """The text of a whole answer in JSON, in parts that need not be in memory at once."""
    # ASCII with escapes is valid whatever stdout's encoding, also for names that are not UTF-8.
    parts = json.JSONEncoder(indent=2).iterencode(document)
    while some := "".join(islice(parts, 10_000)):
        yield some
    yield "\n"


def _of_many(
    head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]], rest: Callable[[], Mapping[str, Any]]
) -> Iterator[str]:
    """The same text as `as_json` gives of all of it."""
    encoder = json.JSONEncoder(indent=2)

    def entries(document: Mapping[str, Any]) -> Iterator[str]:
        for key, value in document.items():
            yield f"  {json.dumps(key)}: {encoder.encode(value).replace(_LINE, _LINE + '  ')}"

    yield "{\n"
    for entry in entries(head):
        yield f"{entry},\n"
    yield f"  {json.dumps(name)}: ["
    between = "\n    "
    for item in items:
        yield between + encoder.encode(item).replace(_LINE, _LINE + "    ")
        between = ",\n    "
    yield "]" if between == "\n    " else "\n  ]"
    for entry in entries(rest()):
        yield f",\n{entry}"
    yield "\n}\n"


def _console(options: GlobalOptions, *, stderr: bool) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # Nothing is wrapped in a pipe or a file, where grep and awk read it.
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(
        width=width,
        stderr=stderr,
        no_color=not options.colored,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
