"""All datasets of a point, brought back into a project that has none of their names: after the loss of all of it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cto_backups.core.ports import PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.errors import RefusedError
from cto_backups.sources.bigquery import aside
from cto_backups.sources.bigquery.dataset import landing
from cto_backups.sources.bigquery.landing import Landing
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.point import StoredPoint


class ProjectForm:
    """Brings every dataset of a point back under its own name."""

    def __init__(self, place: Place, state: Path) -> None:
        self._place = place
        self._state = state

    def plan(self, reader: PointReader, *, only: Sequence[str] = ()) -> RestorePlan:
        """What `restore` would do, and which datasets are in the way. Raises RestoreError."""
        plan = reader.plan(Path("/"), only=only)
        names = sorted({path.split(b"/")[1].decode() for path, _ in reader.listing(only) if path.count(b"/") > 1})
        with landing(self._place) as opened:
            conflicts = tuple(name for name in names if opened.bigquery.has_dataset(name))
        notes = [f"project {self._place.project} gets: {', '.join(names) or 'no dataset'}"]
        if conflicts:
            notes.append(f"it will refuse, for these are there already: {', '.join(conflicts)}")
        return replace(plan, destination=Path(self._place.project), conflicts=conflicts, notes=(*plan.notes, *notes))

    def restore(
        self, reader: PointReader, *, only: Sequence[str], options: RestoreOptions | None, progress: Progress | None
    ) -> Restored:
        """Make each dataset anew. Raises RefusedError before anything is made, RestoreError."""
        began = time.monotonic()
        with aside.folder(self._state) as place:
            restored = reader.restore(place / "point", only=only, options=options, progress=progress)
            if restored.problems:
                return replace(restored, places=())  # another vault may have it whole
            point = StoredPoint(place / "point")
            with landing(self._place) as opened:
                self._refuse(opened, [name for name, _ in point.datasets()])
                notes = list(self._made(opened, point))
        seconds = time.monotonic() - began
        return replace(restored, places=(self._place.project,), seconds=seconds, notes=(*restored.notes, *notes))

    def _refuse(self, opened: Landing, names: Sequence[str]) -> None:
        standing = [name for name in names if opened.bigquery.has_dataset(name)]
        if standing:
            raise RefusedError(
                f"source {self._place.name}: datasets that the point has are in {self._place.project} already",
                why=f"these: {', '.join(standing)}",
                todo="restore one under another name, or in its place: --database NAME; or into a project without them",
            )

    def _made(self, opened: Landing, point: StoredPoint) -> Iterator[str]:
        for name, folder in point.datasets():
            yield from opened.anew(folder, name, name)
