"""Bringing a git repository back, and seeing that what came back works."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cto_backups import clock
from cto_backups.core.ports import Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.errors import DamageError, RefusedError, RestoreError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources import beside
from cto_backups.sources.git import objects
from cto_backups.sources.git.command import Git

# `git fsck` says "error in commit 12ab…: missingSpaceBeforeDate: …" of an object that is oddly written. Such objects
# are what the source holds, and their names prove that they are unchanged; everything else that fsck says is damage.
_ODDITIES = ("error in ", "warning in ", "notice: ", "dangling ", "unreachable ", "Checking ")


def find(name: str, restored: Path, folder: str) -> Path:
    """The restored repository: under its name, or the only one there is (the source may have been renamed)."""
    place = restored / folder
    if place.is_dir():
        return place
    others = [path for path in restored.glob("*.git") if path.is_dir()]
    if len(others) != 1:
        raise broken(name, f"{folder} is not among what was restored")
    return others[0]


def check(name: str, git: Git, repository: Path) -> None:
    """Let git read and check every object. Raises VerificationError."""
    try:
        git.local(repository, "fsck", "--full", "--strict", "--no-dangling", "--no-progress")
    except ToolError as error:
        damages = [line for line in error.lines if not line.startswith(_ODDITIES)]
        if damages or error.status is None:
            raise broken(name, f"git fsck says: {'; '.join(damages[:3]) or error.detail}") from error


def checked_out(name: str, git: Git, repository: Path, scratch: Path) -> int:
    """How many files HEAD gives when it is checked out into a folder below `scratch`, which is removed again."""
    expected, _ = objects.head_entries(git, repository)
    if not expected:
        return 0
    folder = Path(tempfile.mkdtemp(prefix=".checkout-", dir=scratch))
    try:
        variables = {"GIT_INDEX_FILE": folder / "index", "GIT_WORK_TREE": folder / "tree"}
        (folder / "tree").mkdir()
        git.local(repository, "read-tree", "HEAD", variables=variables)
        git.local(repository, "checkout-index", "--all", "--force", variables=variables)
        return sum(len(files) + _links(Path(place), folders) for place, folders, files in os.walk(folder / "tree"))
    except ToolError as error:
        raise broken(name, f"HEAD cannot be checked out: {error.detail}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plan(name: str, git: Git, reader: PointReader, destination: Path | None, only: Sequence[str]) -> RestorePlan:
    """What `restore` would do."""
    target, _ = _target(name, git, reader, destination, only)
    planned = reader.plan(destination or target.parent)
    notes: tuple[str, ...] = ()
    if destination is None:
        planned = replace(planned, destination=target)
        notes = ("the repository's own settings and hooks, and what was not committed, are not in a recovery point",)
    if not _taken(target):
        return replace(planned, conflicts=(), notes=(*planned.notes, *notes))
    kept = f"what stands at {target} is kept beside it as {target.name}.before-restore-…"
    return replace(planned, conflicts=(str(target),), notes=(*planned.notes, *notes, kept))


def restore(
    name: str,
    git: Git,
    reader: PointReader,
    destination: Path | None,
    only: Sequence[str],
    existing: Existing,
    options: RestoreOptions | None,
    progress: Progress | None,
) -> Restored:
    """Write the mirror below `destination`, or the repository where it was."""
    target, stored = _target(name, git, reader, destination, only)
    taken = _taken(target)
    if taken and existing is Existing.REFUSE:
        raise beside.refuse(f"the repository of {name}", target)
    if destination is not None and not taken:
        return reader.restore(destination, options=options, progress=progress)
    now = clock.now()
    try:
        bare = destination is not None or _was_bare(git, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        restored, new, place = beside.written_beside(reader, target, stored, (), options, progress, now)
        try:
            if new is None:
                raise DamageError(
                    f"{target} was not restored",
                    why="; ".join(f"{problem.path}: {problem.detail}" for problem in restored.problems[:3]),
                    todo=f"restore from another vault; {target} is as it was",
                )
            kept = beside.exchange(new if bare else _with_work_tree(git, new, place), target, (), now)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except (OSError, ToolError) as error:
        raise RestoreError(
            f"{target} was not restored",
            why=error.detail if isinstance(error, ToolError) else error.strerror or str(error),
            todo=f"look in {target.parent}: what stood there is there, or kept as {beside.kept_name(target, now)}",
        ) from error
    return replace(restored, places=(str(target), *((str(kept),) if kept else ())))


def broken(name: str, why: str) -> VerificationError:
    """The verdict on a repository that did not come back."""
    return VerificationError(
        f"source {name}: the restored repository does not work",
        why=why,
        todo="verify the vault, and test an older recovery point; if every new point fails, remove the source's "
        "`mirror.git` in the state folder: the next backup makes it anew",
    )


def _target(
    name: str, git: Git, reader: PointReader, destination: Path | None, only: Sequence[str]
) -> tuple[Path, str]:
    """Where the repository goes, and its path inside the point."""
    stored = next((os.fsdecode(path) for path, _ in reader.listing()), "")
    if not stored:
        raise RestoreError(
            f"this recovery point of {name} is empty", why="it holds nothing", todo="choose another point"
        )
    stored = "/" + stored.lstrip("/").split("/")[0]
    if destination is not None:
        return destination / stored.lstrip("/"), stored
    if only:
        raise RefusedError(
            f"the repository of {name} was not restored",
            why="in place it comes back whole, not by parts",
            todo="restore the parts elsewhere with --to",
        )
    if git.place.path is None:
        raise RefusedError(
            f"the repository of {name} was not restored",
            why=f"{git.place.url} is on a server, and what is there is never overwritten from here",
            todo=f"restore it with --to FOLDER, then: git --git-dir FOLDER{stored} push --mirror {git.place.url}",
        )
    return git.place.path, stored


def _taken(target: Path) -> bool:
    return os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir()))


def _was_bare(git: Git, target: Path) -> bool:
    """Whether the local repository is a bare one; when it is gone, its name tells."""
    try:
        return git.at_source(target, "rev-parse", "--is-bare-repository").strip() == b"true"
    except ToolError:
        return target.name.endswith(".git")


def _with_work_tree(git: Git, mirror: Path, place: Path) -> Path:
    """Make the mirror an ordinary repository with HEAD checked out."""
    tree = place / "tree"
    tree.mkdir()
    inner = tree / ".git"
    mirror.rename(inner)
    git.local(inner, "config", "core.bare", "false")
    git.local(inner, "config", "--remove-section", "remote.origin")
    if objects.head_entries(git, inner)[0]:
        git.local(inner, "reset", "--hard", "--quiet", "HEAD", variables={"GIT_WORK_TREE": tree})
    return tree


def _links(place: Path, folders: Sequence[str]) -> int:
    """Links to folders, which a walk lists among the folders."""
    return sum((place / folder).is_symlink() for folder in folders)
