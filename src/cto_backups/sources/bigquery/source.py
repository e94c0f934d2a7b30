"""A BigQuery project as a source: its tables as Avro at one moment, its definitions, proven in a dataset for that."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseWish, Fetch, Stage
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.source_check import Found
from cto_backups.core.time_travel import Window
from cto_backups.errors import PolicyError
from cto_backups.sources.bigquery import capture as bigquery_capture
from cto_backups.sources.bigquery import history, trial
from cto_backups.sources.bigquery.dataset import DatasetForm
from cto_backups.sources.bigquery.inventory import resources
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.project import ProjectForm
from cto_backups.sources.bigquery.scratch import Proof
from cto_backups.sources.bigquery.words import telling
from cto_backups.sources.options import lowest_tls, seconds, text, texts


class BigQuerySource:
    """Implements `core.ports.Source` for the datasets of one project in one location.

    Options: `project`, `location`, `staging` (gs://BUCKET/PREFIX), `datasets` (all of the location when empty),
    `leave_out` and `appended` (patterns of DATASET.TABLE), `credentials` (what reveals a key file), `jobs` (how many
    at once), `budget_bytes` (what may be scanned), `endpoint` and `storage_endpoint` (Google's own when empty), `tls`;
    `keep_snapshots_seconds` (none are kept without it), `time_travel_seconds`, which the audit asks for.
    """

    kind = "bigquery"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._place = Place(
            name=name,
            project=text(options, "project"),
            location=text(options, "location"),
            staging=text(options, "staging"),
            chosen=texts(options, "datasets"),
            left_out=texts(options, "leave_out"),
            appended=texts(options, "appended"),
            credentials=_revealed(options),
            endpoint=str(options.get("endpoint") or ""),
            storage_endpoint=str(options.get("storage_endpoint") or ""),
            tls=lowest_tls(options),
            keep_snapshots=_kept(options),
            time_travel=timedelta(seconds=seconds(options, "time_travel_seconds", 7 * 86_400.0)),
            jobs=int(seconds(options, "jobs", 8)),
            budget_bytes=int(seconds(options, "budget_bytes", 1)) if options.get("budget_bytes") else None,
        )
        self._proof = Proof(self._place)
        self._dataset = DatasetForm(self._place, state / "sources" / name)
        self._project = ProjectForm(self._place, state / "sources" / name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last probe had BigQuery scan."""
        return self._proof.notes

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The project, its datasets, and all that is in them; what nobody protects is found, and not covered."""
        with (
            self._place.within(limit).opened() as (bigquery, _),
            telling(f"source {self.name}: project {self._place.project} could not be looked at"),
        ):
            return resources(bigquery, self._place)

    def capture(self, limit: Limit = UNLIMITED) -> AbstractContextManager[Capture]:
        """All that is protected, at one moment. Raises SourceError."""
        return bigquery_capture.capture(self._place.within(limit))

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do; in place, which datasets it would make, and which are in the way."""
        if destination is not None:
            return reader.plan(destination, only=only, existing=existing, options=options)
        return self._project.plan(reader, only=only)

    def restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write Avro files and definitions; in place, make the datasets anew. Raises RefusedError, RestoreError."""
        if destination is not None:
            return reader.restore(destination, only=only, existing=existing, options=options, progress=progress)
        return self._project.restore(reader, only=only, options=options, progress=progress)

    def windows(self) -> Sequence[Window]:
        """How far back the history of each protected dataset leads. Raises SourceError."""
        with (
            self._place.opened() as (bigquery, _),
            telling(f"source {self.name}: project {self._place.project} could not be looked at"),
        ):
            return tuple(history.windows(bigquery, self._place))

    def rules(self) -> Mapping[str, str]:
        """What a check of the project tries, in its order."""
        return trial.rules()

    def check_cost(self) -> str:
        """What a check costs at most."""
        return trial.cost()

    def try_out(self, limit: Limit = UNLIMITED) -> Found:
        """Try the project out, in a dataset made for that. Raises SourceError."""
        return trial.try_out(self._place.within(limit))

    def plan_database(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """What `restore_database` would do: a dataset is what others call a database."""
        return self._dataset.plan(reader, told, wish)

    def restore_database(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring one dataset back, or tables of it, under a new name, in place, or as files to a folder."""
        return self._dataset.restore(fetch, told, wish, stage)

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Load the tables into a dataset for this alone, sum them up, drop it. Raises VerificationError."""
        return self._proof.fingerprint(restored, expected)

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}


def _kept(options: Mapping[str, object]) -> timedelta:
    given = options.get("keep_snapshots_seconds")
    return timedelta(seconds=seconds(options, "keep_snapshots_seconds", 1.0) if given else 0.0)


def _revealed(options: Mapping[str, object]) -> Callable[[], str] | None:
    value = options.get("credentials")
    if value is None or callable(value):
        return value
    raise PolicyError(
        "option `credentials` of a source is wrong", why="it must say where they are", todo="correct the policy"
    )
