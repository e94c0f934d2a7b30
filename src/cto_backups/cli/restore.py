"""`restore`: bring a recovery point back, elsewhere or in place."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.options import attended
from cto_backups.cli.restore_database import DatabaseAsked, has_history, restore_database
from cto_backups.cli.restored import as_document, came_back, problem_of
from cto_backups.cli.screen import Screen
from cto_backups.cli.selecting import likely_vault, meant_moment, select_moment
from cto_backups.errors import ExitStatus, RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cto_backups.core.model import RecoveryPoint
    from cto_backups.core.policy import Policy
    from cto_backups.core.ports import Existing, Restored, RestoreOptions, RestorePlan
    from cto_backups.core.streams import Tail
    from cto_backups.flows.installation import Installation
    from cto_backups.flows.restore import RestorePreview, RestoreResult

_SHOWN = 20
_BUCKETS = ("gs://", "s3://")


@dataclass(frozen=True)
class Wish:
    """What is asked for; `destination` None means in place, or `into` a bucket, or beside: under another name."""

    destination: Path | None
    only: tuple[str, ...]
    vault: str | None
    overwrite: bool
    yes: bool
    trust_times: bool
    patch: bool
    verify: bool
    delete: bool
    at: "datetime | None" = None
    tail: "Tail | None" = None
    is_beside: bool = False
    meant: "datetime | None" = None
    into: str = ""

    @property
    def is_in_place(self) -> bool:
        """Whether it goes back to where the data came from."""
        return self.destination is None and not self.is_beside and not self.into

    @property
    def existing(self) -> "Existing":
        """What becomes of what is there."""
        from cto_backups.core.ports import Existing

        return Existing.OVERWRITE if self.overwrite else Existing.REFUSE

    @property
    def options(self) -> "RestoreOptions":
        """How files are restored."""
        from cto_backups.core.ports import RestoreOptions

        return RestoreOptions(
            trust_times=self.trust_times,
            patch=self.patch,
            verify=self.verify,
            delete=self.delete,
            at=self.at,
            tail=self.tail,
            into=self.into,
        )

    def writes(self, *, dry_run: bool) -> "Callable[[Policy], bool]":
        """Whether, by a policy, what it does is signed in the catalog: what governance asks for a restore over data."""

        def governed(policy: "Policy") -> bool:
            from cto_backups.core.governance import Governed

            rules = policy.governance
            over_data = (self.is_in_place or self.overwrite) and not (dry_run or self.is_beside)
            return bool(
                over_data and rules and (rules.approved_by(Governed.RESTORE) or rules.governing(Governed.RESTORE))
            )

        return governed


@command
def restore(
    screen: Screen,
    point: Annotated[
        str,
        typer.Argument(metavar="POINT|latest|SOURCE", help="A recovery point's id, or a source for its newest point."),
    ] = "latest",
    source: Annotated[
        str, typer.Option("--source", metavar="SOURCE", help="Whose newest point, or point in time.")
    ] = "",
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="TIME",
            help="This moment, where a log leads to it, or else the newest point before: "
            "'2026-11-23 10:00', 'yesterday', '2 hours ago'; in the policy's time zone.",
        ),
    ] = "",
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FOLDER|URL",
            help="Restore below this folder; objects of a bucket also into another one: gs://BUCKET/PREFIX.",
        ),
    ] = "",
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Restore to where the data came from; asks first.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATH", help="Only this path or shell pattern; may be repeated."),
    ] = None,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            metavar="NAME",
            help="One database of a server: into the server under another name, unless --to or --in-place is given.",
        ),
    ] = "",
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="SCHEMA.TABLE", help="With --database: only this table; may be repeated."),
    ] = None,
    as_name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="With --database: what it is to be called in the server.")
    ] = "",
    vault: Annotated[str, typer.Option("--vault", metavar="NAME", help="From this vault only.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there and differs; leave alone what does not.")
    ] = False,
    trust_times: Annotated[
        bool, typer.Option("--trust-times", help="With --overwrite: same size and time means same; read no content.")
    ] = False,
    patch: Annotated[
        bool, typer.Option("--patch", help="With --overwrite: rewrite large files where they stand, by parts.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Afterwards read everything back and compare.")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="With --overwrite: remove what the point does not have from its folders.")
    ] = False,
    limit_bandwidth: Annotated[
        bool,
        typer.Option("--limit-bandwidth", help="Keep to the vaults' bandwidth limits; else it takes all there is."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be written and removed; do nothing.")
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", help="Do not ask before restoring in place, or with --delete into '/', homes, mounts."
        ),
    ] = False,
) -> ExitStatus:
    """Restore a recovery point, elsewhere (--to) or in place (--in-place); or one --database, beside the one there.

    Nothing that exists is replaced without --overwrite, and with it only what differs. What is damaged in one vault is
    taken from another.
    """
    asked = DatabaseAsked(database, tuple(table or ()), as_name)
    if asked:
        given = {"--only": only, "--trust-times": trust_times, "--patch": patch, "--delete": delete}
        asked.check(
            to=Path(to) if to else None,
            in_place=in_place,
            verify=verify,
            others={option: bool(value) for option, value in given.items()},
        )
    elif bool(to) == in_place:
        raise UsageError(
            "--to and --in-place exclude each other" if to else "Restore to where?",
            why="a restore goes to one place" if to else "neither --to nor --in-place is given",
            todo="Add --to FOLDER to restore elsewhere, or --in-place to restore to where the data came from.",
        )
    into = to.rstrip("/") if to.startswith(_BUCKETS) else ""
    if to and not into and Path(to).exists() and not Path(to).is_dir():
        raise UsageError(f"{to} is not a folder", todo="Name a folder after --to; one that is not there yet is made.")
    if (trust_times or patch or delete) and not overwrite:
        raise UsageError(
            f"{'--trust-times' if trust_times else '--patch' if patch else '--delete'} needs --overwrite",
            why="it says how to treat what is there already",
            todo="Add --overwrite, or leave it out.",
        )
    place = Path(to).absolute() if to and not into else None
    wish = Wish(place, tuple(only or ()), vault or None, overwrite, yes, trust_times, patch, verify, delete)
    wish = replace(wish, is_beside=not to and not in_place, into=into)
    # A restore changes no fact: the catalog is only read, unless somebody has to approve it.
    with opened(
        screen,
        write=wish.writes(dry_run=dry_run),
        ahead=lambda policy: vault or likely_vault(policy, source or point),
        in_haste=not limit_bandwidth,
    ) as opening:
        installation = opening.installation
        found, meant = select_moment(installation, point, source=source, at=at, vault=vault)
        moment, tail = meant.at, meant.tail
        wish = replace(wish, at=moment, tail=tail, meant=meant_moment(installation, at) if at else None)
        if meant.note:
            screen.note(meant.note)
        if moment is not None:
            log = "the log that was streamed after it" if tail is not None else "whose log"
            screen.note(f"Within {found.id}, {log} leads to {moment:%Y-%m-%d %H:%M:%S %Z}.")
        elif tail is not None and dry_run:
            until = f" (until {tail.mark.moment:%Y-%m-%d %H:%M:%S %Z}, at least)" if tail.mark else ""
            screen.note(f"With {figures.size(tail.ends - tail.begins)} of log that were streamed since{until}.")
        elif at and tail is None and not meant.note and not (asked and has_history(installation, found)):
            from cto_backups.cli.distance import distance

            screen.note(distance(installation, found, meant_moment(installation, at), screen.zone))
        if not found.complete:
            screen.note(f"{found.id} is incomplete: {len(found.problems)} of it could not be captured.")
        if asked:
            return restore_database(screen, installation, found, asked, wish, dry_run=dry_run)
        if dry_run:
            return _preview(screen, installation, found, wish)
        return _restore(screen, installation, found, wish)


def _planned(installation: "Installation", point: "RecoveryPoint", wish: Wish) -> "RestorePreview":
    from cto_backups.flows.restore import preview

    return preview(
        installation,
        point,
        wish.destination,
        only=wish.only,
        existing=wish.existing,
        options=wish.options,
        vault=wish.vault,
    )


def _preview(screen: Screen, installation: "Installation", point: "RecoveryPoint", wish: Wish) -> ExitStatus:
    seen = _planned(installation, point, wish)
    plan = seen.plan
    refused = bool(plan.conflicts) and not wish.overwrite
    screen.document(
        {
            "dry_run": True,
            "point": documents.point(point),
            "vault": seen.vault,
            "destination": wish.into or str(plan.destination),
            "entries": plan.entries,
            "size_bytes": plan.size_bytes,
            "kept_entries": plan.kept_entries,
            "kept_bytes": plan.kept_bytes,
            "deleted_entries": plan.deleted_entries,
            "deleted_bytes": plan.deleted_bytes,
            "extraneous": list(plan.extraneous),
            "conflicts": list(plan.conflicts),
            "would_be_refused": refused,
            "notes": list(plan.notes),
        }
    )
    screen.show(f"Would restore {_what(screen, point)} from {seen.vault}:")
    screen.show(
        f"  {figures.entries(plan.entries)}, {figures.size(plan.size_bytes)}, to {wish.into or plan.destination}"
    )
    if wish.overwrite:
        screen.show(f"  {_kept(plan)} there already as they should: left alone")
    for note in plan.notes:
        screen.show(f"  {note}")
    if plan.conflicts:
        screen.show(f"  {_conflicts(seen)} {'would be replaced' if wish.overwrite else 'there already'}:")
        _show_some(screen, plan.conflicts)
    if plan.extraneous:
        screen.show(f"  {_deleted(plan)} not in the recovery point would be removed:")
        _show_some(screen, plan.extraneous)
    elif wish.delete:
        screen.show("  nothing would be removed")
    screen.show("Without --overwrite this would be refused." if refused else "Nothing was written.")
    return ExitStatus.SUCCESS


def _show_some(screen: Screen, paths: "Sequence[str]") -> None:
    for path in paths[:_SHOWN]:
        screen.show(f"    {path}")
    if len(paths) > _SHOWN:
        screen.show(f"    … and {len(paths) - _SHOWN} more")


def _deleted(what: "RestorePlan | Restored") -> str:
    return f"{figures.entries(what.deleted_entries)} ({figures.size(what.deleted_bytes)})"


def _kept(what: "RestorePlan | Restored") -> str:
    return f"{figures.entries(what.kept_entries)} and {figures.size(what.kept_bytes)} of it are"


def _conflicts(seen: "RestorePreview") -> str:
    number = len(seen.plan.conflicts)
    return f"{figures.count(number)} file{'' if number == 1 else 's'}"


def _restore(screen: Screen, installation: "Installation", point: "RecoveryPoint", wish: Wish) -> ExitStatus:
    from cto_backups.flows.perils import peril
    from cto_backups.flows.restore import restore

    danger = peril(wish.destination) if wish.delete and wish.destination is not None else None
    if not wish.yes and (wish.is_in_place or danger or (wish.into and wish.delete)):
        _ask(screen, installation, point, wish, danger)
    with watched(installation, point.source):
        result = restore(
            installation,
            point,
            wish.destination,
            only=wish.only,
            existing=wish.existing,
            options=wish.options,
            vault=wish.vault,
        )
    problem = problem_of(result, wish.vault)
    status = problem.exit_status if problem else ExitStatus.SUCCESS
    screen.document(as_document(result, status))
    _tell(screen, result, wish)
    if problem:
        screen.problem(problem)
    return status


def watched(installation: "Installation", source: str) -> "AbstractContextManager[None]":
    """Somebody is told when it takes longer than its RTO, where the policy says whom."""
    if not installation.policy.alerts.people:
        return nullcontext()
    from cto_backups.flows.escalate import watched_recovery

    return watched_recovery(installation, source)


def _ask(screen: Screen, installation: "Installation", point: "RecoveryPoint", wish: Wish, danger: str | None) -> None:
    where = f"into {wish.into or wish.destination} with --delete" if danger or wish.into else "in place"
    if screen.options.json or not attended():
        raise RefusedError(
            f"Restoring {point.id} {where} needs a yes",
            why=f"{f'{danger}, and ' if danger else ''}nobody is at the terminal to be asked",
            todo=f"Add --yes if it is meant, or --to {'another FOLDER' if danger else 'FOLDER to restore elsewhere'}.",
        )
    seen = _planned(installation, point, wish)
    plan = seen.plan
    screen.note(f"This restores {_what(screen, point)} {where}, from {seen.vault}:")
    screen.note(f"  {figures.entries(plan.entries)}, {figures.size(plan.size_bytes)}, to {plan.destination}")
    if plan.conflicts:
        fate = "will be replaced" if wish.overwrite else "there already: without --overwrite this will be refused"
        screen.note(f"  {_conflicts(seen)} {fate}")
    if plan.extraneous:
        screen.note(f"  {_deleted(plan)} not in the recovery point will be removed, as --dry-run lists")
    if danger:
        screen.note(f"  {danger}")
    for note in plan.notes:
        screen.note(f"  {note}")
    if not typer.confirm(f"Restore {where}?", err=True):
        raise RefusedError(f"{point.id} was not restored", why="you said no", todo="Nothing was changed.")


def _what(screen: Screen, point: "RecoveryPoint") -> str:
    return f"{point.id} (of {screen.moment(point.captured_at)})"


def _tell(screen: Screen, result: "RestoreResult", wish: Wish) -> None:
    restored = result.restored
    if came_back(restored):
        screen.show(f"Restored {_what(screen, result.point)} from {result.vault}.")
        speed = figures.rate(restored.size_bytes, restored.seconds)
        screen.show(
            f"  {figures.entries(restored.entries)}, {figures.size(restored.size_bytes)} "
            f"in {figures.duration(restored.seconds)}{f' ({speed})' if speed else ''}"
        )
    if wish.overwrite:
        screen.show(f"  {_kept(restored)} as they stood there")
    if wish.delete:
        screen.show(f"  {_deleted(restored)} not in the recovery point removed")
    if wish.verify and not any(problem.kind == "altered" for problem in restored.problems):
        screen.show("  read back from the disk: all that was restored is as the recovery point has it")
    for place in restored.places if came_back(restored) else ():
        screen.show(f"  {place}")
    for note in restored.notes:
        screen.note(note)
    if result.healed:
        screen.note(f"{result.healed} damaged in {result.vault} came from another vault.")
    for trouble in result.vault_problems:
        screen.note(f"Not used: {trouble}")
