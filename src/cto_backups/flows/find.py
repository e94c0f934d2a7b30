"""Find: in which recovery points a file is, through time; what is the same from one point to the next is not read."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cto_backups.core.model import Problem, RecoveryPoint
from cto_backups.core.payloads import Node
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import NotFoundError
from cto_backups.flows.browse import Browser, PointContents
from cto_backups.flows.installation import Installation
from cto_backups.repository.selection import Selection


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: a path or a shell pattern of `patterns`, of these kinds or of any, in points of this time."""

    patterns: tuple[str, ...]
    kinds: frozenset[EntryKind] = frozenset(EntryKind)
    since: datetime | None = None
    until: datetime | None = None

    def holds(self, point: RecoveryPoint) -> bool:
        """Whether a point is of the time asked for."""
        return (self.since is None or self.since <= point.captured_at) and (
            self.until is None or point.captured_at <= self.until
        )


@dataclass(slots=True)
class Version:
    """One content that a path had, with its size and its time, and the points that hold it, the newest first."""

    entry: Entry
    points: list[RecoveryPoint] = field(default_factory=list)


@dataclass(frozen=True)
class History:
    """The versions of one path of one source, the newest first."""

    source: str
    path: bytes
    versions: tuple[Version, ...]


@dataclass
class Findings:
    """What was found; `searched` points were looked into, `problems` are what could not be read, by point."""

    histories: list[History] = field(default_factory=list)
    searched: int = 0
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)


_Key = bytes
_Found = dict[bytes, tuple[_Key, Entry]]


def find(
    installation: Installation,
    wanted: Wanted,
    *,
    source: str | None = None,
    vault: str | None = None,
) -> Findings:
    """Every version of what is wanted, in the points of a source or of all. Raises NotFoundError without points."""
    points = [point for point in installation.catalog.points(source) if wanted.holds(point)]
    if vault is not None:
        installation.vault(vault)
        held = {copy.point for copy in installation.catalog.copies_in(vault)}
        points = [point for point in points if point.id in held]
    if not points:
        raise NotFoundError(
            "There is no recovery point to look into",
            why="none is of the source, the vault and the time asked for",
            todo="See 'cto.backups points' for those there are.",
        )
    browser, findings = Browser(installation, vault), Findings(searched=len(points))
    selection = Selection([_anywhere(pattern) for pattern in wanted.patterns])
    with installation.progress("Looking into recovery points") as progress:
        progress.total(entries=len(points), size_bytes=0)
        for name, group in _by_source(points).items():
            search = _Search(browser, selection, wanted.kinds, findings)
            for point in group:
                search.look_into(point)
                progress.advance(entries=1)
            findings.histories.extend(search.histories(name))
    return findings


def _anywhere(pattern: str) -> str:
    """A pattern without a folder fits that name in any folder."""
    return pattern if "/" in pattern else f"**/{pattern}"


def _by_source(points: Iterable[RecoveryPoint]) -> Mapping[str, Sequence[RecoveryPoint]]:
    groups: dict[str, list[RecoveryPoint]] = {}
    for point in points:
        groups.setdefault(point.source, []).append(point)
    return dict(sorted(groups.items()))


class _Search:
    """Looks into the points of one source, from the newest to the oldest."""

    def __init__(self, browser: Browser, selection: Selection, kinds: frozenset[EntryKind], findings: Findings) -> None:
        self._browser = browser
        self._selection = selection
        self._kinds = kinds
        self._findings = findings
        self._former: tuple[PointContents, _Found] | None = None
        self._versions: dict[bytes, dict[_Key, Version]] = {}

    def look_into(self, point: RecoveryPoint) -> None:
        """Note which versions a point holds; it is no newer than the one before."""
        contents = self._browser.point(point)
        found, same = self._changed(contents)
        if self._former is not None:
            former = self._former[1]
            found.update({path: former[path] for path in former if path not in found and _is_below(path, same)})
        for path, (key, entry) in found.items():
            self._versions.setdefault(path, {}).setdefault(key, Version(entry)).points.append(point)
        # What could not be read is no ground to stand on: another point may have it in another vault.
        self._former = None if contents.problems else (contents, found)
        if contents.problems:
            self._findings.problems[point.id] = contents.problems
        for vault, error in contents.errors.items():
            self._findings.unused.setdefault(vault, str(error))

    def _changed(self, contents: PointContents) -> tuple[_Found, set[bytes]]:
        """What is found in folders that are not as they were in the former point; and the paths of those that are."""
        found: _Found = {}
        same: set[bytes] = set()
        stack: list[tuple[bytes, Node, Node | None]] = [
            (b"", contents.root, self._former[0].root if self._former else None)
        ]
        while stack:
            path, node, before = stack.pop()
            if before is not None and before.subtree == node.subtree:
                same.add(path)
                continue
            known = self._former_folder(path, before)
            for one in contents.known(path, node):
                entry, inner = one.entry, path + b"/" + one.entry.name
                if entry.kind in self._kinds and self._selection.wants(inner):
                    found[inner] = _identity(one), entry
                if one.subtree is not None and self._selection.descends(inner):
                    stack.append((inner, one, known.get(entry.name)))
        return found, same

    def _former_folder(self, path: bytes, node: Node | None) -> dict[bytes, Node]:
        """The folders in a folder of the former point, whose problems are told already."""
        if self._former is None or node is None or node.subtree is None:
            return {}
        contents = self._former[0]
        told = len(contents.problems)
        inside = contents.known(path, node)
        del contents.problems[told:]
        return {one.entry.name: one for one in inside if one.subtree is not None}

    def histories(self, source: str) -> Iterator[History]:
        """What was found, by path."""
        for path in sorted(self._versions, key=_parts):
            yield History(source, path, tuple(self._versions[path].values()))


def _is_below(path: bytes, folders: set[bytes]) -> bool:
    while path:
        path = path.rpartition(b"/")[0]
        if path in folders:
            return True
    return False


def _identity(node: Node) -> _Key:
    """What tells two versions of a path apart: kind, content, size and time; a folder is not what is in it."""
    entry = node.entry
    told = (entry.kind, entry.size, entry.mtime_ns, entry.linktarget, entry.device, *node.content)
    return hashlib.sha256(repr(told).encode()).digest()[:16]


def _parts(path: bytes) -> list[bytes]:
    return path.split(b"/")
