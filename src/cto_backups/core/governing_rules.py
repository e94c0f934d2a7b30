"""The rules of governance themselves: in which ways new ones ask for less, and what binds until that is approved."""

from collections.abc import Sequence

from cto_backups.core.governance import Governance, Governed, GoverningDocument, Who


def loosened(before: Governance | None, after: Governance | None) -> tuple[str, ...]:
    """In which ways the rules after ask for less than those before, in words; nothing where they ask for as much."""
    if before is None:
        return ()
    if after is None:
        return ("the section 'governance' is gone",)
    return (*_approvals(before, after), *_documents(before, after), *_people(before, after))


def in_force(before: Governance | None, after: Governance | None) -> Governance | None:
    """The rules that hold: those after, or what either asks for while nobody has approved that those ask for less."""
    if before is None or not loosened(before, after):
        return after
    if after is None:
        return before
    asked = [action for action in Governed if action in before.approvals or action in after.approvals]
    names = dict.fromkeys(document.name for document in (*before.documents, *after.documents))
    return Governance(
        documents=tuple(_joined(name, before, after) for name in names),
        approvals={
            action: Who.SECOND_PERSON if Who.SECOND_PERSON in _who(action, before, after) else Who.ANYONE
            for action in asked
        },
        approvers=_common(before.approvers, after.approvers),
        valid_for=min(before.valid_for, after.valid_for),
    )


def _who(action: Governed, *rules: Governance) -> list[Who | None]:
    return [each.approved_by(action) for each in rules]


def _approvals(before: Governance, after: Governance) -> list[str]:
    found = []
    for action in Governed:
        was, now = _who(action, before, after)
        if was is not None and now is None:
            found.append(f"'{action}' needs no approval")
        elif was is Who.SECOND_PERSON and now is Who.ANYONE:
            found.append(f"'{action}' needs no second person")
    return found


def _documents(before: Governance, after: Governance) -> list[str]:
    found = []
    for document in before.documents:
        governs = document.governs - _governs(document.name, after)
        if governs == document.governs:
            found.append(f"{document.name} governs nothing")
        elif governs:
            found.append(f"{document.name} does not govern {', '.join(sorted(governs))}")
    return found


def _people(before: Governance, after: Governance) -> list[str]:
    found = []
    if before.approvers and not after.approvers:
        found.append("everybody may approve")
    elif before.approvers and (more := [name for name in after.approvers if name not in before.approvers]):
        found.append(f"{', '.join(more)} may approve")
    if after.valid_for > before.valid_for:
        found.append("approvals are valid for longer")
    return found


def _named(name: str, *rules: Governance) -> list[GoverningDocument]:
    """A document as each of the rules has it. It is called as the policy writes it: an installation may be moved."""
    return [document for each in rules for document in each.documents if document.name == name]


def _governs(name: str, *rules: Governance) -> frozenset[Governed]:
    return frozenset().union(*(document.governs for document in _named(name, *rules)))


def _joined(name: str, *rules: Governance) -> GoverningDocument:
    return GoverningDocument(name, _named(name, *rules)[-1].path, _governs(name, *rules))


def _common(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """Who may approve by both; by those before where nobody may by both. Empty is everybody."""
    if not before or not after:
        return tuple(before or after)
    return tuple(name for name in before if name in after) or tuple(before)
