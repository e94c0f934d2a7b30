"""A repository that stock restic made is taken over as it is; both go on working with it."""

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from stock.restic import PASSWORD, Restic
from trees import compare

from .conftest import Home

HOST = socket.gethostname()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that restic backed up; who changes them brings them back as they were."""
    return tmp_path_factory.mktemp("restic") / "old"


@pytest.fixture(scope="module")
def original(stock_restic: Path, old: Path) -> Restic:
    """A repository of restic's own: two paths of this host, one of another host, tags, odd names. Tests get copies."""
    made = Restic(stock_restic, old.parent / "repository")
    made.run("init")
    for name in ("photos", "letters & more é"):
        folder = old / name
        folder.mkdir(parents=True)
        (folder / "one [bold].txt").write_text(name * 100)
        (folder / "large.bin").write_bytes(bytes(range(256)) * 20_000)
        made.backup(folder, "--tag", "weekly,first one")
    (old / "photos" / "new\nline").write_text("two lines\n")
    made.backup(old / "photos")
    made.backup(old / "photos", "--host", "laptop.example")
    return made


@pytest.fixture
def restic(original: Restic, tmp_path: Path) -> Restic:
    """A copy of that repository, and its password in the file `pw` beside it."""
    (tmp_path / "pw").write_text(PASSWORD + "\n")
    (tmp_path / "pw").chmod(0o600)
    return original.elsewhere(shutil.copytree(original.repository, tmp_path / "restic repo"))


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file() and "locks" not in file.parts)
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def adopt(home: Home, restic: Restic, *arguments: str) -> dict[str, object]:
    password = f"file:{restic.repository.parent / 'pw'}"
    answer = home("adopt", str(restic.repository), "--password", password, *arguments, "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    document: dict[str, object] = answer.document
    return document


def test_a_dry_run_shows_what_would_be_taken_over_and_changes_nothing(home: Home, restic: Restic) -> None:
    before, policy = contents(restic.repository), home.policy.read_bytes()
    shown = adopt(home, restic, "--dry-run")
    assert [(each["source"], len(each["snapshots"]), each["new"]) for each in shown["sources"]] == [  # type: ignore[attr-defined]
        ("photos", 2, True),
        ("letters-more", 1, True),
    ]
    assert [each["host"] for each in shown["left"]] == ["laptop.example"]  # type: ignore[attr-defined]
    assert shown["points"] == []
    assert (contents(restic.repository), home.policy.read_bytes()) == (before, policy)


def test_nothing_that_restic_stored_is_changed_and_it_goes_on_with_its_own_password(
    home: Home, restic: Restic, old: Path
) -> None:
    before, text = contents(restic.repository), home.policy.read_text()
    taken = adopt(home, restic)
    assert len(taken["points"]) == 3  # type: ignore[arg-type]
    after = contents(restic.repository)
    assert {name: after.get(name) for name in before} == before
    added = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert added == {"keys", "vault.json", "records", "policies"}
    kept = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert kept
    assert set(kept) <= set(home.policy.read_text().splitlines())
    # Restic goes on with its own password, and opens with ours too.
    restic.backup(old / "photos")
    restic.check("--read-data")
    ours = (home.root / "keys" / "repository.key").read_text().strip()
    assert len(Restic(restic.binary, restic.repository, ours).snapshots()) == 5
    # Taken over once more: only what restic added since.
    assert len(adopt(home, restic)["points"]) == 1  # type: ignore[arg-type]
    again = contents(restic.repository)
    policy = home.policy.read_bytes()
    assert adopt(home, restic)["points"] == []
    assert (contents(restic.repository), home.policy.read_bytes()) == (again, policy)


def test_what_was_taken_over_is_restored_but_never_called_proven(
    home: Home, restic: Restic, old: Path, tmp_path: Path
) -> None:
    newest = str(adopt(home, restic)["points"][1])  # type: ignore[index]
    assert newest.startswith("photos-")
    assert home("restore", newest, "--to", str(tmp_path / "out")).status is ExitStatus.SUCCESS
    photos = old / "photos"
    assert compare.differences(photos, tmp_path / "out" / photos.relative_to("/")) == []
    answer = home("test", "photos", "--json")
    assert answer.status is ExitStatus.VERIFICATION
    evidence = answer.document["tests"][0]
    assert (evidence["passed"], evidence["rung"]) == (False, "restored")
    assert "taken over" in evidence["reason"]
    assert "taken over" in home("points", "photos").out
    assert "no restore test can prove it" in home("points", newest).out
    assert home("status", "photos", "--json").document["sources"][0]["rung"] in ("recorded", "stored")


@pytest.fixture
def newest(old: Path) -> Iterator[None]:
    """One file more among what restic backed up."""
    times = (old / "photos").stat()
    (old / "photos" / "newest.txt").write_text("newest\n")
    yield
    (old / "photos" / "newest.txt").unlink()
    os.utime(old / "photos", ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.usefixtures("newest")
def test_backups_verifications_and_restore_tests_go_on_in_the_repository(
    home: Home, restic: Restic, tmp_path: Path
) -> None:
    adopt(home, restic)
    answer = home("backup", "photos", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    made = answer.document["sources"][0]
    assert made["vault"] == "restic-repo"
    assert made["unchanged_entries"] > 0  # the snapshot that was taken over is its parent
    assert {each["vault"] for each in made["copies"]} == {"one", "two", "three"}
    assert home("verify", "restic-repo").status is ExitStatus.SUCCESS
    assert home("test", "photos", "--vault", "restic-repo").status is ExitStatus.SUCCESS
    restic.check("--read-data")
    # The other vaults cut otherwise; whole points come there all the same.
    filled = home("vault", "fill", "one")
    assert filled.status is ExitStatus.SUCCESS, filled
    shutil.rmtree(restic.repository)
    old = home("points", "photos", "--json").document["points"][-1]["id"]
    assert home("restore", old, "--to", str(tmp_path / "out")).status is ExitStatus.SUCCESS


def test_retention_drops_nothing_that_was_taken_over_for_ninety_days(home: Home, restic: Restic) -> None:
    adopt(home, restic)
    home.policy.write_text(home.policy.read_text().replace("kind: files\n", "kind: files\n    retention: 1 version\n"))
    shown = home("expire", "photos", "--dry-run", "--json").document["sources"][0]
    assert shown["dropped"] == []
    assert len(shown["kept"]) == 2
    assert any("kept until" in reason for reason in shown["kept"][-1]["reasons"])
    assert home("expire", "photos").status is ExitStatus.SUCCESS
    assert home("prune", "restic-repo").status is ExitStatus.SUCCESS
    assert len(restic.snapshots()) == 4
    restic.check("--read-data")


def test_snapshots_go_to_the_source_that_protects_the_same_paths_or_the_one_that_is_named(
    home: Home, restic: Restic, old: Path
) -> None:
    add = f"  pictures: {{kind: files, class: documentation, paths: [{old / 'photos'}]}}\n"
    home.policy.write_text(home.policy.read_text().replace("sources:\n", "sources:\n" + add, 1))
    letters = old / "letters & more é"
    taken = adopt(home, restic, "--source", f"mail={letters}", "--host", "laptop.example", "--vault", "disk")
    assert taken["vault"] == "disk"
    assert {(each["source"], len(each["snapshots"]), each["new"]) for each in taken["sources"]} == {  # type: ignore[attr-defined]
        ("pictures", 3, False),
        ("mail", 1, True),
    }
    assert taken["left"] == []


def test_a_source_of_something_else_and_paths_that_no_snapshot_has_are_refused(
    home: Home, restic: Restic, old: Path
) -> None:
    password = f"file:{restic.repository.parent / 'pw'}"
    photos = old / "photos"
    start = ("adopt", str(restic.repository), "--password", password, "--source")
    assert home(*start, f"data-files={photos}").status is ExitStatus.REFUSED
    assert home(*start, "x=/no/such/path").status is ExitStatus.USAGE
    assert home(*start, "x").status is ExitStatus.USAGE
    assert not (restic.repository / "vault.json").exists()


def test_the_old_password_is_asked_for_by_reference(home: Home, restic: Restic, tmp_path: Path) -> None:
    answer = home("adopt", str(restic.repository))
    assert answer.status is ExitStatus.KEY
    assert "--password file:PATH" in answer.err
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "wrong").chmod(0o600)
    answer = home("adopt", str(restic.repository), "--password", f"file:{tmp_path / 'wrong'}")
    assert answer.status is ExitStatus.KEY
    assert not (restic.repository / "vault.json").exists()


def test_a_repository_of_version_1_is_refused_with_the_way_on(
    home: Home, restic: Restic, old: Path, tmp_path: Path
) -> None:
    former = restic.elsewhere(tmp_path / "v1")
    former.run("init", "--repository-version", "1")
    former.backup(old / "photos")
    arguments = ("adopt", str(former.repository), "--password", f"file:{tmp_path / 'pw'}")
    answer = home(*arguments)
    assert answer.status is ExitStatus.REFUSED
    assert "restic migrate upgrade_repo_v2" in answer.err
    former.run("migrate", "upgrade_repo_v2")
    answer = home(*arguments)
    assert answer.status is ExitStatus.SUCCESS, answer
    assert home("verify", "v1").status is ExitStatus.SUCCESS
    assert home("adopt", str(old)).status is ExitStatus.NOT_FOUND
    assert home("adopt", str(home.vault("one"))).status is ExitStatus.REFUSED


@pytest.mark.parametrize("dry", [("--dry-run",), ()])
@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--class", "bogus"), ExitStatus.POLICY, "no class named 'bogus'"),
        (("--vault", "two words"), ExitStatus.POLICY, "is no name"),
        (("--host", "laptop"), ExitStatus.NOT_FOUND, "did you mean 'laptop.example'?"),
    ],
)
def test_what_is_mistyped_is_told_before_anything_is_changed(
    home: Home, restic: Restic, arguments: tuple[str, ...], status: ExitStatus, told: str, dry: tuple[str, ...]
) -> None:
    """A dry run that promises what then fails is of no use; half an adoption is worse."""
    before, policy = contents(restic.repository), home.policy.read_bytes()
    password = f"file:{restic.repository.parent / 'pw'}"
    answer = home("adopt", str(restic.repository), "--password", password, *arguments, *dry)
    assert answer.status is status
    assert told in answer.err
    assert (contents(restic.repository), home.policy.read_bytes()) == (before, policy)


def test_a_wrong_password_is_not_called_a_mistake_of_the_policy(home: Home, restic: Restic, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "wrong").chmod(0o600)
    answer = home("adopt", str(restic.repository), "--password", f"file:{tmp_path / 'wrong'}")
    assert answer.status is ExitStatus.KEY
    assert "--password" in answer.err and "policy" not in answer.err


@pytest.mark.parametrize("part", [".", "repositories/main"])
def test_our_own_repository_is_not_adopted_as_one_more_copy(home: Home, part: str) -> None:
    """The same bytes under two names would be counted twice, and look like a copy more than there is."""
    policy = home.policy.read_bytes()
    answer = home("adopt", str(home.vault("one") / part))
    assert answer.status is ExitStatus.REFUSED
    assert "vault 'one' of this installation already" in answer.err
    assert home.policy.read_bytes() == policy
