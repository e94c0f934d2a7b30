"""What a recovery point of an instance is made of: an export of its databases, and what the service keeps beside.

With an export the data lie in our vaults. Without, a point is a record of the moment to which the service's log leads,
and of what the instance held then: it goes with the project in which the service keeps that log.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from cto_backups.core.cloud_sql import ABOUT, BackupRun
from cto_backups.core.elsewhere import Elsewhere, Keeping
from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.trees import AnyTree
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.cloudsql.moment import hold_together
from cto_backups.sources.cloudsql.proof import FoundPostgresql, told_of, without_unlogged
from cto_backups.sources.cloudsql.service import LogPlace, Service, Window, rfc3339, settings
from cto_backups.sources.postgresql.dumping import Held
from cto_backups.sources.postgresql.inventory import databases, unlogged
from cto_backups.sources.postgresql.logical import LogicalForm
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.sums import (
    Summed,
    bootstrap,
    sequence_key,
    sequence_sample,
    shared_lines,
    summed_up,
)
from cto_backups.sources.streams import Ready, Stream, StreamTree

RECORD: Final = "cloudsql.json"
PROGRAM: Final = "Cloud SQL"
OWN_DATABASES: Final = frozenset({"cloudsqladmin"})
"""Databases of the service itself, which nobody else may connect to."""
_SECRETS: Final = frozenset({"replicaConfiguration", "rootPassword", "onPremisesConfiguration"})
_AT_ONCE: Final = 2


@dataclass(frozen=True)
class Standing:
    """An instance as the service tells of it now."""

    service: Service
    told: Mapping[str, Any]
    backups: Sequence[BackupRun]

    @property
    def name(self) -> str:
        """The instance's own name."""
        return str(self.told.get("name"))

    @property
    def good(self) -> list[BackupRun]:
        """The backups from which something comes back, the newest first."""
        return [each for each in self.backups if each.is_good]

    def record(self, at: datetime | None, place: LogPlace | None = None) -> bytes:
        """All of it, for whoever has to make such an instance anew; without what may be a secret."""
        backups = [
            {
                "id": each.number,
                "type": each.kind,
                "ended_at": each.ended_at.isoformat() if each.ended_at else None,
                "location": each.location,
                "description": each.description,
            }
            for each in self.good
        ]
        document = {
            "instance": {name: value for name, value in self.told.items() if name not in _SECRETS},
            "backups": backups,
            "at": rfc3339(at) if at is not None else None,
            **told_of(place),
        }
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


class CloudSqlCapture:
    """Implements `core.ports.Capture` and `Remarking`: what is stored, and what the service says of it in the end.

    `reached` says until when any moment comes back; it waits until that holds the capture's own moment. `place` is
    where in the log that is, of a server that tells.
    """

    staged = True
    problems: tuple[Problem, ...] = ()
    newest_content_at: datetime | None = None
    paths = ("/",)

    def __init__(
        self,
        captured_at: datetime,
        tree: AnyTree,
        fingerprint: Callable[[], Fingerprint],
        standing: Standing,
        at: datetime | None,
        reached: Callable[[datetime], Window],
        *,
        place: LogPlace | None = None,
        is_elsewhere: bool = False,
        notes: Sequence[str] = (),
        stored: Callable[[], None] = lambda: None,
    ) -> None:
        self.captured_at = captured_at
        self.tree = tree
        self.notes = tuple(notes)
        self._fingerprint = fingerprint
        self._standing = standing
        self._at, self._place = at, place
        self._reached = reached
        self._is_elsewhere = is_elsewhere
        self._stored = stored
        self._whole: Fingerprint | None = None

    def fingerprint(self) -> Fingerprint:
        """Of the databases, with what the service keeps of them. Raises SourceError."""
        if self._whole is None:
            base = self._fingerprint()
            self._whole = replace(base, samples=(*base.samples, *self._told()))
        return self._whole

    def stored(self) -> None:
        """Whoever stores is done."""
        self._stored()

    def _told(self) -> Iterator[Sample]:
        standing, good = self._standing, self._standing.good
        told = standing.told
        fields = {
            "instance": str(told.get("connectionName") or standing.name),
            "region": str(told.get("region") or ""),
            "version": str(told.get("databaseVersion") or ""),
            "backups": str(len(good)),
            "newest_backup": good[0].number if good else "",
        }
        lacks = "point-in-time recovery is off, and no moment of its log is known"
        if self._at is not None:
            window = self._reached(self._at)
            there = window.latest is not None and window.latest >= self._at
            lacks = "" if there else f"its log had not come as far as {rfc3339(self._at)}"
            fields |= {"at": rfc3339(self._at), **told_of(self._place), "lacks": lacks}
            if there and window.earliest is not None and window.earliest <= self._at:
                since, until = window.earliest.isoformat(), self._at.isoformat()
                yield Sample(LOG_SAMPLE, {"since": since, "until": until})
        yield Sample(ABOUT, {name: value for name, value in fields.items() if value})
        if self._is_elsewhere:
            yield from self._kept(lacks).samples()

    def _kept(self, lacks: str) -> Elsewhere:
        """Its own project keeps it, once, however many backups that has."""
        standing = self._standing
        found = settings(standing.told, standing.backups)
        remark = f"its last automated backup failed: {found.failed}" if found.failed else ""
        disk = int(str(_part(standing.told, "settings").get("dataDiskSizeGb") or "0")) << 30
        newest = standing.good[0].number if standing.good else ""
        where = f"{found.region} instance {standing.name}"
        return Elsewhere(PROGRAM, disk, (Keeping(where, lacks, "", remark, "AES-256, by Google", newest),))


