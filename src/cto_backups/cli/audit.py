"""`audit`: where protection falls short of what the policy asks, and what to do about it."""

import secrets
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from cto_backups import clock
from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document as error_document
from cto_backups.cli.moments import parse_moment
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, as_json, utc
from cto_backups.errors import (
    BackupsError,
    CatalogError,
    ExitStatus,
    KeyProblemError,
    NotFoundError,
    PolicyError,
    UsageError,
)

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.core.controls import Severity
    from cto_backups.core.frameworks import Clause
    from cto_backups.flows.audit import Audit

FORMS = ("text", "json", "sarif", "csv", "html")


@command
def audit(
    screen: Screen,
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on", metavar="SEVERITY", help="Exit with 4 on a finding this grave: critical, high, medium, low."
        ),
    ] = "",
    look: Annotated[
        list[Path] | None,
        typer.Option(
            "--look",
            metavar="DIR",
            help="Also find what no source covers below this folder, and servers and volumes; may be repeated.",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="FORM", help="Answer as text, json, sarif (2.1.0), csv, or an html page."),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write what --format asks for to this file.")
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="Compare with the last audit until then, not with the last of all."
        ),
    ] = "",
    no_save: Annotated[
        bool, typer.Option("--no-save", help="Do not keep this audit for the next one to compare with.")
    ] = False,
) -> ExitStatus:
    """Audit coverage and controls: look afresh, list what is wrong, the gravest first, and what changed since."""
    form = _form(screen, form, output)
    threshold = _severity(fail_on) if fail_on else None
    for folder in look or []:
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder} to look into", todo="Name an existing folder after --look.")
    with ExitStack() as stack:
        opening, unwritable = _opened(screen, stack)
        until = _until(screen, opening, since) if since else None
        done = perform(opening, tuple(look or ()), keep=not no_save, unwritable=unwritable, since=until)
        failing = done.report.at_least(threshold) if threshold else ()
        document = {**as_document(done), "fail_on": threshold, "failed": bool(failing)}
        if form == "text":
            screen.document(document)
            tell(screen, done)
        else:
            report = _rendered(form, done, document, opening.configuration.path.name)
            from cto_backups.cli import audit_changes

            if output is None:
                sys.stdout.writelines(report)
            else:
                _write(output, report)
                screen.show(_score(done))
                audit_changes.tell(screen, done)
                screen.show(f"The report is in {output}.")
        if threshold and failing:
            screen.note(f"Fails: {len(failing)} finding{'s' if len(failing) > 1 else ''} of {threshold} or graver.")
        return ExitStatus.RED if failing else ExitStatus.SUCCESS


def _opened(screen: Screen, stack: ExitStack) -> "tuple[Opened, BackupsError | None]":
    """The installation, and why it can only be read where that is so: an audit also tells of such a one."""
    try:
        return stack.enter_context(opened(screen)), None
    except (CatalogError, PolicyError, KeyProblemError) as error:
        try:
            return stack.enter_context(opened(screen, write=False)), error
        except BackupsError:
            raise error from None


def _until(screen: Screen, opening: "Opened", text: str) -> datetime:
    """The moment until which an audit is to be compared with. Raises UsageError, NotFoundError."""
    until = parse_moment(text, now=clock.now(), zone=ZoneInfo(opening.configuration.policy.timezone))
    catalog = opening.installation.catalog
    if catalog.audits.last(until) is None:
        kept = catalog.audits.history()
        raise NotFoundError(
            f"No audit is kept of '{text}' or before",
            why=f"the oldest is of {screen.moment(kept[-1].at)}" if kept else "none was kept yet",
            todo="Give a later time after --since, or leave it out to compare with the last audit.",
        )
    return until


def perform(
    opening: "Opened",
    look: tuple[Path, ...] = (),
    *,
    keep: bool = True,
    unwritable: BackupsError | None = None,
    since: datetime | None = None,
) -> "Audit":
    """Audit an opened installation, and look around for what nobody covers: below folders, at servers and volumes.

    `unwritable` says why nothing can be kept of it, if that is so; `since` as in `flows.audit`.
    """
    from cto_backups.app.environment import environment as environment_of
    from cto_backups.flows.audit import Look
    from cto_backups.flows.audit import audit as audit_everything

    looked: Look | None = None
    if look:
        from cto_backups.sources import servers
        from cto_backups.sources.look import survey

        own = opening.configuration.settings.home
        with opening.installation.progress("Looking around"):
            surveys = {folder.resolve(): survey(folder, exclude=(own,)) for folder in look}
            found = {resource.name: resource for each in surveys.values() for resource in each.resources}
            found |= {resource.name: resource for resource in servers.look()}
        whole = tuple(str(folder) for folder, each in surveys.items() if each.complete)
        looked = Look(tuple(found.values()), whole)
    environment = environment_of(opening)
    write = unwritable is None
    done = audit_everything(opening.installation, environment, looked, keep=keep, write=write, since=since)
    return done if write else replace(done, unkept=unwritable)


