"""What a restore test asks of where it restores to."""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Sandbox(Protocol):
    """Disposable places to restore into."""

    def open(self, label: str) -> Path:
        """A new, empty, private place. Raises RestoreError when it cannot be made (no space, not writable)."""

    def close(self, place: Path) -> None:
        """Remove it with all that is in it, whatever its modes. Raises RestoreError when something stays."""

    def sweep(self) -> int:
        """Remove what killed processes left; how many places."""
