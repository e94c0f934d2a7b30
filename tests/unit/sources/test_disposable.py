"""Where a restore test's server lives: it may be on a machine that has other things to do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cto_backups.errors import VerificationError
from cto_backups.sources.disposable import disposable, serving


def test_whatever_else_runs_on_the_machine_comes_before_a_throwaway_server() -> None:
    ours = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[16])
    with disposable("trial") as place, serving(place, "sh", "-c", "sleep 0.2; tail -f /dev/null & wait") as server:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        until = time.monotonic() + 20
        while not (told := children.read_text().split()) or Path(f"/proc/{told[0]}/comm").read_text() != "tail\n":
            assert time.monotonic() < until
            time.sleep(0.01)
        for pid in (str(server.pid), told[0]):
            nice = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])
            assert nice == min(ours + 10, 19)
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the server as himself")
def test_a_folder_that_is_closed_to_the_servers_user_is_named_before_anything_starts(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    scratch = closed / "scratch"
    scratch.mkdir(mode=0o777)
    with pytest.raises(VerificationError) as told, disposable("trial", scratch=str(scratch)):
        pytest.fail("a server that cannot reach its own files")
    assert str(scratch) in str(told.value)
    assert "closed" in told.value.why and "scratch" in told.value.todo
    assert not list(scratch.iterdir())


_DEAF = """
import sys, time
from cto_backups.sources.disposable import disposable, serving
with disposable("deaf", ends_by="KILL") as place, serving(place, "sh", "-c", "trap '' QUIT; sleep 300") as server:
    print(server.pid, flush=True)
    time.sleep(300)
"""


def test_a_server_that_does_not_hear_goes_with_whoever_started_it() -> None:
    starter = subprocess.Popen([sys.executable, "-c", _DEAF], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter.stdout as told:
        server = Path("/proc", told.readline().strip())
    until = time.monotonic() + 20
    while "trap" not in (server / "cmdline").read_text() or "setpriv" in (server / "cmdline").read_text():
        assert time.monotonic() < until  # the signal is set by what comes before the shell
        time.sleep(0.01)
    starter.send_signal(signal.SIGKILL)
    starter.wait(20)
    while server.exists() and " Z " not in (server / "stat").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
