"""Approvals as JSON: what is asked for, what was decided, and what was authorized, as signed records say it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import rfc8785

from cto_backups.core.governance import (
    Approval,
    Governance,
    Governed,
    GoverningDocument,
    Identity,
    Parameters,
    Who,
)
from cto_backups.evidence.payloads import Json, moment_from_text, moment_to_text

_LISTED = 100
"""How many entries of a list a record repeats; of more it holds number and digest."""


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A governing document as it was read before an action: its SHA-256, hexadecimal."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Authorization:
    """That an action may be carried out now: who does it, on which approval (None: none is needed), after reading what.

    `action` with `parameters` is all that it holds for.
    """

    action: Governed
    parameters: Parameters
    by: Identity
    host: str
    at: datetime
    approval: str | None = None
    documents: tuple[ReadDocument, ...] = ()


def action_digest(action: Governed, parameters: Parameters) -> str:
    """What an approval is bound to: the SHA-256 of an action and its parameters in canonical JSON (RFC 8785)."""
    return _digest({"action": action.value, "parameters": dict(parameters)})


def _digest(said: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(said)).hexdigest()


def identity_to_payload(identity: Identity) -> Json:
    """A user as JSON; what in a name is no text is an escape, in records and in the catalog alike."""
    sudo_user = None if identity.sudo_user is None else _speakable(identity.sudo_user)
    return {"login": _speakable(identity.login), "uid": identity.uid, "sudo_user": sudo_user}


def _speakable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def identity_from_payload(payload: Mapping[str, Any]) -> Identity:
    """A user from JSON."""
    return Identity(payload["login"], int(payload["uid"]), payload["sudo_user"])


def request_to_payload(approval: Approval) -> Json:
    """What is to be approved, as JSON."""
    return {
        "id": approval.id,
        "action": approval.action.value,
        "parameters": _shortened(approval.parameters),
        "action_digest": approval.digest,
        "summary": approval.summary,
        "who": approval.who.value,
        "requested_at": moment_to_text(approval.requested_at),
        "requested_by": identity_to_payload(approval.requested_by),
        "expires_at": moment_to_text(approval.expires_at),
    }


def request_from_payload(payload: Mapping[str, Any]) -> Approval:
    """What was asked for. Where a long list was told by its digest, `digest` is still that of all of it."""
    return Approval(
        id=payload["id"],
        action=Governed(payload["action"]),
        parameters=dict(payload["parameters"]),
        digest=payload["action_digest"],
        summary=payload["summary"],
        who=Who(payload["who"]),
        requested_at=moment_from_text(payload["requested_at"]),
        requested_by=identity_from_payload(payload["requested_by"]),
        expires_at=moment_from_text(payload["expires_at"]),
    )


def decided_by_payload(asked: Approval, payload: Mapping[str, Any]) -> Approval:
    """What was asked for, with the decision that a record tells. To approve a shorter retention uses the approval."""
    at, by = moment_from_text(payload["decided_at"]), identity_from_payload(payload["decided_by"])
    decided = replace(
        asked,
        decided_at=at,
        decided_by=by,
        granted=bool(payload["granted"]),
        reason=payload["reason"],
        expires_at=moment_from_text(payload["expires_at"]),
    )
    if decided.granted and decided.action is Governed.SHORTER_RETENTION:
        return replace(decided, used_at=at, used_by=by)
    return decided


def decision_to_payload(approval: Approval, documents: Iterable[ReadDocument]) -> Json:
    """What was decided of a request, as JSON. Raises ValueError when nothing was."""
    if approval.decided_at is None or approval.decided_by is None:
        raise ValueError(f"{approval.id} is not decided")
    return {
        "id": approval.id,
        "action": approval.action.value,
        "action_digest": approval.digest,
        "granted": approval.granted,
        "reason": approval.reason,
        "decided_at": moment_to_text(approval.decided_at),
        "decided_by": identity_to_payload(approval.decided_by),
        "expires_at": moment_to_text(approval.expires_at),
        "documents": _documents(documents),
    }


def rules_to_text(rules: Governance | None) -> str:
    """The rules of governance as canonical JSON; empty where there are none."""
    if rules is None:
        return ""
    said: Json = {
        "documents": [
            {"name": each.name, "path": each.path, "governs": sorted(action.value for action in each.governs)}
            for each in rules.documents
        ],
        "approvals": {action.value: who.value for action, who in rules.approvals.items()},
        "approvers": list(rules.approvers),
        "valid_for_seconds": int(rules.valid_for.total_seconds()),
    }
    return rfc8785.dumps(said).decode()


def rules_from_text(text: str) -> Governance | None:
    """The rules that `rules_to_text` wrote. Raises ValueError, LookupError or TypeError for what it cannot have."""
    if not text:
        return None
    said = json.loads(text)
    return Governance(
        documents=tuple(
            GoverningDocument(str(each["name"]), str(each["path"]), frozenset(map(Governed, each["governs"])))
            for each in said["documents"]
        ),
        approvals={Governed(action): Who(who) for action, who in said["approvals"].items()},
        approvers=tuple(map(str, said["approvers"])),
        valid_for=timedelta(seconds=said["valid_for_seconds"]),
    )


def authorization_to_payload(authorization: Authorization) -> Json:
    """What may be carried out, as JSON."""
    return {
        "action": authorization.action.value,
        "parameters": _shortened(authorization.parameters),
        "action_digest": action_digest(authorization.action, authorization.parameters),
        "approval": authorization.approval,
        "documents": _documents(authorization.documents),
        "by": identity_to_payload(authorization.by),
        "host": authorization.host,
        "at": moment_to_text(authorization.at),
    }


def _documents(documents: Iterable[ReadDocument]) -> list[Json]:
    return [{"name": each.name, "sha256": each.sha256} for each in documents]


def _shortened(parameters: Parameters) -> Json:
    """The parameters with long lists told by number and digest: a prune may name a hundred thousand packs."""
    return {name: _few(part) if isinstance(part, list | tuple) else part for name, part in parameters.items()}


def _few(entries: list[object] | tuple[object, ...]) -> object:
    every = list(entries)
    return every if len(every) <= _LISTED else {"count": len(every), "sha256": _digest(every)}
