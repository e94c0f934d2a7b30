"""Commands of the policy around a capture: what they do is in it, and a failure of theirs is one of the backup."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups.core.model import Outcome
from cto_backups.core.policy import Hooks
from cto_backups.errors import SourceError
from cto_backups.flows.backup import backup


def hooked(workshop: Any, folder: Path, before: str = "", after: str = "", seconds: float = 60) -> Any:
    """The installation with these scripts around the captures of its documents."""

    def command(script: str) -> tuple[str, ...]:
        return ("sh", "-c", script) if script else ()

    hooks = Hooks(command(before), command(after), timedelta(seconds=seconds), str(folder))
    source = replace(workshop.installation.policy.sources["documents"], hooks=hooks)
    policy = replace(workshop.installation.policy, sources={"documents": source})
    return replace(workshop.installation, policy=policy)


def test_what_a_command_does_before_a_capture_is_in_it(workshop: Any, tmp_path: Path) -> None:
    """And it knows whose, and of which point; a variable of this process it does not get."""
    flushed = workshop.data / "files" / "flushed"
    script = f'echo "$CTO_BACKUPS_SOURCE $CTO_BACKUPS_POINT $CTO_BACKUPS_WHEN" > {flushed}; pwd > where'
    made = backup(hooked(workshop, tmp_path, before=script), "documents")
    assert flushed.read_text().split() == ["documents", made.point.id, "before"]
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)
    flushed.unlink()
    assert backup(workshop.installation, "documents").changed, "the point has the file that is gone now"


def test_nothing_is_captured_when_the_command_before_fails(workshop: Any, tmp_path: Path) -> None:
    installation = hooked(workshop, tmp_path, before="echo no lock for us >&2; exit 3", after="touch resumed")
    with pytest.raises(SourceError, match="before the backup of 'documents' failed") as caught:
        backup(installation, "documents")
    assert "no lock for us" in caught.value.why
    assert (tmp_path / "resumed").exists(), "what it may have stopped goes on"
    (run, *_) = workshop.catalog.runs("documents")
    assert run.outcome is Outcome.FAILED and "no lock for us" in run.message
    assert workshop.catalog.latest("documents", complete=False) is None


def test_a_command_that_takes_too_long_is_ended(workshop: Any, tmp_path: Path) -> None:
    installation = hooked(workshop, tmp_path, before="sleep 600", seconds=0.5)
    with pytest.raises(SourceError, match=r"not done after 0\.5 seconds"):
        backup(installation, "documents")


def test_what_was_captured_is_kept_when_the_command_after_fails(workshop: Any, tmp_path: Path) -> None:
    """The point is made, and so no backup is due again; what went wrong afterwards is told."""
    made = backup(hooked(workshop, tmp_path, after="echo no thaw >&2; exit 1"), "documents")
    assert made.changed and made.after_failed is not None
    assert "after the backup of 'documents' failed" in made.after_failed.what and "no thaw" in made.after_failed.why
    assert "What was captured is kept" in made.after_failed.todo
    assert workshop.catalog.latest("documents") == made.point
    (run, *_) = workshop.catalog.runs("documents")
    assert run.outcome is Outcome.SUCCEEDED
    assert f"{made.point.id} is safe, but the command after the backup of 'documents' failed" in run.message


def test_a_capture_that_fails_is_what_is_told_and_the_command_after_runs_all_the_same(
    workshop: Any, tmp_path: Path
) -> None:
    folder = workshop.data / "files"
    script = f"mv {folder} {folder}.away; touch began"
    back = f"mv {folder}.away {folder}; exit 1"
    with pytest.raises(SourceError) as caught:
        backup(hooked(workshop, tmp_path, before=script, after=back), "documents")
    assert "command" not in caught.value.what
    assert folder.is_dir()
