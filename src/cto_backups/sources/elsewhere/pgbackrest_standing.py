"""What stands in pgBackRest's repositories, as `pgbackrest info` and listings tell: backups, and the log for them."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cto_backups.errors import SourceError
from cto_backups.sources.elsewhere.standing import Backup, Repository, segment_bytes
from cto_backups.sources.postgresql.replication import lsn

_NAMED: Final = "repo"
_LABEL: Final = re.compile(r"\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?")
_ZONES: Final = timedelta(minutes=15)
"""What the differences of all time zones are multiples of."""
_SEGMENT: Final = re.compile(r"([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?")


def repositories(document: bytes, stanza: str, where: str) -> tuple[Repository, ...]:
    """The repositories in what `info --output=json` printed, with the backups of their newest database.

    `where` tells which settings name them. Raises SourceError when it makes no sense.
    """
    try:
        told = next(each for each in json.loads(document) if each["name"] == stanza)
        return tuple(_repository(told, repository, where) for repository in told["repo"])
    except StopIteration:
        return ()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"what pgBackRest says of stanza {stanza} is not understood",
            why=f"{type(error).__name__}: {error}",
            todo="see what 'pgbackrest info --output=json' prints; version 2.45 is known to be understood",
        ) from error


def _repository(told: Any, repository: Any, where: str) -> Repository:
    number = int(repository["key"])
    name = f"{_NAMED}{number}"
    location = f"{where}/{name}/{told['name']}"
    cipher = "" if repository["cipher"] == "none" else str(repository["cipher"])
    status = repository["status"]
    trouble = "" if status["code"] == 0 else str(status["message"])
    databases = [each for each in told["db"] if each["repo-key"] == number]
    if not databases:
        return Repository(name, location, cipher=cipher, trouble=trouble or "it holds nothing of this stanza")
    newest = max(databases, key=lambda each: int(each["id"]))
    own = {"id": newest["id"], "repo-key": number}
    archives = [str(each["id"]) for each in told["archive"] if each["database"] == own]
    backups = [_backup(each) for each in told["backup"] if each["database"] == own]
    if not trouble and not backups:
        trouble = "it has no backup of the stanza's newest database"
    return Repository(
        name,
        location,
        str(newest["system-id"]),
        archives[-1] if archives else "",
        cipher,
        tuple(sorted(backups, key=lambda backup: backup.ends)),
        trouble,
    )


def _backup(told: Any) -> Backup:
    first, last = str(told["archive"]["start"]), str(told["archive"]["stop"])
    begins, ends, timeline = lsn(told["lsn"]["start"]), lsn(told["lsn"]["stop"]), int(first[:8], 16)
    return Backup(
        label=str(told["label"]),
        begins=begins,
        ends=ends,
        timeline=timeline,
        segment_bytes=segment_bytes(timeline, begins, ends, first, last),
        started_at=datetime.fromtimestamp(told["timestamp"]["start"], UTC),
        stopped_at=datetime.fromtimestamp(told["timestamp"]["stop"], UTC),
        size_bytes=int(told["info"]["size"]),
        damaged=told["error"] is True,
    )


def number(repository: Repository) -> int:
    """Which of the settings' repositories it is."""
    return int(repository.name.removeprefix(_NAMED))


def segments(listed: Iterable[str]) -> frozenset[str]:
    """The whole files of the log among the files of an archive."""
    found = (_SEGMENT.fullmatch(path.rpartition("/")[2]) for path in listed)
    return frozenset(match[1] for match in found if match)


def unfinished(repository: Repository, listed: Iterable[str], before: datetime) -> str:
    """The label of a backup that was begun after the newest, before a moment, and never ended; empty where none was."""
    known = {backup.label for backup in repository.backups}
    newest = max(map(_begun, known), default="")
    left = [label for label in listed if _LABEL.fullmatch(label) and label not in known and _begun(label) > newest]
    ahead = _ahead(repository)
    late = [label for label in left if (_moment(label) or before) - ahead < before]
    return max(late, default="", key=_begun)


def _begun(label: str) -> str:
    """When a backup was begun, by its label: in the local time of the machine that made it."""
    return label[-16:-1]


def _moment(label: str) -> datetime | None:
    """The same as if it were UTC; None where it is no time."""
    try:
        return datetime.strptime(_begun(label), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _ahead(repository: Repository) -> timedelta:
    """How far the local time of labels is ahead of UTC, to a quarter of an hour: the newest backup tells both.

    A label may be some seconds later than its backup.
    """
    newest = max(repository.backups, key=lambda backup: backup.started_at, default=None)
    moment = _moment(newest.label) if newest is not None else None
    if newest is None or moment is None:
        return timedelta(0)
    return round((moment - newest.started_at) / _ZONES) * _ZONES
