"""A long answer is whole or not there, and in memory only in part."""

import resource
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.cli import spool
from cto_backups.errors import UsageError


def test_nothing_comes_of_an_answer_that_fails_on_the_way() -> None:
    """Not even of one that is far longer than what is kept in memory."""

    def failing() -> Iterator[str]:
        for _ in range(3 * spool.IN_MEMORY // 1000):
            yield "x" * 1000
        raise LookupError

    came: list[str] = []
    with pytest.raises(LookupError):
        came.extend(spool.whole(failing()))
    assert came == []


def test_a_long_answer_comes_as_it_is_and_takes_little_memory() -> None:
    parts, size = ("0123456789" * 100 for _ in range(64 * 1024)), 0
    tracemalloc.start()
    try:
        for come in spool.whole(parts):
            assert come.startswith("0123456789"[size % 10 :])
            size += len(come)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 * 1024 * 1000
    assert peak < 3 * spool.IN_MEMORY


def test_where_it_waits_nobody_else_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    coming = spool.whole("x" * 1000 for _ in range(2 * spool.IN_MEMORY // 1000))
    next(coming)
    assert [stat.S_IMODE(file.stat().st_mode) for file in _open_below(tmp_path)] == [0o600]
    assert list(tmp_path.iterdir()) == [], "a file without a name"
    coming.close()  # type: ignore[attr-defined]
    assert _open_below(tmp_path) == []


def _open_below(folder: Path) -> list[Path]:
    """Descriptors of this process for files of a folder, also for those that have no name."""
    files = [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return [file for file in files if str(file.readlink()).startswith(str(folder))]


def test_without_room_for_it_one_error_says_where_and_what_next() -> None:
    """The limit is the system's own, on the size of files."""
    code = (
        "from cto_backups.cli import spool\n"
        "from cto_backups.errors import UsageError\n"
        "try:\n"
        "    print(sum(map(len, spool.whole('x' * 1000 for _ in range(2 * spool.IN_MEMORY // 1000)))))\n"
        "except UsageError as error:\n"
        "    print(error.what, error.why, error.todo, sep='|')\n"
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, preexec_fn=limited)
    what, why, todo = done.stdout.strip().split("|")
    assert (what, todo) == (
        "There is no room in which to put the answer together",
        "Make room there, or name another folder in $TMPDIR.",
    )
    assert why.endswith(": File too large") and why.startswith("/")
    assert done.stderr == ""


def test_a_short_answer_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert "".join(spool.whole(["{", "}"])) == "{}"
    with pytest.raises(UsageError, match="no room"):
        list(spool.whole("x" * 1000 for _ in range(2 * spool.IN_MEMORY // 1000)))
