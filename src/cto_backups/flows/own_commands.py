"""Commands of the policy: the probe of restore tests, and what is run before and after a capture."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from cto_backups import process
from cto_backups.core.policy import SourcePolicy
from cto_backups.errors import SourceError

log = logging.getLogger("cto_backups")

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER", "LOGNAME")
_MOST_SAID = 4000  # characters of what a command says that go to the log


def run_own(command: Sequence[str], *, timeout: timedelta, folder: Path, told: Mapping[str, str]) -> str:
    """What a command of the policy says, run without a shell in a folder. Raises `process.ToolError`.

    Of the environment it gets PATH, HOME and the like, and what is `told` to it as CTO_BACKUPS_ variables.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {f"CTO_BACKUPS_{name}": value for name, value in told.items()}
    said = process.run(
        command,
        environment=environment,
        timeout_seconds=timeout.total_seconds(),
        folder=folder,
        complaints_too=True,
    )
    return said.decode("utf-8", "replace").strip()


@contextmanager
def between_hooks(source: SourcePolicy, point_id: str, tell: Callable[[SourceError], None]) -> Iterator[None]:
    """Run what policy has before a capture; and what it has after one, whatever becomes of the two.

    Raises SourceError when the first fails or takes too long: nothing is captured then. What was captured stands where
    the one after it fails: then that is what `tell` is given.
    """
    try:
        _run(source, "before", point_id)
        yield
    finally:
        try:
            _run(source, "after", point_id)
        except SourceError as error:
            log.warning("hook failed", extra={"fields": {"source": source.name, "message": str(error)}})
            tell(error)


def _run(source: SourcePolicy, which: str, point_id: str) -> None:
    hooks = source.hooks
    command = hooks.before if which == "before" else hooks.after
    if not command:
        return
    told = {"SOURCE": source.name, "POINT": point_id, "WHEN": which}
    try:
        said = run_own(command, timeout=hooks.timeout, folder=Path(hooks.folder), told=told)
    except process.ToolError as error:
        raise SourceError(
            f"The command {which} the backup of '{source.name}' failed",
            why=str(error),
            todo="Nothing was captured. Correct it, or what it needs, and back up again."
            if which == "before"
            else "What was captured is kept. See whether something was left locked or stopped.",
        ) from error
    fields = {"source": source.name, "when": which, "program": command[0], "said": said[-_MOST_SAID:]}
    log.info("hook", extra={"fields": fields})
