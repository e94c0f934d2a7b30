"""What stands in Barman's folders, as `barman diagnose` tells: one server's backups, and where its log is."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cto_backups.errors import SourceError
from cto_backups.sources.elsewhere.standing import Backup, Repository
from cto_backups.sources.postgresql.replication import lsn

# A backup that waits for its log is as good as one that does not, once that is there: which we see for ourselves.
_ENDED: Final = ("DONE", "WAITING_FOR_WALS")
_FAILED: Final = "FAILED"
_STREAMED: Final = "postgres"
_IN_THE_CLOUD: Final = "snapshot"
_SEGMENT: Final = re.compile(r"[0-9A-F]{24}")


@dataclass(frozen=True)
class Catalogue:
    """What Barman knows of one server.

    `tablespaces` are the names and numbers of those of each backup, by its label. `streamed` are the backups that
    pg_basebackup made, with a manifest. `left` never ended: when each was begun; None for those that failed.
    """

    repository: Repository
    tablespaces: Mapping[str, Mapping[str, int]]
    streamed: frozenset[str]
    left: Mapping[str, datetime | None]

    def unfinished(self, before: datetime) -> str:
        """The newest backup after all others that failed, or was begun before a moment and never ended."""
        newest = max((backup.label for backup in self.repository.backups), default="")
        late = (label for label, begun in self.left.items() if begun is None or begun < before)
        return max((label for label in late if label > newest), default="")


def catalogue(document: bytes, server: str) -> Catalogue:
    """What `diagnose` printed of a server. Raises SourceError when it makes no sense."""
    try:
        told = json.loads(document)["servers"][server]
        backups = told["backups"]
        ended = {label: each for label, each in backups.items() if each["status"] in _ENDED}
        return Catalogue(
            _repository(server, told["config"], ended),
            {label: {name: int(oid) for name, oid, _ in each["tablespaces"] or ()} for label, each in ended.items()},
            frozenset(label for label, each in ended.items() if each["mode"] == _STREAMED),
            {label: _begun(each) for label, each in backups.items() if label not in ended},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"what Barman says of server {server} is not understood",
            why=f"{type(error).__name__}: {error}",
            todo="see what 'barman diagnose' prints; versions 3.4 and 3.19 are known to be understood",
        ) from error


def _repository(server: str, settings: Any, ended: Mapping[str, Any]) -> Repository:
    location, archive = str(settings["backup_directory"]), str(settings["wals_directory"])
    if not Path(location).is_dir():
        return Repository(server, location, trouble=f"there is no folder {location}")
    there = [each for each in ended.values() if each["mode"] != _IN_THE_CLOUD]
    if not there:
        why = "its backups are snapshots of disks in a cloud" if ended else "it has no backup that came to its end"
        return Repository(server, location, trouble=why)
    newest = max(there, key=lambda each: datetime.fromisoformat(each["end_time"]))
    system = str(newest["systemid"] or "")
    own = [_backup(each) for each in there if each["systemid"] == newest["systemid"]]
    return Repository(
        server,
        location,
        system,
        archive,
        str(newest.get("encryption") or ""),
        tuple(sorted(own, key=lambda backup: backup.ends)),
        "" if system else f"its newest backup, {newest['backup_id']}, does not say of which server it is",
    )


def _backup(told: Any) -> Backup:
    return Backup(
        label=str(told["backup_id"]),
        begins=lsn(told["begin_xlog"]),
        ends=lsn(told["end_xlog"]),
        timeline=int(told["timeline"]),
        segment_bytes=int(told["xlog_segment_size"]),
        started_at=datetime.fromisoformat(told["begin_time"]),
        stopped_at=datetime.fromisoformat(told["end_time"]),
        size_bytes=int(told["size"] or 0),
    )


def _begun(told: Any) -> datetime | None:
    begun = told["begin_time"]
    return None if told["status"] == _FAILED or begun is None else datetime.fromisoformat(begun)


def segments(archive: Path) -> frozenset[str]:
    """The whole files of the log in the folder of Barman's archive. Raises OSError."""
    found = (file.name for folder in archive.iterdir() if folder.is_dir() for file in folder.iterdir())
    return frozenset(name for name in found if _SEGMENT.fullmatch(name))
