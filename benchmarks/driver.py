"""What the benchmark needs of us and no command offers: started as ``python -m benchmarks.driver``, a process each.

``copy POLICY VAULT`` brings every kept recovery point to a vault that has none of them; ``grace-over POLICY VAULT``
prunes as a day later.
"""

import sys
from datetime import timedelta
from pathlib import Path

from cto_backups import app, clock

_LATER = timedelta(hours=25)


def copy(policy: Path, vault: str) -> None:
    """Copy the points of every source, oldest first."""
    from cto_backups.flows.copy import copy as bring

    with app.opened(policy) as opening:
        installation = opening.installation
        facts = installation.catalog.facts(clock.now(), list(installation.policy.sources), kept_points=True)
        points = sorted(
            (point for kept in facts.kept_points.values() for point in kept), key=lambda one: one.captured_at
        )
        for point in points:
            bring(installation, point, vault)


def grace_over(policy: Path, vault: str) -> None:
    """Prune when everything that waits has waited long enough."""
    from cto_backups.flows.prune import prune

    now = clock.now
    clock.now = lambda: now() + _LATER
    with app.opened(policy) as opening:
        prune(opening.installation, vault)


if __name__ == "__main__":
    {"copy": copy, "grace-over": grace_over}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
