"""What changed since the last audit, in the words and forms of every report."""

from cto_backups.cli import documents
from cto_backups.cli.errors import as_document as error_document
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.audit_comparison import Comparison, FindingKey, KeptAudit, KeptFinding
from cto_backups.core.wording import counted
from cto_backups.flows.audit import Audit

_SHOWN = 10


def standing(compared: Comparison, key: FindingKey) -> str:
    """One word: "new", "open" (it was there before), or "" when there is nothing to compare with."""
    if compared.previous is None:
        return ""
    return "open" if key in compared.since else "new"


def in_words(compared: Comparison, key: FindingKey) -> str:
    """For people: "new", "open since 2026-11-23", or "" when there is nothing to compare with."""
    since = compared.since.get(key)
    return f"open since {since:%Y-%m-%d}" if since is not None else standing(compared, key)


def summary(done: Audit, at: str) -> str:
    """All changes in one sentence; `at` is the moment of the audit that it is compared with, as it is shown there."""
    compared = done.compared
    if compared.previous is None:
        return "There is no earlier audit to compare with."
    still = len(compared.since)
    told = f"{len(done.report.findings) - still} new, {still} still open, {len(compared.fixed)} fixed"
    if compared.unseen:
        told += f"; {counted(len(compared.unseen), 'finding')} of a look at folders that this audit did not look into"
    return f"Since the audit of {at}: {told}."


def tell(screen: Screen, done: Audit) -> None:
    """What changed, below the score."""
    previous = done.compared.previous
    screen.show(summary(done, screen.moment(previous.at) if previous else ""))
    if done.unkept is not None:
        screen.problem(done.unkept, prefix="This audit is not kept for the next one to compare with")
    for vault, problem in done.undelivered.items():
        screen.problem(problem, prefix=f"The signed record of this audit is not in {vault} yet")


def tell_fixed(screen: Screen, done: Audit) -> None:
    """What is fixed, and what nobody looked at this time."""
    for title, findings in (("Fixed", done.compared.fixed), ("Not looked at this time", done.compared.unseen)):
        if findings:
            screen.show("")
            screen.show(f"{title}:")
        for finding in findings[:_SHOWN]:
            screen.show(f"  {finding.title}: {finding.key.subject} (open since {finding.since:%Y-%m-%d})")
        if len(findings) > _SHOWN:
            screen.show(f"  … and {len(findings) - _SHOWN} more (--json lists all)")


def as_document(done: Audit) -> documents.Document:
    """What the JSON of `audit` says of the comparison."""
    compared = done.compared
    return {
        "compared_with": _audit(compared.previous) if compared.previous else None,
        "fixed": [_finding(each) for each in compared.fixed],
        "not_looked_at": [_finding(each) for each in compared.unseen],
        "kept": done.kept,
        "not_kept": error_document(done.unkept) if done.unkept else None,
        "vault_errors": documents.vault_errors(done.undelivered),
        "history": [_audit(each) for each in done.history],
    }


def of_finding(compared: Comparison, key: FindingKey) -> documents.Document:
    """What the JSON of `audit` says of the comparison at each finding."""
    return {"standing": standing(compared, key) or None, "since": utc(compared.since.get(key))}


def _audit(audit: KeptAudit) -> documents.Document:
    counts = {severity.value: number for severity, number in audit.counts.items()}
    return {"at": utc(audit.at), "score": audit.score, "counts": counts}


def _finding(finding: KeptFinding) -> documents.Document:
    return {
        "control": finding.key.control,
        "title": finding.title,
        "severity": finding.severity.value,
        "subject": finding.key.subject,
        "category": finding.category,
        "detail": finding.detail,
        "since": utc(finding.since),
    }
