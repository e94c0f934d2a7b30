"""Backup: capture a source's moment into its first vault, and catalogue it only when it is safe there.

The commit order is what makes `kill -9` harmless: packs, index, snapshot (repository), signed records in the chain,
records and policy in the vault, and last the rows in the catalog. Whatever is missing is planned again.
"""

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from cto_backups import clock
from cto_backups.core.elsewhere import told
from cto_backups.core.log_range import log_range
from cto_backups.core.model import ActionKind, Copy, Outcome, RecoveryPoint, Rung
from cto_backups.core.payloads import Draft, PayloadStore, SnapshotLabel
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.ports import Capture, Recognising, Remarking, Source
from cto_backups.core.trees import ArrivingTree
from cto_backups.core.wording import listed
from cto_backups.errors import BackupsError, DamageError, KeyProblemError, RefusedError, SourceError, VaultError
from cto_backups.evidence.payloads import copy_to_payload, point_to_payload
from cto_backups.flows import anomaly, records
from cto_backups.flows.emptied import empty, refuse_emptied
from cto_backups.flows.installation import Installation
from cto_backups.flows.limit import giving, limited
from cto_backups.flows.own_commands import between_hooks
from cto_backups.flows.runs import OpenRun, note_ways, recorded

ON_DEMAND_KEPT = timedelta(days=90)


