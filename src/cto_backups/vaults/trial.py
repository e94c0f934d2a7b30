"""What a check asks of a store beside what a vault does: what stores refuse, tried for once, and told as it came.

A trial is of one store's protocol; the trials are `s3_trial` and `gcs_trial`. Keys are those of the vault.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol, runtime_checkable

from cto_backups.core.policy import LockMode


class Said(Enum):
    """How a store answers: it did it; this login may not; it refuses whoever asks; it knows no such thing."""

    DONE = "done"
    DENIED = "denied"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a store answered, with its reason; of what was stored, `version` is the store's name for it ("": none)."""

    said: Said
    why: str = ""
    version: str = ""


class Trial(Protocol):
    """One store, asked for what it may refuse. Every method raises VaultError when nobody answers."""

    hides: bool
    """Whether a deletion hides what is locked, and is not refused by the lock."""

    def tls(self) -> str | None:
        """The version of TLS agreed upon by a handshake now; None where policy asks for none."""

    def clock(self) -> datetime | None:
        """The store's time, to the second; None where it tells none."""

    def put(
        self,
        key: str,
        content: bytes,
        *,
        until: datetime | None = None,
        mode: LockMode | None = None,
        over: bool = False,
    ) -> Reply:
        """Store it, locked until then; with `over`, over what is there: no role may ask for that unless it is tried."""

    def put_damaged(self, key: str) -> Reply:
        """Store content under a checksum that is not its own."""

    def former_kept(self, key: str, version: str) -> Reply:
        """Whether a version that was replaced can be read; UNKNOWN where the store keeps none."""

    def encryption(self, key: str) -> tuple[str, str]:
        """In words how the provider says to have encrypted it, and the key's name; "" for what it does not tell."""

    def locked_until(self, key: str) -> datetime | None:
        """When the lock of what is there ends; None without one."""

    def relock(self, key: str, until: datetime, mode: LockMode, *, bypass: bool = False) -> Reply:
        """Let its lock end then; with `bypass`, by the right that is for taking locks away."""

    def hold(self, key: str, version: str, *, on: bool) -> Reply:
        """Put a legal hold on a version, or take it off; with version "", of what is there."""

    def is_held(self, key: str, version: str) -> Reply:
        """DONE where one is on it; REFUSED where it tells of none."""

    def delete(self, key: str, version: str) -> Reply:
        """Delete a version for good; with version "", what is there."""

    def hide(self, key: str) -> Reply:
        """Delete without naming a version."""

    def clear(self, folder: str, spare: Callable[[str], bool]) -> dict[str, str]:
        """Remove every version of all below a folder but what is to `spare`; why not, by key, of what stays."""


@runtime_checkable
class Tried(Protocol):
    """A vault whose store can be asked for more."""

    def trial(self) -> Trial:
        """What asks it."""
