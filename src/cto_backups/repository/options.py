"""How a repository is written and read: nothing here changes what is on disk for ever."""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ScryptParameters:
    """Cost of deriving the key that opens a key file: memory is 128 x `n` x `r` bytes.

    The defaults are what restic's calibration settles on; passwords here are 256 random bits: more buys nothing.
    Tests use a smaller `n`.
    """

    n: int = 32768
    r: int = 8
    p: int = 1


_UPLOADERS = 2  # with one alone, a pack that waits for the disk holds all threads up
_UPLOADERS_OF_FAR = 4
_READERS_OF_FAR = 8


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """Choices of one run.

    `compression_level` is zstd's. `verify` says how many sealed blobs are opened again before they count as stored:
    every one ("full"), or one in sixteen ("sampled"). `workers` is how many threads seal and open, None for one a
    core. `pack_bytes` is the size from which a pack is complete. `index_seconds` and `index_blobs` say how
    often a long run saves its index, so that a killed run's packs are found again. `prune_unused` and `prune_grace` are
    for pruning; see `core.pruning.PruneRules`. `far`: each request to the vault waits on its way, so that more of them
    are under way than there are cores to work on what comes.
    """

    compression_level: int = 3
    verify: Literal["full", "sampled"] = "full"
    workers: int | None = None
    pack_bytes: int = 16 * MIB
    index_seconds: float = 30.0
    index_blobs: int = 30_000
    prune_unused: float = 0.05
    prune_grace: timedelta = timedelta(hours=24)
    scrypt: ScryptParameters = field(default_factory=ScryptParameters)
    far: bool = False

    @property
    def readers(self) -> int:
        """How many threads to read and open with, each with a few MiB of its own."""
        return max(self.threads, _READERS_OF_FAR) if self.far else self.threads

    @property
    def uploaders(self) -> int:
        """How many packs to store at once, which are in memory for so long."""
        return _UPLOADERS_OF_FAR if self.far else _UPLOADERS

    @property
    def threads(self) -> int:
        """How many worker threads to run."""
        return max(1, self.workers if self.workers is not None else len(os.sched_getaffinity(0)))
