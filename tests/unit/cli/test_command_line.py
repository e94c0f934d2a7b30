"""The command line itself: help, mistypings, and the boundary at which errors become exit statuses."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cto_backups.cli import command_table, commands, main
from cto_backups.errors import BackupsError, BusyError, ExitStatus

Capture = pytest.CaptureFixture[str]


def every_command() -> dict[str, Any]:
    """Every command by its whole name, 'schedule set' among them."""
    root = commands.build()
    found: dict[str, Any] = {}

    def walk(command: Any, names: tuple[str, ...]) -> None:
        if names:
            found[" ".join(names)] = command
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*names, name))

    walk(root, ())
    return found


COMMANDS = every_command()


def run(*arguments: str) -> ExitStatus:
    return main.run(arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_the_global_options(name: str, capsys: Capture) -> None:
    assert run(*name.split(), "--help") is ExitStatus.SUCCESS
    shown = capsys.readouterr().out
    assert f"  cto.backups {name}" in shown.partition("Examples:")[2]
    for option in ("--policy", "--json", "--quiet", "--verbose", "--no-color"):
        assert option in shown.partition("Global options:")[2]


def test_help_fits_80_columns_except_for_examples(capsys: Capture) -> None:
    for name in ("", *COMMANDS):
        run(*name.split(), "--help")
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if len(line) > 80 and "cto.backups" not in line] == []


def test_the_list_of_commands_shows_each_in_one_whole_line(capsys: Capture) -> None:
    run("--help")
    listing = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listing] == [entry.name for entry in command_table.COMMANDS]
    assert not [line for line in listing if line.endswith("...")]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("statsu",), "There is no command 'statsu'; did you mean 'status'?"),
        (("qwertz",), "There is no command 'qwertz'"),
        (("schedule", "sett", "a", "b"), "There is no command 'sett'; did you mean 'set'?"),
        (("points", "--limti", "3"), "There is no option --limti of 'cto.backups points'; did you mean '--limit'?"),
        (("status", "--jsn"), "There is no option --jsn of 'cto.backups status'; did you mean '--json'?"),
        (("points", "--limit", "many"), "Invalid value for '--limit'"),
        (("schedule", "set", "notes"), "Missing argument"),
        (("verify", "--structure-only=1"), "--structure-only"),
    ],
)
def test_a_mistyped_command_line_is_answered_with_the_closest_name(
    arguments: tuple[str, ...], what: str, capsys: Capture
) -> None:
    assert run(*arguments) is ExitStatus.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"Error: {what}" if what[0] != "-" else "Error: ")
    assert what in shown.err
    assert "--help' for" in shown.err


def test_a_mistyped_command_line_is_answered_in_json_when_json_is_asked_for(capsys: Capture) -> None:
    for arguments in (("--json", "statsu"), ("statsu", "--json")):
        assert run(*arguments) is ExitStatus.USAGE
        shown = capsys.readouterr()
        assert shown.err == ""
        document = json.loads(shown.out)
        assert document["status"] == 2
        assert document["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("restore", "latest", "--to", ""), "Nothing is given behind --to"),
        (("restore", "latest", "--to", "x", "--only="), "Nothing is given behind --only"),
        (("init", ""), "An argument is empty"),
        (("",), "An argument is empty"),
    ],
)
def test_a_variable_that_was_never_set_is_not_taken_for_the_current_folder_or_for_everything(
    arguments: tuple[str, ...], what: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) is ExitStatus.USAGE
    assert capsys.readouterr().err.startswith(f"Error: {what}\n")
    assert list(tmp_path.iterdir()) == []


def test_no_command_shows_the_help_and_counts_as_misuse(capsys: Capture) -> None:
    assert run() is ExitStatus.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Commands:" in shown.err


def test_global_options_count_before_and_after_the_command(capsys: Capture) -> None:
    for arguments in (("--json", "version"), ("version", "--json")):
        assert run(*arguments) is ExitStatus.SUCCESS
        assert "version" in json.loads(capsys.readouterr().out)


def test_the_version_is_told_to_those_who_ask_as_of_other_programs(capsys: Capture) -> None:
    assert run("--version") is ExitStatus.SUCCESS
    assert capsys.readouterr().out.startswith("cto.backups ")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from cto_backups.cli import main; main.run(['--help']); "
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stderr))
    assert "typer" in loaded
    assert not loaded & {
        "rich",
        "pydantic",
        "sqlalchemy",
        "alembic",
        "cryptography",
        "ruamel",
        "structlog",
        "zstandard",
    }


@pytest.mark.parametrize(
    ("arguments", "used"), [(("--help",), set()), (("version",), {"version"}), (("verify", "--help"), {"verify"})]
)
def test_only_the_command_that_is_called_for_is_loaded(arguments: tuple[str, ...], used: set[str]) -> None:
    code = (
        f"import sys; from cto_backups.cli import main; main.run({arguments!r}); "
        "print(sorted(name for name in sys.modules if name.startswith('cto_backups.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("cto_backups.cli.") for name in ast.literal_eval(done.stderr)}
    modules = {entry.function.partition(":")[0] for entry in command_table.COMMANDS}
    assert loaded & modules == used


HEAVY = {"alembic", "asyncio", "fastapi", "sqlalchemy", "structlog"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with one small folder, backed up."""
    folder = tmp_path_factory.mktemp("startup")
    (folder / "notes").mkdir()
    (folder / "notes" / "today").write_text("written")
    home = folder / "home"
    assert main.run(["init", str(home), "--protect", str(folder / "notes"), "--quiet"]) is ExitStatus.SUCCESS
    assert main.run(["backup", "--policy", str(home), "--quiet"]) is ExitStatus.SUCCESS
    return home


