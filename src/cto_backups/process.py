"""Other programs: run in a session of their own, bounded in time, ended with us, their complaints short and clean."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

HOST_VARIABLE = "CTO_BACKUPS_HOST"
_USERINFO = re.compile(r"(?<=//)[^/@\s]+@")
_LINES = 6

LONGEST_SECONDS = 7 * 86_400.0
"""For what takes as long as there is data, and says nothing meanwhile: a restore, a check of all indexes."""


def host() -> str:
    """What this host is called: by $CTO_BACKUPS_HOST, or as the operating system has it."""
    return os.environ.get(HOST_VARIABLE) or socket.gethostname()


class ToolError(Exception):
    """A program did not do what it was asked.

    `detail` is what it said, in short; `lines` is all that it said, when it ended by itself. Neither holds credentials.
    """

    def __init__(self, program: str, status: int | None, detail: str, lines: Sequence[str] = ()) -> None:
        super().__init__(f"{program}: {detail}")
        self.lines = tuple(lines)
        self.program = program
        self.status = status
        self.detail = detail


class ToolMissingError(ToolError):
    """The program is not installed."""


class ToolTimeoutError(ToolError):
    """The program took too long, and was ended."""


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    timeout_seconds: float,
    given: bytes | None = None,
    folder: Path | None = None,
    complaints_too: bool = False,
) -> bytes:
    """What the program prints, and its complaints after that with `complaints_too`.

    Raises ToolError (with its status), ToolMissingError, ToolTimeoutError.

    The program has no terminal to ask anything on. Whatever ends this call early also ends the program and what it
    started.
    """
    program = str(command[0])
    stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
    process = start(command, environment=environment, folder=folder, stdin=stdin, stdout=subprocess.PIPE)
    with process:
        try:
            output, complaints = process.communicate(given, timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            end(process)
            raise ToolTimeoutError(program, None, f"it was not done after {timeout_seconds:g} seconds") from error
        except BaseException:
            end(process)
            raise
    if process.returncode:
        raise failure(program, process.returncode, complaints, output)
    return output + complaints if complaints_too else output


def start(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    folder: Path | None,
    stdin: int | BinaryIO,
    stdout: int,
) -> "subprocess.Popen[bytes]":
    """Start a program whose complaints go to a pipe. Raises ToolError, ToolMissingError.

    `folder` is one that is there: without the program's own folder nothing tells the two apart.
    """
    program = str(command[0])
    try:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ToolMissingError(program, None, f"{program} is not installed") from error
    except OSError as error:
        raise ToolError(program, None, error.strerror or str(error)) from error


def failure(program: str, status: int, complaints: bytes, output: bytes = b"") -> ToolError:
    """What to raise for a program that ended with `status`: a signal's number, when it is below zero."""
    complained = _lines(complaints)
    return ToolError(program, status, _trimmed(complained, status), [*_lines(output), *complained])


def _lines(said: bytes) -> list[str]:
    return [line.strip() for line in clean(said.decode("utf-8", "replace")).splitlines() if line.strip()]


def _trimmed(lines: Sequence[str], status: int) -> str:
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ERROR:"))] or lines
    return "; ".join(told[-_LINES:])[:600] or f"it ended with status {status} and said nothing"


def clean(text: str) -> str:
    """A text without the user and password of any URL in it."""
    return _USERINFO.sub("", text)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End the program and all that it started: they are in a session of their own, which bears its number."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process.

    Together with the number it identifies a process: numbers are used again.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] == "Z" else int(fields[19])
