"""`ls`, `find`, `cat` and `diff` as they are typed: names, forms of answers, bytes, mistakes, readers that go away."""

import hashlib
import os
import pty
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.test_answers import contents

LARGE = random.Random(11).randbytes(12 << 20)
ODD = b"new\nline \x1b[31m caf\xe9"


def start(home: Any, *arguments: str | bytes, **options: Any) -> "subprocess.Popen[bytes]":
    """A command as a process whose output is bytes."""
    return subprocess.Popen(
        [sys.executable, "-m", "cto_backups", *arguments],
        env={**os.environ, "CTO_BACKUPS_POLICY": str(home.policy)},
        stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def output(home: Any, *arguments: str | bytes) -> tuple[bytes, bytes, int]:
    """What a command writes to stdout and stderr, and its status."""
    process = start(home, *arguments)
    out, err = process.communicate(timeout=120)
    return out, err, process.returncode


@pytest.fixture
def files(home: Any) -> Path:
    """The folder that data-files protects, with a large file, an odd name and a hard link, backed up."""
    folder: Path = home.data / "files"
    (folder / "large").write_bytes(LARGE)
    (folder / "hard").hardlink_to(folder / "report.txt")
    with open(os.fsencode(folder) + b"/" + ODD, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"odd content")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    return folder


def newest(home: Any, source: str = "data-files") -> str:
    return str(home("points", source, "--limit", "1", "--json").document["points"][0]["id"])


def test_ls_lists_a_folder_a_file_and_everything(home: Any, files: Path) -> None:
    answer = home("ls", newest(home), str(files))
    assert answer.status is ExitStatus.SUCCESS
    rows = {line.split("  ", 2)[-1].strip().split(maxsplit=2)[-1]: line for line in answer.out.splitlines()}
    assert "8.0 kB" in next(line for line in rows.values() if line.endswith("  report.txt"))
    assert any(line.endswith("  link -> report.txt") for line in rows.values())
    assert any(line.endswith("  deep/") for line in rows.values())
    assert any(line.endswith("  new\\x0aline \\x1b[31m caf\\xe9") for line in rows.values())
    assert len(answer.out.splitlines()) == len(list(files.iterdir()))
    assert home("ls", "data-files", str(files / "report.txt"), "-l").out.startswith("-rw")
    everything = home("ls", "data-files", "--recursive").out
    assert f"  {files}/deep/er/blob.bin\n" in everything
    assert home("ls", "--source", "data-files").status is ExitStatus.SUCCESS


def test_ls_in_json_is_one_document_with_a_line_for_each_entry(home: Any, files: Path) -> None:
    answer = home("ls", "data-files", "--recursive", "--json")
    document = answer.document
    by_path = {entry["path"]: entry for entry in document["entries"]}
    large = by_path[str(files / "large")]
    assert (large["kind"], large["size_bytes"], large["links"]) == ("file", len(LARGE), 1)
    assert by_path[str(files / "hard")]["links"] == 2
    assert by_path[str(files / "link")]["linktarget"] == "report.txt"
    assert by_path[os.fsdecode(bytes(files) + b"/" + ODD)]["size_bytes"] == 11
    assert (document["status"], document["problems"], document["prepared"]) == (0, [], None)
    assert sum(line.startswith('    {"path"') for line in answer.out.splitlines()) == len(by_path)


def test_points_that_hold_a_prepared_form_say_so(home: Any) -> None:
    assert "a backup that the database made of itself" in home("ls", "ledger-database").err
    assert "git clone" in home("ls", "app-repository").err
    assert "mirror" in home("ls", "app-repository", "--json").document["prepared"]


def test_cat_writes_the_bytes_and_nothing_else(home: Any, files: Path) -> None:
    assert output(home, "cat", "data-files", str(files / "large")) == (LARGE, b"", 0)
    shown = home("ls", newest(home), str(files)).out
    escaped = next(line for line in shown.splitlines() if "caf\\xe9" in line).partition("  new")[2]
    for path in (bytes(files) + b"/" + ODD, b"files/" + ODD, f"{files}/new{escaped}", f"files/new{escaped}"):
        assert output(home, "cat", "data-files", path) == (b"odd content", b"", 0), path
    out, err, status = output(home, "cat", "ledger-database", "ledger.db")
    assert status == 0
    assert out.startswith(b"SQLite format 3\0")
    assert b"a backup that the database made of itself" in err
    assert output(home, "cat", "data-files", str(files / "large"), "--quiet")[0] == LARGE


def test_cat_leaves_everything_as_it_is(home: Any, files: Path) -> None:
    before = contents(home.root)
    assert output(home, "cat", "data-files", str(files / "report.txt"))[2] == 0
    assert contents(home.root) == before


def test_cat_in_json_describes_what_it_read(home: Any, files: Path) -> None:
    document = home("cat", "data-files", str(files / "large"), "--json").document
    assert document["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert document["read_bytes"] == document["entry"]["size_bytes"] == len(LARGE)


def on_a_terminal(home: Any, *arguments: str) -> tuple[bytes, bytes, int]:
    """What a terminal is given, what stderr is, and the status."""
    ours, theirs = pty.openpty()
    process = start(home, *arguments, stdout=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.stderr
    err = process.stderr.read()
    process.stderr.close()
    return shown.replace(b"\r\n", b"\n"), err, process.wait(timeout=60)


def test_a_terminal_gets_text_and_other_bytes_only_if_told_so(home: Any, files: Path) -> None:
    assert on_a_terminal(home, "cat", "data-files", str(files / "report.txt"))[0] == b"figures\n" * 1000
    shown, err, status = on_a_terminal(home, "cat", "data-files", str(files / "deep/er/blob.bin"))
    assert (shown, status) == (b"", ExitStatus.REFUSED)
    assert b"--binary" in err
    (files / "clear").write_bytes(b"text \xc2\x9b2J")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert on_a_terminal(home, "cat", "data-files", str(files / "clear"))[2] == ExitStatus.REFUSED
    shown, _, status = on_a_terminal(home, "cat", "data-files", str(files / "clear"), "--binary")
    assert (shown, status) == (b"text \xc2\x9b2J", 0)


@pytest.mark.parametrize("command", [("cat", "data-files", "large"), ("ls", "data-files", "-R"), ("find", "*")])
def test_a_reader_that_has_seen_enough_is_no_reason_to_complain(
    home: Any, files: Path, command: tuple[str, ...]
) -> None:
    command = tuple(str(files / "large") if word == "large" else word for word in command)
    process = start(home, *command)
    assert process.stdout and process.stderr
    if command[0] == "cat":
        assert process.stdout.read(10) == LARGE[:10]
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == ExitStatus.INTERRUPTED
    assert b"Traceback" not in err and b"Error" not in err


def test_what_is_damaged_in_one_vault_comes_from_another_and_is_told(home: Any, files: Path) -> None:
    stored = sorted((home.vault("one") / "repositories/main/data").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(stored[-1].read_bytes())
    for at in range(50, len(content), 100_000):
        content[at] ^= 1
    stored[-1].chmod(0o600)
    stored[-1].write_bytes(content)
    shutil.rmtree(home.vault("two"))
    out, err, status = output(home, "cat", "data-files", str(files / "large"))
    assert (out == LARGE, status) == (True, 0)
    assert b"Taken from another vault: one" in err
    out, err, status = output(home, "cat", "data-files", str(files / "large"), "--vault", "one")
    assert status == ExitStatus.DAMAGE
    assert LARGE.startswith(out) and len(out) < len(LARGE)
    assert home("ls", "data-files", "--vault", "two").status is ExitStatus.VAULT


def test_find_shows_every_version_and_its_points(home: Any, files: Path) -> None:
    first = newest(home)
    home.change("other figures\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    answer = home("find", "report.txt", "--source", "data-files")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert f"{files}/report.txt (data-files)\n      14 B  " in answer.out
    assert first in answer.out and newest(home) in answer.out
    document = home("find", "report.txt", "--json", "--type", "file").document
    (history,) = [one for one in document["paths"] if one["path"] == str(files / "report.txt")]
    assert [version["size_bytes"] for version in history["versions"]] == [14, 8000]
    assert first in [point["id"] for point in history["versions"][1]["points"]]
    assert home("find", "nothing-like-it").status is ExitStatus.NOT_FOUND
    assert home("find", "x", "--type", "block").status is ExitStatus.USAGE
    assert home("find", "x", "--source", "data-file").status is ExitStatus.NOT_FOUND
    assert home("find", "x", "--since", "tomorrow").status is ExitStatus.USAGE
    assert home("find", "report.txt", "--until", "2001-01-01").status is ExitStatus.NOT_FOUND
    assert home("find", "report.txt", "--since", "today").status is ExitStatus.SUCCESS


def test_diff_shows_what_changed_and_its_totals(home: Any, files: Path) -> None:
    first = newest(home)
    home.change("other figures\n")
    (files / "large").unlink()
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    answer = home("diff", first, "data-files")
    assert answer.status is ExitStatus.SUCCESS
    assert f"modified    8.0 kB      14 B  {files}/report.txt\n" in answer.out
    assert f"removed    12.6 MB         -  {files}/large\n" in answer.out
    assert answer.out.splitlines()[-1] == "1 removed, 2 modified; 12.6 MB before, 28 B after"
    document = home("diff", first, "data-files", str(files / "report.txt"), "--json").document
    (changed,) = document["changes"]
    assert (changed["change"], changed["before"]["size_bytes"]) == ("modified", 8000)
    assert (document["equal"], document["counts"]["modified"], document["status"]) == (False, 1, 0)
    assert home("diff", first, first).out == "They hold the same.\n"
    assert home("diff", first, "data-files", "/nowhere").status is ExitStatus.NOT_FOUND


def test_mistakes_are_told_with_the_way_out(home: Any, files: Path) -> None:
    answer = home("ls", "data-files", str(files / "reprot.txt"))
    assert answer.status is ExitStatus.NOT_FOUND
    assert "did you mean 'report.txt'?" in answer.err
    answer = home("cat", "data-files", str(files))
    assert answer.status is ExitStatus.USAGE
    assert "is a folder" in answer.err
    assert home("ls", "data-file").status is ExitStatus.NOT_FOUND
    assert home("ls").status is ExitStatus.USAGE
    assert home("ls", newest(home), "--at", "yesterday").status is ExitStatus.USAGE
    assert home("ls", "data-files", "--vault", "nowhere").status is ExitStatus.NOT_FOUND
    assert home("ls", "data-files", "--at", "2001-01-01").status is ExitStatus.NOT_FOUND
