"""Changes of the policy file, and of the program itself, while somebody works by them."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups import __file__ as program
from cto_backups import __version__, clock
from cto_backups.errors import BackupsError

if TYPE_CHECKING:
    from cto_backups.config import Configuration

LOOK_SECONDS = 5.0
"""How often the file is looked at."""
PROGRAM_SECONDS = 1.0
"""How often the program is looked at: before its next process may begin."""


_VERSION = re.compile(r'^__version__ = "(.+)"', re.MULTILINE)


class ProgramChanges:
    """Notices when another release is installed in the place of the one that runs.

    Its processes would be of that release from then on, and the two need not understand each other.
    """

    def __init__(self) -> None:
        self._look_at = 0.0

    def seen(self) -> str | None:
        """What is installed instead, in words; None where it is what runs."""
        at = clock.monotonic()
        if at < self._look_at:
            return None
        self._look_at = at + PROGRAM_SECONDS
        try:
            found = _VERSION.search(Path(program).read_text())
        except OSError:
            return "none at the moment"  # the old one is removed first
        now = found[1] if found else "another one"
        return None if now == __version__ else now


class PolicyChanges:
    """Notices when the file says something else than what is worked by, and reads it then; one with mistakes once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._look_at = 0.0
        self._stamp: tuple[int, ...] = ()
        self._refused = ""
        self._digest = ""
        self._seen: Configuration | None = None
        self._asked = False

    def ask(self) -> None:
        """Look at the file at the next opportunity, and tell its mistakes once more; for signal handlers."""
        self._asked = True

    def taken(self, configuration: "Configuration") -> None:
        """From now on work is done by this policy."""
        self._digest = configuration.policy.digest
        self._seen = None

    def seen(self, refuse: Callable[[BackupsError], None]) -> "Configuration | None":
        """The policy that the file has become, None where it is as it was; `refuse` is told why it cannot be used."""
        at = clock.monotonic()
        if self._seen is not None or (at < self._look_at and not self._asked):
            return self._seen
        self._look_at = at + LOOK_SECONDS
        asked, self._asked = self._asked, False
        try:
            status = self._path.stat()
        except OSError:
            status = None
        stamp = () if status is None else (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp != self._stamp or asked:
            self._stamp = stamp
            self._seen = self._read(refuse, again=asked)
        return self._seen

    def _read(self, refuse: Callable[[BackupsError], None], *, again: bool) -> "Configuration | None":
        from cto_backups.config.reading import parse, read_bytes

        told = ""
        try:
            raw = read_bytes(self._path)
            told = hashlib.sha256(raw).hexdigest()
            if told == self._digest:
                self._refused = ""
                return None
            return parse(self._path, raw)
        except BackupsError as error:
            if again or self._refused != (told or str(error)):
                self._refused = told or str(error)
                refuse(error)
        return None
