"""How a vault's bucket is set: looked at, kept as signed evidence, and set as policy asks."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cto_backups import clock
from cto_backups.core.governance import Governed
from cto_backups.core.model import Evidence, Rung
from cto_backups.core.vault_settings import SETTINGS, Change, Seen, Settable, changes, desired, seen
from cto_backups.core.wording import counted, listed
from cto_backups.errors import BackupsError, RefusedError, VaultError, VerificationError
from cto_backups.evidence.payloads import evidence_to_payload
from cto_backups.flows import records
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation


@dataclass(frozen=True)
class Applied:
    """What was set, and how everything is seen to be since; `evidence` is None where there was nothing to be set."""

    vault: str
    done: tuple[Seen, ...]
    looked: tuple[Seen, ...]
    evidence: Evidence | None


def look(installation: Installation, vault_name: str, bucket: Settable) -> tuple[Seen, ...]:
    """How the bucket is set now, against policy; nothing is kept of it. Raises VaultError."""
    return seen(bucket.settings(), desired(installation.policy.vaults[vault_name]))


def keep(installation: Installation, vault_name: str, looked: Sequence[Seen]) -> Evidence:
    """Sign and keep how the bucket was seen to be set."""
    now = clock.now()
    reason = "; ".join(each.told() for each in looked if not each.holds)
    evidence = Evidence(
        id=f"settings-{vault_name}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        kind=SETTINGS,
        source=None,
        point=None,
        vault=vault_name,
        started_at=now,
        finished_at=now,
        passed=not reason,
        rung=Rung.DECLARED,
        steps=tuple(each.step(now) for each in looked),
        reason=reason,
    )
    records.write(installation, "evidence", evidence_to_payload(evidence))
    records.deliver_everywhere(installation)
    installation.catalog.add_evidence(evidence)
    return evidence


def apply(
    installation: Installation, vault_name: str, bucket: Settable, *, irreversible: bool = False, confirmed: bool
) -> Applied:
    """Set what differs, read it back, and keep the evidence; what is set already is left alone.

    What nobody can undo is set last, and only if `irreversible`; policy may ask for an approval of it, and another of
    the rest. Raises RefusedError unless `confirmed`, GovernanceError; VaultError that says what was set before the
    store refused; VerificationError where what it took is not what is read back.
    """
    installation.check_owned(vault_name)
    looked = look(installation, vault_name, bucket)
    wanted = changes(looked)
    if not wanted:
        return Applied(vault_name, (), looked, None)
    lasting = [each for each in wanted if each.irreversible]
    if lasting and not irreversible:
        raise RefusedError(
            f"Vault '{vault_name}': {listed(each.setting for each in lasting)} can never be turned off again",
            why="not by you, and not by the provider: the bucket keeps versions, and can lock them, for ever",
            todo="If that is meant, say so with --irreversible. Nothing was changed.",
        )
    if not confirmed:
        raise RefusedError(
            f"Vault '{vault_name}': {counted(len(wanted), 'setting')} would be changed",
            why="they are those of the whole bucket, and nobody has said yes to them",
            todo="Look at them with 'cto.backups vault plan', then run this with --yes. Nothing was changed.",
        )
    done: list[Seen] = []
    problem: BackupsError | None = None
    try:
        for group in ([each for each in wanted if not each.irreversible], lasting):
            if group:
                _admit(installation, vault_name, group)
                _set(vault_name, bucket, group, done)
    except BackupsError as error:
        if not done and not isinstance(error, VaultError):
            raise
        problem = error
    return _read_back(installation, vault_name, bucket, done, problem)


def _admit(installation: Installation, vault_name: str, group: Sequence[Seen]) -> None:
    """Let these be set, as policy asks; what nobody can undo is asked for by itself. Raises GovernanceError."""
    told = [f"{each.setting}: {each.wanted}" for each in group]
    action = Governed.VAULT_LOCK if group[0].irreversible else Governed.VAULT_SETTINGS
    summary = f"Setting the bucket of vault '{vault_name}' ({', '.join(told)})"
    summary += ", which nobody can undo," if group[0].irreversible else ""
    admit(installation, action, {"vault": vault_name, "settings": told}, summary=summary)


def _set(vault_name: str, bucket: Settable, group: Sequence[Seen], done: list[Seen]) -> None:
    """Set each, noting it among what is done. Raises VaultError for the first that cannot be."""
    for each in group:
        why = bucket.change(Change(each.setting, each.value))
        if why:
            raise VaultError(
                f"Vault '{vault_name}': {each.setting} could not be set",
                why=why,
                todo="Remove the cause, or run it with a login that may; then run it again: what is set stays.",
            )
        done.append(each)


def _read_back(
    installation: Installation,
    vault_name: str,
    bucket: Settable,
    done: Sequence[Seen],
    problem: BackupsError | None,
) -> Applied:
    looked = look(installation, vault_name, bucket)
    evidence = keep(installation, vault_name, looked)
    if problem is not None:
        before = f"set before that, and kept: {listed(each.setting for each in done)}" if done else "nothing was set"
        todo = problem.todo.replace(" Nothing was changed.", "")
        raise type(problem)(problem.what, why=f"{problem.why}; {before}", todo=todo) from problem
    made = {each.setting for each in done}
    other = [each.told() for each in looked if each.setting in made and not each.holds]
    if other:
        raise VerificationError(
            f"Vault '{vault_name}': its store took what it was told, and is not set so",
            why="; ".join(other),
            todo="Run 'cto.backups vault plan' in a minute; if it stays so, this store does not know the setting.",
        )
    return Applied(vault_name, tuple(done), looked, evidence)
