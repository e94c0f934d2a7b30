"""What a binary log goes on from: all of a server at one place in it, as dumps or as its files."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cto_backups.core.ports import Capture
from cto_backups.core.trees import AnyTree, Arrival, ArrivingTree, Entry
from cto_backups.sources.mysql import capture as mysql_capture
from cto_backups.sources.mysql.connection import Session, rows
from cto_backups.sources.mysql.dump import BROKEN_FILE, Position
from cto_backups.sources.mysql.files import SERVER
from cto_backups.sources.mysql.server import Server


@dataclass(frozen=True)
class Moment:
    """What is known of a base's moment: its `place` in the log, and what the server's clock said, then or soon after.

    `unfinished` says whether there were prepared transactions, which may be committed later.
    """

    place: Position
    clock: datetime
    unfinished: bool


@dataclass(frozen=True)
class Base:
    """A capture of all of a server. `moment` is None until that has come: of files, that is where they end."""

    capture: Capture
    moment: Callable[[], Moment | None]

    def arrivals(self) -> Iterator[Arrival]:
        """Everything that it holds."""
        tree: AnyTree = self.capture.tree
        if isinstance(tree, ArrivingTree):
            yield from tree.arrivals()
            return
        for entry in tree.folder(tree.root):
            yield Arrival(entry, tree.open(entry))


class Form(Protocol):
    """How bases are made. `about` is what a fingerprint tells of the server beside."""

    about: Mapping[str, str]

    def begun(self, control: Session) -> AbstractContextManager[Base]:
        """Begin one. Raises SourceError."""

    def has_made(self, top: Sequence[Entry]) -> bool:
        """Whether a point is of this form, by the entries of its root."""


class Dumps:
    """Implements `Form` with dumps of all databases."""

    def __init__(self, server: Server, state: Path) -> None:
        self.about: Mapping[str, str] = {}
        self._server, self._state = server, state

    @contextmanager
    def begun(self, control: Session) -> Iterator[Base]:
        """Their moment comes as soon as they begin. Raises SourceError."""
        before = unfinished(control)
        with mysql_capture.capture(self._server, self._state) as capture:
            place = capture.place
            assert place is not None  # there is a log, and the server tells
            moment = Moment(place, now(control), before or unfinished(control))
            yield Base(capture, lambda: moment)

    def has_made(self, top: Sequence[Entry]) -> bool:
        """Whether these are dumps."""
        return not of_files(top)


def of_files(top: Sequence[Entry]) -> bool:
    """Whether a point has the files of a server, by the entries of its root."""
    return any(entry.name == os.fsencode(SERVER) for entry in top)


def is_of_broken_views(arrival: Arrival) -> bool:
    """Whether it is what dumps say of views that no server takes."""
    return arrival.entry.path == b"/" + os.fsencode(BROKEN_FILE)


def now(session: Session) -> datetime:
    """What the server's clock says."""
    ((moment,),) = rows(session, "SELECT UTC_TIMESTAMP(6)")
    told: datetime = moment
    return told.replace(tzinfo=UTC)


def unfinished(session: Session) -> bool:
    """Whether transactions are prepared that may be committed later: the log tells then only that they are."""
    return bool(rows(session, "XA RECOVER"))
