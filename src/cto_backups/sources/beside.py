"""Bring something back in place without losing what stands there: write beside it, keep the old one, rename."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cto_backups.core.ports import PointReader, Progress, Restored, RestoreOptions
from cto_backups.errors import RefusedError, RestoreError


def kept_name(target: Path, now: datetime) -> str:
    """The name under which what stands at `target` is kept."""
    return f"{target.name}.before-restore-{now:%Y%m%dT%H%M%SZ}"


def refuse(what: str, target: Path) -> RefusedError:
    """Why nothing was written over what stands there."""
    return RefusedError(
        f"{what} was not restored",
        why=f"{target} is there already",
        todo="restore it elsewhere with --to, or say --overwrite: the one there is kept beside it under another name",
    )


def exchange(new: Path, target: Path, companions: Sequence[str], now: datetime) -> Path | None:
    """Put `new` where `target` is; the former one, with its companion files, keeps beside it. Its place, if any.

    `companions` are endings of files that belong to `target` (``-wal``). They go first: they must never be applied
    to the new one.
    """
    kept = target.with_name(kept_name(target, now))
    number = 1
    while os.path.lexists(kept):
        number += 1
        kept = target.with_name(f"{kept_name(target, now)}-{number}")
    moved = False
    for ending in (*companions, ""):
        old = Path(f"{target}{ending}")
        if os.path.lexists(old):
            old.replace(f"{kept}{ending}")
            moved = True
    new.replace(target)
    return kept if moved else None


def written_beside(
    reader: PointReader,
    target: Path,
    stored: str,
    only: Sequence[str],
    options: RestoreOptions | None,
    progress: Progress | None,
    now: datetime,
) -> tuple[Restored, Path | None, Path]:
    """Restore into a private folder beside `target`: what was written, the new one, and the folder to remove.

    There is no new one when it came back damaged: another vault may have it whole. Raises RestoreError when nothing
    came back.
    """
    place = target.parent / f".{target.name}.restore-{now:%Y%m%dT%H%M%SZ}-{os.getpid()}"
    place.mkdir(mode=0o700)
    try:
        restored = reader.restore(place, only=only, options=options, progress=progress)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    new = place / stored.lstrip("/")
    if any(problem.elsewhere for problem in restored.problems):
        return replace(restored, places=()), None, place
    if not os.path.lexists(new):
        shutil.rmtree(place, ignore_errors=True)
        raise RestoreError(
            f"{target} was not restored",
            why="; ".join(f"{problem.path}: {problem.detail}" for problem in restored.problems)
            or "nothing was written",
            todo=f"restore from another vault; {target} is as it was",
        )
    return restored, new, place
