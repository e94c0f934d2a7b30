"""A server's write-ahead log on its way: received on a thread of its own, into files named as PostgreSQL names them."""

import os
import threading
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.process import ToolError, ToolTimeoutError
from cto_backups.sources.postgresql.replication import PROGRAM, Replication, lsn_text

_STEP_SECONDS: Final = 1.0
_REPORT_SECONDS: Final = 5.0
_LOOK_BYTES: Final = 1 << 20
_PAGE_BYTES: Final = 8192


def segment_name(timeline: int, number: int, segment_bytes: int) -> str:
    """What PostgreSQL calls a file of its log."""
    high, low = divmod(number, (1 << 32) // segment_bytes)
    return f"{timeline:08X}{high:08X}{low:08X}"


def written_bytes(segment: Path) -> int:
    """How much of a file is more than the zeroes at its end, in whole pages. Raises OSError."""
    with segment.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begins = max(0, end - _LOOK_BYTES)
            file.seek(begins)
            there = file.read(end - begins).rstrip(b"\0")
            if there:
                return -(-(begins + len(there)) // _PAGE_BYTES) * _PAGE_BYTES
            end = begins
    return 0


class LogReceiver:
    """Receives the log from a place on; a context, which ends the connection. Files are as large as the server's are:
    what has not come is zeroes.

    Of a slot that is `lasting` the server keeps the log until `safe` is called: what lies here may be lost.
    """

    def __init__(
        self, connection: Replication, slot: str, folder: Path, begins: int, timeline: int, *, lasting: bool = False
    ) -> None:
        self._connection = connection
        self._slot = slot
        self._folder = folder
        self._timeline = timeline
        self._lasting = lasting
        self.segment_bytes = connection.segment_bytes()
        self._begins = begins - begins % self.segment_bytes
        self._received = self._begins
        self._enough: int | None = None
        self._open: tuple[int, int] | None = None
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> "LogReceiver":
        self._connection.begin_log(self._slot, self._begins, self._timeline)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Receive no more; the slot is free then."""
        self._end()
        self._connection.close()

    def until(self, end: int, seconds: float) -> list[Path]:
        """Wait for the log up to `end`, and receive no more; its files. Raises ToolError.

        `seconds` is how long nothing of it may come.
        """
        with self._changed:
            self._enough = end
            seen, deadline = -1, 0.0
            while self._received < end and self._failure is None:
                if self._received != seen:
                    seen, deadline = self._received, clock.monotonic() + seconds
                elif clock.monotonic() > deadline:
                    raise ToolTimeoutError(
                        PROGRAM, None, f"nothing of the log up to {lsn_text(end)} came for {seconds:g} seconds"
                    )
                self._changed.wait(_STEP_SECONDS)
        if self._failure is not None:
            raise self._failure
        last = (end - 1) // self.segment_bytes
        numbers = range(self._begins // self.segment_bytes, last + 1)
        return [self._folder / segment_name(self._timeline, number, self.segment_bytes) for number in numbers]

    def safe(self, end: int) -> None:
        """Let the server forget its log up to here. Raises ToolError."""
        self._end()
        if self._failure is not None:
            raise self._failure
        self._connection.finish_log(end)

    def _end(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._close()

    def _run(self) -> None:
        reported = clock.monotonic()
        try:
            while not self._stopped:
                if self._enough is not None and self._received >= self._enough:
                    with self._changed:
                        self._changed.wait_for(lambda: self._stopped, _STEP_SECONDS)
                elif piece := self._connection.log_data(_STEP_SECONDS):
                    self._take(*piece)
                if clock.monotonic() - reported > _REPORT_SECONDS:
                    reported = clock.monotonic()
                    self._connection.report(self._received, 0 if self._lasting else self._received)
        except BaseException as error:  # noqa: BLE001 told to whoever waits for the log
            with self._changed:
                self._failure = _reason(error, self._folder)
                self._changed.notify_all()

    def _take(self, begins: int, data: memoryview) -> None:
        if begins != self._received:
            raise ToolError(
                PROGRAM, None, f"the log has a gap: {lsn_text(begins)} came after {lsn_text(self._received)}"
            )
        while data:
            number, inside = divmod(self._received, self.segment_bytes)
            part = data[: self.segment_bytes - inside]
            os.pwrite(self._file(number), part, inside)
            data = data[len(part) :]
            with self._changed:
                self._received += len(part)
                self._changed.notify_all()

    def _file(self, number: int) -> int:
        if self._open is None or self._open[0] != number:
            self._close()
            path = self._folder / segment_name(self._timeline, number, self.segment_bytes)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._open = number, descriptor
            os.ftruncate(descriptor, self.segment_bytes)
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


def _reason(error: BaseException, folder: Path) -> BaseException:
    if isinstance(error, OSError):
        return ToolError(PROGRAM, None, f"its log cannot be kept in {folder} meanwhile: {error.strerror}")
    return error
