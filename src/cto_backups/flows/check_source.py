"""Check a source: try out what it relies on of its service, in the account of whoever backs it up."""

from collections.abc import Mapping
from dataclasses import dataclass

from cto_backups import clock
from cto_backups.core.model import ActionKind
from cto_backups.core.source_check import Checkable, Tried, failing
from cto_backups.errors import RefusedError, VerificationError
from cto_backups.flows.installation import Installation
from cto_backups.flows.runs import recorded


@dataclass(frozen=True)
class SourceChecked:
    """A check of one source; `rules` are what was tried, in words."""

    source: str
    tried: tuple[Tried, ...]
    rules: Mapping[str, str]
    scanned_bytes: int
    seconds: float

    @property
    def failure(self) -> VerificationError | None:
        """What backups rely on and was not seen to work, as an error; None where all does."""
        why = failing(self.tried)
        if not why:
            return None
        return VerificationError(
            f"Source '{self.source}': its service does not do what backups of it rely on",
            why=why,
            todo="Give its login what is named above, or see to the project's settings; then check again.",
        )


def checkable(installation: Installation, name: str) -> Checkable:
    """A source that can be tried out. Raises NotFoundError, and RefusedError for a kind that has nothing to try."""
    policy = installation.source_policy(name)
    source = installation.source(name)
    if isinstance(source, Checkable):
        return source
    raise RefusedError(
        f"Source '{name}' cannot be tried out",
        why=f"of kind {policy.kind} there is nothing that its restore tests do not show",
        todo=f"Run: cto.backups test {name}",
    )


def check_source(installation: Installation, name: str) -> SourceChecked:
    """Try a source's service out, and keep what came of it in the log. Raises SourceError where nobody answers."""
    source = checkable(installation, name)
    with recorded(installation, ActionKind.CHECK, source=name) as run:
        began = clock.monotonic()
        with installation.progress(f"Trying out {name}"):
            found = source.try_out()
        took = clock.monotonic() - began
        checked = SourceChecked(name, found.tried, source.rules(), found.scanned_bytes, took)
        broken = sum(1 for each in found.tried if not each.passed)
        run.figures.update(rules=len(found.tried), broken=broken, scanned_bytes=found.scanned_bytes)
        run.message = failing(found.tried)
        return checked