@pytest.mark.parametrize(
    ("command", "without"),
    [
        ("status", HEAVY | {"cryptography", "zstandard", "pyfastcdc"}),
        ("points", HEAVY | {"cryptography", "zstandard", "pyfastcdc"}),
        ("backup", HEAVY | {"rich"}),
    ],
)
def test_a_command_in_a_pipe_loads_nothing_heavy_that_it_does_not_use(
    home: Path, command: str, without: set[str]
) -> None:
    code = (
        f"import sys; from cto_backups.cli import main; main.run([{command!r}, '--policy', {str(home)!r}]); "
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stderr))
    assert {"pydantic", "ruamel", "sqlite3"} <= loaded, "it read the policy and the catalog"
    assert not loaded & without


@pytest.mark.parametrize(
    ("arguments", "used", "unused"),
    [
        (("status",), set(), {"cto_backups.repository.store", "typer._adapters"}),
        (("points",), set(), {"cto_backups.repository.store", "cto_backups.flows.protect"}),
        (
            ("backup",),
            {"cto_backups.repository.session"},
            {
                *(f"cto_backups.repository.{name}" for name in ("check", "prune", "reader", "repair", "restore")),
                "cto_backups.sources.walking",
                "typer._adapters",
            },
        ),
        (
            ("verify", "one"),
            {"cto_backups.repository.check"},
            {
                *(f"cto_backups.repository.{name}" for name in ("prune", "reader", "repair", "restore", "session")),
                "typer._adapters",
            },
        ),
    ],
)
def test_a_command_loads_only_what_its_operation_works_with(
    home: Path, arguments: tuple[str, ...], used: set[str], unused: set[str]
) -> None:
    code = (
        f"import sys; from cto_backups.cli import main; main.run([*{arguments!r}, '--policy', {str(home)!r}]); "
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stderr))
    assert used <= loaded
    assert not loaded & unused


