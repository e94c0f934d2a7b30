"""An audit as SARIF, CSV and an HTML page: complete, valid, and harmless whatever resources are called."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from cto_backups.cli.audit_formats import as_csv, as_sarif
from cto_backups.cli.audit_page import as_html
from cto_backups.core.assurance import judge
from cto_backups.core.audit_comparison import Comparison, FindingKey, KeptAudit, KeptFinding, keyed
from cto_backups.core.auditing import audit
from cto_backups.core.controls import CONTROLS, Environment
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.facts import CopyFacts, Facts, SourceFacts
from cto_backups.core.findings import Severity
from cto_backups.core.model import ActionKind, Copy, Fingerprint, Outcome, RecoveryPoint, Resource, Run
from cto_backups.core.policy import LockMode, Policy, SourcePolicy, VaultPolicy
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import parse_triggers
from cto_backups.errors import SourceError
from cto_backups.flows.audit import Audit

NOW = datetime(2026, 3, 18, 12, 0, tzinfo=UTC)
SCRIPT = "<script>alert('x')</script>"

# What of SARIF 2.1.0 these logs use, as its schema has it: every object is closed there but property bags.
MESSAGE = {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
BAG = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True, "items": {"type": "string"}}}}


def closed(required: str, **properties: Any) -> dict[str, Any]:
    """The schema of an object without other properties."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required.split(),
    }


