"""How errors are shown: what happened, why, and what to do next; on stderr as text, or on stdout as JSON."""

import os
import shutil
import sys
import textwrap

from cto_backups.errors import BackupsError, ExitStatus

Parts = dict[str, str]


def as_document(error: BackupsError) -> Parts:
    """The error's stable fields: code, what, why, todo."""
    return {
        "code": error.code,
        "what": clean(error.what),
        "why": clean(error.why.strip("\n")),
        "todo": clean(error.todo),
    }


def as_text(error: BackupsError, *, colored: bool, width: int | None, prefix: str = "Error") -> str:
    """The error in lines of at most `width` columns (None: as long as its sentences are)."""
    red, dim, end = ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") if colored else ("", "", "")
    lines = [_wrapped(clean(error.what), f"{red}{prefix}:{end} ", len(prefix) + 2, width)]
    for label, text in (("Why", clean(error.why)), ("Next", clean(error.todo))):
        if "\n" in text:
            # Made of lines already (mistakes in a policy file, with their places): shown as it is.
            lines.append(textwrap.indent(text.strip("\n"), "  "))
        elif text:
            lines.append(_wrapped(_sentence(text), f"  {dim}{label + ':':<5}{end} ", 8, width))
    return "\n".join(lines)


def show(error: BackupsError, *, colored: bool, prefix: str = "Error") -> None:
    """Print the error to stderr, wrapped to the terminal if there is one."""
    terminal = sys.stderr.isatty()
    width = min(shutil.get_terminal_size().columns, 100) if terminal else None
    print(as_text(error, colored=colored and terminal, width=width, prefix=prefix), file=sys.stderr)  # noqa: T201


def clean(text: str) -> str:
    """The text without secrets and without anything that a terminal would obey (a file name may hold anything)."""
    redaction = sys.modules.get("cto_backups.config.redaction")
    if redaction is not None:  # otherwise no secret was ever read
        text = redaction.redact(text)
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(ord(char)) for char in text)


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def defect(error: BaseException, *, debugging: bool) -> BackupsError:
    """What a defect of this program says for itself; its own text may hold anything, so only its type is told."""
    if isinstance(error, OSError) and isinstance(error.filename, (str, bytes)) and error.strerror:
        name = os.fsdecode(error.filename)
        return BackupsError(
            f"Stopped at {name}: {error.strerror}",
            why="the program cannot go on without it; what was stored before is untouched",
            todo="Check its permissions and owner, and the room on its disk. If they are right, "
            "run it again with --verbose, and report what it shows.",
        )
    how = "" if debugging else "Run it again with --verbose (or CTO_BACKUPS_DEBUG=1) to see where, and report it."
    shown = BackupsError(
        f"This is a defect of cto.backups, not a mistake of yours: {type(error).__name__}",
        why="something happened that the program did not foresee; what was stored before is untouched",
        todo=how or "Report it with the traceback above.",
    )
    assert shown.exit_status is ExitStatus.DEFECT
    return shown


def _sentence(text: str) -> str:
    # Names keep their case: only a plain word is made the beginning of a sentence.
    first, space, _ = text.partition(" ")
    return text[:1].upper() + text[1:] if space and first.isalpha() and first.islower() else text


def _wrapped(text: str, label: str, indent: int, width: int | None) -> str:
    if width is None:
        return label + text
    filled = textwrap.fill(
        text, max(width, 40), initial_indent=" " * indent, subsequent_indent=" " * indent, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    return label + filled[indent:]
