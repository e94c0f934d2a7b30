"""Clones of an instance that a restore test makes, and always deletes: also those of tests that were killed.

What is to be made is written down before it is asked for. Whoever comes next finds what was written by a process that
is gone, or, where that is lost too, instances with the name of a test's clone that are older than any test.
"""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cto_backups import clock
from cto_backups.errors import SourceError
from cto_backups.sources.cloudsql.service import LogPlace, Service
from cto_backups.sources.staging import make_private, unwritable

OLDEST: Final = timedelta(hours=24)
"""A clone of a test that is older belongs to none that still runs."""
_MARK: Final = "-ctotest-"
_LONGEST_NAME: Final = 60
_NAME: Final = re.compile(re.escape(_MARK) + r"[0-9a-f]{12}")


_ours: Final[set[str]] = set()
"""The clones that this process works with: one that it could not delete is no longer among them."""


class Clones:
    """The clones of one instance; `folder` is where they are written down."""

    def __init__(self, service: Service, instance: str, folder: Path) -> None:
        self._service = service
        self._instance = instance
        self._folder = folder

    def make(self, to: str | LogPlace) -> str:
        """A clone at a moment (RFC 3339), or a place in the log, running; deleted when it fails. Raises SourceError."""
        name = f"{self._instance[:_LONGEST_NAME]}{_MARK}{secrets.token_hex(6)}"
        self._note(name)
        _ours.add(name)
        try:
            self._service.clone(self._instance, name, to)
            self._service.without_events(self._service.get(name))
        except BaseException:
            _ours.discard(name)
            with suppress(SourceError):  # else the next test does
                if not self._service.is_being_made(name):
                    self.delete(name)
            raise
        return name

    def delete(self, name: str) -> None:
        """Delete a clone, and what is written of it. Raises SourceError."""
        if not is_of(name, self._instance):
            raise SourceError(
                f"instance {name} is not deleted", why=f"its name is not that of a test's clone of {self._instance}"
            )
        _ours.discard(name)
        self._service.delete(name)
        (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def made(self, to: str | LogPlace) -> Iterator[str]:
        """A clone, deleted at the end. Raises SourceError."""
        name = self.make(to)
        try:
            yield name
        except BaseException:
            with suppress(SourceError):  # what went wrong first is what people need to know
                self.delete(name)
            raise
        self.delete(name)

    def sweep(self, *, patient: bool = True) -> Sequence[str]:
        """Delete what earlier tests left; their names. Raises SourceError.

        What is still being made cannot be deleted: it is waited for, or left to the next who is `patient`.
        """
        swept = [file.name for file in self._noted() if not _alive(file)]
        if not patient:
            swept = [name for name in swept if not self._service.is_being_made(name)]
        for name in swept:
            self.delete(name)
        now = clock.now()
        old = leftovers(self._service.listed(), self._instance, now)
        for name in old:
            self.delete(name)
        return [*swept, *old]

    def _note(self, name: str) -> None:
        try:
            make_private(self._folder)
            with (self._folder / name).open("x", encoding="ascii") as file:
                file.write(str(os.getpid()))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(self._folder, error) from error

    def _noted(self) -> Iterable[Path]:
        try:
            return [file for file in self._folder.iterdir() if is_of(file.name, self._instance)]
        except FileNotFoundError:
            return ()


def is_of(name: str, instance: str) -> bool:
    """Whether an instance is a test's clone of another one, by its name."""
    before = instance[:_LONGEST_NAME]
    return name.startswith(before) and _NAME.fullmatch(name, len(before)) is not None


def is_clone(name: str) -> bool:
    """Whether an instance is a test's clone of any other one, by its name."""
    before, mark, _ = name.rpartition(_MARK)
    return bool(mark) and _NAME.fullmatch(name, len(before)) is not None


def leftovers(listed: Iterable[Mapping[str, Any]], instance: str, now: datetime) -> list[str]:
    """The tests' clones of an instance that are older than any test that still runs."""
    return [
        str(each.get("name"))
        for each in listed
        if is_of(str(each.get("name")), instance) and now - _made_at(each, now) > OLDEST
    ]


def _made_at(instance: Mapping[str, Any], now: datetime) -> datetime:
    try:
        made = datetime.fromisoformat(str(instance.get("createTime")))
    except ValueError:
        return now
    return made if made.tzinfo is not None else now


def _alive(file: Path) -> bool:
    """Whether the process that wrote it may still be at work."""
    try:
        pid = file.read_text("ascii")
        young = clock.now().timestamp() - file.stat().st_mtime < OLDEST.total_seconds()
    except OSError:
        return False
    if pid == str(os.getpid()):
        return file.name in _ours
    return pid.isdecimal() and young and Path(f"/proc/{pid}").exists()