def array(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The schema of a list."""
    return {"type": "array", "items": items, **more}


RULE = closed(
    "id",
    id={"type": "string"},
    name={"type": "string"},
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=MESSAGE,
    defaultConfiguration=closed("", level=LEVEL),
    properties=BAG,
)
LOCATION = closed(
    "",
    physicalLocation=closed(
        "artifactLocation",
        artifactLocation=closed("", uri={"type": "string", "pattern": "^[^ ]+$"}),
        region=closed("", startLine={"type": "integer", "minimum": 1}),
    ),
    logicalLocations=array(closed("", name={"type": "string"}, kind={"type": "string"})),
)
RESULT = closed(
    "message",
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": -1},
    kind={"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
    level=LEVEL,
    message=MESSAGE,
    locations=array(LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    baselineState={"enum": ["new", "unchanged", "updated", "absent"]},
    properties=BAG,
)
INVOCATION = closed(
    "executionSuccessful",
    executionSuccessful={"type": "boolean"},
    endTimeUtc={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
    toolExecutionNotifications=array(closed("message", level=LEVEL, message=MESSAGE)),
)
DRIVER = closed("name", name={"type": "string"}, version={"type": "string"}, rules=array(RULE, uniqueItems=True))
RUN = closed(
    "tool",
    tool=closed("driver", driver=DRIVER),
    invocations=array(INVOCATION),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results=array(RESULT),
)
SARIF = {
    **closed("version runs", version={"enum": ["2.1.0"]}, runs=array(RUN), **{"$schema": {"type": "string"}}),
}


def audited(now: datetime = NOW, *, business: str = "acme", stray: str = "stray") -> Audit:
    """The audit of a source with one of two copies, a failed backup and copy, and a resource that nobody covers."""
    vaults = {
        name: VaultPolicy(
            name, f"file:/{name}", "disk", "here", "disk", lock_mode=LockMode(lock), off_site=name == "far"
        )
        for name, lock in (("near", "none"), ("far", "compliance"), ("spare", "none"))
    }
    source = SourcePolicy(
        "ledger",
        "files",
        CATEGORIES["B"],
        parse_triggers("every 6 h"),
        parse_retention("90 days"),
        timedelta(days=30),
        ("near", "far"),
    )
    policy = Policy(business, "UTC", {"ledger": source}, vaults, CATEGORIES, CLASSES, (), "0123456789abcdef")
    made = NOW - timedelta(hours=1)
    fingerprint = Fingerprint("files/1", {}, {})
    point = RecoveryPoint(
        "p1", "ledger", "files", "B", business, made, made, made, 1, 1, 1, "r", ("/data",), fingerprint, "d"
    )  # fmt: skip
    known = SourceFacts(
        "ledger",
        newest=point,
        newest_any=point,
        copies=(CopyFacts(Copy("p1", "near", "s1", made, 1), read_at=made, read_passed=True),),
        last_runs={
            kind: Run(1, kind, "ledger", None, None, made, made, Outcome.FAILED, message="disk full")
            for kind in (ActionKind.BACKUP, ActionKind.COPY)
        },
    )
    facts = Facts(sources={"ledger": known}, resources={"": (Resource(stray, "git", "/home/x"),)})
    report = audit(policy, facts, judge(policy, facts, now), now, Environment())
    return Audit(report, {"ledger": SourceError("The folder /data is away")}, now, policy, facts)


# -- SARIF


def test_sarif_is_valid_and_says_every_control_and_finding() -> None:
    done = audited()
    log = as_sarif(done, "my backups.yaml")
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [control.id for control in CONTROLS]
    assert len(run["results"]) == len(done.report.findings) > 5
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    levels = {(result["properties"]["severity"], result["level"]) for result in run["results"]}
    assert levels == {("critical", "error"), ("high", "error"), ("medium", "warning"), ("low", "note")}
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "my%20backups.yaml"}
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"] == "Not looked at: ledger: The folder /data is away"


def test_a_fingerprint_in_sarif_is_the_same_tomorrow_and_of_one_finding_only() -> None:
    def fingerprints(done: Audit) -> list[str]:
        (run,) = as_sarif(done, "backups.yaml")["runs"]
        return [each["partialFingerprints"]["controlAndSubject/v1"] for each in run["results"]]

    today, later = fingerprints(audited()), fingerprints(audited(NOW + timedelta(hours=3)))
    assert today == later, "although ages in the details differ"
    assert len(set(today)) == len(today), "also of two findings of one control about one subject"


# -- CSV


def test_csv_has_a_line_for_each_check_and_each_control_that_does_not_apply() -> None:
    done = audited()
    lines = list(csv.DictReader(io.StringIO(as_csv(done))))
    assert len(lines) == sum(max(len(result.checks), 1) for result in done.report.results)
    results = [line["result"] for line in lines]
    assert results.count("failed") == len(done.report.findings)
    assert results.count("not applicable") == len(done.report.not_applicable) > 0
    (rpo,) = (line for line in lines if line["control"] == "rpo")
    assert (rpo["subject"], rpo["category"], rpo["severity"], rpo["result"]) == ("ledger", "B", "critical", "passed")
    assert "SOC 2 A1.2; " in rpo["clauses"]


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x"])
def test_a_spreadsheet_calculates_nothing_that_a_resource_is_called(name: str) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(audited(stray=name)))))
    assert [line["subject"] for line in lines if line["control"] == "coverage"] == [f"'{name}"]


# -- HTML


class Page(HTMLParser):
    """A page's text and tags; a tag that is not closed, or closed out of turn, fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_the_page_says_every_finding_with_its_remedy_and_every_clause() -> None:
    done = audited()
    text = Page(as_html(done)).text
    for finding in done.report.findings:
        assert finding.detail in text
        assert finding.remedy in text
        assert all(clause.number in text for clause in finding.clauses)
    assert all(control.title in text for control in done.report.not_applicable)
    assert f"{done.report.score} of 100" in text
    assert "The folder /data is away" in text


def test_the_page_says_in_words_which_copies_there_are_and_what_passed() -> None:
    words = Page(as_html(audited())).words
    for word in ("copy; read 2026-03-18", "MISSING", "1 of 2", "off-site", "lock: compliance", "pass", "FAIL"):
        assert word in words, word
    assert "DAMAGED" not in words
    done = audited()
    known = done.facts.sources["ledger"]
    broken = replace(known, copies=(replace(known.copies[0], read_passed=False),))
    assert "DAMAGED" in Page(as_html(replace(done, facts=replace(done.facts, sources={"ledger": broken})))).words


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    text = as_html(audited(business=SCRIPT, stray=SCRIPT))
    page = Page(text)
    assert text.isascii()
    assert not {tag for tag, _ in page.seen} & {"script", "link", "img", "iframe", "object", "form", "a"}
    assert not any(name in ("src", "href") or name.startswith("on") for _, names in page.seen for name in names)
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert SCRIPT in page.text, "as text"


def test_the_page_of_a_policy_with_nothing_in_it_is_whole() -> None:
    done = audited()
    policy = replace(done.policy, sources={}, vaults={})
    report = audit(policy, Facts(), {}, NOW, Environment())
    text = Page(as_html(Audit(report, {}, NOW, policy, Facts()))).text
    assert "Nothing is wrong." in text
    assert "No category has checks of its own." in text


# -- against the audit before it


def compared(subject: str = "gone") -> Audit:
    """An audit whose first finding was there before, and one more that is fixed, and one that nobody looked at."""
    done = audited(stray=SCRIPT)
    (first, *_) = keyed(done.report.findings)
    before = NOW - timedelta(days=3)
    fixed = KeptFinding(FindingKey("owner", subject), "Every source has an owner", Severity.LOW, "none", "B", before)
    unseen = replace(fixed, key=FindingKey("coverage", subject), title="Covered", by_look=True)
    previous = KeptAudit(before, 40, {Severity.HIGH: 7})
    history = (KeptAudit(NOW, 50, done.report.counts), previous)
    return replace(
        done, compared=Comparison(previous, {first: before}, (fixed,), (unseen,)), history=history, kept=True
    )


def test_the_page_says_what_changed_and_how_the_score_went() -> None:
    done = compared(SCRIPT)
    page = Page(as_html(done))
    new = len(done.report.findings) - 1
    told = f"Since the audit of 2026-03-15 12:00 UTC: {new} new, 1 still open, 1 fixed; 1 finding of a look at folders"
    assert told in page.text
    assert "(open since 2026-03-15)" in page.text
    assert page.words.count("(new)") == new
    assert page.text.index("Fixed") < page.text.index("Not looked at this time") < page.text.index("History")
    assert "40 of 100" in page.text
    assert "script" not in {tag for tag, _ in page.seen}
    assert page.text.count(SCRIPT) >= 2, "as text"
    assert "There is no earlier audit" in Page(as_html(audited())).text


def test_sarif_says_of_each_result_whether_it_was_there_before() -> None:
    done = compared()
    log = as_sarif(done, "backups.yaml")
    jsonschema.validate(log, SARIF)
    states = [each["baselineState"] for each in log["runs"][0]["results"]]
    assert states == ["unchanged", *(["new"] * (len(done.report.findings) - 1))]


def test_csv_has_a_line_for_what_is_fixed() -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(compared("=cmd()")))))
    (fixed,) = (line for line in lines if line["result"] == "fixed")
    assert (fixed["control"], fixed["subject"], fixed["standing"]) == ("owner", "'=cmd()", "fixed")
    assert fixed["since"] == "2026-03-15T12:00:00.000000Z"
    assert "CP-2" in fixed["clauses"]
    assert [line["standing"] for line in lines if line["result"] == "failed"].count("open") == 1
