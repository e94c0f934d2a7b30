"""Governance: read what governs destructive work, ask for approvals, and sign what may be carried out."""

import hashlib
import pwd
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from cto_backups import clock
from cto_backups.core.expiry import needs_approval, waiting
from cto_backups.core.facts import Facts
from cto_backups.core.governance import (
    Approval,
    Governance,
    Governed,
    GoverningDocument,
    Identity,
    Parameters,
    Standing,
    Who,
    doubts,
    objections,
)
from cto_backups.core.governing_rules import in_force
from cto_backups.core.prohibitions import parse_prohibitions
from cto_backups.core.wording import counted
from cto_backups.errors import ApprovalNeededError, BackupsError, GovernanceError, RefusedError
from cto_backups.evidence.approvals import Authorization, ReadDocument, action_digest
from cto_backups.flows import records
from cto_backups.flows.installation import Installation

LARGEST_BYTES = 16 * 1024 * 1024
"""A governing document is read whole."""


@dataclass(frozen=True)
class Decided:
    """An approval as it was decided, and which vaults do not have the signed record of it yet, and why."""

    approval: Approval
    problems: dict[str, BackupsError]


@dataclass(frozen=True)
class Reviewed:
    """What a look at the policy found: sources whose removal is not accepted, and sentences to be told."""

    keep: frozenset[str] = frozenset()
    notices: tuple[str, ...] = ()


def identity(installation: Installation) -> Identity:
    """Who runs this, as the operating system has it."""
    return Identity(installation.user, installation.uid, installation.sudo_user)


def binding_rules(installation: Installation) -> Governance | None:
    """The rules at this moment: what the policy asks for, and what was accepted since it was read."""
    rules = in_force(installation.catalog.approvals.rules(), installation.policy.governance)
    if rules is not None and rules.approvers and not any(map(_is_somebody, rules.approvers)):
        # A name that was mistyped, or people who have left, must not keep everybody from a recovery for ever.
        return replace(rules, approvers=())
    return rules


def _is_somebody(name: str) -> bool:
    if name.isdecimal():
        return True
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


# -- before something is destroyed -------------------------------------------------------------------------------------


def admit(
    installation: Installation,
    action: Governed,
    parameters: Parameters,
    *,
    summary: str,
    asking: Parameters | None = None,
    approval: bool = True,
) -> None:
    """Let an action be carried out now, just once, and sign that; without a governance section nothing is asked.

    The governing documents are read, and an approval that covers the action is used up. Where there is none, one is
    asked for: for the action, or for `asking` where that is to cover it later. Without `approval` only documents count.
    Raises GovernanceError, ApprovalNeededError.
    """
    governance = binding_rules(installation)
    if governance is None:
        return
    documents = read(installation, action)
    who = governance.approved_by(action) if approval else None
    if who is None and not documents:
        return
    chosen = None if who is None else _given(installation, governance, action, parameters)
    if who is not None and chosen is None:
        raise _needed(_ask(installation, governance, action, asking or parameters, who, summary), summary)
    _authorize(installation, action, parameters, documents, chosen.id if chosen else None)


def admit_points(installation: Installation, source: str, points: Collection[str]) -> frozenset[str]:
    """Let points be dropped, and sign that: all of these, or those that an approval names, where policy asks for one.

    Points come due while an approval is waited for: just those that it names are dropped, and only if all of them
    are due still. Raises GovernanceError, ApprovalNeededError.
    """
    governance, action = binding_rules(installation), Governed.EXPIRE
    chosen = frozenset(points)
    if governance is not None and governance.approved_by(action) is not None:
        known = [each for each in installation.catalog.approvals.unused(action, clock.now()) if _fits(each, source)]
        fitting = [frozenset(map(str, _points(each))) for each in sorted(known, key=lambda each: not each.granted)]
        chosen = next((each for each in fitting if each <= chosen), chosen)
    summary = f"Dropping {counted(len(chosen), 'point')} of source '{source}'"
    admit(installation, action, {"source": source, "points": sorted(chosen)}, summary=summary)
    return chosen


def _fits(approval: Approval, source: str) -> bool:
    return approval.parameters.get("source") == source and bool(_points(approval))


def _points(approval: Approval) -> Sequence[object]:
    points = approval.parameters.get("points")
    return points if isinstance(points, list | tuple) else ()


def _given(
    installation: Installation, governance: Governance, action: Governed, parameters: Parameters
) -> Approval | None:
    now = clock.now()
    for approval in installation.catalog.approvals.unused(action, now):
        if approval.covers(action, parameters) and not doubts(governance, approval, now):
            return approval
    return None


