"""Workers of tests: each as a process, of a host with a folder of its own, and a log of what it says."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = (sys.executable, "-m", "cto_backups")


@dataclass
class Workers:
    """What runs below `top`, where each host has a folder with the policy; all on one `machine`, where one is named."""

    top: Path
    machine: str = field(default="", kw_only=True)
    workers: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict, kw_only=True)

    def environment(self, host: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CTO_BACKUPS_", "PG"))}
        policy = self.top / host / "backups.yaml"
        return {**kept, "CTO_BACKUPS_POLICY": str(policy), "CTO_BACKUPS_HOST": self.machine or host}

    def run(self, host: str, *arguments: str, good: Sequence[int] = ()) -> "subprocess.CompletedProcess[str]":
        """A command by hand, which ends with one of these statuses, if any are said."""
        command = [*PROGRAM, *arguments]
        done = subprocess.run(command, env=self.environment(host), capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in good or not good, f"{arguments}: {done.stderr}"
        return done

    def work(self, host: str) -> None:
        """Start a worker."""
        with self.log(host).open("ab") as log:
            self.workers[host] = subprocess.Popen(
                [*PROGRAM, "worker", "--json", "--verbose"],
                env=self.environment(host),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def processes(self, host: str) -> list[int]:
        """A worker and what it has begun; the worker first."""
        pid = self.workers[host].pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return []
        return [pid, *map(int, children)]

    def kill(self, host: str) -> None:
        """Pull the plug: the worker and what it has begun, at once."""
        tell(self.workers[host].pid, signal.SIGSTOP)  # so that it begins nothing more
        for pid in reversed(self.processes(host)):
            tell(pid, signal.SIGKILL)
        self.workers.pop(host).wait()

    def end(self) -> None:
        """Kill all that was started."""
        for host in list(self.workers):
            self.kill(host)

    def cpu_seconds(self, host: str) -> float:
        """The processor time that a worker has used, with the processes that it has, and had."""
        ticks = 0
        for pid in self.processes(host):
            try:
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
            except OSError:
                continue  # it has ended
        return ticks / os.sysconf("SC_CLK_TCK")

    def log(self, host: str) -> Path:
        return self.top / f"{host}.log"

    def logs(self) -> str:
        """What the workers said last."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-6000:]}" for log in sorted(self.top.glob("*.log")))


def tell(pid: int, what: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return