@pytest.mark.parametrize("arguments", [("verify", "one"), ("restore", "notes-files", "--to", "FOLDER")])
def test_the_first_request_to_a_vault_waits_for_nothing_that_is_used_later(
    home: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """What the repository needs no answer for is loaded while those are on their way."""
    typed = [str(tmp_path) if word == "FOLDER" else word for word in arguments]
    code = (
        "import sys; from cto_backups.app import adapters; opening = adapters._Opening\n"
        "def noted(*given):\n"
        "    print(sorted(sys.modules), file=sys.stderr)\n"
        "    return opening(*given)\n"
        "adapters._Opening = noted\n"
        f"from cto_backups.cli import main; main.run([*{typed!r}, '--policy', {str(home)!r}, '--quiet'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stderr.splitlines()[0]))
    assert "cto_backups.repository.store" in loaded
    assert sorted(loaded & LATER) == []


LATER = {
    "cryptography",
    "cto_backups.catalog.catalog",
    "cto_backups.core.elsewhere",
    "cto_backups.core.facts",
    "cto_backups.evidence.records",
    "cto_backups.flows.restore",
    "cto_backups.flows.verify",
    "cto_backups.repository.check",
    "cto_backups.repository.restore",
    "sqlite3",
}


@pytest.mark.parametrize("before", [None, "some-plugin"])
def test_reading_a_policy_looks_for_no_plugins_of_pydantic(
    home: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS", raising=False)
    if before is not None:
        monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", before)
    code = (
        "import os, importlib.metadata as metadata; from pathlib import Path; from cto_backups.config import load; "
        "metadata.entry_points = lambda **given: 1 / 0; "
        f"load(Path({str(home / 'backups.yaml')!r})); print(os.environ.get('PYDANTIC_DISABLE_PLUGINS'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{before}\n"


def test_reading_a_sound_policy_does_not_read_the_programs_source(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cto_backups.config import load; "
        f"load(Path({str(home / 'backups.yaml')!r})); print('cto_backups.config.descriptions' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_quiet_says_nothing_of_a_success(capsys: Capture) -> None:
    assert run("version", "-q") is ExitStatus.SUCCESS
    assert capsys.readouterr() == ("", "")


def failing_with(error: BaseException) -> Callable[..., None]:
    def version(_screen: object) -> None:
        raise error

    return version


@pytest.fixture
def instead_of_version(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make the command `version` end in an error: what is tested is the boundary around commands."""

    def replace(error: BaseException) -> None:
        from cto_backups.cli import version
        from cto_backups.cli.command import command

        monkeypatch.setattr(version, "version", command(failing_with(error)))

    return replace


Replace = Callable[[BaseException], None]


def test_an_error_of_ours_ends_with_its_own_status(instead_of_version: Replace, capsys: Capture) -> None:
    instead_of_version(BusyError("Another run is at work", why="it holds the lock", todo="Wait."))
    assert run("version") is ExitStatus.BUSY
    assert capsys.readouterr().err == ("Error: Another run is at work\n  Why:  It holds the lock\n  Next: Wait.\n")


def test_an_error_in_json_carries_code_what_why_todo_and_the_exit_status(
    instead_of_version: Replace, capsys: Capture
) -> None:
    instead_of_version(BusyError("Another run is at work", why="it holds the lock", todo="Wait."))
    assert run("version", "--json") is ExitStatus.BUSY
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out) == {
        "error": {"code": "busy", "what": "Another run is at work", "why": "it holds the lock", "todo": "Wait."},
        "status": 14,
    }


def test_a_defect_shows_no_traceback_and_no_text_of_its_own(instead_of_version: Replace, capsys: Capture) -> None:
    instead_of_version(ZeroDivisionError("with a secret inside"))
    assert run("version") is ExitStatus.DEFECT
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "--verbose" in shown
    assert "Traceback" not in shown
    assert "secret" not in shown


def test_a_defect_shows_its_traceback_when_asked_to(
    instead_of_version: Replace, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_version(ZeroDivisionError("password=hunter2222"))
    assert run("version", "--verbose") is ExitStatus.DEFECT
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "hunter2222" not in shown
    monkeypatch.setenv("CTO_BACKUPS_DEBUG", "1")
    run("version")
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_says_that_nothing_is_lost(instead_of_version: Replace, capsys: Capture) -> None:
    instead_of_version(KeyboardInterrupt())
    assert run("version") is ExitStatus.INTERRUPTED
    shown = capsys.readouterr().err
    assert shown.startswith("Error: Interrupted\n")
    assert "nothing is lost" in shown.lower()


def test_every_error_of_the_tree_ends_with_a_status_of_the_table(instead_of_version: Replace, capsys: Capture) -> None:
    def below(tree: type[BackupsError]) -> list[type[BackupsError]]:
        return [tree, *(deeper for child in tree.__subclasses__() for deeper in below(child))]

    for kind in below(BackupsError):
        if kind.__init__ is BackupsError.__init__:
            instead_of_version(kind("It happened"))
            assert run("version") is kind.exit_status
            assert "It happened" in capsys.readouterr().err


def test_a_missing_policy_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTO_BACKUPS_POLICY", raising=False)
    assert run("status") is ExitStatus.NOT_FOUND
    assert "cto.backups init" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("restore", "latest"), ("restore", "latest", "--to", "x", "--in-place")],
)
def test_a_restore_must_say_exactly_one_place(arguments: Sequence[str], capsys: Capture) -> None:
    assert run(*arguments) is ExitStatus.USAGE
    shown = capsys.readouterr().err
    assert "--to FOLDER" in shown
    assert "--in-place" in shown
