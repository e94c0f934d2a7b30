"""Slots: processes that do a worker's actions, several at once, so that none can take the others down with it.

A process does one action at a time, and keeps what it has opened for the next. It ends by itself when the worker is
gone, once it has done what it is at. Between the two travel pickled actions and what came of them, over a pair of
sockets that nobody else has.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.core.model import Action
from cto_backups.core.worker import IoPriority, Limits, WorkerPolicy
from cto_backups.flows.perform import Performed, crash

if TYPE_CHECKING:
    from cto_backups.config import Configuration

IDLE_SECONDS = 300.0
"""After how long without work a process is ended: what it has opened takes memory."""
BREAK_OFF_SECONDS = 30.0
"""How long a process that is told to break off may take to put things right before it is killed."""

_IO = {IoPriority.NORMAL: (), IoPriority.LOW: ("-c", "2", "-n", "7"), IoPriority.IDLE: ("-c", "3")}


class _Slot:
    """One process."""

    def __init__(self, configuration: "Configuration", logging: tuple[str, ...]) -> None:
        ours, its = socket.socketpair()
        with its:
            program = (sys.executable, "-P", "-m", "cto_backups.cli.slot", str(its.fileno()), *logging)
            self.process = subprocess.Popen(
                [*_standing_back(configuration.policy.worker), *program],
                pass_fds=(its.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Ctrl-C at a terminal is for the worker alone: it decides what becomes of actions.
                process_group=0,
            )
        self.connection = Connection(ours.detach())
        self.outdated = False
        self.free_since = clock.monotonic()
        self._configuration = configuration
        self._told = False

    def send(self, action: Action) -> None:
        """Begin an action; a process that is gone already shows it when it is listened to."""
        try:
            if not self._told:
                self._told = True
                self.connection.send((self._configuration.path, self._configuration.text))
            self.connection.send(action)
        except OSError:
            pass

    def end(self) -> int:
        """Let it go, once it is done with what it is at; its status, negative for a signal."""
        self.connection.close()
        return self.process.wait()

    def break_off(self) -> None:
        """Break off what it is at."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(BREAK_OFF_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.end()


@dataclass(eq=False)
class _Busy:
    slot: _Slot
    action: Action
    began: datetime


@dataclass
class Slots:
    """A pool of processes under one policy, which may change (`follow`); closed, it breaks off what is in progress.

    `logging` are the arguments by which a process logs as the worker does.
    """

    configuration: "Configuration"
    logging: tuple[str, ...] = ()
    _busy: list[_Busy] = field(default_factory=list)
    _free: list[_Slot] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        """How many actions at once."""
        return self.configuration.policy.worker.limits

    @property
    def running(self) -> tuple[Action, ...]:
        """The actions that are in progress."""
        return tuple(busy.action for busy in self._busy)

    def follow(self, configuration: "Configuration") -> None:
        """From now on begin actions under another policy; those in progress go on under theirs."""
        self.configuration = configuration
        for busy in self._busy:
            busy.slot.outdated = True
        self._let_go(clock.monotonic())

    def start(self, action: Action) -> None:
        """Begin an action in a process of its own."""
        slot = self._free.pop() if self._free else _Slot(self.configuration, self.logging)
        self._busy.append(_Busy(slot, action, clock.now()))
        slot.send(action)

    def ended(self, seconds: float) -> tuple[Performed, ...]:
        """The actions that have ended, and were not told yet; waits for the first of them for so long."""
        if not self._busy:
            return ()
        ready = set(wait([busy.slot.connection for busy in self._busy], seconds))
        heard = [busy for busy in self._busy if busy.slot.connection in ready]
        self._busy = [busy for busy in self._busy if busy not in heard]
        done = tuple(self._heard(busy) for busy in heard)
        self._let_go(clock.monotonic() - IDLE_SECONDS)
        return done

    def close(self) -> None:
        """End every process; what is in progress is broken off."""
        self._let_go(clock.monotonic())
        for busy in self._busy:
            busy.slot.process.send_signal(signal.SIGINT)
        for busy in self._busy:
            busy.slot.break_off()
        self._busy = []

    def _heard(self, busy: _Busy) -> Performed:
        slot = busy.slot
        try:
            performed: Performed = slot.connection.recv()
        except (EOFError, OSError):
            why = _ending(slot.end())
            return Performed(busy.action, crash(busy.action, why), pid=slot.process.pid, began=busy.began)
        if slot.outdated:
            slot.end()
        else:
            slot.free_since = clock.monotonic()
            self._free.append(slot)
        return performed

    def _let_go(self, before: float) -> None:
        """End the processes that have been free since before a moment."""
        gone = [slot for slot in self._free if slot.free_since <= before]
        self._free = [slot for slot in self._free if slot not in gone]
        for slot in gone:
            slot.end()


def _standing_back(policy: WorkerPolicy) -> tuple[str, ...]:
    """The programs in front of a process by which it stands back for others, as far as they are there."""
    wanted: tuple[str, ...] = ()
    if _IO[policy.io] and (ionice := shutil.which("ionice")):
        wanted += (ionice, "-t", *_IO[policy.io])
    # Never nearer than the worker itself, which may have been told to stand back as well.
    further = policy.nice - os.nice(0)
    if further > 0 and (nice := shutil.which("nice")):
        wanted += (nice, "-n", str(further))
    return wanted


def _ending(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    memory = "; the system may have run out of memory" if -status == signal.SIGKILL else ""
    return f"its process was ended by {name}{memory}"
