"""Progress bars: on a terminal only, quick to feed, and honest about what is not known."""

import io
import threading

import pytest
from rich.console import Console

from cto_backups.cli.options import GlobalOptions
from cto_backups.cli.progress import bar
from cto_backups.cli.screen import Screen
from cto_backups.core.ports import Silent


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None, markup=False)


def drawn(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_known_total_is_told_with_what_is_done() -> None:
    console = terminal()
    with bar(console, "Verifying one") as progress:
        progress.total(entries=10, size_bytes=2_000_000)
        progress.advance(entries=5, size_bytes=500_000)
        progress.total(entries=10, size_bytes=2_000_000)
    assert "Verifying one" in drawn(console)
    assert "500 kB of 2.0 MB" in drawn(console)


def test_without_a_total_there_is_no_bar_but_what_is_done() -> None:
    console = terminal()
    with bar(console, "Copying") as progress:
        progress.advance(entries=1234)
        progress.total(entries=0, size_bytes=0)
    assert "1,234 entries" in drawn(console)
    assert "━" not in drawn(console)


def test_more_than_was_expected_is_not_shown_as_part_of_a_total() -> None:
    console = terminal()
    with bar(console, "Copying") as progress:
        progress.total(entries=0, size_bytes=100)
        progress.advance(size_bytes=500)
        progress.total(entries=0, size_bytes=100)
    assert "500 B of" not in drawn(console)


def test_a_hostile_title_cannot_drive_the_terminal() -> None:
    console = terminal()
    with bar(console, "evil\x1b]0;x\x07") as progress:
        progress.advance(entries=1)
    assert "evil\\x1b]0;x" in drawn(console)


def test_any_thread_may_tell_and_nothing_is_lost() -> None:
    console = terminal()
    with bar(console, "Backing up") as progress:
        threads = [
            threading.Thread(target=lambda: [progress.advance(entries=1, size_bytes=10) for _ in range(1000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress.total(entries=0, size_bytes=40_000)
    assert "40.0 kB of 40.0 kB" in drawn(console)


@pytest.mark.parametrize("options", [GlobalOptions(), GlobalOptions(quiet=True), GlobalOptions(json=True)])
def test_nothing_is_drawn_when_nobody_watches(options: GlobalOptions, capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(options).progress("Backing up") as progress:
        assert isinstance(progress, Silent)
        progress.advance(entries=1)
    assert capsys.readouterr() == ("", "")
