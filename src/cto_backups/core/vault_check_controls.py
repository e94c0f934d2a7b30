"""The controls on what the stores of vaults enforce, and how their buckets are set, as somebody saw it last."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cto_backups.core.assurance import CLOCK_TOLERANCE
from cto_backups.core.duration import roughly
from cto_backups.core.findings import Audited, Check, Control, Severity
from cto_backups.core.frameworks import clauses
from cto_backups.core.policy import VaultPolicy

CHECKED_WITHIN = timedelta(days=90)
"""How long what was seen of a vault counts: roles, rules and settings are changed by people who do not tell."""


def check_checked(audited: Audited) -> Iterator[Check]:
    """Each vault in a store that is not ours was tried out, not long ago, and enforces what policy relies on.

    Of a folder nobody asks it; what was found in one counts as well.
    """
    for vault in _used(audited):
        seen = audited.vault(vault.name).check
        if seen is None:
            if not vault.url.startswith("file:"):
                yield Check(vault.name, False, "what its store enforces was never tried out")
        elif not seen.passed:
            yield Check(vault.name, False, f"tried out {_ago(audited, seen.finished_at)}: {seen.reason}")
        else:
            detail = f"what policy relies on was enforced {_ago(audited, seen.finished_at)}"
            yield Check(vault.name, _fresh(audited, seen.finished_at), f"{detail}; {_ASKED}")


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
            yield Check(vault.name, _fresh(audited, seen.finished_at), f"its bucket was set as asked {ago}; {_ASKED}")


_ASKED = f"a look every {roughly(CHECKED_WITHIN)} is asked for"


def _used(audited: Audited) -> Iterator[VaultPolicy]:
    named = {name for source in audited.policy.sources.values() for name in source.vaults}
    return (vault for vault in audited.policy.vaults.values() if vault.name in named)


def _fresh(audited: Audited, moment: datetime) -> bool:
    return -CLOCK_TOLERANCE <= audited.now - moment <= CHECKED_WITHIN


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
