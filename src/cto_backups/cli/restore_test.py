"""`test`: prove by restoring that recovery points come back."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import attempt, chosen
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.errors import BackupsError, ExitStatus, UsageError, VerificationError

if TYPE_CHECKING:
    from cto_backups.core.model import Evidence, RecoveryPoint, Step
    from cto_backups.flows.installation import Installation

TITLES = {
    "select_backup": "select",
    "restore": "restore",
    "verify_integrity": "verify integrity",
    "cleanup": "clean up",
}


@command
def test(
    screen: Screen,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Sources of the policy; all when left out.")
    ] = None,
    point: Annotated[
        str, typer.Option("--point", metavar="ID", help="This recovery point instead of the newest complete one.")
    ] = "",
    vault: Annotated[
        str, typer.Option("--vault", metavar="NAME", help="The copy in this vault instead of the longest untested.")
    ] = "",
) -> ExitStatus:
    """Test that data comes back: restore to a disposable place, compare with what was captured, clean up, record it.

    Checksums, counts and sampled records must all agree with the fingerprint taken from the source. A test that could
    not run has failed.
    """
    with opened(screen) as installation:
        from cto_backups.flows.restore_test import restore_test

        names, selected = _selection(installation.installation, sources, point)
        answers: list[documents.Document] = []
        statuses: list[ExitStatus] = []
        for name in names:
            evidence = attempt(
                screen, partial(restore_test, installation.installation, name, point=selected, vault=vault or None)
            )
            if isinstance(evidence, BackupsError):
                answers.append({"source": name, "passed": False, "error": as_document(evidence)})
                statuses.append(evidence.exit_status)
                continue
            tell(screen, evidence)
            answers.append(documents.evidence(evidence))
            statuses.append(ExitStatus.SUCCESS if evidence.passed else ExitStatus.VERIFICATION)
        status = worst(statuses)
        screen.document({"status": int(status), "recovered": list(installation.recovered), "tests": answers})
        return status


def _selection(
    installation: "Installation", sources: list[str] | None, point: str
) -> "tuple[list[str], RecoveryPoint | None]":
    if vault_missing := [name for name in sources or [] if name not in installation.policy.sources]:
        installation.source_policy(vault_missing[0])
    if not point:
        return chosen(installation.policy.sources, sources), None
    selected = installation.catalog.point(point)
    if sources and sources != [selected.source]:
        raise UsageError(
            f"Recovery point {selected.id} is not one of {', '.join(sources)}",
            why=f"its source is {selected.source}",
            todo=f"Run: cto.backups test --point {selected.id}",
        )
    return [selected.source], selected


def tell(screen: Screen, evidence: "Evidence", *, indent: str = "") -> None:
    """Say how a restore test went, step by step."""
    took = figures.duration((evidence.finished_at - evidence.started_at).total_seconds())
    verdict = "restored, NOT PROVEN" if is_alone(evidence) or is_of_a_part(evidence) else "FAILED"
    if evidence.passed and not is_of_a_part(evidence):
        verdict = "proven"
    of = f"{evidence.point} from {evidence.vault}" if evidence.point else "no recovery point"
    screen.show(f"{indent}{evidence.source}: {verdict} in {took}: {of}")
    for step in evidence.steps:
        mark = "ok" if step.passed else "FAILED"
        told = _figures(step)
        line = f"{TITLES.get(step.name, step.name):<17}{mark:<7}{figures.duration(step.seconds):>7}  {told}"
        screen.show(f"{indent}  {line.rstrip()}")
    if not evidence.passed:
        screen.problem(failed(evidence))
    elif is_of_a_part(evidence):
        left_out = (str(step.figures["not_compared"]) for step in evidence.steps if "not_compared" in step.figures)
        screen.note(f"Not compared: {'; '.join(left_out)}.")


def is_of_a_part(evidence: "Evidence") -> bool:
    """Whether the test passed, and compared only a part of what came back: that is no proof."""
    return evidence.passed and evidence.rung.name == "RESTORED"


def is_alone(evidence: "Evidence") -> bool:
    """Whether what came back works, and there was nothing to compare it with."""
    wrong = [step for step in evidence.steps if not step.passed]
    return bool(wrong) and all(step.figures.get("nothing_to_compare") for step in wrong)


def failed(evidence: "Evidence") -> VerificationError:
    """The error that a failed restore test stands for."""
    if is_alone(evidence):
        return VerificationError(
            f"The restore test of '{evidence.source}' proves nothing",
            why=evidence.reason,
            todo="Let the source say what it holds: name its server in the policy, then back up, and test again.",
        )
    backup = f"'cto.backups backup {evidence.source}'"
    told = next(
        (str(step.figures["todo"]) for step in evidence.steps if not step.passed and "todo" in step.figures), None
    )
    if told is not None:
        told = f"{told[0].upper()}{told[1:].rstrip('.')}."
        todo = told if "again" in told else f"{told} Then test again."
    elif evidence.point is None:
        todo = f"Run {backup}, and test again."
    else:
        todo = f"Run 'cto.backups repair' to look for damage and put it right, then {backup}, and test again."
    return VerificationError(f"The restore test of '{evidence.source}' failed", why=evidence.reason, todo=todo)


def _figures(step: "Step") -> str:
    known = step.figures
    match step.name:
        case "select_backup" if "size_bytes" in known:
            return f"{figures.size(_number(known['size_bytes']))}, {_age(_number(known['age_seconds']))} old"
        case "restore" if "entries" in known:
            speed = figures.rate(_number(known["size_bytes"]), step.seconds)
            told = f"{figures.entries(int(_number(known['entries'])))}, {figures.size(_number(known['size_bytes']))}"
            return f"{told}, {speed}" if speed else told
        case "probe" if step.passed:
            return f"{known['program']} says that it serves"
        case "verify_integrity" if "checksums_match" in known:
            parts = (
                ("checksums", known["checksums_match"], known["checksums"]),
                ("counts", known["row_counts_match"], known["counts"]),
                ("samples", known["sample_data_valid"], known["samples"]),
            )
            if all(match for _, match, _ in parts):
                return "equal: " + ", ".join(f"{number} {name}" for name, _, number in parts)
            return ", ".join(f"{number} {name} {'equal' if match else 'DIFFER'}" for name, match, number in parts)
    return ""


def _number(value: int | float | str | bool) -> float:
    return float(value)


def _age(seconds: float) -> str:
    from datetime import timedelta

    return figures.age(timedelta(seconds=seconds))
