"""Git repositories: every ref, every object, and LFS objects where they are used."""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Problem, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.watched import Place
from cto_backups.errors import BusyError, PolicyError, SourceError
from cto_backups.process import ToolError, ToolMissingError, ToolTimeoutError, run
from cto_backups.sources import digests
from cto_backups.sources.git import objects
from cto_backups.sources.git import restore as git_restore
from cto_backups.sources.git.command import Git, address, refusal
from cto_backups.sources.git.mirror import Mirror
from cto_backups.sources.ledger import Ledger, sample_key
from cto_backups.sources.options import seconds, text
from cto_backups.sources.patterns import Patterns
from cto_backups.sources.selection import Selection
from cto_backups.sources.staging import make_private
from cto_backups.sources.tree import FileTree

# What git and git-lfs leave in a repository that is nobody's data.
_VOLATILE = (
    *("FETCH_HEAD", "ORIG_HEAD", "gc.pid", "gc.log", "*.lock", "tmp_*"),
    *("lfs/tmp/", "lfs/logs/", "lfs/cache/", "lfs/incomplete/", "lfs/bad/"),
)


def _is_lock(_path: bytes, name: bytes, _folder: bool) -> bool:
    """What git writes before it renames it to what counts."""
    return name.endswith(b".lock")


def _folders(path: Path) -> tuple[Path, Path]:
    """The real folders of a repository, or of a further working tree: its own, and what it shares with others."""
    own = path / ".git"
    with suppress(OSError):
        if own.is_file():
            own = path / os.fsdecode(own.read_bytes()).removeprefix("gitdir:").strip()
    own = Path(os.path.realpath(own if own.is_dir() else path))
    try:
        common = own / os.fsdecode((own / "commondir").read_bytes()).strip()
    except OSError:
        return own, own
    return own, Path(os.path.realpath(common))


