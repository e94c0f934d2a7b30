"""What stands in pgBackRest's repositories, as `pgbackrest info` and listings tell: backups, and the log for them."""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cto_backups.errors import SourceError
from cto_backups.sources.postgresql_log import segment_name
from cto_backups.sources.postgresql_replication import lsn

_LABEL: Final = re.compile(r"\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?")
_SEGMENT: Final = re.compile(r"([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?")
_USUAL_SEGMENT: Final = 16 << 20
_SEGMENT_SIZES: Final = tuple(1 << power for power in range(20, 31))


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup of a server's files.

    `begins` and `ends` are the places in the log between which it was made, `first` and `last` the files of the log
    that they lie in. `size_bytes` is what a restore writes. `damaged`: pgBackRest came upon pages with wrong checksums.
    """

    label: str
    begins: int
    ends: int
    first: str
    last: str
    started_at: datetime
    stopped_at: datetime
    size_bytes: int
    damaged: bool

    @property
    def timeline(self) -> int:
        """The server's timeline when it was made."""
        return int(self.first[:8], 16)

    @property
    def segment_bytes(self) -> int:
        """How large the server's files of the log are, as the names of two of them tell."""
        return next(
            (
                size
                for size in (_USUAL_SEGMENT, *_SEGMENT_SIZES)
                if segment_name(self.timeline, self.begins // size, size) == self.first
                and segment_name(self.timeline, self.ends // size, size) == self.last
            ),
            _USUAL_SEGMENT,
        )


@dataclass(frozen=True, slots=True)
class Repository:
    """One of the repositories that hold a stanza, with the backups of its newest database, the oldest first.

    `system` identifies the server, `archive` is the folder of its log. `trouble` says why nothing can be restored from
    it; empty where something can.
    """

    number: int
    system: str = ""
    archive: str = ""
    cipher: str = ""
    backups: tuple[Backup, ...] = ()
    trouble: str = ""

    @property
    def name(self) -> str:
        """What pgBackRest's own settings call it."""
        return f"repo{self.number}"

    def newest(self, *, timeline: int | None = None, ends_by: int | None = None) -> Backup | None:
        """The newest backup of a timeline that had ended by a place in the log."""
        fitting = [
            backup
            for backup in self.backups
            if (timeline is None or backup.timeline == timeline) and (ends_by is None or backup.ends <= ends_by)
        ]
        return max(fitting, key=lambda backup: backup.ends, default=None)


def repositories(document: bytes, stanza: str) -> tuple[Repository, ...]:
    """The repositories in what `info --output=json` printed. Raises SourceError when it makes no sense."""
    try:
        told = next(each for each in json.loads(document) if each["name"] == stanza)
        return tuple(_repository(told, repository) for repository in told["repo"])
    except StopIteration:
        return ()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"what pgBackRest says of stanza {stanza} is not understood",
            why=f"{type(error).__name__}: {error}",
            todo="see what 'pgbackrest info --output=json' prints; version 2.45 is known to be understood",
        ) from error


def _repository(told: Any, repository: Any) -> Repository:
    number = int(repository["key"])
    cipher = "" if repository["cipher"] == "none" else str(repository["cipher"])
    status = repository["status"]
    trouble = "" if status["code"] == 0 else str(status["message"])
    databases = [each for each in told["db"] if each["repo-key"] == number]
    if not databases:
        return Repository(number, cipher=cipher, trouble=trouble or "it holds nothing of this stanza")
    newest = max(databases, key=lambda each: int(each["id"]))
    own = {"id": newest["id"], "repo-key": number}
    archives = [str(each["id"]) for each in told["archive"] if each["database"] == own]
    backups = [_backup(each) for each in told["backup"] if each["database"] == own]
    if not trouble and not backups:
        trouble = "it has no backup of the stanza's newest database"
    return Repository(
        number,
        str(newest["system-id"]),
        archives[-1] if archives else "",
        cipher,
        tuple(sorted(backups, key=lambda backup: backup.ends)),
        trouble,
    )


def _backup(told: Any) -> Backup:
    return Backup(
        label=str(told["label"]),
        begins=lsn(told["lsn"]["start"]),
        ends=lsn(told["lsn"]["stop"]),
        first=str(told["archive"]["start"]),
        last=str(told["archive"]["stop"]),
        started_at=datetime.fromtimestamp(told["timestamp"]["start"], UTC),
        stopped_at=datetime.fromtimestamp(told["timestamp"]["stop"], UTC),
        size_bytes=int(told["info"]["size"]),
        damaged=told["error"] is True,
    )


def segments(listed: Iterable[str]) -> frozenset[str]:
    """The whole files of the log among the files of an archive."""
    found = (_SEGMENT.fullmatch(path.rpartition("/")[2]) for path in listed)
    return frozenset(match[1] for match in found if match)


def needed(timeline: int, begins: int, ends: int, segment_bytes: int) -> Sequence[str]:
    """The files of the log from one place to another, in order."""
    numbers = range(begins // segment_bytes, max(ends - 1, begins) // segment_bytes + 1)
    return [segment_name(timeline, number, segment_bytes) for number in numbers]


def gap(wanted: Sequence[str], there: Collection[str]) -> str:
    """Which files of the log are missing, in a few words; empty where none is."""
    missing = [name for name in wanted if name not in there]
    if not missing:
        return ""
    which = missing[0] if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more, up to {missing[-1]},"
    return f"the log has a gap: {which} is not in its archive"


def unfinished(repository: Repository, listed: Iterable[str], before: datetime) -> str:
    """The label of a backup that was begun after the newest, before a moment, and never ended; empty where none was."""
    known = {backup.label for backup in repository.backups}
    newest = max(map(_begun, known), default="")
    left = [label for label in listed if _LABEL.fullmatch(label) and label not in known and _begun(label) > newest]
    late = [label for label in left if _begun(label) < f"{before:%Y%m%d-%H%M%S}"]
    return max(late, default="", key=_begun)


def _begun(label: str) -> str:
    """When a backup was begun, by its label."""
    return label[-16:-1]
