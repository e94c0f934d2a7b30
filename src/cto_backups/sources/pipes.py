"""Programs whose output is read as it comes, however long it is, and programs that are given a file to read."""

import fcntl
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import BinaryIO, Final

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.process import ToolTimeoutError, end, failure, start

_PIPE_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 8192
_HIDDEN: Final = b"[hidden]"
_SHORTEST: Final = 6  # a shorter line of a longer secret would hide innocent text
_LONGEST_MS: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Environment:
    """A program's variables, and the values that it must not be quoted with."""

    variables: Mapping[str, str]
    secrets: Sequence[str] = ()


class Output:
    """What a program prints. It goes on only as fast as it is read.

    It is whole once `readinto` returned 0, and not before: only then has the program ended by itself, with status 0. A
    program that gives no byte, or does not end, for `silent_seconds` is ended; the time in which nobody reads does
    not count. So it is when `limit` is over. Leave it with `close`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Environment,
        folder: Path,
        silent_seconds: float,
        limit: Limit = UNLIMITED,
    ) -> None:
        self._program = command[0]
        self.silent_seconds = silent_seconds
        self._process = start(
            command, environment=environment.variables, folder=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        with suppress(OSError):  # a limit for all of a user's pipes: the usual size serves too
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._complaints = _Complaints(self._process, environment.secrets)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        limit.then(self._stop)

    def readinto(self, buffer: memoryview) -> int:
        """What there is, at least one byte, as far as the buffer goes; 0: all of it was read, and the program says so.

        Raises ToolError when the program failed, ToolTimeoutError when it had to be ended.
        """
        if not self._poll.poll(min(self.silent_seconds * 1000, _LONGEST_MS)):
            raise self._hung("it gave nothing")
        count = os.readv(self._pipe, [buffer])
        if not count:
            self._ended()
        return count

    def close(self) -> None:
        """End the program and what it started, if it is still there."""
        self._stop()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _stop(self) -> None:
        if self._process.returncode is None:
            end(self._process)

    def _ended(self) -> None:
        try:
            status = self._process.wait(self.silent_seconds)
        except subprocess.TimeoutExpired:
            raise self._hung("it closed its output, and did not end") from None
        if status:
            raise failure(self._program, status, self._complaints.tail())

    def _hung(self, what: str) -> ToolTimeoutError:
        end(self._process)
        return ToolTimeoutError(self._program, None, f"{what} for {self.silent_seconds:g} seconds, and was ended")


def hand(
    file: BinaryIO,
    command: Sequence[str],
    *,
    environment: Environment,
    folder: Path,
    timeout_seconds: float,
) -> None:
    """Let a program read a file as its standard input, and wait until it says that this went well.

    What it prints is thrown away. Raises ToolError, ToolMissingError, ToolTimeoutError.
    """
    process = start(command, environment=environment.variables, folder=folder, stdin=file, stdout=subprocess.DEVNULL)
    complaints = _Complaints(process, environment.secrets)
    try:
        status = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        end(process)
        detail = f"it was not done after {timeout_seconds:g} seconds, and was ended"
        raise ToolTimeoutError(command[0], None, detail) from None
    except BaseException:
        end(process)
        raise
    if status:
        raise failure(command[0], status, complaints.tail())


def join(
    giving: Sequence[str],
    taking: Sequence[str],
    *,
    environment: Environment,
    folder: Path,
    timeout_seconds: float,
) -> None:
    """Let one program read what another prints, and wait until both say that this went well.

    Raises ToolError, ToolMissingError, ToolTimeoutError.
    """
    first = start(
        giving, environment=environment.variables, folder=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert first.stdout is not None
        between = first.stdout.fileno()
        with first.stdout:
            second = start(
                taking, environment=environment.variables, folder=folder, stdin=between, stdout=subprocess.DEVNULL
            )
        complaints = _Complaints(first, environment.secrets), _Complaints(second, environment.secrets)
        try:
            statuses = second.wait(timeout_seconds), first.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            detail = f"it was not done after {timeout_seconds:g} seconds, and was ended"
            raise ToolTimeoutError(taking[0], None, detail) from None
        finally:
            end(second)
    finally:
        end(first)
    if statuses[0]:  # who gives to it cannot go on then either
        raise failure(taking[0], statuses[0], complaints[1].tail())
    if statuses[1]:
        raise failure(giving[0], statuses[1], complaints[0].tail())


class _Complaints:
    """Reads what a program says on its standard error, so that it never waits for somebody to; keeps the end of it."""

    def __init__(self, process: "subprocess.Popen[bytes]", secrets: Sequence[str]) -> None:
        assert process.stderr is not None
        lines = {line for value in secrets for line in value.splitlines() if len(line) >= _SHORTEST}
        self._secrets = sorted({value.encode() for value in {*secrets, *lines} if value}, key=len, reverse=True)
        self._tail = b""
        self._thread = Thread(target=self._read, args=(process.stderr,), name="complaints", daemon=True)
        self._thread.start()

    def tail(self) -> bytes:
        """The last whole lines of it, without secrets, once the program has ended."""
        self._thread.join(1.0)  # what it left running may hold the other end for ever
        said = self._tail
        if len(said) == _TAIL_BYTES:
            said = said.partition(b"\n")[2]  # its first line may begin in the middle of a secret
        for secret in self._secrets:
            said = said.replace(secret, _HIDDEN)
        return said

    def _read(self, pipe: BinaryIO) -> None:
        with pipe:
            while part := os.read(pipe.fileno(), 1 << 16):
                self._tail = (self._tail + part)[-_TAIL_BYTES:]
