"""Runs one command and writes what it cost, as JSON, to the file descriptor given first. Started by `measure`.

A process of its own, and a small one: Linux counts the memory of whoever forks a child into that child's peak.
"""

import json
import os
import select
import sys
import time

_BETWEEN_LOOKS_MS = 50


def main() -> None:
    """Arguments: the descriptor to report to, then the command."""
    report, command = int(sys.argv[1]), sys.argv[2:]
    started = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    together = _wait(child)
    _, status, usage = os.wait4(child, 0)
    figures = {
        "wall": time.monotonic() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_bytes": max(usage.ru_maxrss * 1024, together),
        "status": os.waitstatus_to_exitcode(status),
    }
    os.write(report, json.dumps(figures).encode())


def _wait(child: int) -> int:
    """Until it ends; the most bytes that it and its descendants were seen to hold together, when there were any."""
    ended = select.poll()
    ended.register(os.pidfd_open(child), select.POLLIN)
    most = 0
    while not ended.poll(_BETWEEN_LOOKS_MS):
        tree = [child]
        for process in tree:
            tree.extend(_children(process))
        if len(tree) > 1:
            most = max(most, sum(_resident(process) for process in tree))
    return most


def _children(process: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - no pathlib: it is to stay small
            with open(f"/proc/{process}/task/{thread}/children") as file:  # noqa: PTH123
                found.extend(map(int, file.read().split()))
    except OSError:
        pass  # it, or its thread, ended meanwhile
    return found


def _resident(process: int) -> int:
    try:
        with open(f"/proc/{process}/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