def names_on(server: Server, chosen: Sequence[str]) -> list[str]:
    """The databases to protect: those that were chosen, or all but the service's own. Raises SourceError."""
    if chosen:
        return list(chosen)
    with server.session("postgres") as session:
        return [name for name in databases(session) if name not in OWN_DATABASES]


@contextmanager
def exporting(
    server: Server, standing: Standing, names: Sequence[str], state: Path, held_for: float, wait: float
) -> Iterator[CloudSqlCapture]:
    """Dumps of the databases, all of one moment where one is found within `held_for` seconds (0: none is looked for).

    Raises SourceError.
    """
    with ExitStack() as stack:
        together = hold_together(server, names, stack, held_for) if held_for else None
        without: dict[str, set[str]] = {}

        @contextmanager
        def hold(name: str) -> Iterator[Held]:
            assert together is not None
            with together.held(name) as held:
                without[name] = set(map(".".join, unlogged(held.session)))
                yield held

        at = together.at if together is not None else None
        record = recorded(standing.record(at))
        form = LogicalForm(server, state, names, role_passwords=False)
        inner = stack.enter_context(form.capture(hold if together is not None else None, [record]))

        def fingerprint() -> Fingerprint:
            base = inner.fingerprint()
            if at is None:
                return base
            return replace(
                base, samples=(*base.samples, *(without_unlogged(each, without[each.name]) for each in inner.summed))
            )

        notes = list(inner.notes)
        if held_for and together is None:
            notes.append(
                f"In {round(held_for)} seconds there was no moment at which nobody wrote: clones cannot be compared"
            )
        yield CloudSqlCapture(
            at or inner.captured_at, inner.tree, fingerprint, standing, at, waiting(standing, wait), notes=notes
        )


@contextmanager
def recording(
    server: Server, standing: Standing, names: Sequence[str], held_for: float, wait: float
) -> Iterator[CloudSqlCapture]:
    """A record of a moment, and of what the databases held at it. Raises SourceError."""
    with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fingerprint") as pool:
        together = hold_together(server, names, stack, held_for)
        if together is None:
            raise SourceError(
                f"source {server.name}: in {round(held_for)} seconds there was no moment at which nobody wrote",
                why="without an export a point is such a moment of its log, with which clones are compared",
                todo="Look for longer, `moment_within`, or at a quieter time; or keep exports, `export: true`.",
            )
        futures: list[Future[Summed]] = []
        samples: list[Sample] = []
        for name in names:
            held = stack.enter_context(together.held(name))
            if not samples:
                shared = shared_lines(held.session)
                major = held.session.info.server_version // 10_000
                samples.append(Sample("server", {"version": str(major), "bootstrap": bootstrap(held.session)}))
            samples += [sequence_sample(sequence_key(name, each), each) for each in held.ahead]
            futures.append(pool.submit(_logged, held))

        def fingerprint() -> Fingerprint:
            return FoundPostgresql([each.result() for each in futures], shared, {}).fingerprint(samples)

        tree = StreamTree([recorded(standing.record(together.at))], together.at)
        try:
            yield CloudSqlCapture(
                together.at, tree, fingerprint, standing, together.at, waiting(standing, wait), is_elsewhere=True
            )
        finally:
            for each in futures:
                each.cancel()


def _logged(held: Held) -> Summed:
    """A database without what is in no log."""
    hidden = set(map(".".join, unlogged(held.session)))
    found = summed_up(held.session, held.name)
    return replace(found, tables=[each for each in found.tables if each.name not in hidden])


def waiting(standing: Standing, seconds: float) -> Callable[[datetime], Window]:
    """What waits, for so many seconds at most, until the log of an instance leads to a moment."""

    def reached(at: datetime) -> Window:
        return standing.service.window_until(standing.name, at, seconds)

    return reached


def recorded(record: bytes) -> Stream:
    """A record, as a file of a point."""
    return Stream(RECORD.encode(), partial(Ready, record), _never)


def _never(error: ToolError) -> SourceError:
    return SourceError("what is there already cannot be read", why=str(error))


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name)
    return found if isinstance(found, Mapping) else {}
