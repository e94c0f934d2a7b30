"""Restore: bring a recovery point back, from whichever vault has it whole."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cto_backups.core.facts import CopyFacts
from cto_backups.core.governance import Governed
from cto_backups.core.log_range import log_range
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.ports import Existing, IntoBuckets, PointReader, Restored, RestoreOptions, RestorePlan
from cto_backups.core.streams import Tail
from cto_backups.errors import (
    BackupsError,
    DamageError,
    KeyProblemError,
    NotFoundError,
    UsageError,
    VaultError,
)
from cto_backups.flows import perils
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation
from cto_backups.flows.pieces import tail_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class RestoreResult:
    """What was restored, from which vault; `healed` counts entries that were damaged there and came from another."""

    point: RecoveryPoint
    vault: str
    restored: Restored
    healed: int = 0
    vault_problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestorePreview:
    """What a restore would do: the dry run."""

    point: RecoveryPoint
    vault: str
    plan: RestorePlan


def select(
    installation: Installation, name: str, *, source: str | None, moment: datetime | None, within: bool = False
) -> RecoveryPoint:
    """The recovery point meant by an id (or a unique beginning of one), by `latest`, or by a moment.

    With `within`, a point that was made after the moment is meant too, where its log leads there. `latest` and moments
    need a source; where the policy has just one, it is meant. Raises NotFoundError, UsageError.
    """
    if moment is None and name != "latest":
        if name in installation.policy.sources and source is None:
            return select(installation, "latest", source=name, moment=None)
        return installation.catalog.point(name)
    source = source or _only_source(installation)
    installation.source_policy(source)
    if moment is None:
        point = installation.catalog.latest(source, complete=False)
    else:
        led = installation.catalog.leading_to(source, moment) if within else None
        point = led or installation.catalog.at(source, moment)
    if point is None:
        when = "" if moment is None else f" at or before {moment:%Y-%m-%d %H:%M:%S %Z}"
        raise NotFoundError(
            f"Source '{source}' has no recovery point{when}",
            todo=f"See 'cto.backups points {source}' for those there are.",
        )
    return point


@dataclass(frozen=True)
class Within:
    """How a point is brought to what is wanted: `tail` is put behind it, and recovery ends `at` a moment (None: at the
    end of the log). `note` says where that is not what was asked for.
    """

    tail: Tail | None
    at: datetime | None
    note: str = ""


def within(installation: Installation, point: RecoveryPoint, moment: datetime | None, vault: str | None) -> Within:
    """What it takes to bring a point to a moment that is not before it, or (None) to the newest state that is known.

    Never to a later one: where the end of what was streamed may be, the last mark before the moment is meant.
    """
    told = log_range(point)
    if moment is not None and told is not None and told[0] <= moment <= told[1]:
        return Within(None, moment)
    if moment is not None and told is not None and moment < told[0]:
        note = f"By the clock of its source, which differs from this machine's, this is of {told[0]:%H:%M:%S %Z}."
        return Within(None, None, note)
    tail = tail_of(installation, point, vault)
    if moment is None or tail is None:
        return Within(tail, None)
    if tail.mark is not None and moment <= tail.mark.moment:
        return Within(tail, moment)
    if tail.until is not None and tail.until <= moment:
        return Within(tail, None)
    meant = tail.mark.moment if tail.mark is not None else None
    last = f"{meant:%Y-%m-%d %H:%M:%S %Z}, the last that is marked before" if meant else "the point itself"
    note = f"What was committed by {moment:%H:%M:%S %Z} cannot be told apart from what came later: this is {last}."
    return Within(tail if meant else None, meant, note)


def _only_source(installation: Installation) -> str:
    names = sorted(installation.policy.sources)
    if len(names) == 1:
        return names[0]
    raise UsageError(
        "Which source?",
        why=f"'latest' and '--at' need one, and the policy has {len(names)}: {', '.join(names)}",
        todo="Name it with --source NAME, or in place of the recovery point.",
    )


def preview(
    installation: Installation,
    point: RecoveryPoint,
    destination: Path | None,
    *,
    only: Sequence[str] = (),
    existing: Existing = Existing.REFUSE,
    options: RestoreOptions | None = None,
    vault: str | None = None,
) -> RestorePreview:
    """What `restore` would write, without writing. With OVERWRITE, what stands there is compared."""
    options = perils.checked(installation, point, destination, options)
    _check_into(installation, point, options.into)
    source = installation.source(point.source)

    def plan(reader: PointReader) -> RestorePlan:
        return source.plan_restore(reader, destination, only=only, existing=existing, options=options)

    vault_name, planned, _ = from_any(installation, point, vault, plan)
    return RestorePreview(point, vault_name, planned)


def restore(
    installation: Installation,
    point: RecoveryPoint,
    destination: Path | None,
    *,
    only: Sequence[str] = (),
    existing: Existing = Existing.REFUSE,
    options: RestoreOptions | None = None,
    vault: str | None = None,
) -> RestoreResult:
    """Restore the point below `destination`, or in place when it is None.

    What is damaged in one vault, or is not reached there any more, is fetched from the others. Raises RefusedError
    before anything is written when files are there and `existing` does not say that they may be replaced;
    NotFoundError, VaultError, RestoreError, GovernanceError.
    """
    options = perils.checked(installation, point, destination, options)
    _check_into(installation, point, options.into)
    if over_data(destination, existing, options.into):
        _admit(installation, point, destination, only, existing, options, vault)
    return fetched(installation, point, destination, only=only, existing=existing, options=options, vault=vault)


def fetched(
    installation: Installation,
    point: RecoveryPoint,
    destination: Path | None,
    *,
    only: Sequence[str],
    existing: Existing,
    options: RestoreOptions,
    vault: str | None,
) -> RestoreResult:
    """What `restore` does, once it is known that it may."""
    source = installation.source(point.source)
    with installation.progress(f"Restoring {point.id}") as progress:

        def write(reader: PointReader) -> Restored:
            return source.restore(reader, destination, only=only, existing=existing, options=options, progress=progress)

        vault_name, restored, wrong = from_any(installation, point, vault, write)
    for problem in restored.problems:
        if problem.kind == "missing":
            wrong.setdefault(vault_name, problem.detail)
    lost = tuple(dict.fromkeys(problem.path for problem in restored.problems if problem.elsewhere))
    healed = 0
    options = replace(options, delete=False)  # of a part, nobody knows what is extraneous
    for facts in ordered(installation, point, vault):
        if not lost or facts.copy.vault == vault_name or facts.copy.vault in wrong:
            continue
        try:
            other = _open(installation, facts)
            again = source.restore(other, destination, only=lost, existing=Existing.OVERWRITE, options=options)
        except BackupsError as error:
            wrong[facts.copy.vault] = str(error)
            continue
        still = {problem.path for problem in again.problems}
        healed += sum(1 for path in lost if path not in still)
        left = tuple(problem for problem in restored.problems if problem.path not in lost)
        notes = dict.fromkeys((*restored.notes, *again.notes))
        restored = replace(restored, problems=(*left, *again.problems), notes=tuple(notes))
        lost = tuple(problem.path for problem in again.problems if problem.elsewhere)
    return RestoreResult(point, vault_name, restored, healed, troubles(wrong))


def over_data(destination: Path | None, existing: Existing, into: str = "") -> bool:
    """Whether a restore may replace or remove what is there: that is governed. `into`: see `RestoreOptions`."""
    return (destination is None and not into) or existing is Existing.OVERWRITE


def _check_into(installation: Installation, point: RecoveryPoint, into: str) -> None:
    """Raise UsageError for a source that has no objects, RefusedError for a place that cannot be meant."""
    if not into:
        return
    source = installation.source(point.source)
    if not isinstance(source, IntoBuckets):
        raise UsageError(
            f"Source '{point.source}' does not go into a bucket",
            why=f"it is of the kind {installation.source_policy(point.source).kind}; only objects of buckets do",
            todo="Restore --to FOLDER, and bring it there by other means.",
        )
    source.check_into(into)


def _admit(
    installation: Installation,
    point: RecoveryPoint,
    destination: Path | None,
    only: Sequence[str],
    existing: Existing,
    options: RestoreOptions | None,
    vault: str | None,
) -> None:
    parameters = {
        "point": point.id,
        "destination": (options.into if options else "") or _written(destination),
        "only": [os.fsencode(path).decode("utf-8", "backslashreplace") for path in only],
        "overwrite": existing is Existing.OVERWRITE,
        "delete": options is not None and options.delete,
        "vault": vault,
    }
    place = (options.into if options else "") or destination
    where = f"over what is in {place}" if place else "in place"
    admit(installation, Governed.RESTORE, parameters, summary=f"Restoring {point.id} {where}")


def _written(destination: Path | None) -> str | None:
    return None if destination is None else os.fsencode(destination).decode("utf-8", "backslashreplace")


def from_any(
    installation: Installation, point: RecoveryPoint, vault: str | None, use: Callable[[PointReader], Result]
) -> tuple[str, Result, dict[str, str]]:
    """What `use` makes of the first copy that can be read: from which vault, and what is wrong with those before it.

    `use` raises VaultError or DamageError only as long as it has not written anything.
    """
    errors: dict[str, BackupsError] = {}
    for facts in ordered(installation, point, vault):
        opened = False
        try:
            reader = _open(installation, facts)
            opened = True
            return facts.copy.vault, use(reader), {name: str(error) for name, error in errors.items()}
        except BackupsError as error:
            if vault is not None or (opened and not isinstance(error, VaultError | DamageError)):
                raise
            errors[facts.copy.vault] = error
    raise nowhere(f"Recovery point {point.id} cannot be read in any vault", errors)


def troubles(errors: Mapping[str, BackupsError | str]) -> tuple[str, ...]:
    """What went wrong in which vault, in words."""
    return tuple(f"{vault}: {error}" for vault, error in errors.items())


def nowhere(what: str, errors: Mapping[str, BackupsError]) -> BackupsError:
    """The error for what no vault gave, from the error of each vault that has a copy."""
    # A wrong key is a wrong key, and a vault that is away is away, however many there are: nothing is damaged then.
    found = list(errors.values())
    kinds: set[type[BackupsError]] = {type(error) for error in found}
    shared = kinds.pop() if len(kinds) == 1 else VaultError if kinds and all(map(_is_vault, found)) else DamageError
    return shared(
        what,
        why="; ".join(troubles(errors)) or "no vault holds a copy of it",
        todo=found[0].todo
        if found and isinstance(found[0], KeyProblemError)
        else "Bring a vault back, or choose another point: 'cto.backups points'.",
    )


def _is_vault(error: BackupsError) -> bool:
    return isinstance(error, VaultError)


def _open(installation: Installation, facts: CopyFacts) -> PointReader:
    installation.check_readable(facts.copy.vault)
    return installation.store(facts.copy.vault).reader(facts.copy.reference)


def ordered(installation: Installation, point: RecoveryPoint, vault: str | None) -> tuple[CopyFacts, ...]:
    """The point's copies, the best proven first, those with failed evidence last."""
    copies = installation.catalog.copies(point.id)
    if vault is not None:
        chosen = tuple(facts for facts in copies if facts.copy.vault == vault)
        if not chosen:
            held = ", ".join(facts.copy.vault for facts in copies) or "none"
            raise NotFoundError(
                f"Vault '{vault}' has no copy of {point.id}",
                why=f"vaults that have one: {held}",
                todo="Leave out --vault, or name one of these; 'cto.backups vault fill' brings a vault what it lacks.",
            )
        return chosen

    def doubt(facts: CopyFacts) -> tuple[bool, bool]:
        return (facts.read_passed is False or facts.test_passed is False, facts.test_passed is not True)

    return tuple(sorted(copies, key=doubt))
