"""`find`: in which recovery points a file is, through time."""

import os
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, entries, figures
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, utc
from cto_backups.errors import ExitStatus, NotFoundError, UsageError

if TYPE_CHECKING:
    from cto_backups.core.trees import EntryKind
    from cto_backups.flows.find import Findings, History, Version
    from cto_backups.flows.installation import Installation


@command
def find(
    screen: Screen,
    patterns: Annotated[
        list[str], typer.Argument(metavar="PATTERN", help="A name or a pattern ('*.pdf'), or a whole path.")
    ],
    source: Annotated[str, typer.Option("--source", metavar="SOURCE", help="Only in the points of this source.")] = "",
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Only in points of this moment or after: 'yesterday'.")
    ] = "",
    until: Annotated[
        str,
        typer.Option("--until", metavar="TIME", help="Only in points of this moment or before."),
    ] = "",
    kind: Annotated[
        str, typer.Option("--type", metavar="KIND", help="Only this kind: file, folder, symlink or other.")
    ] = "",
    vault: Annotated[str, typer.Option("--vault", metavar="NAME", help="Read the copies in this vault only.")] = "",
) -> ExitStatus:
    """Find files in all recovery points: every version of each path, and the points that hold it, the newest first.

    What did not change from one point to the next is not read again.
    """
    with opened(screen, write=False) as opening:
        from cto_backups.flows.find import Wanted, find

        installation = opening.installation
        if source:
            installation.source_policy(source)
        times = _moment(installation, since, begin=True), _moment(installation, until, begin=False)
        wanted = Wanted(tuple(patterns), _kinds(kind), *times)
        findings = find(installation, wanted, source=source or None, vault=vault or None)
        unread = entries.unread(
            [f"{one.path} in {point} ({one.detail})" for point, found in findings.problems.items() for one in found]
        )
        status = unread.exit_status if unread else ExitStatus.SUCCESS
        if not findings.histories and not unread:
            quoted = ", ".join(f"'{pattern}'" for pattern in patterns)
            raise NotFoundError(
                f"Nothing in {findings.searched} recovery points matches {quoted}",
                why="a name without '/' is looked for in every folder, a path from the root",
                todo="Try a pattern such as '*report*', or see 'cto.backups ls POINT'.",
            )
        screen.document(_document(findings, status))
        if screen.talks:
            _show(screen, findings)
        if unread:
            screen.problem(unread)
        return status


def _kinds(kind: str) -> "frozenset[EntryKind]":
    from cto_backups.core.trees import EntryKind

    main = {"file": EntryKind.FILE, "folder": EntryKind.FOLDER, "symlink": EntryKind.SYMLINK}
    if not kind:
        return frozenset(EntryKind)
    if kind == "other":
        return frozenset(EntryKind) - frozenset(main.values())
    if kind not in main:
        raise UsageError(f"There is no type '{kind}'", todo="Use one of: file, folder, symlink, other.")
    return frozenset({main[kind]})


def _moment(installation: "Installation", text: str, *, begin: bool) -> datetime | None:
    from zoneinfo import ZoneInfo

    from cto_backups import clock
    from cto_backups.cli.moments import parse_moment

    if not text:
        return None
    return parse_moment(text, now=clock.now(), zone=ZoneInfo(installation.policy.timezone), begin=begin)


def _show(screen: Screen, findings: "Findings") -> None:
    for history in findings.histories:
        newest = history.versions[0].entry
        screen.line_of_many(f"{entries.labelled(history.path, newest)} ({history.source})")
        for version in history.versions:
            number = len(version.points)
            held = f"in {figures.count(number)} point{'' if number == 1 else 's'}"
            screen.line_of_many(f"  {entries.line(screen, held, version.entry, long=False)}")
            for point in version.points[:1] + version.points[1:][-1:]:
                screen.line_of_many(f"            {point.id}  {screen.moment(point.captured_at)}")
    paths = len(findings.histories)
    screen.show(
        f"{figures.count(paths)} path{'' if paths == 1 else 's'} in {figures.count(findings.searched)} recovery "
        f"point{'' if findings.searched == 1 else 's'}."
    )
    for vault, trouble in findings.unused.items():
        screen.note(f"Taken from another vault: {vault}: {trouble}")


def _document(findings: "Findings", status: ExitStatus) -> documents.Document:
    return {
        "status": int(status),
        "searched": findings.searched,
        "paths": [_history(history) for history in findings.histories],
        "problems": [
            {"point": point, **problem}
            for point, problems in findings.problems.items()
            for problem in documents.problems(problems)
        ],
        "vault_problems": [f"{vault}: {trouble}" for vault, trouble in findings.unused.items()],
    }


def _history(history: "History") -> documents.Document:
    return {
        "source": history.source,
        "path": os.fsdecode(history.path),
        "versions": [_version(history.path, version) for version in history.versions],
    }


def _version(path: bytes, version: "Version") -> documents.Document:
    described = entries.document(path, version.entry)
    del described["path"]
    held = [{"id": point.id, "captured_at": utc(point.captured_at)} for point in version.points]
    return {**described, "points": held}
