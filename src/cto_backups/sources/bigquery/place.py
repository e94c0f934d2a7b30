"""One source's project: how it is reached, which of it is chosen, and where things lie on the way."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Final

from google.auth.exceptions import GoogleAuthError

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.policy import Tls
from cto_backups.errors import KeyProblemError, SourceError
from cto_backups.providers.google import GoogleClient
from cto_backups.sources.bigquery.bucket import Bucket
from cto_backups.sources.bigquery.client import PASSING, BigQuery, Document
from cto_backups.sources.bigquery.words import explained

SCOPES: Final = (
    "https://www.googleapis.com/auth/bigquery",
    "https://www.googleapis.com/auth/devstorage.read_write",
)
OURS: Final = "cto_backups_"
"""What the datasets begin with that this program makes for a while."""
KEPT_MS: Final = 24 * 3600 * 1000
"""For how long they keep tables, should nobody remove them: in milliseconds."""


@dataclass(frozen=True)
class Place:
    """The project of the source `name`, in one location; `staging` is the bucket on the way, as a URL.

    `chosen` are datasets, all of the location when there are none; `left_out` are patterns of DATASET.TABLE, and
    so are `appended`, to whose tables rows are only added. `tls` is
    as `providers.google.GoogleClient` has it. A point's snapshots are kept for `keep_snapshots`; `time_travel` is how
    far back the history of every dataset should lead. At most `jobs` jobs run at once; `budget_bytes` is what a backup,
    or a test, may have BigQuery scan; None: no end.
    """

    name: str
    project: str
    location: str
    staging: str
    chosen: Sequence[str] = ()
    left_out: Sequence[str] = ()
    appended: Sequence[str] = ()
    credentials: Callable[[], str] | None = None
    endpoint: str = ""
    storage_endpoint: str = ""
    tls: Tls | None = None
    keep_snapshots: timedelta = timedelta()
    time_travel: timedelta = timedelta(days=7)
    jobs: int = 8
    budget_bytes: int | None = None
    limit: Limit = UNLIMITED

    def within(self, limit: Limit) -> "Place":
        """The same, where nothing is waited for once the limit is reached."""
        return replace(self, limit=limit)

    @contextmanager
    def opened(self) -> Iterator[tuple[BigQuery, Bucket]]:
        """Logged in. Raises SourceError."""
        try:
            login = GoogleClient(
                f"source {self.name}",
                SourceError,
                SCOPES,
                self.credentials,
                tls=self.tls,
                limit=self.limit,
                passing=PASSING,
            )
        except (KeyProblemError, GoogleAuthError, ValueError) as error:
            why, todo = explained(error)
            raise SourceError(
                f"source {self.name}: it cannot be logged in to Google Cloud", why=why, todo=todo
            ) from error
        try:
            yield (
                BigQuery(login, self.project, self.location, self.endpoint, self.jobs),
                Bucket(login, self.staging, self.storage_endpoint),
            )
        finally:
            login.close()

    def covers(self, dataset: str, location: str, table: str = "") -> bool:
        """Whether a dataset is protected, or a table of it."""
        if location.lower() != self.location.lower() or (self.chosen and dataset not in self.chosen):
            return False
        return not table or not any(fnmatchcase(f"{dataset}.{table}", pattern) for pattern in self.left_out)

    def is_appended(self, key: str) -> bool:
        """Whether policy says of DATASET.TABLE that rows are only added to it."""
        return any(fnmatchcase(key, pattern) for pattern in self.appended)

    @property
    def threads(self) -> int:
        """So many work where jobs are waited for: some ask for other things meanwhile."""
        return self.jobs + self.jobs // 2 + 2

    @property
    def own_name(self) -> str:
        """The source's name, as datasets and objects may be called."""
        return re.sub(r"\W", "_", self.name, flags=re.ASCII)

    @property
    def staging_dataset(self) -> str:
        """Where what is needed lies while tables are extracted, and no longer."""
        return f"{OURS}staging_{self.own_name}"

    @property
    def keeps_snapshots(self) -> bool:
        """Whether a point's snapshots outlive its capture."""
        return self.keep_snapshots > timedelta()

    @property
    def snapshots_dataset(self) -> str:
        """Where snapshots lie."""
        return f"{OURS}snapshots_{self.own_name}" if self.keeps_snapshots else self.staging_dataset

    def snapshot_name(self, milliseconds: int, dataset: str, table: str) -> str:
        """What the snapshot of a table is called that is of a moment."""
        return f"s{milliseconds}_{sha256(f'{dataset}.{table}'.encode()).hexdigest()[:24]}"

    @property
    def extracts(self) -> str:
        """Where extracts lie in the bucket."""
        return f"{OURS}{self.own_name}/extracts/"

    @property
    def loads(self) -> str:
        """Where what is to be loaded lies in the bucket."""
        return f"{OURS}{self.own_name}/loads/"

    def scratch(self, name: str, kept: timedelta = timedelta(milliseconds=KEPT_MS)) -> Document:
        """A dataset of ours, as it is made: what is in it expires by itself."""
        return {
            "datasetReference": {"projectId": self.project, "datasetId": name},
            "location": self.location,
            "defaultTableExpirationMs": str(kept // timedelta(milliseconds=1)),
            "labels": {"cto-backups": "scratch"},
            "description": "Of a backup or a restore test that is under way; nothing in it is needed afterwards.",
        }
