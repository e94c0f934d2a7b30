"""Every mistake in a policy file is told with its place, what is allowed, and what was probably meant."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cto_backups.config import load
from cto_backups.config.mistakes import PolicyMistakesError
from cto_backups.errors import ExitStatus, NotFoundError, PolicyError

GOLDEN = Path(__file__).parents[2] / "golden" / "policy-errors"
CASES = sorted(GOLDEN.glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_message_is_the_golden_one(case: Path) -> None:
    """With UPDATE_GOLDEN=1 the golden texts are written anew: read the difference before you commit it."""
    with pytest.raises(PolicyMistakesError) as raised:
        load(case)
    message = f"{raised.value.what}{raised.value.why}\n{raised.value.todo}\n".replace(str(case), case.name)
    golden = case.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(message, encoding="utf-8")
    assert message == golden.read_text(encoding="utf-8")


def test_no_golden_text_has_lost_its_file() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {case.stem for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_each_mistake_points_into_the_file(case: Path) -> None:
    with pytest.raises(PolicyMistakesError) as raised:
        load(case)
    lines = case.read_bytes().decode("utf-8", errors="replace").split("\n")
    for mistake in raised.value.mistakes:
        if mistake.line:
            assert mistake.line <= len(lines)
            assert 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_no_message_repeats_a_secret(case: Path) -> None:
    with pytest.raises(PolicyMistakesError) as raised:
        load(case)
    error = raised.value
    told = f"{error} {error.todo} {error.mistakes!r} {error.args} {error.__cause__!r}"
    for secret in ("hunter2", "5f4dcc3b5aa765d61d8327deb882cf99"):
        assert secret not in told


def test_all_mistakes_of_a_file_are_told_at_once_in_their_order() -> None:
    with pytest.raises(PolicyMistakesError) as raised:
        load(GOLDEN / "everything-at-once.yaml")
    assert [mistake.setting for mistake in raised.value.mistakes] == [
        "business",
        "buisness",
        "sources.checkout.class",
        "sources.checkout.triggers.0",
        "sources.checkout.vaults.0",
        "sources.checkout.retension",
        "sources.ledger.retention",
        "sources.ledger.triggers",
    ]


def test_the_closest_correct_name_is_offered() -> None:
    with pytest.raises(PolicyMistakesError) as raised:
        load(GOLDEN / "unknown-setting.yaml")
    (mistake,) = raised.value.mistakes
    assert (mistake.closest, mistake.value, mistake.line, mistake.column) == ("retention", "retension", 12, 5)
    assert "retention" in mistake.allowed


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as raised:
        load(tmp_path / "backups.yaml")
    assert str(tmp_path / "backups.yaml") in raised.value.what
    assert "cto.backups init" in raised.value.todo


def test_a_folder_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is a folder"):
        load(tmp_path)


def test_a_pipe_is_no_policy_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "backups.yaml")
    with pytest.raises(PolicyError, match="is a special file"):
        load(tmp_path / "backups.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(policy_file: Callable[[str], Path], sound: str) -> None:
    path = policy_file(sound)
    path.chmod(0)
    with pytest.raises(PolicyError, match="Permission denied"):
        load(path)


def test_a_name_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match="Not a directory"):
        load(tmp_path / "file" / "backups.yaml")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "backups.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PolicyError, match="too large"):
        load(tmp_path / "backups.yaml")


def test_mistakes_leave_with_the_policy_exit_status() -> None:
    with pytest.raises(PolicyError) as raised:
        load(GOLDEN / "empty-file.yaml")
    assert raised.value.exit_status is ExitStatus.POLICY
