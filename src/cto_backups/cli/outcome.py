"""Which exit status wins when a command did several things and more than one went wrong."""

from collections.abc import Iterable

from cto_backups.errors import ExitStatus

ORDER = (
    ExitStatus.SUCCESS,
    ExitStatus.RED,
    ExitStatus.BUSY,
    ExitStatus.CHANNEL,
    ExitStatus.VAULT,
    ExitStatus.INCOMPLETE,
    ExitStatus.REFUSED,
    ExitStatus.NOT_FOUND,
    ExitStatus.SOURCE,
    ExitStatus.VERIFICATION,
    ExitStatus.RESTORE,
    ExitStatus.KEY,
    ExitStatus.DAMAGE,
    ExitStatus.CATALOG,
    ExitStatus.USAGE,
    ExitStatus.POLICY,
    ExitStatus.INTERRUPTED,
    ExitStatus.DEFECT,
)
"""From harmless to bad. A vault without its copy (the others have theirs) is better than data that no vault has."""


def worst(statuses: Iterable[ExitStatus]) -> ExitStatus:
    """The worst of these statuses; SUCCESS when there is none."""
    return max(statuses, key=ORDER.index, default=ExitStatus.SUCCESS)
