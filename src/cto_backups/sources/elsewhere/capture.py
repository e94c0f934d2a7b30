"""What a recovery point of another program's repositories is made of: which moments they lead to, and what stood there.

Nothing of the data is copied. With a connection to the server, its databases are summed up once for each new backup,
each at a place of the log; for each point a mark is written into the log, and waited for in the archive.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.elsewhere import Elsewhere
from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.trees import AnyTree
from cto_backups.errors import SourceError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.elsewhere.keeping import Wanted, kept, start, usable
from cto_backups.sources.elsewhere.primary import Primary, failing, look, marked, refuse_another
from cto_backups.sources.elsewhere.program import Program, Words, refused
from cto_backups.sources.elsewhere.standing import Backup, Repository
from cto_backups.sources.postgresql.moments import HeldMoments, is_quiet
from cto_backups.sources.postgresql.point import MOMENTS, Moments
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.streams import Ready, Stream, StreamTree

UNASKED: Final = "unasked/1"
"""The algorithm of the fingerprint of a server that nobody could ask: it says where the data lie, and nothing of it."""
_SUMS: Final = "sums.json"
_AT_ONCE: Final = 2


@dataclass(frozen=True)
class Sums:
    """What a server's databases were summed up to at a time when `labels` were the newest backups of the repositories.

    `held` are those that are being summed up, `known` is what was summed up before; of neither, nobody could ask.
    """

    labels: Mapping[str, str]
    summed_at: datetime
    about: Sample
    held: HeldMoments | None = None
    known: Fingerprint | None = None

    def fingerprint(self) -> Fingerprint:
        """Of the server alone, complete once every table was summed up. Raises SourceError."""
        if self.held is not None:
            return self.held.fingerprint(self.about)
        return self.known or Fingerprint(UNASKED, {}, {}, (self.about,))


class ElsewhereCapture:
    """Implements `core.ports.Capture`."""

    staged = True
    problems: tuple[Problem, ...] = ()
    newest_content_at: datetime | None = None
    paths = ("/",)

    def __init__(
        self,
        captured_at: datetime,
        moments: Moments,
        sums: Sums,
        where: Elsewhere,
        record: Mapping[str, bytes],
        state: Path,
    ) -> None:
        self.captured_at = captured_at
        self._moments = moments
        self._sums = sums
        self._where = where
        self._state = state
        given = {**record, MOMENTS: moments.written()}
        streams = [Stream(name.encode(), partial(Ready, content), _never) for name, content in given.items()]
        self.tree: AnyTree = StreamTree(streams, captured_at)

    def fingerprint(self) -> Fingerprint:
        """Of the server, with how far the log leads, and where all of it lies. Raises SourceError."""
        base = self._sums.fingerprint()
        return replace(base, samples=(*base.samples, self._moments.log, *self._where.samples()))

    def stored(self) -> None:
        """What was summed up is remembered, until there is another backup."""
        if self._moments.databases:
            with suppress(OSError):  # then all is summed up again
                sums = self._sums
                Remembered(sums.labels, sums.summed_at, self._moments, sums.fingerprint()).keep(self._state)


def _never(error: ToolError) -> SourceError:
    return SourceError("what is there already cannot be read", why=str(error))


@contextmanager
def capturing(program: Program, server: Server | None, wanted: Wanted, state: Path) -> Iterator[ElsewhereCapture]:
    """A point of what the repositories lead to now. Raises SourceError."""
    words = program.words
    try:
        standing = program.look()
    except ToolError as error:
        what = f"{words.title} does not tell what its repositories hold"
        raise refused(words, wanted.source, what, error) from error
    found, record = standing.repositories, {words.record: standing.said}
    able = usable(words, wanted.source, found)
    if server is None:
        # Places in the logs of two servers tell nothing of which is newer.
        newest, system = max(((each.backups[-1], each.system) for each in able), key=lambda of: of[0].stopped_at)
        moments = _end_of(newest, system)
        where = _somewhere(kept(program, found, moments, newest.segment_bytes, wanted), words, wanted, "")
        sums = Sums({}, newest.stopped_at, Sample("backup", {"label": newest.label}))
        yield ElsewhereCapture(newest.stopped_at, moments, sums, where, record, state)
        return
    primary = look(server, words)
    for repository in able:
        refuse_another(server, primary, repository, words)
    with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fingerprint") as pool:
        held = HeldMoments(server, pool, stack)
        try:
            captured_at, moments, sums = _moments(words, server, primary, able, held, state, wanted.sums_every)
            keeping = kept(program, found, moments, primary.segment_bytes, wanted)
            where = _somewhere(keeping, words, wanted, failing(server))
            yield ElsewhereCapture(captured_at, moments, sums, where, record, state)
        finally:
            held.cancel()  # or else its threads would be waited for, which may sum up for hours


def _moments(
    words: Words,
    server: Server,
    primary: Primary,
    able: Sequence[Repository],
    held: HeldMoments,
    state: Path,
    sums_every: timedelta | None,
) -> tuple[datetime, Moments, Sums]:
    """When what was committed is held, the moments, and the sums: those that are known, or else new ones."""
    newest = {each.name: backup for each in able if (backup := each.newest(timeline=primary.timeline))}
    if not newest:
        last = max((each.backups[-1] for each in able), key=lambda backup: backup.ends)
        raise SourceError(
            f"source {server.name}: there is no backup of the server's timeline, {primary.timeline}",
            why=f"the newest, {last.label}, is of timeline {last.timeline}: the server was promoted since",
            todo=f"make a backup with {words.title}",
        )
    labels = {name: backup.label for name, backup in newest.items()}
    before = Remembered.last(state)
    begun = clock.now()
    if before is not None and before.goes_on(labels, primary, able, sums_every):
        moments = before.moments
        if not is_quiet(server, moments.transactions):
            begun, end = clock.now(), marked(server)
            moments = replace(moments, target=end.target, ends=end.ends, until=end.at, transactions=end.transactions)
        return begun, moments, Sums(before.labels, before.summed_at, primary.about, known=before.fingerprint)
    try:
        for name in primary.databases:
            held.hold(name)
    except ToolError as error:
        raise SourceError(
            f"source {server.name}: no moment of the server at {server.place} can be held",
            why=error.detail,
            todo="see that the user may replicate; with wal_level = replica, tables are locked for a moment instead",
        ) from error
    begun, end = clock.now(), marked(server)
    last = max(newest.values(), key=lambda backup: backup.ends)
    moments = Moments(
        system=primary.system,
        timeline=primary.timeline,
        databases=held.places,
        target=end.target,
        ends=end.ends,
        begins=last.begins,
        base_at=last.started_at,
        since=min(last.stopped_at + timedelta(seconds=1), end.at),
        until=end.at,
        transactions=end.transactions,
        tablespaces=end.tablespaces,
    )
    return begun, moments, Sums(labels, begun, primary.about, held=held)


def _end_of(backup: Backup, system: str) -> Moments:
    """Without the server, the end of a backup is as far as anybody knows the log to lead."""
    return Moments(
        system=system,
        timeline=backup.timeline,
        databases={},
        target=backup.ends,
        ends=backup.ends,
        begins=backup.begins,
        base_at=backup.started_at,
        since=backup.stopped_at,
        until=backup.stopped_at,
        transactions="",
        tablespaces=(),
    )


def _somewhere(where: Elsewhere, words: Words, wanted: Wanted, failure: str) -> Elsewhere:
    """Raises SourceError when no repository keeps the point, not even a damaged one."""
    if all(each.lacks for each in where.keeping):
        told = [f"{each.repository}: {each.lacks}" for each in where.keeping]
        raise SourceError(
            f"source {wanted.source}: no repository of {words.title} leads to where the server is",
            why="; ".join([*told, failure] if failure else told),
            todo=f"see that archive_command succeeds ('{words.check}'); after a gap in the log, make another backup",
        )
    return where


@dataclass(frozen=True)
class Remembered:
    """What the last point said, for the next one."""

    labels: Mapping[str, str]
    summed_at: datetime
    moments: Moments
    fingerprint: Fingerprint

    def goes_on(
        self, labels: Mapping[str, str], primary: Primary, able: Sequence[Repository], every: timedelta | None
    ) -> bool:
        """Whether what was summed up still is what is to be proven: no new database, tablespace or server.

        Nor a new backup; unless the sums are younger than `every`, and recovery to them begins at an older one.
        """
        same = (self.moments.system, self.moments.timeline) == (primary.system, primary.timeline)
        spaces = self.moments.tablespaces == primary.tablespaces
        if not same or not spaces or set(self.moments.databases) != {*primary.databases}:
            return False
        young = every is not None and timedelta(0) <= clock.now() - self.summed_at < every
        return dict(self.labels) == labels or (young and all(start(each, self.moments) for each in able))

    def keep(self, state: Path) -> None:
        """Remember it. Raises OSError."""
        document = {
            "labels": dict(self.labels),
            "summed_at": self.summed_at.isoformat(),
            "moments": self.moments.written().decode(),
            "checksums": dict(self.fingerprint.checksums),
            "counts": dict(self.fingerprint.counts),
            "samples": [[sample.key, dict(sample.fields)] for sample in self.fingerprint.samples],
            "algorithm": self.fingerprint.algorithm,
        }
        new = state / f"{_SUMS}.new"
        new.write_text(json.dumps(document), encoding="utf-8")
        new.replace(state / _SUMS)

    @classmethod
    def last(cls, state: Path) -> "Remembered | None":
        """What was remembered last; None where nothing is, or it makes no sense."""
        try:
            document = json.loads((state / _SUMS).read_text(encoding="utf-8"))
            samples = tuple(Sample(key, fields) for key, fields in document["samples"])
            fingerprint = Fingerprint(document["algorithm"], document["checksums"], document["counts"], samples)
            summed_at = datetime.fromisoformat(document["summed_at"])
            return cls(document["labels"], summed_at, Moments.read(document["moments"].encode()), fingerprint)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, VerificationError):
            return None
