"""Which processes of this host are at work for an installation."""

import os
from pathlib import Path


def process_alive(pid: int) -> bool:
    """Whether the process that began a run is still there, and not another one that was given its number since."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # no such file system here: rather wait than take a living run for dead
    return pid == os.getpid() or any(name in command for name in (b"cto.backups", b"cto-backups", b"cto_backups"))
