"""Secrets come by reference, are refused when others could read them, and show nowhere."""

import copy
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from cto_backups.config import secrets
from cto_backups.config.secrets import Secret, SecretReference, create_file_secret
from cto_backups.errors import KeyProblemError, RefusedError

VALUE = "correct-horse-battery-staple"


def key_file(folder: Path, content: bytes = VALUE.encode() + b"\n", mode: int = 0o600) -> Path:
    path = folder / "repository.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_secret_shows_only_when_it_is_revealed() -> None:
    secret = Secret(VALUE)
    assert secret.reveal() == VALUE
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r:>40}", repr([secret])):
        assert VALUE not in shown


def test_a_secret_is_not_pickled_nor_copied() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(VALUE))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(VALUE))


def test_secrets_are_equal_by_value() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert len({Secret(VALUE), Secret(VALUE), Secret("other-value")}) == 2
    assert Secret(VALUE) != VALUE


@pytest.mark.parametrize("text", ["file:keys/repository.key", "env:BACKUPS_KEY", "command:pass show 'my key'"])
def test_a_reference_reads_as_it_is_written(text: str) -> None:
    assert str(SecretReference.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        VALUE,
        "",
        "file:",
        "file:  ",
        "env:",
        "env:1KEY",
        "env:A B",
        "command:",
        "command:'open",
        "vault:x",
        "FILE:x",
        "a\0",
    ],
)
def test_what_is_no_reference_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(KeyProblemError) as raised:
        SecretReference.parse(text)
    if text == VALUE:
        assert VALUE not in f"{raised.value!r} {raised.value} {raised.value.why} {raised.value.todo}"
        assert "file:PATH" in raised.value.todo


def test_a_file_gives_its_content_without_the_line_end(tmp_path: Path) -> None:
    key_file(tmp_path)
    assert SecretReference.parse("file:repository.key").resolve(tmp_path).reveal() == VALUE


def test_a_file_below_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key_file(tmp_path)
    assert SecretReference.parse("file:~/repository.key").resolve(Path("/nowhere")).reveal() == VALUE


def test_an_environment_variable_gives_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUPS_KEY", VALUE)
    assert SecretReference.parse("env:BACKUPS_KEY").resolve(tmp_path).reveal() == VALUE


def test_a_command_gives_what_it_prints_and_starts_in_the_base_folder(tmp_path: Path) -> None:
    key_file(tmp_path)
    assert SecretReference.parse("command:cat repository.key").resolve(tmp_path).reveal() == VALUE


def test_a_command_gets_no_shell(tmp_path: Path) -> None:
    assert SecretReference.parse("command:echo a; echo b").resolve(tmp_path).reveal() == "a; echo b"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_may_read_is_refused_with_the_command_to_run(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(KeyProblemError) as raised:
        SecretReference.parse("file:repository.key").resolve(tmp_path)
    assert f"chmod 600 {path}" in raised.value.todo
    assert "file:repository.key" in raised.value.what


def test_a_key_whose_name_has_spaces_is_named_as_a_shell_takes_it(tmp_path: Path) -> None:
    (tmp_path / "my key").write_text(VALUE)
    (tmp_path / "my key").chmod(0o644)
    with pytest.raises(KeyProblemError) as raised:
        SecretReference.parse("file:my key").resolve(tmp_path)
    assert f"chmod 600 '{tmp_path}/my key'" in raised.value.todo


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\n", "empty"), (b"\xff\xfe" + VALUE.encode(), "not text"), (b"k" * 70_000, "not a key")],
)
def test_a_file_that_holds_no_key_is_told_without_its_content(tmp_path: Path, content: bytes, reason: str) -> None:
    key_file(tmp_path, content)
    with pytest.raises(KeyProblemError, match=reason) as raised:
        SecretReference.parse("file:repository.key").resolve(tmp_path)
    assert VALUE not in "".join(traceback.format_exception(raised.value))


