"""Restore test: the only proof. Restore to a disposable place, compare fingerprints, clean up, record."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from traceback import extract_tb

from cto_backups import clock, process
from cto_backups.core.comparison import Comparison, compare
from cto_backups.core.elsewhere import comparable, elsewhere
from cto_backups.core.facts import CopyFacts
from cto_backups.core.log_range import summed_until
from cto_backups.core.model import ActionKind, Evidence, Outcome, RecoveryPoint, Rung, Step
from cto_backups.core.ports import Remarking, RestoreOptions
from cto_backups.core.restore_test_times import test_preference
from cto_backups.core.wording import counted, not_declared
from cto_backups.errors import BackupsError, NotFoundError, VerificationError
from cto_backups.evidence.payloads import evidence_to_payload
from cto_backups.flows import records
from cto_backups.flows.installation import Installation
from cto_backups.flows.own_commands import run_own
from cto_backups.flows.pieces import tail_of
from cto_backups.flows.runs import recorded

Figures = dict[str, int | float | str | bool]


class _StepFailedError(Exception):
    """A step has failed and is recorded as such; the steps after it are not taken."""


@dataclass
class _Steps:
    taken: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Figures]:
        """Record a step with its duration and figures; whatever goes wrong inside makes it a failed step.

        Where what went wrong says what to do about it, that is its figure `todo`.
        """
        started_at, started = clock.now(), clock.monotonic()
        figures: Figures = {}
        detail, passed = "", False
        try:
            yield figures
            passed = True
        except BackupsError as error:
            detail = str(error)
            if error.todo:
                figures["todo"] = error.todo
            raise _StepFailedError from error
        except Exception as error:
            # Even a defect of ours must leave evidence of a failed test; its text may hold anything, so only its type.
            detail = f"defect in the test itself: {type(error).__name__}{_where(error)}"
            figures["todo"] = "report this line: it is a defect of this program, and says nothing of the copy"
            raise _StepFailedError from error
        finally:
            seconds = round(clock.monotonic() - started, 3)
            self.taken.append(Step(name, started_at, seconds, passed, detail, figures))


def _where(error: BaseException) -> str:
    """The place in this program at which an error came up, as far as it is in there."""
    package = Path(__file__).parents[1]
    for frame in reversed(extract_tb(error.__traceback__)):
        if (file := Path(frame.filename)).is_relative_to(package):
            return f" in {file.relative_to(package)}, line {frame.lineno}"
    return ""


def restore_test(
    installation: Installation, source_name: str, *, point: RecoveryPoint | None = None, vault: str | None = None
) -> Evidence:
    """Test that a recovery point of the source comes back; the evidence says how it went, step by step.

    Without `point`, the newest complete one that was summed up at its own moment; without `vault`, the copy whose last
    test is longest ago. A test that could not run has failed: this raises only for what is no test at all (unknown
    source or vault, source busy).
    """
    installation.source_policy(source_name)
    if vault is not None and vault not in installation.policy.vaults:
        raise not_declared("vault", vault, installation.policy.vaults)
    with recorded(installation, ActionKind.RESTORE_TEST, source=source_name, vault=vault) as run:
        evidence = _test(installation, source_name, point, vault)
        if not evidence.passed:
            run.outcome, run.error_code, run.message = Outcome.FAILED, "verification", evidence.reason
        run.figures.update({step.name: step.seconds for step in evidence.steps})
        records.write(installation, "evidence", evidence_to_payload(evidence))
        _deliver_where_possible(installation, source_name)
        installation.catalog.add_evidence(evidence)
        return evidence


def _test(installation: Installation, source_name: str, point: RecoveryPoint | None, vault: str | None) -> Evidence:
    started_at = clock.now()
    steps = _Steps()
    chosen: CopyFacts | None = None
    place: Path | None = None
    comparison: Comparison | None = None
    try:
        with steps.step("select_backup") as figures:
            point = point or _newest(installation, source_name, vault)
            chosen = _copy_to_test(installation, point, vault)
            figures.update(
                point=point.id,
                vault=chosen.copy.vault,
                age_seconds=_age(point, started_at),
                size_bytes=point.size_bytes,
            )
        with steps.step("restore") as figures:
            place = installation.sandbox.open(source_name)
            _restore(installation, point, chosen, place, figures)
        with steps.step("verify_integrity") as figures:
            comparison = _verify(installation, point, place, figures)
        if installation.source_policy(source_name).probe:
            with steps.step("probe") as figures:
                _ask(installation, point, place, figures)
    except _StepFailedError:
        pass
    finally:
        if place is not None:
            _clean_up(installation, steps, place)
    passed = comparison is not None and all(step.passed for step in steps.taken)
    reason = next((f"{step.name}: {step.detail}" for step in steps.taken if not step.passed), "")
    return Evidence(
        id=f"test-{source_name}-{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        kind="restore_test",
        source=source_name,
        point=point.id if point else None,
        vault=chosen.copy.vault if chosen else vault or "",
        started_at=started_at,
        finished_at=clock.now(),
        passed=passed,
        rung=_rung(steps, passed=passed, in_part=comparison is not None and comparison.is_of_a_part),
        steps=tuple(steps.taken),
        reason=reason,
    )


def _newest(installation: Installation, source_name: str, vault: str | None) -> RecoveryPoint:
    """One whose fingerprint is of an earlier moment proves less: rather the newest before it that proves all."""
    point = installation.catalog.latest(source_name)
    if point is None:
        raise NotFoundError(f"Source '{source_name}' has no complete recovery point", why="there is nothing to test")
    if summed_until(point.fingerprint):
        for each in installation.catalog.points(source_name):
            if each.complete and not summed_until(each.fingerprint) and _copies(installation, each, vault):
                return each
    return point


def _copies(installation: Installation, point: RecoveryPoint, vault: str | None) -> list[CopyFacts]:
    return [facts for facts in installation.catalog.copies(point.id) if vault in (None, facts.copy.vault)]


def _age(point: RecoveryPoint, now: datetime) -> float:
    return round((now - point.captured_at).total_seconds(), 1)


def _copy_to_test(installation: Installation, point: RecoveryPoint, vault: str | None) -> CopyFacts:
    copies = _copies(installation, point, vault)
    if not copies:
        where = f"in vault '{vault}'" if vault else "in any vault"
        raise NotFoundError(f"Recovery point {point.id} has no copy {where}")
    source = installation.source_policy(point.source)
    return min(copies, key=lambda facts: test_preference(source, facts))


def _restore(
    installation: Installation, point: RecoveryPoint, chosen: CopyFacts, place: Path, figures: Figures
) -> None:
    installation.check_readable(chosen.copy.vault)
    reader = installation.store(chosen.copy.vault).reader(chosen.copy.reference)
    with installation.progress(f"Restoring {point.id} from {chosen.copy.vault}") as progress:
        tail = tail_of(installation, point, chosen.copy.vault)
        options = RestoreOptions(tail=tail, one_copy=True)
        restored = installation.source(point.source).restore(reader, place, options=options, progress=progress)
        if tail is not None:
            figures.update(streamed_bytes=tail.ends - tail.begins)
    rate = restored.size_bytes / restored.seconds if restored.seconds else 0.0
    figures.update(
        entries=restored.entries,
        size_bytes=restored.size_bytes,
        bytes_per_second=round(rate),
        problems=len(restored.problems),
    )
    if elsewhere(point) is not None:
        figures["data"] = "; ".join(restored.notes)
    if restored.problems:
        first = restored.problems[0]
        raise VerificationError(
            f"{counted(len(restored.problems), 'entry', 'entries')} did not come back",
            why=f"first: {first.path} ({first.kind}: {first.detail})",
        )


def _verify(installation: Installation, point: RecoveryPoint, place: Path, figures: Figures) -> Comparison:
    if point.taken_over:
        raise VerificationError(
            "It came back, but there is nothing to compare it with",
            why=f"{point.id} was taken over: no fingerprint of its source was taken when it was made",
        )
    source = installation.source(point.source)
    actual = source.probe(place, point.fingerprint)
    if not comparable(point):
        figures["nothing_to_compare"] = True
        raise VerificationError(
            "It came back and works, but that proves nothing: there is nothing to compare it with",
            why="nobody could ask its source what it holds; give the source a connection to it in the policy",
        )
    if isinstance(source, Remarking) and source.notes:
        figures["notes"] = "; ".join(source.notes)
    comparison = compare(point.fingerprint, actual, ignore=source.incomparable(point.fingerprint))
    figures.update(
        checksums_match=comparison.checksums_match,
        row_counts_match=comparison.row_counts_match,
        sample_data_valid=comparison.sample_data_valid,
        checksums=len(point.fingerprint.checksums),
        counts=len(point.fingerprint.counts),
        samples=len(point.fingerprint.samples),
    )
    left_out = [f"{name}: {reason}" for name, reason in comparison.ignored.items()]
    if comparison.beyond_samples:
        left_out.append(f"{counted(comparison.beyond_samples, 'row')} of large tables, outside of their samples")
    if comparison.summed_until:
        moment = f"{comparison.summed_until[:19].replace('T', ' ')} UTC"
        left_out.append(f"what was written after {moment}, when rows were summed up; its log was carried out")
    if left_out:
        figures["not_compared"] = "; ".join(left_out)
    if comparison.differences:
        raise VerificationError("The restored data is not what was captured", why="; ".join(comparison.differences[:5]))
    return comparison


def _ask(installation: Installation, point: RecoveryPoint, place: Path, figures: Figures) -> None:
    """Let the user's own probe say whether the restored data serves. Raises VerificationError."""
    source = installation.source_policy(point.source)
    command = source.probe
    figures["program"] = command[0]
    told = {"RESTORED": str(place), "POINT": point.id, "SOURCE": source.name}
    try:
        run_own(command, timeout=source.probe_timeout, folder=place, told=told)
    except process.ToolError as error:
        raise VerificationError(
            f"The probe of '{source.name}' says that what came back does not serve", why=str(error)
        ) from error


def _clean_up(installation: Installation, steps: _Steps, place: Path) -> None:
    try:
        with steps.step("cleanup"):
            installation.sandbox.close(place)
    except _StepFailedError:
        return


def _rung(steps: _Steps, *, passed: bool, in_part: bool) -> Rung:
    """What the steps reached. What was compared only in part is restored, and not proven, whatever else passed."""
    compared = not in_part and any(step.name == "verify_integrity" and step.passed for step in steps.taken)
    asked = [step.passed for step in steps.taken if step.name == "probe"]
    if passed and compared:
        return Rung.SERVING if asked else Rung.PROVEN
    if compared and not all(asked):
        return Rung.PROVEN
    restored = any(step.name == "restore" and step.passed for step in steps.taken)
    return Rung.RESTORED if restored else Rung.STORED


def _deliver_where_possible(installation: Installation, source_name: str) -> None:
    """Evidence goes to every vault of the source; one that is away gets it at the next occasion."""
    for vault_name in installation.policy.sources[source_name].vaults:
        try:
            records.deliver(installation, vault_name)
        except BackupsError:
            continue
