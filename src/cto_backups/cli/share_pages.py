"""Pages of word shares: one at a time on the terminal itself, into a file, or to a printer. Nothing else sees them."""

import os
import secrets
import select
import shlex
import subprocess
import textwrap
from collections.abc import Callable
from getpass import getpass
from pathlib import Path

from cto_backups.errors import KeyProblemError, RefusedError, UsageError
from cto_backups.flows.key_escrow import Page

_COLUMNS = 4
_WIDTH = 76
_APART = "\x1b[?1049h\x1b[2J\x1b[H"  # the terminal's other screen: nothing of it stays in what can be scrolled back to
_BACK = "\x1b[2J\x1b[H\x1b[?1049l"
_TO_COPY = (
    "Copy the first line, too, and below the words: open with 'cto.backups key drill', or with any SLIP-39 tool (no "
    "passphrase) and restic, whose password is the 64 hexadecimal digits that come out. Keep it where only you can "
    "take it."
)
_ASKED = 2  # words that a custodian is asked for
_PRINT_SECONDS = 120
_HEED_SECONDS = 0.5
_NAME = "share-{number}-of-set-{set}.txt"

Presenter = Callable[[Page], None]


class Terminal:
    """The terminal itself, whatever the program's output is redirected to."""

    def __init__(self) -> None:
        """Raises UsageError where there is none."""
        try:
            self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        except OSError:
            raise UsageError(
                "There is no terminal",
                why="shares are handed out one after the other, to people who are there",
                todo="Run it by hand, on a machine that you trust.",
            ) from None

    def write(self, text: str) -> None:
        """Show it at once."""
        os.write(self._descriptor, text.encode("utf-8", "replace"))

    def ask(self, question: str) -> str:
        """An answer, shown while it is typed."""
        self.write(question)
        answer = bytearray()
        while (piece := self._typed()) not in (b"", b"\n"):
            answer += piece
        if not piece and not answer:
            raise KeyboardInterrupt
        return answer.decode("utf-8", "replace").strip()

    def _typed(self) -> bytes:
        # Not in one go: a signal that comes just before Python waits in there would be heeded after the next key only.
        while not select.select([self._descriptor], [], [], _HEED_SECONDS)[0]:
            pass
        return os.read(self._descriptor, 1)

    def ask_hidden(self, question: str) -> str:
        """An answer that is not shown."""
        return getpass(question).strip()


def shown_on(terminal: Terminal) -> Presenter:
    """Show a page until its custodian has copied it, and ask for some of its words."""

    def present(page: Page) -> None:
        terminal.ask(
            f"\nShare {page.share.number} of {page.count} is for {page.custodian}, who alone looks at the screen.\n"
            "Press Enter to show it. "
        )
        wanted: list[int] = []
        while True:
            try:
                terminal.write(_APART + words_of(page) + "\n" + "\n".join(textwrap.wrap(_TO_COPY, _WIDTH)) + "\n")
                terminal.ask("\nCopy the words, with their numbers. Then press Enter: they are shown no more. ")
            finally:
                terminal.write(_BACK)
            wanted = wanted or sorted(secrets.SystemRandom().sample(range(len(page.share.words)), _ASKED))
            if all(_knows(terminal, page, number) for number in wanted):
                terminal.write(f"{page.custodian} has share {page.share.number}.\n")
                return
            terminal.write("That is another word. The page is shown again: compare it.\n")
            terminal.ask("Press Enter. ")

    return present


def _knows(terminal: Terminal, page: Page, number: int) -> bool:
    return terminal.ask_hidden(f"Word {number + 1} (not shown): ").lower() == page.share.words[number]


def written_to(folder: Path, terminal: Terminal) -> Presenter:
    """Write each page into a file for its owner alone; the next only when the one before was taken away."""

    def present(page: Page) -> None:
        while True:
            terminal.ask(
                f"\nShare {page.share.number} of {page.count} is for {page.custodian}. It goes to {folder}.\n"
                "Press Enter when that is where only this one belongs, such as a stick. "
            )
            others = sorted(path.name for path in folder.glob("share-*-of-set-*.txt")) if folder.is_dir() else None
            if others == []:
                break
            terminal.write(
                f"There is no folder {folder}: mount it.\n"
                if others is None
                else f"{others[0]} is still there: move it away first, no two shares lie in one place.\n"
            )
        path = folder / _NAME.format(number=page.share.number, set=page.share.identifier)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text(page))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise KeyProblemError(f"The page {path} cannot be written", why=f"{error.strerror}") from error
        terminal.write(f"Wrote {path}: hand it to {page.custodian}, and take it away from here.\n")

    return present


def printed_by(command: str, terminal: Terminal) -> Presenter:
    """Give each page to a command on its standard input, such as a printer's; nothing is written to disk by us."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError("The command to print with cannot be read", why=str(error)) from None
    if not words:
        raise UsageError("There is no command to print with", todo="Write for example: --print 'lp -d safe'")

    def present(page: Page) -> None:
        terminal.ask(
            f"\nShare {page.share.number} of {page.count} is for {page.custodian}, who stands at the printer.\n"
            "Press Enter to print it. "
        )
        try:
            done = subprocess.run(
                words,
                input=text(page).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it may hold what it was given
                timeout=_PRINT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = error.strerror if isinstance(error, OSError) else f"no end within {_PRINT_SECONDS} seconds"
            raise KeyProblemError(f"{words[0]} does not print", why=str(why)) from None
        if done.returncode:
            raise KeyProblemError(f"{words[0]} did not print", why=f"exit status {done.returncode}")
        if terminal.ask(f"Has {page.custodian} the page, readable, and nobody else? Write yes: ").lower() != "yes":
            raise RefusedError("The shares are given up", why="a page is not where it belongs")

    return present


def words_of(page: Page) -> str:
    """What has to be copied: whose share it is, and its words in columns."""
    share = page.share
    lines = [
        f"BREAK-GLASS SHARE {share.number} OF {page.count}, SET {share.identifier}: {page.business}",
        f"For {page.custodian}. Any {share.threshold} of the {page.count} shares open every backup.",
        "",
        *_grid(share.words),
    ]
    return "\n".join(lines) + "\n"


def text(page: Page) -> str:
    """The page on paper: with what has to be known to use it in years, with this program or without."""
    lines = [words_of(page)]
    for paragraph in (
        "Keep this page where only you can take it, and show it to nobody. Do not photograph it, type it into "
        "anything, or keep it beside another share.",
        "You are asked for it at drills, and on the day on which every other key is lost. Then, on a machine that "
        "was never connected: cto.backups key drill FOLDER-OF-A-VAULT",
        "Without this program: any SLIP-39 tool puts the shares together (no passphrase). The 64 hexadecimal digits "
        "that come out are the password for restic.",
        "Vaults: " + "; ".join(f"{name} at {place}" for name, place in page.vaults.items()),
    ):
        lines += textwrap.wrap(paragraph, _WIDTH, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _grid(words: tuple[str, ...]) -> list[str]:
    rows = -(-len(words) // _COLUMNS)
    cells = [f"{number:2}. {word}" for number, word in enumerate(words, 1)]
    return ["".join(f"  {cell:<17}" for cell in cells[row::rows]).rstrip() for row in range(rows)]