def _form(screen: Screen, form: str, output: Path | None) -> str:
    """The form of the answer; text, which --json answers in its place, when none is asked for. Raises UsageError."""
    from cto_backups.core.wording import did_you_mean

    chosen = form.lower() or ("json" if screen.options.json and output else "text")
    if chosen not in FORMS:
        raise UsageError(f"'{form}' is no format{did_you_mean(form, FORMS)}", todo=f"Write one of {', '.join(FORMS)}.")
    if screen.options.json and form and chosen != "json":
        raise UsageError(f"--json and --format {chosen} ask for two answers", todo="Leave one of them out.")
    if output is not None and chosen == "text":
        raise UsageError(
            "--output writes no text", todo="Add --format json, sarif, csv or html, or redirect stdout to a file."
        )
    return chosen


def _rendered(form: str, done: "Audit", document: documents.Document, policy_file: str) -> Iterable[str]:
    if form == "html":
        from cto_backups.cli.audit_page import as_html

        return [as_html(done)]
    from cto_backups.cli import audit_formats

    if form == "sarif":
        return as_json(audit_formats.as_sarif(done, policy_file))
    return [audit_formats.as_csv(done)] if form == "csv" else as_json(document)


def _write(output: Path, report: Iterable[str]) -> None:
    """Write a report whole or not at all; into what is no file, such as a pipe, as it comes."""
    try:
        if output.exists() and not output.is_file():
            with output.open("w", encoding="utf-8") as file:
                file.writelines(report)
            return
        place = output.resolve()
        draft = place.with_name(f".{place.name}.{secrets.token_hex(6)}.tmp")
        try:
            with draft.open("x", encoding="utf-8") as file:
                file.writelines(report)
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {output}",
            why=error.strerror or type(error).__name__,
            todo="Name a file after --output that can be written, in a folder that exists.",
        ) from error


def _severity(text: str) -> "Severity":
    from cto_backups.core.controls import Severity
    from cto_backups.core.wording import did_you_mean

    names = [severity.value for severity in Severity]
    try:
        return Severity(text.lower())
    except ValueError:
        raise UsageError(
            f"'{text}' is no severity{did_you_mean(text, names)}", todo=f"Write one of {', '.join(names)}."
        ) from None


def tell(screen: Screen, done: "Audit") -> None:
    """Show an audit to people."""
    if not screen.talks:
        return
    from rich.text import Text

    from cto_backups.cli import audit_changes
    from cto_backups.cli.tables import STYLES
    from cto_backups.core.audit_comparison import keyed

    report = done.report
    screen.show(_score(done))
    audit_changes.tell(screen, done)
    found = keyed(report.findings).items()
    for (severity, title), group in groupby(found, key=lambda each: (each[1].severity, each[1].title)):
        findings = list(group)
        screen.show("")
        heading = Text()
        heading.append(f"{severity.value.upper():<9}", style=STYLES[severity.value])
        heading.append(title, style="bold")
        screen.show(heading)
        for key, finding in findings[:10]:
            changed = audit_changes.in_words(done.compared, key)
            screen.show(f"  {finding.subject}: {finding.detail}{f' ({changed})' if changed else ''}")
        if len(findings) > 10:
            screen.show(f"  … and {len(findings) - 10} more (--json lists all)")
        screen.show(f"  Why:  {findings[0][1].rationale}")
        screen.show(f"  Next: {findings[0][1].remedy}")
    audit_changes.tell_fixed(screen, done)
    for name, error in done.unreachable.items():
        screen.problem(error, prefix=f"Not looked at: {name}")
    if report.passed:
        screen.show("")
        screen.show("Passed: " + "; ".join(result.control.title for result in report.passed) + ".")
    if report.not_applicable:
        screen.show("Not applicable: " + "; ".join(control.title for control in report.not_applicable) + ".")


def _score(done: "Audit") -> str:
    from cto_backups.core.wording import counted

    report = done.report
    counts = ", ".join(f"{number} {severity.value}" for severity, number in report.counts.items() if number)
    scores = ", ".join(f"{category} {score}" for category, score in report.scores.items())
    total = counted(len(report.findings), "finding")
    by_category = f" ({scores})" if scores else ""
    return f"Audit score {report.score} of 100{by_category}; {total}{f': {counts}' if counts else ''}."


def as_document(done: "Audit") -> documents.Document:
    """An audit in JSON."""
    from cto_backups.cli import audit_changes
    from cto_backups.core.audit_comparison import keyed

    report = done.report
    return {
        "at": utc(report.at),
        "score": report.score,
        "scores": dict(report.scores),
        "counts": {severity.value: number for severity, number in report.counts.items()},
        "findings": [
            {
                "control": finding.control,
                "title": finding.title,
                "severity": finding.severity.value,
                "subject": finding.subject,
                "category": finding.category,
                "detail": finding.detail,
                "why": finding.rationale,
                "remedy": finding.remedy,
                "frameworks": frameworks(finding.clauses),
                **audit_changes.of_finding(done.compared, key),
            }
            for key, finding in keyed(report.findings).items()
        ],
        "passed": [
            {
                "control": result.control.id,
                "title": result.control.title,
                "checks": len(result.checks),
                "frameworks": frameworks(result.control.clauses),
            }
            for result in report.passed
        ],
        "not_applicable": [control.id for control in report.not_applicable],
        "unreachable": {name: error_document(error) for name, error in done.unreachable.items()},
        **audit_changes.as_document(done),
    }


def frameworks(clauses: "tuple[Clause, ...]") -> documents.Document:
    """The numbers of clauses, by the name of their framework."""
    from cto_backups.core.frameworks import by_framework

    return {name.value: [clause.number for clause in each] for name, each in by_framework(clauses).items()}