def _authorize(
    installation: Installation,
    action: Governed,
    parameters: Parameters,
    documents: Sequence[ReadDocument],
    approval: str | None,
) -> None:
    authorization = Authorization(
        action, parameters, identity(installation), installation.host, clock.now(), approval, tuple(documents)
    )
    installation.catalog.approvals.authorize(authorization, installation.signer)
    records.deliver_everywhere(installation)  # before anything is done; a vault that is away gets it later


def _ask(
    installation: Installation,
    governance: Governance,
    action: Governed,
    parameters: Parameters,
    who: Who,
    summary: str,
) -> Approval:
    """The request for just this, made now where there is none."""
    now = clock.now()
    digest = action_digest(action, parameters)
    for known in installation.catalog.approvals.unused(action, now):
        if (known.digest, known.who) == (digest, who) and not known.granted:
            return known
    wanted = Approval(
        id=f"approval-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        action=action,
        parameters=parameters,
        digest=digest,
        summary=summary,
        who=who,
        requested_at=now,
        requested_by=identity(installation),
        expires_at=now + governance.valid_for,
    )
    asked = installation.catalog.approvals.ask(wanted, installation.signer)
    records.deliver_everywhere(installation)
    return asked


def _needed(request: Approval, summary: str) -> ApprovalNeededError:
    if request.standing(clock.now()) is Standing.DENIED:
        return ApprovalNeededError(
            f"{summary} was denied",
            why=f"by {request.decided_by}: {request.reason}",
            todo=f"Nothing was changed. It can still be approved: cto.backups approve {request.id}",
        )
    second = request.who is Who.SECOND_PERSON
    whose = "an approval by a second person" if second else "an approval"
    return ApprovalNeededError(
        f"{summary} needs {whose}: {request.id}",
        why=f"the policy says so; {request.requested_by} asked for it, and it waits until "
        f"{request.expires_at:%Y-%m-%d %H:%M} UTC",
        todo=f"{'Let somebody else run' if second else 'Run'}: cto.backups approve {request.id} --reason TEXT, "
        "then run this again. Nothing was changed.",
    )


# -- governing documents -----------------------------------------------------------------------------------------------


def read(installation: Installation, action: Governed) -> tuple[ReadDocument, ...]:
    """Read the documents that govern an action.

    Raises GovernanceError for one that is missing or cannot be read, that forbids the action, or has changed without an
    approval.
    """
    governance = binding_rules(installation)
    if governance is None:
        return ()
    return tuple(_read(installation, governance, document, action) for document in governance.governing(action))


def _read(
    installation: Installation, governance: Governance, document: GoverningDocument, action: Governed
) -> ReadDocument:
    content = _content(document, action)
    _heed(content, document, action, ZoneInfo(installation.policy.timezone))
    found = ReadDocument(document.name, hashlib.sha256(content).hexdigest())
    accepted = installation.catalog.approvals.accepted(document.name)
    if accepted is None:
        installation.catalog.approvals.accept(found, clock.now())
    elif accepted != found.sha256:
        _accept_change(installation, governance, found, accepted)
    return found


def inspect(installation: Installation) -> dict[str, str]:
    """What is wrong with each governing document, in words; nothing is asked for, and nothing accepted."""
    governance = binding_rules(installation)
    return {} if governance is None else {each.name: _fault(installation, each) for each in governance.documents}


def _fault(installation: Installation, document: GoverningDocument) -> str:
    try:
        content = _content(document, Governed.EXPIRE)
        parse_prohibitions(content.decode("utf-8", "replace"))
    except (GovernanceError, ValueError) as error:
        return error.why if isinstance(error, GovernanceError) else str(error)
    accepted = installation.catalog.approvals.accepted(document.name)
    changed = accepted not in (None, hashlib.sha256(content).hexdigest())
    return "it has changed since it was accepted" if changed else ""


def _content(document: GoverningDocument, action: Governed) -> bytes:
    """The bytes of a governing document. Raises GovernanceError."""
    path = Path(document.path)
    why = ""
    try:
        if not path.is_file():
            why = "it is missing" if not path.exists() else "it is no file"
        elif path.stat().st_size > LARGEST_BYTES:
            why = f"it has more than {LARGEST_BYTES >> 20} MiB"
        else:
            return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
    raise GovernanceError(
        f"Refused: {document.name} governs '{action}', and cannot be read",
        why=f"{path}: {why}",
        todo="Put it back, and let this user read it. If it governs no more, take it out of 'governance: documents:'.",
    )


