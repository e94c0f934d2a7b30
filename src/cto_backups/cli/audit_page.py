"""An audit as one HTML page for people: no script, nothing from elsewhere, so that it can be sent and printed."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from html import escape

from cto_backups import __version__
from cto_backups.cli import audit_changes
from cto_backups.cli.errors import clean
from cto_backups.core.audit_comparison import keyed
from cto_backups.core.facts import CopyFacts
from cto_backups.core.findings import ControlResult, Finding, Severity
from cto_backups.core.frameworks import CLAUSES, Framework, cited
from cto_backups.core.policy import Access, LockMode, VaultPolicy
from cto_backups.core.wording import counted
from cto_backups.flows.audit import Audit

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #57606a; --line: #d0d7de; --page: #fff; --head: #f3f5f7;
  --good: #116329; --bad: #a40e26; --warn: #7a4b00; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9aa4ae; --line: #3a424b;
  --page: #0f1419; --head: #1b222a; --good: #56d364; --bad: #ff8a80; --warn: #e3b341; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 72rem;
  margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; } .faint { color: var(--faint); }
.score { font-size: 2.4rem; font-weight: 700; margin: .6rem 0 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; margin: .6rem 0; }
th, td { border: 1px solid var(--line); padding: .3rem .5rem; text-align: left; vertical-align: top; }
thead th { background: var(--head); vertical-align: bottom; } tbody th { font-weight: 600; }
th.control { font-weight: 500; min-width: 4.2em; }
td.mark { text-align: center; } .pass { color: var(--good); } .fail { color: var(--bad); font-weight: 700; }
.word { font-weight: 700; text-transform: uppercase; font-size: .8rem; }
.critical, .high { color: var(--bad); } .medium { color: var(--warn); }
.finding { break-inside: avoid; } ul { margin: .2rem 0; padding-left: 1.3rem; }
@media print { @page { size: A4 landscape; margin: 12mm; } :root { color-scheme: light; } body { margin: 0; padding: 0;
  max-width: none; font-size: 11px; } .wide { overflow: visible; } table { font-size: 9px; } tr { break-inside: avoid; }
  thead { display: table-header-group; }
  h2, h3, p.faint { break-after: avoid; } }
"""
_DAYS_SHOWN = 31
_BESIDE_EACH_OTHER = 8
_LEGEND = "Each word says the result; colours only repeat it. A dash: the control is not about it."


def as_html(done: Audit) -> str:
    """The whole page, in ASCII with references: it is valid whatever the encoding of where it is written."""
    title = f"Backup audit of {done.policy.business}"
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        f'<p class="faint">{done.now.astimezone(UTC):%Y-%m-%d %H:%M} UTC · policy {_text(done.policy.digest[:12])} '
        f"· cto.backups {__version__}</p>",
        *_summary(done),
        *_changes(done),
        *_matrices(done),
        *_findings(done),
        *_copies(done),
        *_not_applicable(done),
        *_frameworks(done.report.results),
        "</body></html>",
    ]
    return ("\n".join(parts) + "\n").encode("ascii", "xmlcharrefreplace").decode("ascii")