@dataclass(frozen=True)
class BackupResult:
    """What a backup did. `changed` false: the source still equals `point`, which is confirmed as fresh.

    `notes` are sentences of the source on what it captured. `after_failed`: what the command after it failed with.
    """

    source: str
    point: RecoveryPoint
    changed: bool
    vault: str
    draft: Draft
    seconds: float
    vault_problems: dict[str, BackupsError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    after_failed: SourceError | None = None


def backup(installation: Installation, source_name: str, *, label: str | None = None) -> BackupResult:
    """Capture one source into the first of its vaults that can take it.

    `label` says why the point is made by hand ("before schema migration 42"); it is then kept at least 90 days and
    made even when nothing changed. Raises SourceError when nothing could be captured, VaultError when no vault could
    take it, BusyError when the source is being worked on. Data that could not be read is listed in the point.
    """
    policy = installation.source_policy(source_name)
    if (host := installation.policy.enrolled_host(source_name)) is not None:
        raise RefusedError(
            f"Source '{source_name}' is captured by host '{host}', and not here",
            why=f"its points lie in the trust domain of that host, which was enrolled: vault '{policy.vaults[0]}'",
            todo="Run it on that host.",
        )
    point_id = new_point_id(source_name, clock.now())
    after: list[SourceError] = []
    with recorded(installation, ActionKind.BACKUP, source=source_name, point=point_id) as run:
        with between_hooks(policy, point_id, after.append):
            result = _captured(installation, policy, point_id, label, run)
        if not after:
            return result
        run.error_code, run.message = after[0].code, f"{result.point.id} is safe, but {_lowered(after[0])}"
        return replace(result, after_failed=after[0])


def _lowered(error: BackupsError) -> str:
    return str(error)[:1].lower() + str(error)[1:]


def _captured(
    installation: Installation, policy: SourcePolicy, point_id: str, label: str | None, run: OpenRun
) -> BackupResult:
    started_at, started = clock.now(), clock.monotonic()
    source = installation.source(policy.name)
    with limited(policy) as limit:
        found = source.discover(limit)
    looked_for = timedelta(seconds=clock.monotonic() - started)
    installation.catalog.record_resources(policy.name, found, started_at)
    previous = installation.catalog.latest(policy.name, complete=False)
    taken, vault_problems = _in_first_that_takes_it(
        installation, policy, _Wish(point_id, source, previous, started_at, label, looked_for)
    )
    point, draft = taken.point, taken.draft
    if not taken.changed:
        installation.catalog.confirm(policy.name, taken.captured_at)
    seconds = clock.monotonic() - started
    _note(run, point, draft, seconds, changed=taken.changed)
    return BackupResult(policy.name, point, taken.changed, taken.vault, draft, seconds, vault_problems, taken.notes)


def new_point_id(source: str, now: datetime) -> str:
    """A recovery point's id: its source, its moment (UTC), and four hex digits against collisions."""
    return f"{source}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class _Wish:
    point_id: str
    source: Source
    previous: RecoveryPoint | None
    started_at: datetime
    label: str | None
    looked_for: timedelta


@dataclass(frozen=True)
class _Taken:
    point: RecoveryPoint
    vault: str
    draft: Draft
    changed: bool
    captured_at: datetime
    notes: tuple[str, ...] = ()


class _SignedError(Exception):
    """A vault failed when the point was signed already: another one must not be made of the same run."""

    def __init__(self, error: VaultError) -> None:
        super().__init__(str(error))
        self.error = error


class _DamagedBeforeError(Exception):
    """Something of the point before was to be kept, or read to be changed, and is not what it was."""

    def __init__(self, error: DamageError) -> None:
        super().__init__(str(error))
        self.error = error


def _in_first_that_takes_it(
    installation: Installation, policy: SourcePolicy, wish: _Wish
) -> tuple[_Taken, dict[str, BackupsError]]:
    """What was taken, and why the vaults before it could not: away, or full, or gone in the middle of it."""
    problems: dict[str, BackupsError] = {}
    for name in policy.vaults:
        try:
            installation.vault(name).check()
            store = installation.store(name)
        except BackupsError as error:
            problems[name] = error
            continue
        try:
            return _take_whatever_was_before(installation, policy, wish, name, store), problems
        except _SignedError as late:
            raise late.error from late
        except VaultError as error:
            problems[name] = error
    raise _no_vault(policy, problems)


def _take_whatever_was_before(
    installation: Installation, policy: SourcePolicy, wish: _Wish, vault_name: str, store: PayloadStore
) -> _Taken:
    """Take a point; one that was to keep some of the point before, without that where it is damaged."""
    try:
        return _take(installation, policy, wish, vault_name, store)
    except _DamagedBeforeError as damaged:
        taken = _take(installation, policy, wish, vault_name, store, keep=False)
        told = f"all was read anew, since the point before is damaged in {vault_name}: {damaged.error.what}"
        why = f" ({damaged.error.why})" if damaged.error.why else ""
        return replace(taken, notes=(*taken.notes, f"{told}{why}; run 'cto.backups verify' on that vault"))


def _take(
    installation: Installation,
    policy: SourcePolicy,
    wish: _Wish,
    vault_name: str,
    store: PayloadStore,
    *,
    keep: bool = True,
) -> _Taken:
    previous = wish.previous
    parent = _reference_in(installation, previous, vault_name) if keep else None
    may_confirm = wish.label is None and parent is not None
    if may_confirm and previous is not None and previous.complete and isinstance(wish.source, Recognising):
        seen_at = wish.source.still(previous.fingerprint)
        if seen_at is not None:
            return _Taken(previous, vault_name, _nothing_read(previous), False, seen_at)
    with (
        installation.progress(f"Backing up {policy.name}") as progress,
        limited(policy, spent=wish.looked_for) as limit,
        wish.source.capture(limit) as capture,
        store.writing() as writing,
    ):
        if previous is not None:
            # The best guess there is: a source seldom changes much in size.
            progress.total(entries=previous.entry_count, size_bytes=previous.size_bytes)
        if previous is not None and isinstance(capture.tree, ArrivingTree) and _leads_astray(installation, previous):
            parent, may_confirm = None, False
        try:
            draft = writing.write(
                giving(capture.tree, limit),
                parent=parent,
                progress=progress,
                unless=lambda: may_confirm and _unchanged(previous, capture),
                payload=policy.payload,
            )
        except DamageError as error:
            if parent is None:
                raise
            raise _DamagedBeforeError(error) from error
        if draft.size_bytes == 0:
            raise empty(policy.name, draft, previous)
        if not draft.kept:
            assert previous is not None
            point = previous
            limit.lift()
        else:
            point = _point(installation, policy, wish, capture, draft)
            if wish.label is None:
                refuse_emptied(point, previous)
            limit.lift()  # what is left to be done is done in the vault
            point = anomaly.judged(installation, point, draft, previous)
            installation.catalog.claims.check()  # nobody would stand for the snapshot
            reference = writing.commit(draft, snapshot_label(installation, point))
            copy = Copy(point.id, vault_name, reference, clock.now(), draft.added_bytes)
            try:
                _catalogue(installation, point, copy)
            except VaultError as error:
                raise _SignedError(error) from error
        capture.stored()
        notes = capture.notes if isinstance(capture, Remarking) else ()
    return _Taken(point, vault_name, draft, draft.kept, capture.captured_at, notes)


def _nothing_read(point: RecoveryPoint) -> Draft:
    return Draft(
        root=point.root,
        entries=point.entry_count,
        size_bytes=point.size_bytes,
        read_bytes=0,
        added_bytes=0,
        new_entries=0,
        changed_entries=0,
        unchanged_entries=point.entry_count,
        kept=False,
    )


def _no_vault(policy: SourcePolicy, problems: dict[str, BackupsError]) -> BackupsError:
    if len(problems) == 1:
        return next(iter(problems.values()))
    # A wrong key is a wrong key, however many vaults it does not open.
    kinds = {type(error) for error in problems.values()}
    kind = kinds.pop() if len(kinds) == 1 else VaultError
    todo = "Bring at least one of these vaults back; the backup is then made again when it is due."
    if issubclass(kind, KeyProblemError):
        todo = next(iter(problems.values())).todo
    alike: dict[str, list[str]] = {}  # one missing key is told once, not once for each vault
    for name, error in problems.items():
        alike.setdefault(str(error), []).append(name)
    return kind(
        f"No vault can take a recovery point of source '{policy.name}'",
        why="; ".join(f"{listed(names)}: {told}" for told, names in alike.items()),
        todo=todo,
    )


def _reference_in(installation: Installation, point: RecoveryPoint | None, vault: str) -> str | None:
    if point is None:
        return None
    return next(
        (facts.copy.reference for facts in installation.catalog.copies(point.id) if facts.copy.vault == vault), None
    )


def _leads_astray(installation: Installation, previous: RecoveryPoint) -> bool:
    """Whether a restore test found that a point's log leads elsewhere: so does that of each point after it.

    The last point that was tested counts, of those with the same base. Not where the last test of a point from another
    base found that too: then yet another base would not help.
    """
    reach = log_range(previous)
    if reach is None:
        return False
    points = installation.catalog.points(previous.source)
    of_its_base = takewhile(lambda point: (told := log_range(point)) is not None and told[0] == reach[0], points)
    verdicts = (_tested(installation, point) for point in of_its_base)
    if next((passed for passed in verdicts if passed is not None), None) is not False:
        return False
    for point in points:
        passed, other = _tested(installation, point), log_range(point)
        if passed or (passed is False and (other is None or other[0] != reach[0])):
            return bool(passed)
    return True


def _tested(installation: Installation, point: RecoveryPoint) -> bool | None:
    """What the last restore test found that could compare what came back; None without one."""
    none = datetime.min.replace(tzinfo=UTC)
    facts = max(installation.catalog.copies(point.id), key=lambda copy: copy.tested_at or none, default=None)
    return facts.test_passed if facts is not None and (facts.test_passed or facts.test_rung is Rung.RESTORED) else None


def _unchanged(previous: RecoveryPoint | None, capture: Capture) -> bool:
    """Whether the source still equals its last point: then that point is confirmed instead of making a new one.

    The fingerprint decides, not the stored root: that also holds the folders above the source, whose times change
    whenever anybody works beside it.
    """
    if previous is None or not previous.complete or capture.problems:
        return False
    return previous.fingerprint == capture.fingerprint()


def _point(
    installation: Installation,
    policy: SourcePolicy,
    wish: _Wish,
    capture: Capture,
    draft: Draft,
) -> RecoveryPoint:
    now = clock.now()
    fingerprint = capture.fingerprint()
    where = told(fingerprint)
    return RecoveryPoint(
        id=wish.point_id,
        source=policy.name,
        kind=policy.kind,
        category=policy.category.name,
        business=installation.policy.business,
        started_at=wish.started_at,
        captured_at=capture.captured_at,
        finished_at=now,
        # What a restore writes, wherever the data lie.
        size_bytes=where.size_bytes if where is not None else draft.size_bytes,
        added_bytes=draft.added_bytes,
        entry_count=draft.entries,
        root=draft.root,
        paths=capture.paths,
        fingerprint=fingerprint,
        policy_digest=installation.policy.digest,
        parent=wish.previous.id if wish.previous else None,
        label=wish.label,
        keep_until=now + ON_DEMAND_KEPT if wish.label else None,
        problems=capture.problems,
        newest_content_at=capture.newest_content_at,
    )


def snapshot_label(installation: Installation, point: RecoveryPoint) -> SnapshotLabel:
    """What the snapshot of a point says of it, for stock tools as well."""
    return SnapshotLabel(
        time=point.captured_at,
        hostname=installation.host,
        username=installation.user,
        paths=point.paths,
        tags=(f"source:{point.source}", f"point:{point.id}"),
    )


def _catalogue(installation: Installation, point: RecoveryPoint, copy: Copy) -> None:
    said = ("recovery-point", point_to_payload(point)), ("copy", copy_to_payload(copy))
    installation.catalog.append_records(installation.signer, said, clock.now())
    installation.catalog.add_point_with_copy(point, copy, records.bring(installation, copy.vault))


def _note(run: OpenRun, point: RecoveryPoint, draft: Draft, seconds: float, *, changed: bool) -> None:
    if not changed:
        run.outcome = Outcome.UNCHANGED
        run.message = f"unchanged since {point.id}"
    elif point.problems:
        run.outcome = Outcome.INCOMPLETE
        run.error_code = "incomplete"
        run.message = f"{len(point.problems)} entries could not be captured, first: {point.problems[0].path}"
    elif point.suspicions:
        run.message = f"under suspicion: {'; '.join(point.suspicions)}"
    run.figures.update(
        entries=draft.entries,
        size_bytes=draft.size_bytes,
        read_bytes=draft.read_bytes,
        added_bytes=draft.added_bytes,
        new_entries=draft.new_entries,
        changed_entries=draft.changed_entries,
        unchanged_entries=draft.unchanged_entries,
        new_bytes=draft.content.new_bytes,
        seconds=round(seconds, 3),
    )
    note_ways(run, draft.ways)
