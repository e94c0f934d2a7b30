"""Where a restore test's server lives: it may be on a machine that has other things to do."""

import time
from pathlib import Path

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
