"""Recollect: bring into the catalog what people decided and were told, as signed records tell it.

Legal holds, clearances, alerts, approvals, accepted rules of governance and versions of documents; and which
retentions applied, so that one that was shortened waits although the catalog that knew the longer one is lost. Of
approvals only this installation's own count: nobody can have given it others.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from cto_backups import clock
from cto_backups.core.alerts import Alert
from cto_backups.core.expiry import history
from cto_backups.core.governance import Approval, Governed
from cto_backups.core.keeping import RetentionChange, RetentionSeen
from cto_backups.evidence import statements
from cto_backups.evidence.approvals import ReadDocument, decided_by_payload
from cto_backups.evidence.records import Record
from cto_backups.flows.governance import review_retentions
from cto_backups.flows.installation import Installation
from cto_backups.flows.rebuilt import Rebuilt, in_batches
from cto_backups.flows.rules import review

RetentionsIn = Callable[[bytes], Mapping[str, str]]
"""The written retention of each source in the text of a policy; of one that cannot be read, none."""


def none_known(text: bytes) -> Mapping[str, str]:
    """No retention of any source: where nobody can read the texts of policies."""
    return {}


def recollect(installation: Installation, own: Sequence[str], rebuilt: Rebuilt, retentions_in: RetentionsIn) -> None:
    """Bring in what the records of these signers say, this installation's own first; points have been brought in."""
    _take_holds(installation, own, rebuilt)
    _take_alerts(installation, own, rebuilt)
    _take_rules(installation, own, rebuilt)
    approvals = _take_approvals(installation, rebuilt)
    _take_retentions(installation, own, rebuilt, approvals, retentions_in)


def _told(installation: Installation, signers: Iterable[str], kind: str) -> Iterator[Record]:
    for signer in signers:
        yield from installation.catalog.takeover.delivered_records(signer, kind)


def _take_holds(installation: Installation, own: Iterable[str], rebuilt: Rebuilt) -> None:
    """Legal holds, each placed before it is released: what a court asks for is not forgotten with a catalog.

    And who cleared points under suspicion; that they are, their own records say.
    """
    for signer in own:
        for batch in in_batches(installation.catalog.takeover.delivered_records(signer, "clearance")):
            rebuilt.clearances += installation.catalog.marks.take(
                [r for r in batch if rebuilt.sound(r, statements.clearance)]
            )
        for kind in ("hold", "release"):
            for batch in in_batches(installation.catalog.takeover.delivered_records(signer, kind)):
                sound = [record for record in batch if rebuilt.sound(record, statements.hold)]
                rebuilt.holds += installation.catalog.takeover.take_holds(sound)


def _take_alerts(installation: Installation, own: Iterable[str], rebuilt: Rebuilt) -> None:
    """Alerts as the last record of each tells: an open one is repeated, acknowledged and closed like any other."""
    last: dict[str, Alert] = {}
    for record in _told(installation, own, "alert"):
        if alert := rebuilt.sound(record, statements.alert):
            before = last.get(alert.id)
            stepped_at = alert.stepped_at or (before.stepped_at if before else None)
            last[alert.id] = replace(alert, stepped_at=stepped_at)
    for batch in in_batches(last.values()):
        rebuilt.alerts += installation.catalog.alerts.take(batch)


def _take_rules(installation: Installation, own: Iterable[str], rebuilt: Rebuilt) -> None:
    """The rules of governance that were accepted last: a policy that asks for less does not bind with a new catalog."""
    told = [
        said
        for kind in ("policy", "authorization")
        for record in _told(installation, own, kind)
        if (said := rebuilt.sound(record, statements.rules))
    ]
    if not told:
        return
    text, accepted_at = max(told, key=lambda said: said[1])
    if installation.catalog.approvals.take_rules(text, accepted_at):
        _, notices = review(installation)
        rebuilt.remarks.extend(notices)


def _take_approvals(installation: Installation, rebuilt: Rebuilt) -> Sequence[Approval]:
    """What was asked for, decided and used, and the versions of documents that were accepted last."""
    own = [installation.signer.signer]
    known: dict[str, Approval] = {}
    for record in _told(installation, own, "approval-request"):
        if asked := rebuilt.sound(record, statements.request):
            known[asked.id] = asked
    for record in _told(installation, own, "approval"):
        if rebuilt.sound(record, statements.decision) and record.payload["id"] in known:
            known[record.payload["id"]] = decided_by_payload(known[record.payload["id"]], record.payload)
    accepted: dict[str, ReadDocument] = {}
    for record in _told(installation, own, "authorization"):
        if said := rebuilt.sound(record, statements.authorization):
            used, at, by, documents = said
            accepted |= {document.name: document for document in documents}
            if used in known:
                known[used] = replace(known[used], used_at=at, used_by=by)
    approvals = tuple(known.values())
    if approvals or accepted:
        now = clock.now()
        rebuilt.approvals += installation.catalog.approvals.take(approvals, tuple(accepted.values()), now)
    return approvals


def _take_retentions(
    installation: Installation,
    own: Iterable[str],
    rebuilt: Rebuilt,
    approvals: Sequence[Approval],
    retentions_in: RetentionsIn,
) -> None:
    """Which retentions applied: by the records of their changes, or else as it was when the newest point was made."""
    approved = {
        (each.parameters.get("source"), each.parameters.get("becomes"), each.parameters.get("first_seen"))
        for each in approvals
        if each.granted and each.action is Governed.SHORTER_RETENTION
    }
    changes: dict[str, list[RetentionChange]] = defaultdict(list)
    for record in _told(installation, own, "policy"):
        if change := rebuilt.sound(record, statements.retention):
            given = (change.source, change.after, record.payload["first_seen"]) in approved
            changes[change.source].append(replace(change, approved=given))
    histories = _when_last_protected(installation, retentions_in)
    histories |= {
        source: history(sorted(each, key=lambda change: change.first_seen)) for source, each in changes.items()
    }
    rebuilt.retentions = installation.catalog.retentions.take(histories)
    if rebuilt.retentions:
        rebuilt.remarks.extend(review_retentions(installation).notices)


def _when_last_protected(
    installation: Installation, retentions_in: RetentionsIn
) -> dict[str, tuple[RetentionSeen, ...]]:
    """The retention of each source by the policy under which its newest point was made."""
    facts = installation.catalog.facts(clock.now(), list(installation.policy.sources))
    read: dict[str, Mapping[str, str]] = {}
    found: dict[str, tuple[RetentionSeen, ...]] = {}
    for name, known in facts.sources.items():
        point = known.newest_any
        if point is None:
            continue
        if point.policy_digest not in read:
            text = installation.catalog.takeover.policy(point.policy_digest)
            read[point.policy_digest] = {} if text is None else retentions_in(text)
        if name in read[point.policy_digest]:
            found[name] = (RetentionSeen(read[point.policy_digest][name], point.captured_at, settled=True),)
    return found
