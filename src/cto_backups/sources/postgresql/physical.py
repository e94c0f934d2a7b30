"""The files of a whole server with the log that makes them one moment, and the moments of its databases."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED
from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.streams import Follows
from cto_backups.core.trees import AnyTree
from cto_backups.errors import RefusedError, RestoreError, SourceError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql import recovery
from cto_backups.sources.postgresql.between import Between, let_go
from cto_backups.sources.postgresql.inventory import databases
from cto_backups.sources.postgresql.moments import HeldMoments
from cto_backups.sources.postgresql.part import NUMBERS, numbered
from cto_backups.sources.postgresql.point import AUTO_CONF, DATA, LOG, MOMENTS
from cto_backups.sources.postgresql.rows import Session
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.standby import is_standby
from cto_backups.sources.postgresql.stream import LogFollower, following
from cto_backups.sources.postgresql.sums import bootstrap
from cto_backups.sources.postgresql.tail import Gathered, gather, put_behind
from cto_backups.sources.postgresql.tree import ServerTree
from cto_backups.sources.staging import staging

_AT_ONCE: Final = 2
_OF_A_PART: Final = "without the log that was streamed since: that goes with all of a server's files, not with a part"
_NEEDED_BY_TAIL: Final = (f"/{LOG}", f"/{MOMENTS}", f"/{DATA}/{AUTO_CONF}")


class PhysicalForm:
    """What a source does with a server whose files are copied while it works.

    With `base_every`, they are read so often, and in between what is added to the server's log. Where the server can
    tell what changed in them, only that is read, and all of it every `full_every`. `sampled`: only parts of large
    tables are summed up.
    """

    def __init__(
        self,
        server: Server,
        state: Path,
        max_rate_kib: int | None,
        base_every: timedelta | None,
        full_every: timedelta,
        *,
        sampled: bool = False,
    ) -> None:
        self._server = server
        self._state = state
        self._max_rate_kib = max_rate_kib
        self._full_every = full_every
        self._sampled = sampled
        self._between = Between(server, state, base_every) if base_every is not None else None

    @property
    def streams(self) -> bool:
        """Whether points hold a log that can be followed."""
        return self._between is not None

    def follow(self, follows: Follows, position: int) -> "AbstractContextManager[LogFollower]":
        """Follow the server's log on from a position. Raises SourceError."""
        assert self._between is not None
        return following(self._server, follows, position, self._between.is_kept)

    def made(self, reader: PointReader) -> bool:
        """Whether a point is of this form."""
        return any(True for _ in reader.listing([f"/{DATA}/PG_VERSION"]))

    @contextmanager
    def capture(self) -> Iterator[Capture]:
        """The server's files, and each database at a moment after them. Raises SourceError."""
        capture: PhysicalCapture | None = None
        try:
            with self._capturing() as capture:
                yield capture
        finally:
            # Points would have gone on from a base that is not there: nobody moves its slot on.
            if capture is not None and capture.leaves_slot:
                with suppress(SourceError):
                    let_go(self._server.within(UNLIMITED), self._state)

    @contextmanager
    def _capturing(self) -> "Iterator[PhysicalCapture]":
        with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fingerprint") as pool:
            with self._server.session("postgres") as session:
                self._refuse_standby(session)
                names = list(databases(session))
                first = bootstrap(session)
                major = session.info.server_version // 10_000
                numbers = numbered(session)
            if self._between is None:
                let_go(self._server, self._state)
            spool = stack.enter_context(staging(self._state))
            held = HeldMoments(self._server, pool, stack, sampled=self._sampled)
            tree = ServerTree(
                self._server,
                spool,
                held,
                names,
                stack,
                max_rate_kib=self._max_rate_kib,
                between=self._between,
                full_every=self._full_every,
            )
            about = Sample("server", {"version": str(major), "bootstrap": first, NUMBERS: numbers})
            try:
                yield PhysicalCapture(tree, held, about, self._between)
            finally:
                held.cancel()

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do."""
        return reader.plan(self._somewhere(destination), only=only, existing=existing, options=options)

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
        """Write a data directory from which a server recovers by itself. Raises RefusedError, RestoreError.

        To a moment, with `options.at`; else to the end of the log that is there.
        """
        place = self._somewhere(destination)
        at, tail = (options.at, options.tail) if options is not None else (None, None)
        # What is fetched once more from another vault may be what the log is to be put behind.
        if tail is None or (only and not any(path.startswith(_NEEDED_BY_TAIL) for path in only)):
            restored = reader.restore(place, only=only, existing=existing, options=options, progress=progress)
            if tail is not None:
                restored = replace(restored, notes=(*restored.notes, _OF_A_PART))
        else:
            with staging(self._state) as spool:
                gathered = gather(self._server.name, tail, spool, at)
                restored = reader.restore(place, only=only, existing=existing, options=options, progress=progress)
                restored = self._with_tail(restored, place, gathered, to_end=at is None)
        if options is not None and options.at is not None:
            try:
                recovery.recover_at(place / DATA, options.at)
            except OSError as error:
                raise RestoreError(
                    f"source {self._server.name}: the moment to recover to could not be written",
                    why=f"{error.filename}: {error.strerror}",
                    todo="restore again, and all of it: without --only",
                ) from error
        return restored

    def _with_tail(self, restored: Restored, place: Path, tail: Gathered, *, to_end: bool) -> Restored:
        if any(problem.path.startswith(_NEEDED_BY_TAIL) for problem in restored.problems):
            told = "the log that was streamed since waits for the point's own, which did not come back whole from there"
            return replace(restored, notes=(*restored.notes, told))
        if not ((place / MOMENTS).is_file() and (place / DATA / AUTO_CONF).is_file()):
            return replace(restored, notes=(*restored.notes, _OF_A_PART))
        problems = restored.problems
        if tail.problem:
            problems = (*problems, Problem(f"/{LOG}", "unreadable", f"the log that was streamed since: {tail.problem}"))
        told = put_behind(self._server.name, place, tail, to_end=to_end)
        return replace(restored, notes=(*restored.notes, told), problems=problems)

    def probe(self, restored: Path, server: Mapping[str, str], expected: Fingerprint) -> Fingerprint:
        """Recover to each database's moment and sum it up, then to the end, and check the indexes.

        Raises ToolError, psycopg.Error, VerificationError.
        """
        return recovery.recovered(self._server, restored, server, expected)

    def _somewhere(self, destination: Path | None) -> Path:
        if destination is not None:
            return destination
        raise RefusedError(
            f"source {self._server.name}: the files of a server are not restored into one that is running",
            why="it would have to stop, and its files to go, before they can be replaced",
            todo="restore with --to FOLDER, and start a server on the folder `data` in it; "
            "or one database into the server that runs: --database NAME",
        )

    def _refuse_standby(self, session: Session) -> None:
        if is_standby(session):
            raise SourceError(
                f"source {self._server.name}: the server at {self._server.place} is a standby",
                why="a standby does not tell at which moments its databases were summed up",
                todo="name its primary in the policy, or use `method: logical`",
            )


class PhysicalCapture:
    """Implements `core.ports.Capture` and `Remarking`."""

    staged = True
    problems: tuple[Problem, ...] = ()
    newest_content_at: datetime | None = None
    paths = ("/",)

    def __init__(self, tree: ServerTree, held: HeldMoments, about: Sample, between: Between | None) -> None:
        self.tree: AnyTree = tree
        self._arriving = tree
        self._held = held
        self._about = about
        self._between = between
        self._begun_at = clock.now()
        self._is_stored = False

    @property
    def captured_at(self) -> datetime:
        """What was committed until then is in the point."""
        return self._arriving.marked_at or self._begun_at

    @property
    def notes(self) -> tuple[str, ...]:
        """How the server's files were read, where that is worth a word."""
        return self._arriving.notes

    @property
    def leaves_slot(self) -> bool:
        """Whether a slot was made for a base that was not stored."""
        return self._arriving.made_slot and not self._is_stored

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError.

        Of a point that goes on from a base: that of the base. With how far the log goes, so that no two points are
        alike between which anything was committed: not all of that is summed up.
        """
        moments = self._arriving.moments
        if moments is None:
            raise RuntimeError("nothing has arrived")
        if not self._arriving.went_on:
            base = self._held.fingerprint(self._about)
        else:
            remembered = self._between.remembered(moments) if self._between is not None else None
            if remembered is None:
                raise SourceError(
                    "What was said of the last base backup is not known any more",
                    why="the folder of this installation's state was emptied while it worked",
                    todo="back up again: another base backup is made",
                )
            base = remembered
        return replace(base, samples=(*base.samples, moments.log))

    def stored(self) -> None:
        """What was said of a base is remembered, and the server may forget the log that is in the vault."""
        self._is_stored = True
        moments = self._arriving.moments
        if self._between is None or moments is None:
            return
        if not self._arriving.went_on:
            with suppress(OSError):  # then the next point is another base
                self._between.remember(moments, self._held.fingerprint(self._about))
        with suppress(ToolError):  # it keeps its log a little longer: until the next point
            self._arriving.safe()
