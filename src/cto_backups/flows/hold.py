"""Hold: keep points that a court, or anybody with a claim to them, asks for, until somebody releases them."""

import secrets
from dataclasses import dataclass

from cto_backups import clock
from cto_backups.core.governance import Governed
from cto_backups.core.keeping import Hold
from cto_backups.errors import BackupsError
from cto_backups.flows import records
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation
from cto_backups.flows.store_holds import InStore, follow_everywhere


@dataclass(frozen=True)
class Held:
    """A hold as it was placed or released, and which vaults do not have the signed record of it yet, and why.

    `points` is how many kept points it is on, or was. `stores` is what came of it in the stores of vaults that have
    holds of their own, `undone` what went wrong there.
    """

    hold: Hold
    points: int
    problems: dict[str, BackupsError]
    stores: dict[str, InStore]
    undone: dict[str, BackupsError]


def place(installation: Installation, name: str, *, reason: str, approver: str | None) -> Held:
    """Put a source, or one point, under a legal hold. It needs no lock: a run in progress goes on, and heeds it.

    `name` is a source of the policy, or one whose points are kept, or else a point's id. Raises NotFoundError, and
    RefusedError when the point is dropped at this very moment.
    """
    source, point = _target(installation, name)
    now = clock.now()
    hold = Hold(
        id=f"hold-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        source=source,
        point=point,
        reason=reason,
        placed_at=now,
        placed_by=installation.user,
        approver=approver,
    )
    installation.catalog.place_hold(hold, installation.signer)
    return _told(installation, hold)


def release(installation: Installation, name: str, *, reason: str) -> Held:
    """Release a hold, by its id or a unique beginning of one.

    Raises NotFoundError, RefusedError, GovernanceError.
    """
    known = installation.catalog.holds(released=True)
    named = [held for held in known if held.id == name] or [held for held in known if held.id.startswith(name)]
    if name and len(named) == 1 and named[0].released_at is None:
        (held,) = named
        name = held.id
        parameters = {"hold": held.id, "source": held.source, "point": held.point}
        admit(installation, Governed.HOLD_RELEASE, parameters, summary=f"Releasing {held.id} on source '{held.source}'")
    hold = installation.catalog.release_hold(
        name, by=installation.user, because=reason, signer=installation.signer, now=clock.now()
    )
    return _told(installation, hold)


def _told(installation: Installation, hold: Hold) -> Held:
    problems = records.deliver_everywhere(installation)
    stores, undone = follow_everywhere(installation, hold)
    for name, found in stores.items():
        if (failure := found.failure(name)) is not None:
            undone[name] = failure
    return Held(hold, _count(installation, hold), problems, stores, undone)


def _target(installation: Installation, name: str) -> tuple[str, str | None]:
    if name in installation.policy.sources or (name and installation.catalog.points(name, limit=1)):
        return name, None
    point = installation.catalog.point(name)
    return point.source, point.id


def _count(installation: Installation, hold: Hold) -> int:
    return len(installation.catalog.points(hold.source)) if hold.point is None else 1
