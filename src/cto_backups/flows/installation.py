"""What every flow is given: the policy, the catalog, and the adapters that the policy names."""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cto_backups.core.model import (
    ActionKind,
    Copy,
    CopyFacts,
    Evidence,
    Facts,
    Outcome,
    RecoveryPoint,
    Resource,
    Run,
)
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.ports import PayloadStore, Progress, Sandbox, Source, Vault
from cto_backups.errors import BusyError, NotFoundError
from cto_backups.evidence.records import Record, SigningKey

Figures = Mapping[str, int | float | str | bool]


class Catalog(Protocol):
    """The facts, as flows read and write them; see `catalog.catalog.Catalog` for what each method promises."""

    def sync_policy(self, policy: Policy, text: bytes, now: datetime) -> None: ...
    def record_resources(self, source: str, resources: Iterable[Resource], now: datetime) -> None: ...
    def start_run(
        self,
        action: ActionKind,
        *,
        source: str | None,
        vault: str | None,
        point: str | None,
        now: datetime,
        pid: int,
        host: str,
    ) -> int: ...
    def finish_run(
        self,
        run_id: int,
        *,
        outcome: Outcome,
        now: datetime,
        error_code: str = "",
        message: str = "",
        figures: Figures = ...,
    ) -> None: ...
    def interrupt_dead_runs(self, host: str, alive: Callable[[int], bool], now: datetime) -> tuple[Run, ...]: ...
    def append_record(
        self, signer: SigningKey, kind: str, payload: Mapping[str, object], now: datetime
    ) -> Record: ...
    def records_after(self, signer: str, sequence: int) -> Iterator[Record]: ...
    def vault_head(self, vault: str, signer: str) -> int: ...
    def advance_vault_head(self, vault: str, signer: str, sequence: int) -> None: ...
    def add_point_with_copy(self, point: RecoveryPoint, copy: Copy) -> None: ...
    def add_copy(self, copy: Copy) -> None: ...
    def add_evidence(self, evidence: Evidence) -> None: ...
    def confirm(self, source: str, now: datetime) -> None: ...
    def expire_point(self, point_id: str, now: datetime, reasons: Iterable[str]) -> None: ...
    def expired_copies_to_delete(self) -> tuple[Copy, ...]: ...
    def forget_copy(self, point: str, vault: str) -> None: ...
    def point(self, name: str) -> RecoveryPoint: ...
    def points(
        self, source: str | None = None, *, limit: int | None = None, include_expired: bool = False
    ) -> tuple[RecoveryPoint, ...]: ...
    def latest(self, source: str, *, complete: bool = True) -> RecoveryPoint | None: ...
    def at(self, source: str, moment: datetime) -> RecoveryPoint | None: ...
    def copies(self, point_id: str) -> tuple[CopyFacts, ...]: ...
    def facts(
        self, now: datetime, sources: Iterable[str] | None = None, *, kept_points: bool = False
    ) -> Facts: ...


@dataclass(frozen=True)
class Installation:
    """One policy file with everything it names, opened when asked for.

    `source`, `vault` and `store` take a name of the policy; `store` opens the repository of a vault (once) and raises
    what keeps it from opening. `progress` opens a progress display with a title.
    """

    policy: Policy
    policy_text: bytes
    catalog: Catalog
    signer: SigningKey
    source: Callable[[str], Source]
    vault: Callable[[str], Vault]
    store: Callable[[str], PayloadStore]
    sandbox: Sandbox
    state: Path
    host: str
    user: str
    progress: Callable[[str], AbstractContextManager[Progress]]

    def source_policy(self, name: str) -> SourcePolicy:
        """The policy of one source. Raises NotFoundError naming those there are."""
        try:
            return self.policy.sources[name]
        except KeyError:
            raise NotFoundError(
                f"There is no source named '{name}'",
                why=f"the policy declares: {', '.join(sorted(self.policy.sources)) or 'none'}",
                todo="Use one of these names, or add the source to backups.yaml.",
            ) from None

    @contextmanager
    def exclusive(self, source: str) -> Iterator[None]:
        """Hold the source for one run at a time. Raises BusyError at once; the kernel frees it with the process."""
        folder = self.state / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / f"{source}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
                raise BusyError(
                    f"Another run is working on source '{source}'",
                    why=f"it is held by {holder or 'another process'}",
                    todo="Wait for it to end; if it hangs, stop that process. Nothing was changed.",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)
