"""Which entries of folders count: patterns, roots and the way to them, caches."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cto_backups.sources.patterns import Patterns

_CACHEDIR: Final = b"Signature: 8a477f597d28d172789f06886806bc55"
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries below the roots count."""

    exclude: Patterns = field(default_factory=lambda: Patterns(()))
    include: Patterns = field(default_factory=lambda: Patterns(()))
    one_file_system: bool = False
    exclude_caches: bool = False

    def choose(
        self,
        above: bytes,
        taken: bool,
        forced: Collection[bytes],
        only: bytes | None,
        roots: Collection[bytes],
        names: Sequence[bytes],
        folders: Sequence[bool],
    ) -> list[tuple[bool, bool] | None]:
        """For each name in the folder `above`: None to leave it out, or what `inside` and `taken` are to be.

        `taken`: the folder lies in one that an include pattern names. `forced` are names that lead to one of the
        `roots`. With `only`, no other name counts.
        """
        exclude, include = self.exclude, self.include
        chosen: list[tuple[bool, bool] | None] = []
        for name, is_folder in zip(names, folders, strict=True):
            path = above + b"/" + name
            excluded = bool(exclude) and exclude.match(path, name, is_folder)
            inside, named = True, taken
            if name in forced:
                inside = path in roots or not excluded
            elif excluded or (only is not None and name != only):
                chosen.append(None)
                continue
            if include:
                named = named or include.match(path, name, is_folder)
                if not (named or is_folder or path in roots):
                    chosen.append(None)
                    continue
            chosen.append((inside, named))
        return chosen


def is_cache(path: bytes) -> bool:
    """Whether a folder is marked by a CACHEDIR.TAG."""
    try:
        descriptor = os.open(path + b"/CACHEDIR.TAG", _OPEN)
    except OSError:
        return False
    try:
        return os.read(descriptor, len(_CACHEDIR)) == _CACHEDIR
    except OSError:
        return False
    finally:
        os.close(descriptor)


def routes(roots: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
    """The names to follow, by folder, to reach every root from the top."""
    found: dict[bytes, set[bytes]] = {}
    for root in roots:
        while root:
            root, _, name = root.rpartition(b"/")
            found.setdefault(root, set()).add(name)
    return {folder: frozenset(names) for folder, names in found.items()}