def _text(text: str) -> str:
    return escape(clean(text))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML already; the first of each row is its heading."""
    body = []
    for row in rows:
        first, *others = row
        body.append(f'<tr><th scope="row">{first}</th>{"".join(others)}</tr>')
    head = "".join(heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _head(text: str, style: str = "") -> str:
    return f'<th scope="col" class="{style}">{_text(text)}</th>' if style else f'<th scope="col">{_text(text)}</th>'


def _cell(text: str, style: str = "") -> str:
    return f'<td class="{style}">{_text(text)}</td>' if style else f"<td>{_text(text)}</td>"


def _summary(done: Audit) -> list[str]:
    report = done.report
    counts = ", ".join(f"{number} {severity}" for severity, number in report.counts.items() if number)
    passed, other = len(report.passed), len(report.not_applicable)
    failed = len(report.results) - passed - other
    told = f"{counted(len(report.findings), 'finding')}{f': {counts}' if counts else ''}"
    parts = [
        f'<p class="score">{report.score} of 100</p>',
        f"<p>{told}. Of {counted(len(report.results), 'control')}, {passed} passed, {failed} failed, "
        f"{other} did not apply.</p>",
    ]
    if done.unreachable:
        items = "".join(f"<li>{_text(name)}: {_text(error.what)}</li>" for name, error in done.unreachable.items())
        parts.append(f'<p class="fail">Not looked at, because it could not be reached:</p><ul>{items}</ul>')
    parts.append("<h2>Score by category</h2>")
    rows = []
    for category, score in report.scores.items():
        checks = [each for result in report.results for each in result.checks if each.category == category]
        wrong = sum(not each.passed for each in checks)
        known = done.policy.categories.get(category)
        name = f"{category}: {known.title}" if known else category
        rows.append([_text(name), _cell(f"{score} of 100"), _cell(str(len(checks))), _cell(str(wrong))])
    heads = [_head(each) for each in ("Category", "Score", "Checks", "Failed")]
    return [*parts, _table(heads, rows) if rows else "<p>No category has checks of its own.</p>"]


def _matrices(done: Audit) -> list[str]:
    parts = []
    for title, names in (("Source", done.policy.sources), ("Vault", done.policy.vaults)):
        results = [
            result
            for result in done.report.results
            if any(check.subject in names for check in result.checks)
            and all((check.category is not None) == (title == "Source") for check in result.checks)
        ]
        marks = {result.control.title: _passed(result) for result in results}
        if len(names) <= _BESIDE_EACH_OTHER:  # then a line for each control fits a screen, and a sheet of paper
            rows = [[_text(control), *(_mark(passed, name) for name in names)] for control, passed in marks.items()]
            heads = [_head("Control"), *(_head(name, "control") for name in names)]
        else:
            rows = [[_text(name), *(_mark(passed, name) for passed in marks.values())] for name in names]
            heads = [_head(title), *(_head(control, "control") for control in marks)]
        parts += [f"<h2>{title}s by control</h2>", f'<p class="faint">{_LEGEND}</p>', _table(heads, rows)]
    return parts


def _passed(result: ControlResult) -> dict[str, bool]:
    """Of each subject, whether all checks on it passed."""
    passed: dict[str, bool] = {}
    for check in result.checks:
        passed[check.subject] = check.passed and passed.get(check.subject, True)
    return passed


def _mark(passed: Mapping[str, bool], subject: str) -> str:
    if subject not in passed:
        return _cell("\N{EN DASH}", "mark")
    return _cell("pass", "mark pass") if passed[subject] else _cell("FAIL", "mark fail")


def _changes(done: Audit) -> list[str]:
    previous = done.compared.previous
    told = audit_changes.summary(done, f"{previous.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if previous else "")
    parts = ["<h2>Since the last audit</h2>", f"<p>{_text(told)}</p>"]
    for title, findings in (("Fixed", done.compared.fixed), ("Not looked at this time", done.compared.unseen)):
        rows = [
            [_text(each.key.subject), _cell(each.title), _cell(each.severity), _cell(f"{each.since:%Y-%m-%d}")]
            for each in findings
        ]
        heads = [_head(each) for each in ("Subject", "Finding", "Severity", "Open since")]
        parts += [f"<h3>{title}</h3>", _table(heads, rows)] if rows else []
    if len(done.history) > 1:
        heads = [_head(each) for each in ("Day", "Score", *(severity.value for severity in Severity))]
        rows = [
            [
                _text(f"{each.at.astimezone(UTC):%Y-%m-%d}"),
                _cell(f"{each.score} of 100"),
                *(_cell(str(each.counts.get(severity, 0))) for severity in Severity),
            ]
            for each in done.history[:_DAYS_SHOWN]
        ]
        parts += ["<h3>History</h3>", _table(heads, rows)]
    return parts


def _findings(done: Audit) -> list[str]:
    findings = keyed(done.report.findings)
    parts = ["<h2>Findings</h2>"]
    if not findings:
        parts.append("<p>Nothing is wrong.</p>")
    for severity in Severity:
        of_one = [(key, finding) for key, finding in findings.items() if finding.severity is severity]
        for control in dict.fromkeys(key.control for key, _ in of_one):
            group = [(key, finding) for key, finding in of_one if key.control == control]
            items = "".join(_item(each, audit_changes.in_words(done.compared, key)) for key, each in group)
            _, first = group[0]
            parts.append(
                f'<div class="finding"><h3><span class="word {severity}">{severity}</span> {_text(first.title)}</h3>'
                f"<ul>{items}</ul><p><b>Why:</b> {_text(first.rationale)}<br><b>Next:</b> {_text(first.remedy)}"
                f'<br><span class="faint">{_text(cited(first.clauses))}</span></p></div>'
            )
    return parts


def _item(finding: Finding, changed: str) -> str:
    mark = f' <span class="faint">({_text(changed)})</span>' if changed else ""
    return f"<li><b>{_text(finding.subject)}</b>: {_text(finding.detail)}{mark}</li>"


def _copies(done: Audit) -> list[str]:
    vaults = done.policy.vaults
    rows = []
    for source in done.policy.sources.values():
        known = done.facts.sources.get(source.name)
        held = {each.copy.vault: each for each in known.copies} if known else {}
        cells = [_copy(held.get(name), asked=name in source.vaults) for name in vaults]
        number = sum(each.read_passed is not False for each in held.values())
        rows.append([_text(source.name), *cells, _cell(f"{number} of {source.category.copies}")])
    about = [_text(name) + "".join(f"<br>{_text(each)}" for each in _about(vault)) for name, vault in vaults.items()]
    heads = [_head("Source"), *(f'<th scope="col">{each}</th>' for each in about), _head("Copies, of those asked for")]
    return [
        "<h2>Where copies lie</h2>",
        '<p class="faint">Copies of the newest complete point of each source, by vault.</p>',
        _table(heads, rows),
    ]


def _about(vault: VaultPolicy) -> list[str]:
    lines = [f"{vault.provider}, {vault.region}", vault.storage, "off-site" if vault.off_site else "on-site"]
    if vault.lock_mode is not LockMode.NONE:
        lines.append(f"lock: {vault.lock_mode}")
    if vault.access is not Access.FULL:
        lines.append(str(vault.access))
    return lines


def _copy(known: CopyFacts | None, *, asked: bool) -> str:
    if known is None:
        return _cell("MISSING", "fail") if asked else _cell("\N{EN DASH}")
    if known.read_passed is False:
        return _cell("DAMAGED", "fail")
    read = f"; read {known.read_at:%Y-%m-%d}" if known.read_at else "; not read yet"
    return _cell(f"copy{read}", "pass")


def _not_applicable(done: Audit) -> list[str]:
    controls = done.report.not_applicable
    items = "".join(f"<li>{_text(each.title)} <code>{_text(each.id)}</code></li>" for each in controls)
    return ["<h2>Not applicable</h2>", f"<ul>{items}</ul>" if items else "<p>Every control applies.</p>"]


def _frameworks(results: Sequence[ControlResult]) -> list[str]:
    parts = [
        "<h2>Framework index</h2>",
        '<p class="faint">Which requirement a result is evidence for. That a control passed does not say that the '
        "requirement is met.</p>",
    ]
    for framework in Framework:
        rows = [
            [_text(clause.number), _cell(clause.title), f"<td>{'<br>'.join(map(_outcome, about))}</td>"]
            for clause in CLAUSES.values()
            if clause.framework is framework
            and (about := [result for result in results if clause in result.control.clauses])
        ]
        heads = [_head(each) for each in ("Clause", "About", "Controls")]
        parts += [f"<h3>{framework}</h3>", _table(heads, rows)]
    return parts


def _outcome(result: ControlResult) -> str:
    number = len(result.findings)
    if not result.checks:
        said = '<span class="faint">not applicable</span>'
    elif number:
        said = f'<span class="fail">{counted(number, "finding")}</span>'
    else:
        said = '<span class="pass">passed</span>'
    return f"{_text(result.control.title)}: {said}"
