"""Recollect: bring into the catalog what people decided and were told, as signed records tell it.

Legal holds, clearances, alerts, audits, approvals, accepted rules of governance and versions of documents; and which
retentions applied, so that one that was shortened waits although the catalog that knew the longer one is lost. Of
approvals only this installation's own count: nobody can have given it others.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.core.alerts import Alert
from cto_backups.core.governance import Approval, Governed
from cto_backups.core.keeping import RetentionTold
from cto_backups.core.wording import counted
from cto_backups.evidence import statements
from cto_backups.evidence.approvals import ReadDocument, action_digest, decided_by_payload
from cto_backups.evidence.records import Record
from cto_backups.flows.installation import Installation
from cto_backups.flows.rebuilt import Rebuilt, in_batches

if TYPE_CHECKING:
    from cto_backups.evidence.audits import ToldAudit

RetentionsIn = Callable[[bytes], Mapping[str, str]]
"""The written retention of each source in the text of a policy; of one that cannot be read, none."""


def none_known(text: bytes) -> Mapping[str, str]:
    """No retention of any source: where nobody can read the texts of policies."""
    return {}


def recollect(
    installation: Installation,
    signers: Sequence[str],
    own: Sequence[str],
    rebuilt: Rebuilt,
    retentions_in: RetentionsIn,
) -> None:
    """Bring in what records say; points have been brought in, and nobody has looked at the policy yet.

    `own` are this installation's signer and those that count like it; `signers` are they, and all others.
    """
    _take_holds(installation, signers, own, rebuilt)
    _take_alerts(installation, own, rebuilt)
    _take_audits(installation, own, rebuilt)
    _take_rules(installation, own, rebuilt)
    approvals = _take_approvals(installation, rebuilt)
    _take_policy(installation, signers, own, rebuilt, approvals, retentions_in)


def _told(installation: Installation, signers: Iterable[str], kind: str) -> Iterator[Record]:
    for signer in signers:
        mine = signer == installation.signer.signer
        yield from installation.catalog.takeover.delivered_records(signer, kind, all=mine)


def _take_holds(installation: Installation, signers: Iterable[str], own: Sequence[str], rebuilt: Rebuilt) -> None:
    """Legal holds, each placed before it is released: what a court asks for is not forgotten with a catalog.

    Whoever placed one: it keeps more. Only those who count release one, or say who cleared points under suspicion.
    """
    for kind, by, take in (
        ("clearance", own, installation.catalog.marks.take),
        ("hold", signers, installation.catalog.takeover.take_holds),
        ("release", own, installation.catalog.takeover.take_holds),
    ):
        read = statements.clearance if kind == "clearance" else statements.hold
        for batch in in_batches(_told(installation, by, kind)):
            taken = take([record for record in batch if rebuilt.sound(record, read)])
            if kind == "clearance":
                rebuilt.clearances += taken
            else:
                rebuilt.holds += taken


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


def _take_audits(installation: Installation, own: Iterable[str], rebuilt: Rebuilt) -> None:
    """Past audits in the order in which they were made, from the last one on that the catalog keeps, if any."""
    kept = installation.catalog.audits.last()
    told = (_audits_after(installation, signer, kept[0].at if kept else None, rebuilt) for signer in own)
    unlisted = 0
    for batch in in_batches(heapq.merge(*told, key=lambda each: each.audit.at)):
        rebuilt.audits += installation.catalog.audits.take(batch)
        unlisted += sum(each.unlisted for each in batch)
    if unlisted:
        rebuilt.remarks.append(
            f"{counted(unlisted, 'finding')} of past audits left out: a record lists the first thousand that are new "
            "or fixed, and counts the others. What is still wrong of these is new in the next audit."
        )


def _audits_after(
    installation: Installation, signer: str, last: datetime | None, rebuilt: Rebuilt
) -> "Iterator[ToldAudit]":
    for record in _told(installation, [signer], "audit"):
        told = rebuilt.sound(record, statements.audit)
        if told is not None and (last is None or told.audit.at > last):
            yield told


def _take_rules(installation: Installation, own: Sequence[str], rebuilt: Rebuilt) -> None:
    """The rules of governance that were accepted last: a policy that asks for less does not bind with a new catalog."""
    for signer in own:  # this installation's own come after those of a key that it had before
        told = [
            (record.sequence, said)
            for kind in ("policy", "authorization")
            for record in _told(installation, [signer], kind)
            if (said := rebuilt.sound(record, statements.rules))
        ]
        if told:
            _, (text, accepted_at) = max(told)
            installation.catalog.approvals.take_rules(text, accepted_at)
            return


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
    # One whose long list is told by its digest alone covers nothing any more: it is asked for anew.
    approvals = tuple(
        each for each in known.values() if each.used_at or action_digest(each.action, each.parameters) == each.digest
    )
    if approvals or accepted:
        now = clock.now()
        rebuilt.approvals += installation.catalog.approvals.take(approvals, tuple(accepted.values()), now)
    return approvals


def _take_policy(
    installation: Installation,
    signers: Iterable[str],
    own: Sequence[str],
    rebuilt: Rebuilt,
    approvals: Sequence[Approval],
    retentions_in: RetentionsIn,
) -> None:
    """Which retentions applied, by the records of their changes and by the policies under which points were made; and
    which sources the last of these policies had."""
    approved = {
        (each.parameters.get("source"), each.parameters.get("becomes"), each.parameters.get("first_seen"))
        for each in approvals
        if each.granted and each.action is Governed.SHORTER_RETENTION
    }
    told: dict[str, list[RetentionTold]] = defaultdict(list)
    for record in _told(installation, own, "policy"):
        if change := rebuilt.sound(record, statements.retention):
            source, before, after = change
            given = (source, after.text, record.payload["first_seen"]) in approved
            told[source] += [before, replace(after, approved=given)]
    policies = _Policies(installation, retentions_in)
    last: tuple[datetime, Mapping[str, str]] | None = None
    for (source, digest, believed), (first, newest) in _points_by_policy(installation, signers, own).items():
        retentions = policies[digest]
        if source in retentions:
            told[source].append(RetentionTold(retentions[source], first, believed=believed))
        if believed and retentions and (last is None or newest > last[0]):
            last = newest, retentions
    rebuilt.retentions = installation.catalog.retentions.take(
        {source: each for source, each in told.items() if source in installation.policy.sources}
    )
    removed = {rebuilt.sound(record, statements.removal) for record in _told(installation, own, "authorization")}
    if last is not None:
        installation.catalog.takeover.activate(last[1].keys() - installation.policy.sources.keys() - removed)


def _points_by_policy(
    installation: Installation, signers: Iterable[str], own: Sequence[str]
) -> dict[tuple[str, str, bool], tuple[datetime, datetime]]:
    """Of each source, each policy under which points of it were made, and whether who signed that is believed: the
    moments of the first and of the newest of these points."""
    found: dict[tuple[str, str, bool], tuple[datetime, datetime]] = {}
    for signer in signers:
        for record in _told(installation, [signer], "recovery-point"):
            try:
                point = statements.point(record)
            except statements.SENSELESS:
                continue  # told when points were brought in
            key, at = (point.source, point.policy_digest, signer in own), point.captured_at
            first, newest = found.get(key, (at, at))
            found[key] = min(first, at), max(newest, at)
    return found


class _Policies:
    """The retentions in each policy that was in force, each read once."""

    def __init__(self, installation: Installation, retentions_in: RetentionsIn) -> None:
        self._takeover, self._retentions_in = installation.catalog.takeover, retentions_in
        self._read: dict[str, Mapping[str, str]] = {}

    def __getitem__(self, digest: str) -> Mapping[str, str]:
        if digest not in self._read:
            text = self._takeover.policy(digest)
            self._read[digest] = {} if text is None else self._retentions_in(text)
        return self._read[digest]
