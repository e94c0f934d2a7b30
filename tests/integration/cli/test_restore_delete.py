"""`restore --delete` as people run it: what goes, what stays, what is refused and what is asked."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from cto_backups.cli import restore as command
from cto_backups.errors import ExitStatus
from cto_backups.flows import perils
from cto_backups.flows.perils import peril

OVER = ("--overwrite", "--delete")


def clutter(folder: Path) -> None:
    """Two files, a folder and a symlink that no recovery point has."""
    (folder / "extra").write_bytes(b"extra")
    (folder / "more").mkdir()
    (folder / "more" / "inside").write_bytes(b"inside")
    (folder / "odd\n[red]").symlink_to("report.txt")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_in_place_the_folder_is_as_it_was(home: Any) -> None:
    files = home.data / "files"
    before = names(files)
    clutter(files)
    (home.data.parent / "beside").write_bytes(b"nobody's business")
    seen = home("restore", "data-files", "--in-place", *OVER, "--dry-run", "--json").document
    assert (seen["deleted_entries"], seen["deleted_bytes"]) == (4, 11)
    assert seen["extraneous"] == [str(files / name) for name in ("extra", "more", "odd\n[red]")]
    shown = home("restore", "data-files", "--in-place", *OVER, "--dry-run")
    assert "4 entries (11 B) not in the recovery point would be removed:" in " ".join(shown.out.split())
    assert names(files) > before
    unasked = home("restore", "data-files", "--in-place", *OVER)
    assert unasked.status is ExitStatus.REFUSED
    assert names(files) > before
    done = home("restore", "data-files", "--in-place", *OVER, "--yes", "--verify", "--json")
    assert done.status is ExitStatus.SUCCESS, done.err
    assert (done.document["deleted_entries"], done.document["deleted_bytes"]) == (4, 11)
    assert names(files) == before
    assert (home.data.parent / "beside").exists()
    assert (home.data / "app" / ".git" / "HEAD").exists(), "the source leaves it out: another one protects it"
    assert (home.data / "ledger.db").exists()


@pytest.mark.parametrize("only", ["/", "above"])
def test_in_place_nothing_outside_of_the_source_goes_whatever_is_selected(home: Any, only: str) -> None:
    (home.data.parent / "beside").write_bytes(b"nobody's business")
    (home.data / "files" / "extra").write_bytes(b"extra")
    # What is mounted below a selected folder is left alone: the topmost folder of the file system is as far as it goes.
    top = next(folder for folder in home.data.parents if folder.is_mount())
    selected = str(top if only == "/" else home.data.parent)
    seen = home("restore", "data-files", "--in-place", *OVER, "--only", selected, "--dry-run", "--json").document
    assert seen["extraneous"] == [str(home.data / "files" / "extra")]
    done = home("restore", "data-files", "--in-place", *OVER, "--only", selected, "--yes")
    assert done.status is ExitStatus.SUCCESS, done.err
    assert (home.data.parent / "beside").exists()
    assert not (home.data / "files" / "extra").exists()


def test_elsewhere_all_else_goes(home: Any, tmp_path: Path) -> None:
    for name in ("out", "out/deep"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_bytes(b"mine")
    kept = home("restore", "data-files", "--to", "out", "--overwrite")
    assert kept.status is ExitStatus.SUCCESS, kept.err
    assert (tmp_path / "out/mine").exists()
    done = home("restore", "data-files", "--to", "out", *OVER)
    assert done.status is ExitStatus.SUCCESS, done.err
    assert "3 entries (8 B) not in the recovery point removed" in done.out
    assert names(tmp_path / "out") == {home.data.parts[1]}


def test_what_the_source_leaves_out_stays(home: Any) -> None:
    text = home.policy.read_text()
    home.policy.write_text(text.replace("exclude: [", "exclude: ['*.tmp', 'cache/', ", 1))
    files = home.data / "files"
    (files / "cache").mkdir()
    (files / "cache" / "warm").write_bytes(b"warm")
    (files / "new").mkdir()
    (files / "new" / "a.tmp").write_bytes(b"a")
    (files / "new" / "b").write_bytes(b"b")
    done = home("restore", "data-files", "--in-place", *OVER, "--yes")
    assert done.status is ExitStatus.SUCCESS, done.err
    assert "3 extraneous entries stay" in " ".join(done.err.split())
    assert (files / "cache" / "warm").exists()
    assert names(files / "new") == {"a.tmp"}


@pytest.mark.parametrize("place", ["home/vaults/one/data", "home", "."])
def test_where_it_keeps_its_own_things_it_is_refused(home: Any, tmp_path: Path, place: str) -> None:
    before = {path for path in home.root.rglob("*") if path.is_file()}
    refused = home("restore", "data-files", "--to", str(tmp_path / place), *OVER, "--yes")
    assert refused.status is ExitStatus.REFUSED
    assert "keeps its own things" in " ".join(refused.err.split())
    assert {path for path in home.root.rglob("*") if path.is_file()} == before


@pytest.fixture
def within(home: Any) -> Any:
    """The installation lies in what its source protects, and nothing of it is left out by the policy."""
    text = home.policy.read_text()
    home.policy.write_text(
        text.replace(f"paths: [{home.data}]", f"paths: [{home.data.parent}]").replace(f", {home.root}]", "]")
    )
    assert f"paths: [{home.data.parent}]" in home.policy.read_text()
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    return home


def own_files(home: Any) -> dict[Path, bytes]:
    """What an installation cannot do without: the policy, and the keys."""
    return {path: path.read_bytes() for path in (home.policy, *sorted((home.root / "keys").iterdir()))}


def test_the_policy_in_use_is_not_replaced_by_what_it_was_once(within: Any) -> None:
    (listed,) = [one for one in within("ls", "data-files", str(within.root), "--json").document["entries"]
                 if one["path"] == str(within.policy)]  # fmt: skip
    assert listed, "the point has it"
    with within.policy.open("a") as policy:
        policy.write("# what was decided since\n")
    before = own_files(within)
    dry = within("restore", "data-files", "--in-place", *OVER, "--dry-run", "--json").document
    assert str(within.policy) not in dry["conflicts"]
    for place in (("--in-place",), ("--to", "/")):
        done = within("restore", "data-files", *place, "--overwrite", "--yes")
        assert done.status is ExitStatus.SUCCESS, done.err
        assert f"{within.policy} is left as it is: this installation uses it." in " ".join(done.err.split())
        assert own_files(within) == before
    alone = within("restore", "data-files", "--in-place", "--overwrite", "--yes", "--only", str(within.policy))
    assert alone.status is ExitStatus.REFUSED
    assert "--to FOLDER" in alone.err
    assert own_files(within) == before
    assert (
        within("restore", "data-files", "--to", "elsewhere", "--only", str(within.policy)).status is ExitStatus.SUCCESS
    )


def test_what_the_installation_uses_is_not_removed_although_the_point_is_older(within: Any) -> None:
    moved = within.data.parent / "moved"
    moved.mkdir()
    for name in ("backups.yaml", "keys"):
        (within.root / name).rename(moved / name)
    text = (moved / "backups.yaml").read_text()
    (moved / "backups.yaml").write_text(
        text.replace("sqlite:catalog.db", f"sqlite:{within.root}/catalog.db")
        .replace("file:vaults/", f"file:{within.root}/vaults/")
        .replace("state: state", f"state: {within.root}/state")
    )
    (within.data / "files" / "extra").write_bytes(b"extra")
    before = {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()}
    assert len(before) == 3
    here = type(within)(moved, within.data)
    done = here("restore", "data-files", "--in-place", *OVER, "--yes")
    assert done.status is ExitStatus.SUCCESS, done.err
    assert {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()} == before
    assert not (within.data / "files" / "extra").exists()


@pytest.mark.parametrize("place", ["home/vaults/one", "home/vaults/one/data", "home/state/new"])
@pytest.mark.parametrize("how", [(), ("--dry-run",)])
def test_nothing_is_restored_among_its_own_things(home: Any, tmp_path: Path, place: str, how: tuple[str, ...]) -> None:
    before = {path for path in home.root.rglob("*") if path.is_file()}
    refused = home("restore", "data-files", "--to", str(tmp_path / place), *how)
    assert refused.status is ExitStatus.REFUSED
    assert "keeps its own things" in " ".join(refused.err.split())
    assert "Restore into another folder" in refused.err
    assert {path for path in home.root.rglob("*") if path.is_file()} == before


def test_a_home_folder_needs_a_yes(home: Any, tmp_path: Path) -> None:
    (tmp_path / "me" / "mine").mkdir(parents=True)
    for home_folder in ("me", "me/mine"):
        answer = home.process("restore", "data-files", "--to", "me", *OVER, HOME=str(tmp_path / home_folder))
        assert answer.status is ExitStatus.REFUSED
        assert "home folder" in answer.err
        assert "--yes" in answer.err
    assert (tmp_path / "me" / "mine").exists()
    inside = home.process("restore", "data-files", "--to", "me/mine", *OVER, HOME=str(tmp_path / "me"))
    assert inside.status is ExitStatus.SUCCESS, inside.err
    meant = home.process("restore", "data-files", "--to", "me", *OVER, "--yes", HOME=str(tmp_path / "me"))
    assert meant.status is ExitStatus.SUCCESS, meant.err
    assert not (tmp_path / "me" / "mine").exists()


def test_the_root_and_what_holds_homes_are_no_ordinary_folders(tmp_path: Path) -> None:
    assert peril(Path("/")) == "it is the root of this machine's files"
    (tmp_path / "to root").symlink_to("/")
    assert peril(tmp_path / "to root") == peril(Path("/"))
    assert peril(Path.home()) is not None
    assert peril(tmp_path / "new") is None


@pytest.mark.root
def test_the_root_of_a_mount_needs_a_yes(home: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "disk"], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        refused = home("restore", "data-files", "--to", "disk", *OVER)
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)
    assert refused.status is ExitStatus.REFUSED
    assert "whole file system is mounted there" in " ".join(refused.err.split())


@pytest.mark.parametrize("source", ["app-repository", "ledger-database"])
@pytest.mark.parametrize("how", [(), ("--dry-run",)])
def test_what_comes_back_as_a_whole_has_nothing_to_delete(home: Any, source: str, how: tuple[str, ...]) -> None:
    refused = home("restore", source, "--to", "out", *OVER, *how)
    assert refused.status is ExitStatus.REFUSED
    assert "comes back as a whole" in " ".join(refused.err.split())


def test_of_an_incomplete_point_nothing_goes(home: Any) -> None:
    policy = home.policy.read_text()
    home.policy.write_text(policy.replace(f"[{home.data}]", f"[{home.data}, {home.data.parent}/not-there]", 1))
    home.change()
    saved = home("backup", "data-files")
    assert saved.status is ExitStatus.INCOMPLETE, (saved, home.policy.read_text())
    refused = home("restore", "data-files", "--in-place", *OVER, "--yes")
    assert refused.status is ExitStatus.REFUSED
    assert "incomplete" in refused.err


@pytest.mark.parametrize("answer", [True, False])
def test_who_is_asked_sees_what_would_go(home: Any, monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    clutter(home.data / "files")
    asked = []

    def confirm(question: str, **_: object) -> bool:
        asked.append(question)
        return answer

    monkeypatch.setattr(command, "attended", lambda: True)
    monkeypatch.setattr(command.typer, "confirm", confirm)
    monkeypatch.setattr(perils, "peril", lambda _: "it is precious")
    for where in (("--in-place",), ("--to", "out")):
        said = home("restore", "data-files", *where, *OVER)
        assert said.status is (ExitStatus.SUCCESS if answer else ExitStatus.REFUSED)
        gone = "4 entries (11 B) not in the recovery point will be removed" in " ".join(said.err.split())
        assert gone is (where == ("--in-place",))
        assert ("it is precious" in said.err) is (where != ("--in-place",))
    assert asked == ["Restore in place?", f"Restore into {home.data.parent / 'out'} with --delete?"]
    assert (home.data / "files" / "extra").exists() is not answer


def test_without_overwrite_it_says_what_it_needs(home: Any) -> None:
    answer = home("restore", "data-files", "--in-place", "--delete")
    assert answer.status is ExitStatus.USAGE
    assert "--delete needs --overwrite" in answer.err
