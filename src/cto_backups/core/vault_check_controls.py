"""The controls on what the stores of vaults enforce, and how their buckets are set, as somebody saw it last."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cto_backups.core.duration import roughly
from cto_backups.core.findings import Audited, Check, Control, Severity
from cto_backups.core.frameworks import clauses
from cto_backups.core.policy import VaultPolicy
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.schedule import format_triggers
from cto_backups.core.vault_check import counts_for


def check_checked(audited: Audited) -> Iterator[Check]:
    """Each vault in a store that is not ours was tried out, not long ago, and enforces what policy relies on.

    Of a folder nobody asks it; what was found in one counts as well.
    """
    for vault in _used(audited):
        seen = audited.vault(vault.name).check
        if seen is None:
            if vault.checks or not vault.url.startswith("file:"):
                yield Check(vault.name, False, "what its store enforces was never tried out")
        elif not seen.passed:
            yield Check(vault.name, False, f"tried out {_ago(audited, seen.finished_at)}: {seen.reason}")
        else:
            detail = f"what policy relies on was enforced {_ago(audited, seen.finished_at)}"
            yield _fresh(audited, vault, seen.finished_at, detail)


def check_plain_key(audited: Audited) -> Iterator[Check]:
    """What lies plain in a bucket is encrypted under a key of its owner's: the provider's own opens it for whoever may
    read the bucket.
    """
    for vault in _used(audited):
        if vault.plain_exports and not vault.url.startswith("file:"):
            detail = f"its plain exports are encrypted under {vault.kms_key}"
            lacks = "exports lie plain there, and the policy names no kms_key: who may read the bucket reads them"
            yield Check(vault.name, vault.kms_key is not None, detail if vault.kms_key else lacks)


def check_settings(audited: Audited) -> Iterator[Check]:
    """The bucket of each vault was seen to be set as policy asks, not long ago."""
    for vault in _used(audited):
        seen = audited.vault(vault.name).settings
        if seen is None:
            continue  # nor was it tried out, which is told
        ago = _ago(audited, seen.finished_at)
        other = [step.detail for step in seen.steps if not step.passed]
        for detail in other:
            yield Check(vault.name, False, f"{detail}; seen {ago}")
        if not other:
            yield _fresh(audited, vault, seen.finished_at, f"its bucket was set as asked {ago}")


def _used(audited: Audited) -> Iterator[VaultPolicy]:
    named = {name for source in audited.policy.sources.values() for name in source.vaults}
    return (vault for vault in audited.policy.vaults.values() if vault.name in named)


def _fresh(audited: Audited, vault: VaultPolicy, moment: datetime, detail: str) -> Check:
    """Whether what was seen well counts still."""
    counts = counts_for(vault)
    asked = f"a look every {roughly(counts)} is asked for"
    if vault.checks:
        asked = f"policy has it tried out {format_triggers(vault.checks)}, so it counts for {roughly(counts)}"
    return Check(vault.name, -CLOCK_TOLERANCE <= audited.now - moment <= counts, f"{detail}; {asked}")


def _ago(audited: Audited, moment: datetime) -> str:
    if moment > audited.now + CLOCK_TOLERANCE:
        return "at a moment in the future"
    return f"{roughly(max(audited.now - moment, timedelta(0)))} ago"


VAULT_CHECKS: tuple[Control, ...] = (
    Control(
        "vault-checked",
        "Stores of vaults seen to enforce what policy relies on",
        Severity.MEDIUM,
        "A role that is too wide, or a store that ignores conditions or locks, shows when it is too late.",
        "Run 'cto.backups vault check NAME', and see to what it says is not enforced.",
        check_checked,
        clauses("A1.2;CC6.1;A.8.13;A.5.33;CP-9;11.3;Art. 12(2);164.312(c)(1)"),
    ),
    Control(
        "plain-exports-key",
        "Plain exports in buckets under a key of one's own",
        Severity.HIGH,
        "Nothing but the provider seals what lies plain. With its own key, one right too many on the bucket reads all "
        "of it; a key of yours is a second lock, with its own list of who may use it, and its own logs.",
        "Name a key of the provider's key service, `kms_key` of the vault; or leave out `exports: plain`: then it is "
        "sealed here.",
        check_plain_key,
        clauses("CC6.1;A.8.24;SC-28;3.11;164.312(a)(2)(iv)"),
    ),
    Control(
        "vault-settings",
        "Buckets of vaults set as policy asks",
        Severity.HIGH,
        "Versions, rules, keys and public access of a bucket decide who can take the copies in it away, or read them.",
        "Look with 'cto.backups vault plan NAME', set it with 'cto.backups vault apply NAME'; or say what is meant "
        "under `settings` of the vault.",
        check_settings,
        clauses("A1.2;CC6.1;A.8.13;A.8.24;CP-9;11.3;Art. 12(1);164.312(c)(1)"),
    ),
)
