"""How another program's repositories keep a point: the backup from which recovery begins, and the log up to its end."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cto_backups import clock
from cto_backups.core.duration import format_duration
from cto_backups.core.elsewhere import Elsewhere, Keeping
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.elsewhere.program import Program, Words, refused
from cto_backups.sources.elsewhere.standing import Backup, Repository, gap, needed
from cto_backups.sources.postgresql.point import Moments

_LONGEST_BACKUP: Final = timedelta(days=1)
_FIRST_LOOK_SECONDS: Final = 0.1
_LAST_LOOK_SECONDS: Final = 5.0
_OUT_OF_ORDER_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Wanted:
    """What policy says: of which source, how old the newest backup may be, how long the archive may take.

    For `sums_every` what was summed up serves also when there are newer backups; None: for none of them.
    """

    source: str
    backup_every: timedelta | None
    archive_seconds: float
    sums_every: timedelta | None = None


def usable(words: Words, source: str, repositories: Sequence[Repository]) -> list[Repository]:
    """The repositories from which something can be restored. Raises SourceError when there is none."""
    found = [repository for repository in repositories if not repository.trouble]
    if not found:
        why = "; ".join(f"{each.name}: {each.trouble}" for each in repositories) or "its settings name none"
        raise SourceError(
            f"source {source}: no repository of {words.title} holds a backup of {words.subject}",
            why=why,
            todo=f"see that it can be reached, that `{words.setting}` is right, and that '{words.backup}' runs",
        )
    return found


def start(repository: Repository, moments: Moments) -> Backup | None:
    """The backup from which recovery to all of these moments begins: one of the same server."""
    if repository.system != moments.system:
        return None
    first = min(moments.databases.values(), default=moments.target)
    return repository.newest(timeline=moments.timeline, ends_by=first)


def kept(
    program: Program, repositories: Sequence[Repository], moments: Moments, segment_bytes: int, wanted: Wanted
) -> Elsewhere:
    """How each repository keeps the point, once the archives have its log, or do not get it. Raises SourceError."""
    began, pause = clock.monotonic(), _FIRST_LOOK_SECONDS
    last = needed(moments.timeline, moments.ends - 1, moments.ends, segment_bytes)[-1]
    able = {each.name: each for each in repositories if not each.trouble}
    while True:
        archived = {name: _archived(program, each, wanted.source) for name, each in able.items()}
        waiting = [name for name, each in able.items() if _gap(each, moments, segment_bytes, archived[name])]
        waited = clock.monotonic() - began
        # What is missing although what follows it is there does not come any more.
        settled = waited > _OUT_OF_ORDER_SECONDS and all(last in archived[name] for name in waiting)
        if not waiting or settled or waited > wanted.archive_seconds:
            break
        clock.sleep(pause)
        pause = min(2 * pause, _LAST_LOOK_SECONDS)
    keeping = tuple(
        _keeping(program, each, moments, segment_bytes, archived.get(each.name, frozenset()), wanted)
        for each in repositories
    )
    starts = [found for each in repositories if (found := start(each, moments))]
    return Elsewhere(program.words.title, max((found.size_bytes for found in starts), default=0), keeping)


def _archived(program: Program, repository: Repository, source: str) -> Collection[str]:
    try:
        return program.archived(repository)
    except ToolError as error:
        raise refused(program.words, source, f"the archive in {repository.name} cannot be listed", error) from error


def _gap(repository: Repository, moments: Moments, segment_bytes: int, archived: Collection[str]) -> str:
    """What is missing of the log that leads from a repository's backup to the moments, if it has one."""
    begin = start(repository, moments)
    return gap(needed(moments.timeline, begin.begins, moments.ends, segment_bytes), archived) if begin else ""


def _keeping(
    program: Program,
    repository: Repository,
    moments: Moments,
    segment_bytes: int,
    archived: Collection[str],
    wanted: Wanted,
) -> Keeping:
    if repository.trouble:
        return Keeping(repository.name, lacks=repository.trouble, cipher=repository.cipher)
    if repository.system != moments.system:
        other = f"its backups are of another server, system {repository.system}"
        return Keeping(repository.name, lacks=other, cipher=repository.cipher)
    begin = start(repository, moments)
    lacks = _gap(repository, moments, segment_bytes, archived)
    if begin is None:
        newest = repository.backups[-1]
        lacks = f"its newest backup, {newest.label}, is of timeline {newest.timeline}, and not of {moments.timeline}"
        if newest.timeline == moments.timeline:
            lacks = f"its newest backup, {newest.label}, ended later, and none leads there"
    damage = ""
    if begin is not None and begin.damaged:
        damage = f"as backup {begin.label} was made, pages with wrong checksums were found"
    remarks = _remarks(program, repository, segment_bytes, archived, wanted)
    label = begin.label if begin is not None else ""
    return Keeping(repository.name, lacks, damage, "; ".join(remarks), repository.cipher, label)


def _remarks(
    program: Program, repository: Repository, segment_bytes: int, archived: Collection[str], wanted: Wanted
) -> Iterator[str]:
    newest = repository.backups[-1]
    if wanted.backup_every is not None and clock.now() - newest.stopped_at > wanted.backup_every:
        every = format_duration(wanted.backup_every)
        ended = f"its newest backup, {newest.label}, ended at {newest.stopped_at:%Y-%m-%d %H:%M UTC}"
        yield f"{ended}; policy expects one every {every}"
    for backup in repository.backups:
        own = needed(backup.timeline, backup.begins, backup.ends, segment_bytes)
        if lost := gap(own, archived):
            yield f"backup {backup.label} does not come back: {lost}"
    try:
        label = program.unfinished(repository, clock.now() - _LONGEST_BACKUP)
    except ToolError as error:
        what = f"the backups in {repository.name} cannot be listed"
        raise refused(program.words, wanted.source, what, error) from error
    if label:
        yield f"backup {label} was begun, and never ended"
