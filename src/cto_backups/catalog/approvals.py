"""Approvals in the catalog: asked for, decided and used together with the signed records that say so.

Each change looks at the row in the transaction that changes it: of two processes that use one approval, one succeeds.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from cto_backups.catalog import chain, retentions
from cto_backups.catalog.database import Connection, Database, insertion
from cto_backups.catalog.naming import row_named
from cto_backups.catalog.rows import (
    Row,
    UnreadableError,
    moment_from_column,
    moment_to_column,
    words_to_column,
)
from cto_backups.core.governance import Approval, Governance, Governed, Identity, Standing, Who
from cto_backups.errors import GovernanceError, RefusedError
from cto_backups.evidence.approvals import (
    Authorization,
    ReadDocument,
    action_digest,
    authorization_to_payload,
    decision_to_payload,
    identity_from_payload,
    identity_to_payload,
    request_to_payload,
    rules_from_text,
    rules_to_text,
)
from cto_backups.evidence.records import SigningKey
from cto_backups.evidence.statements import SENSELESS

Judge = Callable[[Approval], None]


class Approvals:
    """The approvals of one catalog, and the accepted versions of its governing documents."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def ask(self, wanted: Approval, signer: SigningKey) -> Approval:
        """Sign and keep a request; the one that there is for just the same already, where there is one."""
        with self._database.writing() as connection:
            for known in _unused(connection, wanted.action, wanted.requested_at):
                # A request that was made when anyone could approve is no request for a second person.
                if (known.digest, known.who) == (wanted.digest, wanted.who):
                    return known
            chain.append(connection, signer, "approval-request", request_to_payload(wanted), wanted.requested_at)
            row = _to_row(wanted)
            connection.execute(insertion("approvals", row), row)
            return wanted

    def decide(
        self, name: str, decide: Callable[[Approval], Approval], documents: Sequence[ReadDocument], signer: SigningKey
    ) -> Approval:
        """Sign and keep what `decide` makes of a request, named by its id or a unique beginning of it.

        `decide` raises what speaks against it. To approve a shortened retention is noted there: that uses the approval.
        Raises NotFoundError.
        """
        with self._database.writing() as connection:
            decided = decide(_named(connection, name))
            at, by = decided.decided_at, decided.decided_by
            if at is None or by is None:
                raise ValueError(f"{decided.id} is not decided")
            if decided.granted and decided.action is Governed.SHORTER_RETENTION:
                _approve_retention(connection, decided)
                decided = replace(decided, used_at=at, used_by=by)
            chain.append(connection, signer, "approval", decision_to_payload(decided, documents), at)
            row = _to_row(decided)
            changed = ("expires_at", "decided_at", "decided_by", "granted", "reason", "used_at", "used_by")
            connection.execute(
                f"UPDATE approvals SET {', '.join(f'{column} = :{column}' for column in changed)} WHERE id = :id",
                {column: row[column] for column in ("id", *changed)},
            )
            return decided

    def authorize(self, authorization: Authorization, signer: SigningKey) -> None:
        """Sign that an action may be carried out, and use up its approval.

        Raises GovernanceError, and signs nothing, when the approval does not count any more.
        """
        with self._database.writing() as connection:
            if authorization.approval is not None:
                _use(connection, authorization.approval, authorization, signer.signer)
            if authorization.action is Governed.DOCUMENT_CHANGE:
                name, digest = (str(authorization.parameters[part]) for part in ("document", "becomes"))
                _accept(connection, name, digest, authorization.at)
            if authorization.action is Governed.GOVERNANCE_CHANGE:
                _accept_rules(connection, str(authorization.parameters["becomes"]), authorization.at)
            payload = authorization_to_payload(authorization)
            chain.append(connection, signer, "authorization", payload, authorization.at)

    def named(self, name: str) -> Approval:
        """An approval by its id or a unique beginning of it. Raises NotFoundError."""
        with self._database.reading() as connection:
            return _named(connection, name)

    def listed(self) -> tuple[Approval, ...]:
        """Every approval that was ever asked for, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM approvals ORDER BY requested_at, id")
            return tuple(_from_row(row) for row in rows)

    def unused(self, action: Governed, now: datetime) -> tuple[Approval, ...]:
        """What is open, given or denied for an action, and has not expired; the newest first."""
        with self._database.reading() as connection:
            return tuple(_unused(connection, action, now))

    def accepted(self, document: str) -> str | None:
        """The SHA-256 of the version of a governing document that was accepted last; None for a new one."""
        with self._database.reading() as connection:
            statement = "SELECT digest FROM governing_documents WHERE name = :name"
            digest: str | None = connection.scalar(statement, {"name": document})
            return digest

    def accept(self, document: ReadDocument, now: datetime) -> None:
        """Keep the version of a governing document that is read for the first time; a known one stays as it is."""
        with self._database.writing() as connection:
            _first_accept(connection, document, now)

    def rules(self) -> Governance | None:
        """The rules of governance that were accepted last; None where none ever were, or that there are none."""
        with self._database.reading() as connection:
            return _rules(connection)

    def accept_rules(
        self,
        rules: Governance | None,
        before: Governance | None,
        digest: str,
        by: str,
        signer: SigningKey,
        now: datetime,
    ) -> bool:
        """Sign and keep rules that ask for no less than those before; `digest` is of the policy.

        False, and nothing is kept, where somebody else has accepted others than those before meanwhile.
        """
        with self._database.writing() as connection:
            if _rules(connection) != before:
                return False
            text = rules_to_text(rules)
            chain.append(connection, signer, "policy", {"digest": digest, "governance": text, "by": by}, now)
            _accept_rules(connection, text, now)
            return True

    def take_rules(self, text: str, accepted_at: datetime) -> bool:
        """Bring in the rules that the last signed record of any tells of, unless they are those here; whether not."""
        with self._database.writing() as connection:
            if _rules(connection) == rules_from_text(text):
                return False
            _accept_rules(connection, text, accepted_at)
            return True

    def take(self, approvals: Sequence[Approval], accepted: Sequence[ReadDocument], now: datetime) -> int:
        """Bring in approvals, and accepted versions of documents, that signed records tell of; how many were unknown.

        Of a known one, what was decided since and that it was used come in: a catalog may be an older copy.
        """
        with self._database.writing() as connection:
            for document in accepted:
                _first_accept(connection, document, now)
                _accept(connection, document.name, document.sha256, now)
            return sum([_take(connection, _to_row(approval)) for approval in approvals])


def _use(connection: Connection, id: str, authorization: Authorization, signer: str) -> None:
    approval = _named(connection, id)
    standing = approval.standing(authorization.at)
    wrong = ""
    if standing is not Standing.GIVEN:
        wrong = f"it is {standing}"
    elif not approval.covers(authorization.action, authorization.parameters):
        wrong = "it is for something else"
    elif not _is_signed(connection, approval, signer):
        wrong = "no signed record says what the catalog says of it"
    if wrong:
        raise GovernanceError(
            f"Approval {approval.id} does not count",
            why=wrong,
            todo="Run the command again: what needs a new approval, it asks for.",
        )
    connection.execute(
        "UPDATE approvals SET used_at = :at, used_by = :by WHERE id = :id",
        {"id": id, "at": moment_to_column(authorization.at), "by": _identity_to_column(authorization.by)},
    )


def _is_signed(connection: Connection, approval: Approval, signer: str) -> bool:
    """Whether the last record about it says that it was given, for just this: a changed row alone is no approval."""
    records = [record for record in chain.about(connection, approval.id, "approval") if record.signer == signer]
    if not records or records[-1].faults() or approval.digest != action_digest(approval.action, approval.parameters):
        return False
    return {**records[-1].payload, "documents": []} == decision_to_payload(approval, ())


def _approve_retention(connection: Connection, decided: Approval) -> None:
    source, retention = (str(decided.parameters[part]) for part in ("source", "becomes"))
    if not retentions.approve(connection, source, retention):
        raise RefusedError(
            f"{decided.id} cannot be approved any more",
            why=f"the retention of source '{source}' is not '{retention}' now",
            todo="See 'cto.backups approvals' for what is open.",
        )


def _first_accept(connection: Connection, document: ReadDocument, now: datetime) -> None:
    row = {"name": document.name, "digest": document.sha256, "accepted_at": moment_to_column(now)}
    connection.execute(f"{insertion('governing_documents', row)} ON CONFLICT DO NOTHING", row)


def _accept(connection: Connection, document: str, digest: str, now: datetime) -> None:
    connection.execute(
        "UPDATE governing_documents SET digest = :digest, accepted_at = :now WHERE name = :name",
        {"name": document, "digest": digest, "now": moment_to_column(now)},
    )


def _rules(connection: Connection) -> Governance | None:
    text = connection.scalar("SELECT rules FROM governing_rules ORDER BY number DESC LIMIT 1")
    try:
        return rules_from_text(text or "")
    except SENSELESS as error:
        raise UnreadableError(f"rules of governance: {type(error).__name__}") from error


def _accept_rules(connection: Connection, text: str, now: datetime) -> None:
    row = {"accepted_at": moment_to_column(now), "rules": text}
    connection.execute(insertion("governing_rules", row), row)


def _take(connection: Connection, row: dict[str, Any]) -> int:
    new = connection.execute(f"{insertion('approvals', row)} ON CONFLICT DO NOTHING", row).rowcount
    if not new:
        decision = ("decided_at", "decided_by", "granted", "reason", "expires_at")
        columns = ", ".join(f"{column} = :{column}" for column in decision)
        connection.execute(
            f"UPDATE approvals SET {columns} WHERE id = :id AND :decided_at IS NOT NULL"
            " AND (decided_at IS NULL OR decided_at < :decided_at)",
            row,
        )
        connection.execute(
            "UPDATE approvals SET used_at = :used_at, used_by = :used_by WHERE id = :id AND used_at IS NULL", row
        )
    return new


def _unused(connection: Connection, action: Governed, now: datetime) -> list[Approval]:
    rows = connection.execute(
        """
        SELECT * FROM approvals WHERE action = :action AND used_at IS NULL AND expires_at > :now
        ORDER BY requested_at DESC, id DESC
        """,
        {"action": action.value, "now": moment_to_column(now)},
    )
    return [_from_row(row) for row in rows]


def _named(connection: Connection, name: str) -> Approval:
    row = row_named(
        connection,
        "approvals",
        name,
        "approval",
        why="nothing that was asked for has an id that begins so",
        todo="See 'cto.backups approvals --all' for those there are.",
    )
    return _from_row(row)


# -- rows --------------------------------------------------------------------------------------------------------------


def _identity_to_column(identity: Identity | None) -> str | None:
    return None if identity is None else json.dumps(identity_to_payload(identity))


def _identity_from_column(stored: str | None) -> Identity | None:
    return None if stored is None else identity_from_payload(json.loads(stored))


def _to_row(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "action": approval.action.value,
        "parameters": json.dumps(dict(approval.parameters)),
        "digest": approval.digest,
        "summary": words_to_column(approval.summary),
        "who": approval.who.value,
        "requested_at": moment_to_column(approval.requested_at),
        "requested_by": _identity_to_column(approval.requested_by),
        "expires_at": moment_to_column(approval.expires_at),
        "decided_at": moment_to_column(approval.decided_at),
        "decided_by": _identity_to_column(approval.decided_by),
        "granted": approval.granted,
        "reason": words_to_column(approval.reason),
        "used_at": moment_to_column(approval.used_at),
        "used_by": _identity_to_column(approval.used_by),
    }


def _from_row(row: Row) -> Approval:
    try:
        asked_at, expires_at = moment_from_column(row["requested_at"]), moment_from_column(row["expires_at"])
        asked_by = _identity_from_column(row["requested_by"])
        if asked_at is None or expires_at is None or asked_by is None:
            raise UnreadableError("an approval lacks a moment or a user")
        return Approval(
            id=row["id"],
            action=Governed(row["action"]),
            parameters=json.loads(row["parameters"]),
            digest=row["digest"],
            summary=row["summary"],
            who=Who(row["who"]),
            requested_at=asked_at,
            requested_by=asked_by,
            expires_at=expires_at,
            decided_at=moment_from_column(row["decided_at"]),
            decided_by=_identity_from_column(row["decided_by"]),
            granted=bool(row["granted"]),
            reason=row["reason"],
            used_at=moment_from_column(row["used_at"]),
            used_by=_identity_from_column(row["used_by"]),
        )
    except UnreadableError:
        raise
    except (ValueError, LookupError, TypeError) as error:
        raise UnreadableError(f"approval: {type(error).__name__}") from error
