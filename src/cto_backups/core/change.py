"""What a recovery point changed: figures that its backup yields on the way, without a second pass over the data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewContent:
    """What was read, and what of it the store did not have yet; bytes are plain unless said otherwise.

    `new_bytes` are those of chunks that were not stored before, `stored_bytes` what these took, compressed and sealed,
    `dense_bytes` those of them that did not compress at all. `blank_bytes` are those of chunks, new or not, that
    repeat one byte. `entropy` is an estimate for the new ones in bits a byte, by samples; 0 when nothing was sampled.
    """

    read_bytes: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    dense_bytes: int = 0
    blank_bytes: int = 0
    entropy: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """How a point differs from the one before it, which held `parent_entries` and `parent_bytes` (0: there was none).

    `renamed_entries` are files under a new name whose content was known, at most as many as were removed; they count
    among the new and the removed ones as well. `compared` false: the one before was not at hand where this was
    stored, so everything counts as new.
    """

    parent_entries: int
    parent_bytes: int
    compared: bool
    new_entries: int
    changed_entries: int
    removed_entries: int
    renamed_entries: int
    content: NewContent

    @property
    def stored_share(self) -> float:
        """What new content takes of its size once it is compressed, 0 to 1; 1 when there is none."""
        content = self.content
        return min(1.0, content.stored_bytes / content.new_bytes) if content.new_bytes else 1.0

    def replaced_bytes(self, size_bytes: int) -> int:
        """New content that took the place of old: what a point of this size did not grow by."""
        return max(0, self.content.new_bytes - max(0, size_bytes - self.parent_bytes))

    def replaced_share(self, size_bytes: int) -> float:
        """The same against the size of the point before, 0 to 1."""
        return min(1.0, self.replaced_bytes(size_bytes) / self.parent_bytes) if self.parent_bytes else 0.0

    @property
    def lost_entries(self) -> int:
        """Entries that are gone, and in whose place no new ones came."""
        return max(0, self.removed_entries - self.new_entries)
