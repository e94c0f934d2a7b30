"""Governance: which destructive work needs whose approval, and which documents are read before it.

An approval is bound to one action with its parameters (`covers`), ends, and is used once. Who may give it is judged by
`objections`, from identities that the operating system knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

VALID_FOR = timedelta(hours=72)
"""How long an approval, and a request for one, holds where the policy does not say it."""

Parameters = Mapping[str, object]
"""What an action is about, as JSON: texts, truths, null, and lists of texts."""


class Governed(StrEnum):
    """Work that destroys, or that ends protection."""

    EXPIRE = "expire"
    PRUNE = "prune"
    RESTORE = "restore"
    KEY_REMOVAL = "key-removal"
    HOLD_RELEASE = "hold-release"
    SOURCE_REMOVAL = "source-removal"
    SHORTER_RETENTION = "shorter-retention"
    VAULT_SETTINGS = "vault-settings"
    VAULT_LOCK = "vault-lock"
    HOST_REVOCATION = "host-revocation"
    DOCUMENT_CHANGE = "document-change"
    GOVERNANCE_CHANGE = "governance-change"


RULES = (Governed.DOCUMENT_CHANGE, Governed.GOVERNANCE_CHANGE)
"""The change of what governs: of a document, or of the section of the policy, to one that asks for less."""

DESTRUCTIVE = tuple(action for action in Governed if action not in RULES)
"""What a document may govern: all but the change of what governs."""


class Who(StrEnum):
    """Who may approve: any approver, who asked included; or a second person, who did not ask."""

    ANYONE = "anyone"
    SECOND_PERSON = "second-person"


class Standing(StrEnum):
    """What has become of a request for an approval."""

    OPEN = "open"
    GIVEN = "given"
    DENIED = "denied"
    EXPIRED = "expired"
    USED = "used"


@dataclass(frozen=True, slots=True)
class GoverningDocument:
    """A document that is read before the actions that it governs; `path` is absolute."""

    name: str
    path: str
    governs: frozenset[Governed] = frozenset(DESTRUCTIVE)


@dataclass(frozen=True, slots=True)
class Governance:
    """What policy says of destructive work. `approvers` are login names or numbers of users; empty: everybody.

    `approvals` holds the actions that need one. A document that has changed needs one always.
    """

    documents: tuple[GoverningDocument, ...] = ()
    approvals: Mapping[Governed, Who] = field(default_factory=dict)
    approvers: tuple[str, ...] = ()
    valid_for: timedelta = VALID_FOR

    def governing(self, action: Governed) -> tuple[GoverningDocument, ...]:
        """The documents to be read before an action."""
        return tuple(document for document in self.documents if action in document.governs)

    def approved_by(self, action: Governed) -> Who | None:
        """Who has to approve an action; None: nobody. A change of what governs, and what nobody can undo, always do.

        Where any action needs a second person, one is needed to let these rules ask for less.
        """
        default = Who.ANYONE if action in (*RULES, Governed.VAULT_LOCK) else None
        if action is Governed.GOVERNANCE_CHANGE and Who.SECOND_PERSON in self.approvals.values():
            default = Who.SECOND_PERSON
        return self.approvals.get(action, default)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user as the operating system knows it: login name and number. `sudo_user` is sudo's word, and not trusted."""

    login: str
    uid: int
    sudo_user: str | None = None

    def __str__(self) -> str:
        through = f", by sudo from {self.sudo_user}" if self.sudo_user else ""
        return f"{self.login} (user {self.uid}{through})"

    def is_same(self, other: "Identity") -> bool:
        """Whether both may be one person: name or number is enough. What sudo says can only speak against somebody."""
        names, others = {self.login, self.sudo_user} - {None}, {other.login, other.sudo_user} - {None}
        return self.uid == other.uid or bool(names & others)

    def is_named(self, names: tuple[str, ...]) -> bool:
        """Whether it is among users given by login name or number."""
        return self.login in names or str(self.uid) in names


@dataclass(frozen=True, slots=True)
class Approval:
    """A request to approve one action, and what was decided. `digest` is of the action and its parameters.

    It counts until `expires_at`: as an open request, and from the decision on as an approval. `who` is who may
    approve it, as policy said when it was asked for.
    """

    id: str
    action: Governed
    parameters: Parameters
    digest: str
    summary: str
    who: Who
    requested_at: datetime
    requested_by: Identity
    expires_at: datetime
    decided_at: datetime | None = None
    decided_by: Identity | None = None
    granted: bool = False
    reason: str = ""
    used_at: datetime | None = None
    used_by: Identity | None = None

    def standing(self, now: datetime) -> Standing:
        """What has become of it."""
        if self.used_at is not None:
            return Standing.USED
        if self.decided_at is not None and not self.granted:
            return Standing.DENIED
        if now >= self.expires_at:
            return Standing.EXPIRED
        return Standing.GIVEN if self.granted else Standing.OPEN

    def covers(self, action: Governed, parameters: Parameters) -> bool:
        """Whether it is for this action with these parameters: equal, but fewer `packs` than approved may go."""
        if action is not self.action or parameters.keys() != self.parameters.keys():
            return False
        return all(_covered(name, self.parameters[name], wanted) for name, wanted in parameters.items())


def _covered(name: str, approved: object, wanted: object) -> bool:
    if name == "packs" and isinstance(approved, list | tuple) and isinstance(wanted, list | tuple):
        return set(wanted) <= set(approved)
    return approved == wanted


def objections(governance: Governance, approval: Approval, who: Identity, now: datetime, *, grant: bool) -> list[str]:
    """Why this user may not grant, or deny, this approval now; nothing when he may.

    A decision may be turned round until it is used or has expired. Denying is open to whoever asked: that is to take
    the request back.
    """
    found = []
    standing = approval.standing(now)
    if standing is Standing.USED or standing is (Standing.GIVEN if grant else Standing.DENIED):
        found.append(f"it is {standing} already")
    elif now >= approval.expires_at:
        found.append("it has expired")
    asked = approval.requested_by.is_same(who)
    if grant and asked and _needs_second(governance, approval):
        found.append(f"a second person is needed, and {approval.requested_by} asked for it")
    if governance.approvers and not who.is_named(governance.approvers) and (grant or not asked):
        found.append(f"{who} is none of the policy's approvers, {', '.join(governance.approvers)}")
    return found


def doubts(governance: Governance, approval: Approval, now: datetime) -> list[str]:
    """Why an approval does not count, by the policy of today; nothing when it does."""
    standing, by = approval.standing(now), approval.decided_by
    if standing is not Standing.GIVEN or by is None:
        return [f"it is {standing}"]
    found = flaws(replace(approval, who=Who.SECOND_PERSON)) if _needs_second(governance, approval) else []
    if governance.approvers and not by.is_named(governance.approvers):
        found.append(f"{by}, who gave it, is none of the policy's approvers")
    return found


def flaws(approval: Approval) -> list[str]:
    """What is wrong with how an approval came about: given by who asked although a second person was needed."""
    if not approval.granted or approval.decided_by is None or approval.who is Who.ANYONE:
        return []
    if approval.decided_by.is_same(approval.requested_by):
        return [f"it was asked for and given by {approval.decided_by}, where a second person is needed"]
    return []


def _needs_second(governance: Governance, approval: Approval) -> bool:
    """Whether a second person is needed, by the policy of today or that under which it was asked for."""
    return Who.SECOND_PERSON in (governance.approved_by(approval.action), approval.who)
