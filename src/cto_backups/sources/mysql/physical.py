"""The files of a whole server, read by mariadb-backup or xtrabackup while it works, and what it holds just then."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import pymysql

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Problem
from cto_backups.core.ports import Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.trees import AnyTree, Entry
from cto_backups.errors import DamageError, RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources import pipes
from cto_backups.sources.mysql import log as mysql_log
from cto_backups.sources.mysql import restore as mysql_restore
from cto_backups.sources.mysql import tail
from cto_backups.sources.mysql.bases import Base, Moment, of_files
from cto_backups.sources.mysql.connection import Session, Tools, Version, rows, said, version_of
from cto_backups.sources.mysql.copier import Copier, copier_of
from cto_backups.sources.mysql.files import CHECKPOINTS, DATA, SERVER, About, FilesTree
from cto_backups.sources.mysql.inventory import databases
from cto_backups.sources.mysql.prepared import complained, prepare
from cto_backups.sources.mysql.proof import found_there, plugins_of
from cto_backups.sources.mysql.relay import Relay, relayed
from cto_backups.sources.mysql.server import Server
from cto_backups.sources.mysql.standstill import Standstill
from cto_backups.sources.mysql.sums import log_sample, split, sums_in
from cto_backups.sources.mysql.throwaway import SAME, brought_up
from cto_backups.sources.pacing import Paced
from cto_backups.sources.staging import staging
from cto_backups.sources.streams import Giver

METHOD: Final = "physical"
_OF_A_PART: Final = "a part of a server's files: not prepared, and no server starts on it"
_MIB: Final = 1 << 20
_PLACES: Final = ("innodb_data_home_dir", "innodb_data_file_path", "innodb_undo_directory", "innodb_log_group_home_dir")


class PhysicalForm:
    """What a source does with a server whose files are copied while it works; implements `mysql_bases.Form`.

    `max_rate_mib`: so many MiB are read a second, until the server stands still. `scratch` is where throwaway servers
    live.
    """

    def __init__(self, server: Server, state: Path, max_rate_mib: int | None, scratch: str) -> None:
        self.about: Mapping[str, str] = {"method": METHOD}
        self._server, self._state, self._max_rate_mib, self._scratch = server, state, max_rate_mib, scratch

    def made(self, reader: PointReader) -> bool:
        """Whether a point is of this form."""
        return any(True for _ in reader.listing([f"/{DATA}/{CHECKPOINTS}"]))

    def has_made(self, top: Sequence[Entry]) -> bool:
        """Whether a point is of this form, by the entries of its root."""
        return of_files(top)

    @contextmanager
    def begun(self, control: Session) -> Iterator[Base]:
        """The same as what a log goes on from. Raises SourceError."""
        with self.capture() as capture:
            yield Base(capture, lambda: capture.moment)

    @contextmanager
    def capture(self) -> "Iterator[PhysicalCapture]":
        """The server's files, and what it holds at the end of them. Raises SourceError."""
        server = self._server
        with ExitStack() as stack:
            control = stack.enter_context(server.session())
            version, whole = self._fit(control)
            copier = copier_of(version)
            program = server.program(version, "files")
            kept = ("datadir", *SAME, *copier.files)
            settings = dict(rows(control, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {kept}"))
            datadir = Path(settings.pop("datadir"))
            pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="fingerprint"))
            standstill = Standstill(server, control, pool, version, self.about)
            stack.callback(standstill.close)
            relay = stack.enter_context(relayed(server.address.host, standstill.asked))
            spool = stack.enter_context(staging(self._state))
            options = stack.enter_context(staging(self._state))
            command = self._command(copier, program, options, spool, relay, version)

            def begin() -> Giver:
                output = pipes.Output(
                    command,
                    environment=server.address.environment(options),
                    folder=spool,
                    silent_seconds=server.timeout_seconds,
                    limit=server.address.limit,
                )
                stack.callback(output.close)
                if self._max_rate_mib is None:
                    return output
                # The program's own `--throttle` counts reads of no size that it tells.
                return Paced(output, self._max_rate_mib * _MIB, lambda: not standstill.begun)

            def refuse(error: ToolError) -> SourceError:
                return self._refusal(relay, error)

            try:
                tree = FilesTree(About(whole, settings), copier, datadir, spool, begin, refuse)
            except OSError as error:
                raise self._unreadable_files(f"{datadir}: {error.strerror}") from error
            yield PhysicalCapture(server, tree, standstill)

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
        plan = reader.plan(self._somewhere(destination), only=only, existing=existing, options=options)
        if only:
            return replace(plan, notes=(*plan.notes, _OF_A_PART))
        program = self._tools_for(reader)["files"]
        return replace(plan, notes=(*plan.notes, f"the files are then prepared, by {program}"))

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
        """Write a data directory on which a server starts. Raises RefusedError, RestoreError, DamageError.

        That needs a program of the server's series: without it, nothing is written. A part of the files is left as the
        point has it.
        """
        place = self._somewhere(destination)
        tools = None if only else self._tools_for(reader)

        def files() -> Restored:
            return reader.restore(place, only=only, existing=existing, options=options, progress=progress)

        restored = tail.brought_back(self._server.name, place, options, self._state, files)
        if any(problem.path != f"/{mysql_log.STREAMED_FILE}" for problem in restored.problems):
            return restored  # another vault may have what is lacking, and brings it with `only`
        if tools is None:
            if not all((place / _below(path)).exists() for path, _ in reader.listing([f"/{DATA}"])):
                return replace(restored, notes=(*restored.notes, _OF_A_PART))
            tools = self._tools_for(reader)
        try:
            prepare(tools, place / DATA)
        except (ToolError, OSError) as error:
            raise RestoreError(
                f"source {self._server.name}: its files are in {place / DATA}, and could not be prepared",
                why=str(error) if isinstance(error, ToolError) else f"{error.filename}: {error.strerror}",
                todo="restore from another vault, with --vault; or an older recovery point",
            ) from error
        told = f"prepared: a server of {tools.version.name} starts on {place / DATA}"
        logs = (mysql_log.log_in(place), mysql_log.streamed_in(place))
        leading = " and ".join(f"{log.prefix}*" for log in logs if log is not None and log.pieces)
        if leading:
            told += f", and is to carry out {leading} before anybody writes there: mariadb-binlog … | mariadb"
        return replace(restored, notes=(*restored.notes, told))

    def probe(self, restored: Path, tools: Tools, expected: Fingerprint) -> Fingerprint:
        """Start a throwaway server of the same series on the files, sum everything up, and check its tables.

        Where there is a log, that is carried out first; and once all is summed up, what was streamed after it.

        Raises ToolError, pymysql.MySQLError, VerificationError.
        """
        (server,) = (sample.fields for sample in expected.samples if sample.key == "server")
        log, streamed, sums = mysql_log.whole_log(restored), mysql_log.whole_streamed(restored), sums_in(restored)
        first, rest = split(log, sums)
        try:
            about = About.read((restored / SERVER).read_bytes())
            prepare(tools, restored / DATA)
        except OSError as error:
            raise ToolError(DATA, None, f"{error.filename}: {error.strerror}") from error
        with (
            brought_up(tools, restored / DATA, about.settings, plugins_of(server), scratch=self._scratch) as address,
            staging(self._state) as private,
            closing(address.connect(patient=True)) as session,
        ):
            loader = mysql_restore.Loader(tools, address, private)
            mysql_log.replay(loader, restored, first)
            found = found_there(address, session, expected, tools.version)
            mysql_log.replay(loader, restored, rest, streamed)
            for name in (*databases(session), "mysql"):
                mysql_restore.check_tables(session, name)
        return replace(found, samples=(*found.samples, log_sample(log, sums))) if log is not None else found

    # -- before anything begins ----------------------------------------------------------------------------------------

    def _fit(self, control: Session) -> tuple[Version, str]:
        """The server's version. Raises SourceError where its files alone would not bring it back."""
        version, whole = version_of(control)
        copier = copier_of(version)
        if version.series < copier.oldest:
            oldest = Version(version.flavour, copier.oldest)
            raise self._unfit(f"it is of {version.name}, and {copier.name} reads those of {oldest.name} and later")
        self._server.require(control, copier.rights)
        settings = dict(rows(control, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {_PLACES}"))
        for name in _PLACES:
            if settings.get(name, "").removeprefix("./").strip("/") and "/" in settings[name].removeprefix("./"):
                raise self._unfit(f"they lie in several places: {name} is {settings[name]}")
        elsewhere = [str(name) for (name,) in rows(control, copier.elsewhere)]
        if elsewhere:
            raise self._unfit(f"some lie outside of its data directory (DATA DIRECTORY): {', '.join(elsewhere[:3])}")
        ((encrypted,),) = rows(control, copier.encrypted)
        told = dict(rows(control, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {tuple(copier.encrypting)}"))
        if encrypted or "ON" in told.values():
            raise self._unfit("they are encrypted by keys that are not among them")
        return version, whole

    def _command(
        self, copier: Copier, program: str, options: Path, spool: Path, relay: Relay, version: Version
    ) -> list[str]:
        address = replace(self._server.address, host=str(relay.path))
        return copier.backup(program, address.option_file(options, version), spool, address.lock_seconds)

    # -- what it means -------------------------------------------------------------------------------------------------

    def _tools_for(self, reader: PointReader) -> Tools:
        """The programs that a point's files need. Raises RefusedError, DamageError: nothing was written yet."""
        with staging(self._state) as place:
            fetched = reader.restore(place, only=[f"/{SERVER}"])
            if fetched.problems:
                raise DamageError(
                    f"source {self._server.name}: {SERVER} cannot be read, which says of which version the files are",
                    why=fetched.problems[0].detail,
                    todo="verify the vault, or restore from another one",
                )
            try:
                version = Version.parse(About.read((place / SERVER).read_bytes()).version)
            except VerificationError as error:
                raise DamageError(error.what, why=error.why, todo=error.todo) from error
        copier = copier_of(version)
        tools = Tools(version, self._server.tools)
        try:
            tools["files"]
        except ToolMissingError as error:
            raise RefusedError(
                f"source {self._server.name}: its files are of {version.name}, and nothing here can prepare them",
                why=error.detail,
                todo=f"install {copier.name} of that series ({copier.package}), or name its folder: `tools`; or restore"
                " the files as they are, with --only /data, and prepare them elsewhere",
            ) from error
        return tools

    def _somewhere(self, destination: Path | None) -> Path:
        if destination is not None:
            return destination
        raise RefusedError(
            f"source {self._server.name}: the files of a server are not restored into one that is running",
            why="it would have to stop, and its files to go, before they can be replaced",
            todo="restore with --to FOLDER, stop the server, and start one on the folder `data` in it",
        )

    def _unfit(self, why: str) -> SourceError:
        return SourceError(
            f"source {self._server.name}: the files of {self._server.place} do not do for `method: physical`",
            why=why,
            todo="use `method: logical`",
        )

    def _unreadable_files(self, why: str) -> SourceError:
        return SourceError(
            f"source {self._server.name}: the files of the server at {self._server.place} could not be read",
            why=why,
            todo="nothing of this attempt was kept; see that this runs on the server's machine, as a user who may read"
            " its data directory, and what the server says",
        )

    def _refusal(self, relay: Relay, error: ToolError) -> SourceError:
        failure = relay.failure
        if isinstance(failure, SourceError):
            return failure
        if failure is not None:
            return self._unreadable_files(said(failure) if isinstance(failure, pymysql.MySQLError) else str(failure))
        return self._unreadable_files(str(complained(error)))


class PhysicalCapture:
    """Implements `core.ports.Capture`."""

    staged = True
    problems: tuple[Problem, ...] = ()
    newest_content_at: datetime | None = None
    paths = ("/",)

    def __init__(self, server: Server, tree: FilesTree, standstill: Standstill) -> None:
        self.tree: AnyTree = tree
        self._server, self._files, self._standstill = server, tree, standstill
        self._begun_at = clock.now()

    @property
    def captured_at(self) -> datetime:
        """What was committed until then is in the point."""
        return self._standstill.captured_at or self._begun_at

    @property
    def moment(self) -> Moment | None:
        """What a log that goes on from the files has to know; None before they have come, and without a log."""
        return self._standstill.moment

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError."""
        seen, told = self._standstill.place, self._files.place
        if seen != told:
            raise SourceError(
                f"source {self._server.name}: files and fingerprint of {self._server.place} are not of one moment",
                why=f"the files end at {told} of the binary log, and rows were summed up at {seen}",
                todo="nothing of this attempt was kept; back up again",
            )
        return self._standstill.fingerprint()

    def stored(self) -> None:
        """Nothing is remembered: what is in a server's files is only known when they are read."""


def _below(path: bytes) -> str:
    """Where it lies below a folder that all was restored to."""
    return path.decode("utf-8", "surrogateescape").lstrip("/")