class GitSource:
    """Implements `core.ports.Source` for one git repository, here or on a server.

    Options: `url` (a path or whatever git takes); `lfs`: "auto" (fetch LFS objects where the history uses LFS), "yes"
    or "no"; `timeout_seconds` for each call of git (3600). The recovery point holds a bare mirror, ``/<name>.git``,
    usable with stock git as it is.
    """

    kind = "git"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._place = address(text(options, "url"))
        self._lfs = text(options, "lfs", "auto")
        if self._lfs not in ("auto", "yes", "no"):
            raise PolicyError(
                f"source {name}: `lfs` is {self._lfs!r}", why="it must be auto, yes or no", todo="correct the policy"
            )
        self._git = Git(self._place, seconds(options, "timeout_seconds", 3600.0))
        self._state = state / "sources" / name
        self._folder = f"{name.replace('/', '_')}.git"

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The repository, once it has answered. Raises SourceError."""
        self._within(limit)._mirror().listing()
        return [Resource(f"git:{self._place.url}", "git", self._place.url)]

    def places(self) -> Sequence[Place]:
        """HEAD and the refs of a repository that lies here; nowhere for one on a server. Raises SourceError."""
        if self._place.path is None:
            return ()
        own, common = _folders(self._place.path)
        if not (own / "HEAD").is_file():
            raise SourceError(
                f"source {self.name}: {self._place.path} is not there",
                why=f"no git repository is at {self._place.path}",
                todo="mount what is not mounted, or correct `url` of this source in the policy",
            )
        places = [Place(os.fsencode(folder), names=frozenset({b"HEAD", b"packed-refs"})) for folder in {own, common}]
        for folder in (common / "refs", common / "reftable"):
            if folder.is_dir():
                places.append(Place(os.fsencode(folder), below=True, leaves=_is_lock))
        return places

    def capture(self, limit: Limit = UNLIMITED) -> AbstractContextManager[Capture]:
        """The repository at one moment, in a mirror that stays as it is meanwhile. Raises SourceError, BusyError."""
        return self._within(limit)._captured()

    def _within(self, limit: Limit) -> "GitSource":
        """The same, whose calls of git end when the limit does."""
        limited = copy(self)
        limited._git = self._git.within(limit)
        return limited

    @contextmanager
    def _captured(self) -> Iterator[Capture]:
        with self._locked():
            mirror = self._mirror()
            problems: list[Problem] = []
            captured_at = clock.now()
            if not mirror.update():
                detail = "its refs kept changing while it was fetched; HEAD may be of another moment than the refs"
                problems.append(Problem(self._place.url, "changed-while-read", detail))
            try:
                fingerprint = self._examine(mirror, problems)
            except ToolTimeoutError as error:
                raise refusal(self.name, self._place, error) from error
            except ToolError:
                # What was fetched is broken: git checks what arrives, so the mirror has suffered since.
                mirror.make_anew()
                mirror.update()
                problems = [problem for problem in problems if problem.kind == "changed-while-read"]
                try:
                    fingerprint = self._examine(mirror, problems)
                except ToolError as error:
                    raise refusal(self.name, self._place, error) from error
            yield _GitCapture(
                self._folder,
                mirror.folder,
                self._state / "digests",
                captured_at,
                fingerprint,
                tuple(problems),
                self._notes(mirror),
                objects.newest(self._git, mirror.folder, captured_at),
            )

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do. Raises RefusedError in place of what lies on a server."""
        if destination is not None and only:
            return reader.plan(destination, only=only, existing=existing, options=options)
        return git_restore.plan(self.name, self._git, reader, destination, only)

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
        """Write the bare mirror below `destination`, or make the local repository anew where it was.

        What stands there is kept beside it. Raises RefusedError, RestoreError.
        """
        if destination is not None and only:
            return reader.restore(destination, only=only, existing=existing, options=options, progress=progress)
        return git_restore.restore(self.name, self._git, reader, destination, only, existing, options, progress)

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Let git check every object, check HEAD out into a scratch folder, then fingerprint the repository."""
        repository = git_restore.find(self.name, restored, self._folder)
        git_restore.check(self.name, self._git, repository)
        key = bytes.fromhex(expected.checksums.get("sample-key", ""))
        try:
            found = objects.fingerprint(self._git, repository, key, hash_lfs=True)
        except ToolError as error:
            raise git_restore.broken(self.name, error.detail) from error
        entries = git_restore.checked_out(self.name, self._git, repository, restored)
        wanted = {sample.key for sample in expected.samples}
        return replace(
            found,
            counts={**found.counts, "head_files": entries},
            samples=tuple(sample for sample in found.samples if sample.key in wanted),
        )

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _mirror(self) -> Mirror:
        return Mirror(self.name, self._git, self._state / "mirror.git")

    def _examine(self, mirror: Mirror, problems: list[Problem]) -> Fingerprint:
        """Fetch what LFS holds, then fingerprint. Raises ToolError when the mirror is broken."""
        if self._lfs == "yes" or (self._lfs == "auto" and objects.uses_lfs(self._git, mirror.folder)):
            problems.extend(self._fetch_lfs(mirror))
        found = objects.fingerprint(self._git, mirror.folder, sample_key(self.name), hash_lfs=False)
        files, _ = objects.head_entries(self._git, mirror.folder)
        return replace(found, counts={**found.counts, "head_files": files})

    def _fetch_lfs(self, mirror: Mirror) -> Iterator[Problem]:
        try:
            run(["git-lfs", "version"], environment=os.environ, timeout_seconds=60)
        except ToolMissingError:
            detail = "it uses Git LFS, and git-lfs is not installed: install the package git-lfs"
            yield Problem(self._place.url, "unsupported", detail)
            return
        except ToolError as error:
            yield Problem(self._place.url, "unreadable", f"LFS objects: {error.detail}")
            return
        failure = mirror.fetch_lfs()
        if failure is not None:
            yield Problem(self._place.url, "unreadable", f"LFS objects: {failure}")

    def _notes(self, mirror: Mirror) -> tuple[str, ...]:
        """What limits a recovery from this point, in sentences."""
        notes: list[str] = []
        _, submodules = objects.head_entries(self._git, mirror.folder)
        if submodules:
            notes.append(
                f"{submodules} submodules are named in HEAD, not contained: protect them as sources of their own"
            )
        if (mirror.folder / "shallow").exists():
            notes.append("the repository is a shallow clone: history before its boundary is not there to protect")
        if not objects.refs(self._git, mirror.folder):
            notes.append("the repository is empty: it has no refs yet")
        if self._place.path is not None:
            try:
                stashes = self._git.at_source(
                    self._place.path, "rev-list", "--walk-reflogs", "--ignore-missing", "refs/stash"
                )
                if stashes.count(b"\n") > 1:
                    notes.append("only the newest stash is contained: older ones have no ref")
            except ToolError:
                pass  # no stash
        return tuple(notes)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the mirror to this process; the kernel lets go of the lock when the process ends."""
        try:
            make_private(self._state)
            file = (self._state / "lock").open("w")
        except OSError as error:
            raise SourceError(
                f"source {self.name}: {self._state} cannot be written to",
                why=error.strerror or str(error),
                todo="make room there, and let this user write to it",
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(
                    f"source {self.name} is being captured by another run",
                    why=f"{self._state / 'lock'} is held",
                    todo="wait until it is done",
                ) from error
            yield


class _GitCapture:
    """Implements `core.ports.Capture` over the mirror."""

    staged = True

    def __init__(
        self,
        folder: str,
        mirror: Path,
        cache: Path,
        captured_at: datetime,
        fingerprint: Fingerprint,
        problems: tuple[Problem, ...],
        notes: tuple[str, ...],
        newest_content_at: datetime | None,
    ) -> None:
        self.captured_at = captured_at
        self.newest_content_at = newest_content_at
        self.paths = (f"/{folder}",)
        self.notes = notes
        self._cache = cache
        self._fingerprint = fingerprint
        self._problems = problems
        root = os.fsencode(f"/{folder}")
        self.tree = FileTree(
            [root],
            Ledger(b"", ()),
            base=os.fsencode(mirror),
            prefix=root,
            selection=Selection(exclude=Patterns(_VOLATILE)),
            known=digests.load(cache),
            captured_ns=int(clock.now().timestamp() * 1_000_000_000),
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._problems + self.tree.problems

    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def stored(self) -> None:
        digests.save(self._cache, self.tree.learned)