def _heed(content: bytes, document: GoverningDocument, action: Governed, zone: ZoneInfo) -> None:
    """Raise GovernanceError when the document forbids the action now, or says something that is not understood."""
    try:
        prohibitions = parse_prohibitions(content.decode("utf-8", "replace"))
    except ValueError as error:
        raise GovernanceError(
            f"Refused: {document.name} governs '{action}', and says something that is not understood",
            why=str(error),
            todo="Correct the line 'cto.backups:' in its front matter.",
        ) from None
    for rule in prohibitions:
        if rule.forbids(action, clock.now(), zone):
            until = f" until the end of {rule.until}" if rule.until else ""
            raise GovernanceError(
                f"Refused: {document.name} forbids '{action}'{until}",
                why=f"{document.path} says so in its front matter",
                todo="Do it when it is allowed again. Nothing was changed.",
            )


def _accept_change(installation: Installation, governance: Governance, found: ReadDocument, accepted: str) -> None:
    action = Governed.DOCUMENT_CHANGE
    parameters = {"document": found.name, "was": accepted, "becomes": found.sha256}
    approval = _given(installation, governance, action, parameters)
    if approval is None:
        who = governance.approved_by(action) or Who.ANYONE
        summary = f"The change of the governing document {found.name}"
        raise _needed(_ask(installation, governance, action, parameters, who, summary), summary)
    _authorize(installation, action, parameters, (found,), approval.id)


# -- people ------------------------------------------------------------------------------------------------------------


def decide(installation: Installation, name: str, *, grant: bool, reason: str) -> Decided:
    """Approve what was asked for, or deny it. Raises NotFoundError, RefusedError, GovernanceError."""
    governance = binding_rules(installation) or Governance()
    now, who = clock.now(), identity(installation)
    asked = installation.catalog.approvals.named(name)
    _refuse(governance, asked, who, grant=grant)
    documents = read(installation, asked.action) if grant else ()

    def decided(current: Approval) -> Approval:
        _refuse(governance, current, who, grant=grant)
        until = now + governance.valid_for if grant else current.expires_at
        return replace(current, decided_at=now, decided_by=who, granted=grant, reason=reason, expires_at=until)

    done = installation.catalog.approvals.decide(asked.id, decided, documents, installation.signer)
    return Decided(done, records.deliver_everywhere(installation))


def _refuse(governance: Governance, approval: Approval, who: Identity, *, grant: bool) -> None:
    if found := objections(governance, approval, who, clock.now(), grant=grant):
        raise RefusedError(
            f"{approval.id} cannot be {'approved' if grant else 'denied'} by {who.login}",
            why="; ".join(found),
            todo="See 'cto.backups approvals --all' for what was asked for, by whom, and what became of it.",
        )


# -- the policy itself -------------------------------------------------------------------------------------------------


def review_sources(installation: Installation) -> Reviewed:
    """Look for sources that were taken out of the policy; those whose removal is not accepted are to be kept active."""
    policy = installation.policy
    if binding_rules(installation) is None:
        return Reviewed()
    keep, notices = set(), []
    for name in installation.catalog.active_sources():
        if name in policy.sources:
            continue
        try:
            summary = f"Taking source '{name}' out of the policy"
            admit(installation, Governed.SOURCE_REMOVAL, {"source": name}, summary=summary)
        except GovernanceError as error:
            keep.add(name)
            notices.append(f"{error}. {error.todo}")
    return Reviewed(frozenset(keep), tuple(notices))


def review_retentions(installation: Installation) -> Reviewed:
    """Note the retentions of the policy; of one that was shortened ask for the approval that it needs."""
    policy, now = installation.policy, clock.now()
    noted = installation.catalog.retentions.note(policy, installation.signer, installation.user, now)
    governance = policy.governance
    if governance is None or not needs_approval(policy):
        return Reviewed()
    who = governance.approved_by(Governed.SHORTER_RETENTION) or Who.ANYONE
    notices = []
    facts = Facts(retentions=noted)
    for name, source in policy.sources.items():
        before = waiting(source, facts, now, approval=True)
        becomes = noted[name][-1]
        if not before or becomes.approved:
            continue
        parameters: Mapping[str, object] = {
            "source": name,
            "becomes": becomes.text,
            "kept_by": [each.text for each in before],
            "first_seen": f"{becomes.since:%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        summary = f"Shortening the retention of source '{name}' from '{before[0].text}' to '{becomes.text}'"
        error = _needed(_ask(installation, governance, Governed.SHORTER_RETENTION, parameters, who, summary), summary)
        notices.append(f"{error}. {error.todo}")
    return Reviewed(notices=tuple(notices))
