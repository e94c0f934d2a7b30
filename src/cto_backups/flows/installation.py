"""What every flow is given: the policy, the catalog, and the adapters that the policy names."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.wording import not_declared
from cto_backups.errors import BackupsError, BusyError, PolicyError, RefusedError, VaultReadOnlyError
from cto_backups.evidence.records import SigningKey

if TYPE_CHECKING:
    from cto_backups.core.alerts import Channel
    from cto_backups.core.payloads import PayloadStore
    from cto_backups.core.ports import Progress, Source
    from cto_backups.core.reporting import Report
    from cto_backups.core.sandboxes import Sandbox
    from cto_backups.core.traffic import Traffic
    from cto_backups.core.vault_settings import Settable
    from cto_backups.core.vaults import Vault
    from cto_backups.core.watched import Watch
    from cto_backups.flows.catalog_port import Catalog
    from cto_backups.flows.check_vault import Found
    from cto_backups.flows.queue_port import Queue


def _no_channel(name: str) -> "Channel":
    raise not_declared("channel", name, ())


def _no_key_gone(name: str) -> BackupsError | None:
    return None


def _no_watch() -> "Watch":
    raise AssertionError("this installation was put together without a way to watch")


def _no_report() -> "Report":
    raise AssertionError("this installation was put together without a place for reports")


def _no_queue() -> "Queue":
    raise AssertionError("this installation was put together without a queue")


def _no_examining(name: str) -> Any:
    raise AssertionError(f"this installation was put together without a way to try out vault {name}")


@dataclass(frozen=True)
class Installation:
    """One policy file with everything it names, opened when asked for.

    `source`, `vault` and `store` take a name of the policy; `store` opens the repository of a vault (once) and raises
    what keeps it from opening; `key_gone` tells of a vault that no key is there for, without opening it. `own` are the
    files and folders of this machine that it uses itself: the policy, keys, catalog, state and vaults. `progress` opens
    a progress display with a title. `channel` makes one of the policy.
    `watch` begins to watch for changes. `report` gives the place for reports, where policy names one. `travelled` gives
    what was asked of vaults since it was last called. `examine` tries out what the store of a vault enforces; `bucket`
    gives the vault as one whose bucket has settings, and raises RefusedError for a folder.
    `queue` makes a queue of this process alone.
    `brought` is up to which of its records this process has brought each vault.
    `user` with `uid` is who runs this as the operating system has it, `sudo_user` what sudo says of that.
    """

    policy: Policy
    policy_text: bytes
    catalog: "Catalog"
    signer: SigningKey
    source: Callable[[str], "Source"]
    vault: Callable[[str], "Vault"]
    store: Callable[[str], "PayloadStore"]
    sandbox: "Sandbox"
    state: Path
    own: tuple[Path, ...]
    host: str
    user: str
    progress: Callable[[str], "AbstractContextManager[Progress]"]
    key_gone: Callable[[str], BackupsError | None] = _no_key_gone
    channel: "Callable[[str], Channel]" = _no_channel
    watch: "Callable[[], Watch]" = _no_watch
    report: "Callable[[], Report]" = _no_report
    examine: "Callable[[str], Found]" = _no_examining
    bucket: "Callable[[str], Settable]" = _no_examining
    queue: "Callable[[], Queue]" = _no_queue
    uid: int = field(default_factory=os.getuid)
    sudo_user: str | None = None
    travelled: "Callable[[], Mapping[str, Traffic]]" = dict
    brought: dict[str, int] = field(default_factory=dict)

    def source_policy(self, name: str) -> SourcePolicy:
        """The policy of one source. Raises NotFoundError naming those there are."""
        try:
            return self.policy.sources[name]
        except KeyError:
            raise not_declared("source", name, self.policy.sources) from None

    def check_readable(self, vault_name: str) -> None:
        """Raise VaultError when the vault cannot be read. One that cannot be written to is good enough to read from:
        on the bad day its disk is mounted read-only.
        """
        try:
            self.vault(vault_name).check()
        except VaultReadOnlyError:
            return

    def check_owned(self, vault_name: str) -> None:
        """Raise RefusedError when this host may only add to the vault."""
        if self.policy.append_only(vault_name):
            raise RefusedError(
                f"Refused: this host may only add to vault '{vault_name}'",
                why="the policy says 'access: append-only' for it",
                todo="Run it where the vault is owned.",
            )

    @contextmanager
    def exclusive_keys(self) -> Iterator[None]:
        """Let one run at a time exchange keys. Raises BusyError at once; the kernel frees it with the process."""
        with self._held("@keys", "the keys", "exchanging keys"):
            yield

    @contextmanager
    def exclusive_alerts(self) -> Iterator[None]:
        """Let one run at a time tell people. Raises BusyError at once; the kernel frees it with the process."""
        with self._held("@alerts", "the alerts", "telling people"):
            yield

    @contextmanager
    def exclusive_reports(self) -> Iterator[None]:
        """Let one run at a time report. Raises BusyError at once; the kernel frees it with the process."""
        with self._held("@reports", "the reports", "reporting"):
            yield

    @contextmanager
    def _held(self, held: str, subject: str, doing: str) -> Iterator[None]:
        folder = self.state / "locks"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(folder / f"{held}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PolicyError(
                f"The lock of {subject} cannot be taken",
                why=f"{error.filename or folder}: {error.strerror}",
                todo="Run this as the user who owns the state folder, give it to this one, or make room there.",
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
                raise BusyError(
                    f"Another run is {doing}",
                    why=f"it is held by {holder or 'another process'}",
                    todo="Wait for it to end; if it hangs, stop that process. Nothing was changed.",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)
