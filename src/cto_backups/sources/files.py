# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH110, PTH112, PTH113, PTH114
"""Files and folders of this machine."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Problem, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.trees import EntryKind
from cto_backups.core.watched import Place
from cto_backups.errors import SourceError
from cto_backups.sources import digests
from cto_backups.sources.ledger import Ledger, sample_key
from cto_backups.sources.left_out import leaving
from cto_backups.sources.moments import moment
from cto_backups.sources.names import readable
from cto_backups.sources.options import flag, texts
from cto_backups.sources.patterns import Patterns
from cto_backups.sources.selection import Selection
from cto_backups.sources.tree import FileTree


class FilesSource:
    """Implements `core.ports.Source` for files and folders.

    Options: `paths` (absolute), `exclude` and `include` (see `sources.patterns`; with `include`, only files that it
    names or that lie in a folder it names), `one_file_system`, `exclude_caches` (skip what a CACHEDIR.TAG marks).
    A path that is a symbolic link is kept as a link, and what it points to is kept under its own path.
    `state` is a folder that this product may write to; this source uses ``sources/<name>`` in it.
    """

    kind = "files"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._paths = texts(options, "paths")
        self._selection = Selection(
            exclude=Patterns(texts(options, "exclude")),
            include=Patterns(texts(options, "include")),
            one_file_system=flag(options, "one_file_system"),
            exclude_caches=flag(options, "exclude_caches"),
        )
        self._cache = state / "sources" / name / "digests"

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The configured paths that are there; sizes of files only, since a folder's size is not known cheaply."""
        roots, _ = self._roots()
        return [self._resource(root) for root in roots]

    def places(self) -> Sequence[Place]:
        """Each path that is there, with all below it. Raises SourceError when one is not."""
        roots, missing = self._roots()
        if missing:
            raise SourceError(
                f"source {self.name}: not all of its paths are there",
                why="; ".join(f"{problem.path}: {problem.detail}" for problem in missing),
            )
        return [self._watched(root) for root in roots]

    def _watched(self, root: bytes) -> Place:
        if os.path.islink(root) or not os.path.isdir(root or b"/"):
            folder, _, name = root.rpartition(b"/")
            return Place(folder, names=frozenset({name}))
        return Place(
            root,
            below=True,
            leaves=self._selection.exclude.match,
            one_file_system=self._selection.one_file_system,
        )

    @contextmanager
    def capture(self, limit: Limit = UNLIMITED) -> Iterator[Capture]:
        """The files as they are now. Raises SourceError when no path is there or none can be read."""
        captured_at = clock.now()
        roots, missing = self._roots()
        self._refuse_unreadable(roots)
        yield _FilesCapture(self.name, roots, missing, self._selection, self._cache, captured_at)

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
        return reader.plan(
            destination or Path("/"),
            only=only or self._in_place(reader, destination),
            existing=existing,
            options=self._sparing(options, destination),
        )

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
        """Write the files below `destination`, or where they came from."""
        only = only or self._in_place(reader, destination)
        options = self._sparing(options, destination)
        return reader.restore(
            destination or Path("/"), only=only, existing=existing, options=options, progress=progress
        )

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Read every restored file and fingerprint what is there, by nothing but the restored bytes."""
        ledger = Ledger.like(expected)
        FileTree([b""], ledger, base=os.fsencode(restored)).walk()
        return ledger.fingerprint()

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Parts of a fingerprint that cannot come out the same here, and why."""
        if os.geteuid() == 0 or "ownership" not in expected.checksums:
            return {}
        return {"ownership": "only root can give restored files back to their owners"}

    def _in_place(self, reader: PointReader, destination: Path | None) -> tuple[str, ...]:
        """What to restore in place: the configured paths, and not the attributes of the folders above them.

        Those are others' business, unless they are gone. Where the point holds more than the paths configured today,
        all of it is meant.
        """
        if destination is not None:
            return ()
        roots = {os.fsdecode(_place(text) or b"/") for text in self._paths}
        beginnings = tuple(root.rstrip("/") + "/" for root in roots)
        for path, entry in reader.listing():
            text = os.fsdecode(path)
            if text in roots or text.startswith(beginnings):
                continue
            above = any(beginning.startswith(text + "/") for beginning in beginnings)
            if entry.kind is not EntryKind.FOLDER or not above or not os.path.isdir(path):
                return ()
        return tuple(sorted(roots))

    def _sparing(self, options: RestoreOptions | None, destination: Path | None) -> RestoreOptions | None:
        """With `delete`, also leave what this source never captures: it is in no recovery point, and no less wanted."""
        if options is None or not options.delete:
            return options
        base = os.path.realpath(os.fsencode(destination or b"/")).rstrip(b"/")
        roots = [_place(text) for text in self._paths]
        within = tuple(root + b"/" for one in roots for root in {one, os.path.realpath(one or b"/").rstrip(b"/")})
        left_out, asked = leaving(self._selection, base, within), options.leave
        if asked is None:
            return replace(options, leave=left_out)
        return replace(options, leave=lambda path, folder: asked(path, folder) or left_out(path, folder))

    def _roots(self) -> tuple[list[bytes], tuple[Problem, ...]]:
        """The configured paths that are there, without what lies below another anyway; problems for the others."""
        roots: set[bytes] = set()
        problems: list[Problem] = []
        for text in self._paths:
            path = os.path.normpath(os.fsencode(text))
            place = _place(text)
            try:
                os.lstat(place or b"/")
            except OSError as error:
                kind = "permission" if error.errno == errno.EACCES else "vanished"
                problems.append(Problem(readable(path), kind, os.strerror(error.errno or 0)))
                continue
            roots.add(place)
            if os.path.islink(place) and os.path.exists(place):
                roots.add(os.path.realpath(place).rstrip(b"/"))
        if not roots:
            listed = ", ".join(problem.path for problem in problems) or "no path is configured"
            raise SourceError(
                f"source {self.name}: nothing to back up",
                why=f"none of its paths is there ({listed})",
                todo="mount what is not mounted, or correct `paths` of this source in the policy",
            )
        return sorted(roots), tuple(problems)

    def _refuse_unreadable(self, roots: Sequence[bytes]) -> None:
        reasons: list[str] = []
        for root in roots:
            try:
                if os.path.islink(root):
                    return
                if os.path.isdir(root or b"/"):
                    os.scandir(root or b"/").close()
                elif os.path.isfile(root):
                    os.close(os.open(root, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError as error:
                reasons.append(f"{readable(root)}: {os.strerror(error.errno or 0)}")
            else:
                return
        raise SourceError(
            f"source {self.name}: none of its paths can be read",
            why="; ".join(reasons),
            todo="run as a user who may read them, or give that right to this one",
        )

    def _resource(self, root: bytes) -> Resource:
        path = readable(root or b"/")
        if os.path.islink(root) or not os.path.isfile(root):
            return Resource(name=f"files:{path}", kind="files", location=path)
        status = os.lstat(root)
        return Resource(f"files:{path}", "files", path, status.st_size, moment(status.st_ctime_ns))


def _place(path: str) -> bytes:
    """Where a configured path really is: links on the way are followed, the path itself is not; empty for ``/``."""
    parent, _, name = os.path.normpath(os.fsencode(path)).rpartition(b"/")
    return os.path.realpath(parent or b"/").rstrip(b"/") + b"/" + name if name else b""


class _FilesCapture:
    """Implements `core.ports.Capture`: files have no common moment, `captured_at` is when reading began."""

    staged = False

    def __init__(
        self,
        name: str,
        roots: Sequence[bytes],
        missing: tuple[Problem, ...],
        selection: Selection,
        cache: Path,
        captured_at: datetime,
    ) -> None:
        self.captured_at = captured_at
        self.paths = tuple(readable(root or b"/") for root in roots)
        self.notes: tuple[str, ...] = ()
        self._missing = missing
        self._cache = cache
        self._ledger = Ledger(sample_key(name), roots)
        self.tree = FileTree(
            roots,
            self._ledger,
            selection=selection,
            known=digests.load(cache),
            captured_ns=int(captured_at.timestamp() * 1_000_000_000),
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._missing + self.tree.problems

    @property
    def newest_content_at(self) -> datetime | None:
        return self.tree.newest_content.by(self.captured_at)

    def fingerprint(self) -> Fingerprint:
        return self._ledger.fingerprint()

    def stored(self) -> None:
        digests.save(self._cache, self.tree.learned)
