"""A private place for a server of one restore test: gone in the end, and the server with it.

A server dies with the process that started it, whatever happens to that one. Databases refuse to run as root: then an
ordinary user runs them. A restore test may run beside production, which comes first.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cto_backups import process
from cto_backups.errors import VerificationError

_LOG_LINES: Final = 5
_NICER_BY: Final = 10
_FIRST_TO_GO: Final = "1000"


@dataclass(frozen=True)
class Place:
    """Two private folders, and who owns them; None is this process's own user.

    `data` has room for a database; `socket` is apart from it, as a socket's path may have 107 bytes and no more.
    """

    data: Path
    socket: Path
    user: "pwd.struct_passwd | None"
    ends_by: str = "QUIT"
    """The signal that ends a server whose parent is gone: there is nobody left for whom to end in good order."""

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.data / "log"

    def command(self, *words: str | Path) -> Sequence[str]:
        """The command run as the owner, and ended with whoever waits for it: else a server might stay for ever."""
        user = self.user
        identity = [] if user is None else [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        before = ["setpriv", *identity, f"--pdeathsig={self.ends_by}", "--"] if shutil.which("setpriv") else []
        return [*before, *map(str, words)]

    def environment(self) -> Mapping[str, str]:
        """What a program may know of ours."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.data), "LC_ALL": "C", "TZ": "UTC"}

    def own(self, *paths: Path) -> None:
        """Give these to the owner."""
        if self.user is not None:
            for path in paths:
                os.chown(path, self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)

    def last_words(self) -> str:
        """The end of what the server said."""
        try:
            return "; ".join(self.log.read_text("utf-8", "replace").strip().splitlines()[-_LOG_LINES:])
        except OSError:
            return ""


@contextmanager
def disposable(kind: str, *, scratch: str = "", ends_by: str = "QUIT") -> Iterator[Place]:
    """A new place, below `scratch` or where temporary files go, removed in the end. `kind` is in its name."""
    prefix = f"cto-backups-{kind}"
    sweep(prefix, scratch)
    data, socket = (
        Path(tempfile.mkdtemp(prefix=f"{prefix}.{os.getpid()}.", dir=where)) for where in (scratch or None, None)
    )
    try:
        place = Place(data, socket, _somebody_else() if os.geteuid() == 0 else None, ends_by)
        place.own(data, socket)
        _check_reached(place)
        yield place
    finally:
        for folder in (data, socket):
            shutil.rmtree(folder, ignore_errors=True)


def _check_reached(place: Place) -> None:
    """Where a folder above is closed to the user of the server, say so: the server's own words would name its files."""
    if place.user is None:
        return
    for folder in (place.data, place.socket):
        tried = subprocess.run(
            place.command("test", "-w", folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(place.environment()),
            cwd="/",
        )
        if tried.returncode:
            raise VerificationError(
                f"no throwaway server could be started in {folder.parent}",
                why=f"it runs as the user {place.user.pw_name}, to whom a folder on the way there is closed",
                todo="give the source a `scratch` that every user may enter, such as /var/tmp; or set TMPDIR so",
            )


@contextmanager
def serving(place: Place, *command: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A server in this place, ended in the end. Raises OSError."""
    with place.log.open("ab") as log:
        server = subprocess.Popen(
            place.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(place.environment()),
            cwd=place.data,
            start_new_session=True,
        )
    _put_others_first(server.pid)
    try:
        yield server
    finally:
        process.end(server)


def _put_others_first(pid: int) -> None:
    """Let all others have the processor, and with most schedulers the disks, before a process that has just begun and
    those that it will start; and have the kernel end it before any other when there is no memory left.
    """
    with suppress(OSError):  # where that is not allowed, it works all the same
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICER_BY)
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def _somebody_else() -> "pwd.struct_passwd":
    for name in ("nobody", "postgres", "mysql"):  # the others may log in to this machine's own servers
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise VerificationError(
        "no throwaway server could be started",
        why="it does not run as root, and there is no user nobody",
        todo="make a user nobody, or run restore tests as an ordinary user",
    )


def sweep(prefix: str, scratch: str = "") -> None:
    """Remove the folders ``PREFIX.PID.…`` that killed processes left; their servers died with them."""
    for folder in {tempfile.gettempdir(), scratch or tempfile.gettempdir()}:
        for left in Path(folder).glob(f"{prefix}.*.*"):
            pid = left.name.split(".")[1]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)
