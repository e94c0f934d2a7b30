"""Every command answers in JSON, says nothing but that, and changes nothing that it should not."""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus

READERS = (
    ("status",),
    ("status", "ledger-database"),
    ("schedule",),
    ("schedule", "--ahead", "1 day"),
    ("points",),
    ("points", "data-files", "--limit", "1"),
    ("points", "--all"),
    ("expire", "--dry-run"),
    ("hold", "list", "--all"),
    ("retention",),
    ("retention", "simulate", "--days", "30"),
    ("prune", "--dry-run"),
    ("repair", "--dry-run"),
    ("restore", "data-files", "--to", "x", "--dry-run"),
    ("ls", "data-files"),
    ("ls", "app-repository", "--recursive"),
    ("find", "report.txt"),
    ("diff", "data-files", "data-files"),
    ("version",),
)
WRITERS = (
    ("backup",),
    ("backup", "ledger-database", "--label", "by hand"),
    ("verify",),
    ("verify", "one", "--structure-only"),
    ("test",),
    ("audit",),
    ("audit", "--fail-on", "low"),
    ("hold", "add", "data-files", "--reason", "case 4711"),
    ("expire",),
    ("prune",),
    ("repair",),
    ("repair", "one", "--index-only"),
    ("restore", "ledger-database", "--to", "y"),
    ("worker", "--once"),
    ("schedule", "set", "ledger-database", "hourly"),
)


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder but SQLite's shared memory, which readers use as well."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_each_command_answers_with_one_json_document_and_nothing_else(home: Any) -> None:
    for command in (*READERS, *WRITERS):
        answer = home(*command, "--json")
        assert isinstance(answer.document, dict), command
        assert "error" not in answer.document, (command, answer)
        assert answer.err == "", command
        assert answer.status in (ExitStatus.SUCCESS, ExitStatus.RED), (command, answer)


def test_commands_that_only_read_leave_everything_as_it_is(home: Any) -> None:
    before = contents(home.root)
    for command in READERS:
        home(*command)
    assert contents(home.root) == before


def test_quiet_commands_say_nothing_when_all_is_well(home: Any) -> None:
    for command in (("backup",), ("verify", "one"), ("test", "data-files"), ("audit",), ("points",)):
        answer = home(*command, "--quiet")
        assert (answer.out, answer.err, answer.status) == ("", "", ExitStatus.SUCCESS), command


def test_the_log_goes_to_stderr_as_lines_of_json_when_both_are_asked_for(home: Any) -> None:
    import json

    answer = home("backup", "ledger-database", "--verbose", "--json")
    assert answer.document["sources"][0]["source"] == "ledger-database"
    events = [json.loads(line) for line in answer.err.splitlines()]
    assert any(event["event"] == "run" and event["source"] == "ledger-database" for event in events)
    key = (home.root / "keys" / "repository.key").read_text().strip()
    assert key not in answer.err


def test_the_repository_key_is_shown_by_no_command(home: Any) -> None:
    key = (home.root / "keys" / "repository.key").read_text().strip()
    for command in (("status", "-v"), ("backup", "-v"), ("audit", "-v"), ("audit", "--json")):
        answer = home(*command)
        assert key not in answer.out + answer.err


@pytest.mark.parametrize("name", ["cto.backups", "cto-backups"])
def test_both_names_of_the_program_are_installed(name: str) -> None:
    program = Path(sys.executable).parent / name
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cto.backups ")


def test_a_reader_that_goes_away_early_is_no_reason_to_complain(home: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cto_backups", "points", "--json"],
        env={**os.environ, "CTO_BACKUPS_POLICY": str(home.policy)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == ExitStatus.INTERRUPTED
    assert error == b""


def test_names_that_are_not_utf_8_are_shown_and_stay_valid_json(home: Any) -> None:
    odd = os.fsencode(home.data / "files") + b"/caf\xe9"
    with open(odd, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"odd")
    assert home.process("backup", "data-files", LC_ALL="C", PYTHONUTF8="0").status is ExitStatus.SUCCESS
    answer = home.process("restore", "data-files", "--in-place", "--dry-run", "--json", LC_ALL="C", PYTHONUTF8="0")
    assert any("caf" in path for path in answer.document["conflicts"])
    assert home("restore", "data-files", "--in-place", "--dry-run").status is ExitStatus.SUCCESS


def test_a_moment_of_a_source_whose_name_is_mistyped_tells_the_right_name(home: Any) -> None:
    mistyped = home("restore", "ledger", "--at", "1 minute ago", "--to", "x")
    assert mistyped.status is ExitStatus.NOT_FOUND
    assert "did you mean 'ledger-database'" in mistyped.err
    (point,) = (each["id"] for each in home("points", "ledger-database", "--limit", "1", "--json").document["points"])
    both = home("restore", point, "--at", "1 minute ago", "--to", "x")
    assert both.status is ExitStatus.USAGE and "exclude each other" in both.err


def test_of_very_many_sources_a_machine_is_told_all_or_why_not_and_never_half(home: Any) -> None:
    """One row of the second thousand cannot be read; what was found of the first must not be taken for all."""
    settings = f"kind: files, class: configuration, owner: ada, paths: ['{home.data / 'files'}']"
    more = [f"  more-{number:04}: {{{settings}}}\n" for number in range(1_500)]
    home.policy.write_text(home.policy.read_text().replace("sources:\n", "".join(["sources:\n", *more]), 1))
    assert home("backup", "more-1200").status is ExitStatus.SUCCESS
    assert len(home("status", "--json").document["sources"]) == 1_503
    with contextlib.closing(sqlite3.connect(home.root / "catalog.db")) as connection, connection:
        connection.execute("UPDATE points SET captured_at = 'yesterday' WHERE source = 'more-1200'")
    for command in (("status", "--json"), ("audit", "--json", "--no-save")):
        answer = home(*command)
        assert answer.status is ExitStatus.CATALOG
        assert set(answer.document) == {"error", "status"}
        assert answer.document["error"]["code"] == "catalog"
        assert "is damaged" in answer.document["error"]["what"]
