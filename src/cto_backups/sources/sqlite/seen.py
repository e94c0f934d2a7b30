"""Whether a database is still what was captured last, by its files' sizes, times and inodes: reading it all costs.

It is believed for a day at most, so that a database which decays on its disk is found out. Times that were as recent
as the look at them are not believed at all: another write in the same tick of the clock would leave them the same.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from cto_backups.core.model import Fingerprint
from cto_backups.sources.moments import moment
from cto_backups.sources.staging import make_private

READ_EVERY: Final = timedelta(days=1)
"""How long the files' word is taken before all of the database is read again."""
_SETTLED: Final = timedelta(seconds=2)  # the coarsest times that file systems keep

States = dict[str, tuple[int, int, int, int, int] | None]


def states(database: Path, endings: tuple[str, ...]) -> States:
    """Size, mtime, ctime, inode and device of the files that hold a database's content; None for one not there."""
    found: States = {}
    for ending in endings:
        found[ending] = None
        with suppress(FileNotFoundError):
            status = Path(f"{database}{ending}").stat()
            found[ending] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    return found


def remember(file: Path, seen: States, fingerprint: Fingerprint, at: datetime) -> None:
    """Keep what a database's files were just before it was captured at this moment; nothing where times are too new."""
    newest = max((time for state in seen.values() if state for time in state[1:3]), default=0)
    if moment(newest) > at - _SETTLED:
        file.unlink(missing_ok=True)
        return
    make_private(file.parent)
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    with suppress(OSError):  # it only saves time
        draft.write_text(json.dumps(_document(seen, fingerprint, at)), encoding="ascii")
        draft.replace(file)


def still(file: Path, seen: States, fingerprint: Fingerprint, now: datetime) -> bool:
    """Whether files like these were captured with this fingerprint, and not too long ago."""
    try:
        known = json.loads(file.read_text(encoding="ascii"))
        at = datetime.fromisoformat(known["at"])
        return at <= now < at + READ_EVERY and known == _document(seen, fingerprint, at)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _document(seen: States, fingerprint: Fingerprint, at: datetime) -> dict[str, object]:
    content = json.dumps(asdict(fingerprint), sort_keys=True, default=dict)
    return {
        "at": at.isoformat(),
        "fingerprint": sha256(content.encode()).hexdigest(),
        "files": {ending: None if state is None else list(state) for ending, state in seen.items()},
    }
