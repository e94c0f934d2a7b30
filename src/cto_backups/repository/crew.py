"""Threads that work through a bounded queue of jobs, each with tools of its own."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Tools = TypeVar("Tools")


class Crew(Generic[Tools]):
    """A context in which `submit` hands jobs to threads; leaving it waits for all and raises the first error of any.

    After an error no further job is started.
    """

    def __init__(self, size: int, tools: Callable[[], Tools], *, name: str, backlog: int | None = None) -> None:
        self._tools = tools
        self._queue: queue.Queue[Callable[[Tools], None] | None] = queue.Queue(backlog or size * 4)
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(size)
        ]

    def __enter__(self) -> "Crew[Tools]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._error is None:
            self._error = _AbandonedError()
        self.join()
        if kind is None:
            self.check()

    def submit(self, job: Callable[[Tools], None]) -> None:
        """Queue a job, waiting for room. Raises what failed before."""
        self.check()
        self._queue.put(job)

    def check(self) -> None:
        """Raise what failed, if anything did."""
        if self._error is not None:
            raise self._error

    @property
    def failed(self) -> bool:
        """Whether a job failed."""
        return self._error is not None

    def join(self) -> None:
        """Let the threads finish what is queued, and end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _work(self) -> None:
        try:
            tools = self._tools()
        except BaseException as error:  # noqa: BLE001 handed to the thread that waits
            self._error = self._error or error
            while self._queue.get() is not None:
                pass
            return
        while (job := self._queue.get()) is not None:
            if self._error is not None:
                continue
            try:
                job(tools)
            except BaseException as error:  # noqa: BLE001 handed to the thread that waits
                self._error = self._error or error


class _AbandonedError(Exception):
    """The thread that submits gave up."""
