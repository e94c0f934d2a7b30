"""From the policy file's section on workers to `core.worker`."""

from cto_backups.config.worker_models import Worker
from cto_backups.core.worker import IoPriority, Limits, WorkerPolicy


def built_worker(given: Worker | None) -> WorkerPolicy:
    """How workers work; as by default where the file says nothing."""
    if given is None:
        return WorkerPolicy()
    limits = Limits(actions=given.actions, per_source=given.per_source, per_vault=given.per_vault)
    return WorkerPolicy(limits=limits, nice=given.nice, io=IoPriority(given.io))
