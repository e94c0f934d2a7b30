"""Other programs are bounded, ended with us, and their complaints hold no secrets."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cto_backups.process import ToolError, ToolMissingError, ToolTimeoutError, clean, run


def shell(script: str, **named: object) -> bytes:
    return run(["sh", "-c", script], environment=os.environ, timeout_seconds=20, **named)  # type: ignore[arg-type]


def test_what_a_program_prints_is_returned() -> None:
    assert shell("echo out; echo err >&2") == b"out\n"
    assert shell("cat", given=b"x" * 200_000) == b"x" * 200_000


def test_a_failure_tells_status_and_the_last_words() -> None:
    with pytest.raises(ToolError) as raised:
        shell("echo ignored; for n in 1 2 3 4 5 6 7 8 9; do echo line $n >&2; done; exit 3")
    assert raised.value.status == 3
    assert raised.value.detail == "line 4; line 5; line 6; line 7; line 8; line 9"
    assert raised.value.lines[:2] == ("ignored", "line 1")
    with pytest.raises(ToolError, match="status 5 and said nothing"):
        shell("exit 5")


def test_real_errors_come_before_chatter() -> None:
    with pytest.raises(ToolError) as raised:
        shell("echo fatal: the reason >&2; echo and good luck >&2; exit 1")
    assert raised.value.detail == "fatal: the reason"


def test_a_program_killed_by_a_signal_has_failed() -> None:
    with pytest.raises(ToolError):
        shell("kill -9 $$")


def test_credentials_are_taken_out_of_what_it_says() -> None:
    with pytest.raises(ToolError) as raised:
        shell("echo fatal: https://ada:hunter2@host/x failed, git@host and a@b are fine >&2; exit 1")
    assert raised.value.detail == "fatal: https://host/x failed, git@host and a@b are fine"
    assert "hunter2" not in "".join(raised.value.lines)
    assert clean("ssh://git@host/x http://t@h") == "ssh://host/x http://h"


def test_a_missing_program_is_told_apart() -> None:
    with pytest.raises(ToolMissingError, match="is not installed"):
        run(["no-such-program"], environment=os.environ, timeout_seconds=5)


def test_a_program_has_no_terminal_to_ask_on() -> None:
    with pytest.raises(ToolError):
        shell("exec 3</dev/tty && read answer <&3")
    assert shell("cat") == b""


def gone(pid: int) -> bool:
    for _ in range(200):
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_too_long_means_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(ToolTimeoutError, match=r"after 0\.3 seconds"):
        run(
            ["sh", "-c", f"sleep 100 & echo $! > {tmp_path / 'pid'}; wait"],
            environment=os.environ,
            timeout_seconds=0.3,
        )
    assert gone(int((tmp_path / "pid").read_text()))


def test_an_interruption_ends_the_program_too(tmp_path: Path) -> None:
    script = (
        "import os, signal; from cto_backups.process import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # which who started us may have had ignored\n"
        f"run(['sh', '-c', 'sleep 100 & echo $! > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; wait'],"
        " environment=os.environ, timeout_seconds=60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    for _ in range(500):
        if (tmp_path / "pid").exists():
            break
        time.sleep(0.02)
    child.send_signal(2)
    _, said = child.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said
    assert gone(int((tmp_path / "pid").read_text()))


def test_programs_can_run_on_several_threads() -> None:
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(shell(f"echo {n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [b"%d\n" % n for n in range(8)]
