"""What a point of a server's files is made of, and what it tells of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Sample
from cto_backups.core.trees import Before
from cto_backups.errors import VerificationError
from cto_backups.sources.postgresql.replication import lsn, lsn_text

DATA: Final = "data"
TABLESPACES: Final = "tablespaces"
LOG: Final = "wal"
FOLDERS: Final = (DATA, TABLESPACES, LOG)
AUTO_CONF: Final = "postgresql.auto.conf"

MOMENTS: Final = "moments.json"
STREAMED: Final = "streamed.json"
"""Beside a restored server's files: up to where the log goes that was streamed after the point."""


@dataclass(frozen=True)
class Moments:
    """Which server's files these are, and to which moments they can be recovered.

    `databases` says where in the log each was summed up, `target` where recovery ends by itself, `ends` up to where the
    log is there. The files were read from `begins` on, at `base_at` by our clock. By the server's clock, any moment
    `since` then `until` then can be recovered to. `transactions` are those that it knew at the end. `first` is the
    first place in the log that can be recovered to; 0 in points of an earlier release, which no stream goes on from.
    All of the files were read at `full_at` for the last time, and since then what changed in them, of a server that was
    started at `started`, in its own words; points of an earlier release, and of other programs, tell neither.
    """

    system: str
    timeline: int
    databases: Mapping[str, int]
    target: int
    ends: int
    begins: int
    base_at: datetime
    since: datetime
    until: datetime
    transactions: str
    tablespaces: tuple[int, ...]
    first: int = 0
    full_at: datetime | None = None
    started: str = ""

    def written(self) -> bytes:
        """As a file beside the server's."""
        document = {
            "system_identifier": self.system,
            "timeline": self.timeline,
            "databases": {name: lsn_text(at) for name, at in self.databases.items()},
            "recovery_target_lsn": lsn_text(self.target),
            "log_ends": lsn_text(self.ends),
            "base_begins": lsn_text(self.begins),
            "base_at": self.base_at.isoformat(),
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "transactions": self.transactions,
            "tablespaces": list(self.tablespaces),
            "first_lsn": lsn_text(self.first),
        }
        if self.full_at is not None:
            document |= {"full_at": self.full_at.isoformat(), "server_started": self.started}
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes) -> "Moments":
        """What `written` gave. Raises VerificationError."""
        try:
            document = json.loads(content)
            full_at = document.get("full_at")
            return cls(
                system=str(document["system_identifier"]),
                timeline=int(document["timeline"]),
                databases={str(name): lsn(at) for name, at in document["databases"].items()},
                target=lsn(document["recovery_target_lsn"]),
                ends=lsn(document["log_ends"]),
                begins=lsn(document["base_begins"]),
                base_at=datetime.fromisoformat(document["base_at"]),
                since=datetime.fromisoformat(document["since"]),
                until=datetime.fromisoformat(document["until"]),
                transactions=str(document["transactions"]),
                tablespaces=tuple(int(oid) for oid in document["tablespaces"]),
                first=lsn(document.get("first_lsn", "0/0")),
                full_at=datetime.fromisoformat(full_at) if full_at is not None else None,
                started=str(document.get("server_started", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise unrecovered(f"{MOMENTS} does not tell to which moments") from error

    @property
    def log(self) -> Sample:
        """What a fingerprint says of the log that was added to the files since."""
        told = {"since": self.since.isoformat(), "until": self.until.isoformat(), "ends": lsn_text(self.ends)}
        if self.first:
            told |= {
                "log": log_name(self.system, self.timeline),
                "first_position": str(self.first),
                "end_position": str(self.ends),
                "tablespaces": ",".join(map(str, self.tablespaces)),
            }
        return Sample(LOG_SAMPLE, told)


def is_whole(before: Before) -> bool:
    """Whether all that a point is to keep is there: a server's files, and the log from their beginning on.

    Raises DamageError, VaultError.
    """
    data = {entry.name for entry in before.folder(b"/" + DATA.encode())}
    if not {b"PG_VERSION", b"global", b"base", b"backup_label", AUTO_CONF.encode()} <= data:
        return False
    return all(before.is_whole(entry.path) for entry in before.folder(b""))


def log_name(system: str, timeline: int) -> str:
    """What tells one log from another: which server's it is, and its timeline."""
    return f"{system}-{timeline:08X}"


def unrecovered(why: str) -> VerificationError:
    """What it means that a server does not come back out of its files."""
    return VerificationError(
        "the server does not recover from these files",
        why=why,
        todo="verify the vault, and test an older recovery point",
    )
