"""From the policy file's section on workers to `core.worker`."""

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cto_backups.config.windows import is_half, window
from cto_backups.config.worker_models import Worker
from cto_backups.core.duration import parse_duration
from cto_backups.core.worker import IoPriority, Limits, WorkerPolicy

Place = tuple[str | int, ...]


def built_worker(
    given: Worker | None, path: Path, catalog: str, refuse: Callable[[Place, str, str], None]
) -> WorkerPolicy:
    """How workers work; as by default where the file at this path says nothing.

    In a fleet it is the catalog that tells one installation from another: its workers take turns in planning.

    `refuse` notes a place, what is wrong there, and what to do about it.
    """
    if given is None:
        return WorkerPolicy()
    for number, each in enumerate(given.heavy_work):
        if is_half(each):
            refuse(
                ("worker", "heavy_work", number),
                "a window of heavy work does not say from when to when it is open",
                'Write both, such as from: "22:00" and to: "06:00"; neither of them for the whole day.',
            )
    limits = Limits(actions=given.actions, per_source=given.per_source, per_vault=given.per_vault)
    return WorkerPolicy(
        limits=limits,
        spread=parse_duration(given.spread) if given.spread else timedelta(),
        place=catalog if catalog.startswith("postgresql:") else f"{socket.gethostname()}:{path}",
        nice=given.nice,
        io=IoPriority(given.io),
        heavy_work=tuple(window(each) for each in given.heavy_work),
    )