def test_a_missing_key_names_its_reference_and_its_place(tmp_path: Path) -> None:
    with pytest.raises(KeyProblemError, match=r"file:gone\.key") as raised:
        SecretReference.parse("file:gone.key").resolve(tmp_path)
    assert str(tmp_path / "gone.key") in raised.value.why


def test_a_folder_and_a_pipe_are_no_keys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in (".", "pipe"):
        with pytest.raises(KeyProblemError, match="is not a file"):
            SecretReference.parse(f"file:{name}").resolve(tmp_path)


def test_a_missing_variable_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKUPS_KEY", raising=False)
    with pytest.raises(KeyProblemError, match="env:BACKUPS_KEY"):
        SecretReference.parse("env:BACKUPS_KEY").resolve(tmp_path)


def test_a_failing_command_tells_its_status_and_nothing_it_printed(tmp_path: Path) -> None:
    reference = SecretReference.parse(f"command:sh -c 'echo {VALUE}; echo {VALUE} >&2; exit 3'")
    with pytest.raises(KeyProblemError) as raised:
        reference.resolve(tmp_path)
    assert raised.value.why == "exit status 3"


def test_a_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyProblemError, match="does not start"):
        SecretReference.parse("command:no-such-command-here").resolve(tmp_path)


def test_a_command_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.05)
    with pytest.raises(KeyProblemError, match="no answer"):
        SecretReference.parse("command:sleep 1000").resolve(tmp_path)


def test_a_command_that_prints_for_ever_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyProblemError, match="is not a key"):
        SecretReference.parse("command:yes").resolve(tmp_path)


def test_a_new_key_file_is_for_its_owner_alone_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys" / "repository.key"
    before = os.umask(0)
    try:
        create_file_secret(path, VALUE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert SecretReference.parse(f"file:{path}").resolve(tmp_path).reveal() == VALUE
    assert [file.name for file in path.parent.iterdir()] == ["repository.key"]


@pytest.mark.parametrize("link", [False, True])
def test_a_key_is_never_overwritten(tmp_path: Path, link: bool) -> None:
    path = tmp_path / "repository.key"
    if link:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("the old key")
    with pytest.raises(RefusedError, match="exists already"):
        create_file_secret(path, VALUE)
    assert not (tmp_path / "elsewhere").exists()
    assert link or path.read_text() == "the old key"
    assert [file.name for file in tmp_path.iterdir()] == ["repository.key"]


def test_a_filesystem_without_hard_links_still_gets_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    create_file_secret(tmp_path / "repository.key", VALUE)
    assert (tmp_path / "repository.key").read_text() == VALUE + "\n"
    with pytest.raises(RefusedError):
        create_file_secret(tmp_path / "repository.key", "another")


def test_a_place_that_cannot_be_written_is_told_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyProblemError) as raised:
        create_file_secret(tmp_path / "file" / "repository.key", VALUE)
    assert VALUE not in f"{raised.value} {raised.value!r}"


def test_a_command_is_stopped_with_whoever_waits_for_it(tmp_path: Path) -> None:
    """Ctrl-C at a passphrase prompt must not leave the prompt running."""
    written = tmp_path / "pid"
    command = f"command:sh -c 'echo $$ > {written}; exec sleep 600'"
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            # Whoever starts tests in the background may let them ignore what Ctrl-C sends, and programs inherit that.
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "import sys; from pathlib import Path; from cto_backups.config.secrets import SecretReference;"
            "SecretReference.parse(sys.argv[1]).resolve(Path('.'))",
            command,
        ],
        stderr=subprocess.DEVNULL,
    )
    while not written.exists() or not written.read_text().strip():
        assert waiting.poll() is None
        time.sleep(0.01)
    pid = int(written.read_text())
    time.sleep(0.2)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(timeout=50) == -signal.SIGINT, "and not because the command took too long"
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists() or "(sh) Z" in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the command goes on")
