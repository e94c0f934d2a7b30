"""From the policy file's section on workers to `core.worker`."""

import socket
from datetime import timedelta
from pathlib import Path

from cto_backups.config.worker_models import Worker
from cto_backups.core.duration import parse_duration
from cto_backups.core.worker import IoPriority, Limits, WorkerPolicy


def built_worker(given: Worker | None, path: Path) -> WorkerPolicy:
    """How workers work; as by default where the file at this path says nothing."""
    if given is None:
        return WorkerPolicy()
    limits = Limits(actions=given.actions, per_source=given.per_source, per_vault=given.per_vault)
    return WorkerPolicy(
        limits=limits,
        spread=parse_duration(given.spread) if given.spread else timedelta(),
        place=f"{socket.gethostname()}:{path}",
        nice=given.nice,
        io=IoPriority(given.io),
    )
