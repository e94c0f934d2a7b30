"""Runs one command and writes what it cost, as JSON, to the file descriptor given first. Started by `measure`.

A process of its own, and a small one: Linux counts the memory of whoever forks a child into that child's peak.
"""

import json
import os
import sys
import time


def main() -> None:
    """Arguments: the descriptor to report to, then the command."""
    report, command = int(sys.argv[1]), sys.argv[2:]
    started = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    figures = {
        "wall": time.monotonic() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "status": os.waitstatus_to_exitcode(status),
    }
    os.write(report, json.dumps(figures).encode())


if __name__ == "__main__":
    main()
