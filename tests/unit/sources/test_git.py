"""What the git source keeps, refuses, and repairs."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from fakes.points import MemoryPoint

from cto_backups.core.model import Fingerprint, Problem
from cto_backups.core.ports import Existing
from cto_backups.errors import BusyError, PolicyError, RefusedError, SourceError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.git import source as git_module
from cto_backups.sources.git.command import Address, Git, address
from cto_backups.sources.git.mirror import Mirror
from cto_backups.sources.git.source import GitSource

AsUser = Callable[[], AbstractContextManager[None]]


def git(folder: Path, *arguments: str, given: str | None = None) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *identity, "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=given).stdout.strip()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with two commits."""
    work = tmp_path / "code"
    work.mkdir()
    git(work, "init", "--quiet")
    commit(work, "a.txt", "first\n" * 50)
    commit(work, "b.txt", "second\n" * 50)
    return work


@pytest.fixture
def source(work: Path, tmp_path: Path) -> GitSource:
    return make(work, tmp_path)


def make(url: Path | str, tmp_path: Path, **options: object) -> GitSource:
    return GitSource("code", {"url": str(url), **options}, state=tmp_path / "state")


def commit(work: Path, name: str, content: str) -> None:
    (work / name).parent.mkdir(parents=True, exist_ok=True)
    (work / name).write_text(content)
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "-m", f"Write {name}")


def captured(source: GitSource) -> tuple[MemoryPoint, Fingerprint]:
    with source.capture() as capture:
        point = MemoryPoint.of(capture.tree)
        assert capture.problems == ()
        assert capture.staged
        return point, capture.fingerprint()


def refs(repository: Path) -> set[str]:
    return set(git(repository, "for-each-ref", "--format=%(objectname) %(refname)").splitlines())


def refused(source: GitSource) -> SourceError:
    with pytest.raises(SourceError) as raised, source.capture():
        pass
    assert "code" in raised.value.what
    assert raised.value.why
    assert raised.value.todo
    return raised.value


# -- capturing ------------------------------------------------------------------------------------------------------


def test_every_ref_and_head_come_back(work: Path, source: GitSource, tmp_path: Path) -> None:
    git(work, "branch", "feature/x", "HEAD~1")
    git(work, "tag", "light")
    git(work, "tag", "-a", "heavy", "-m", "annotated")
    git(work, "notes", "add", "-m", "note")
    git(work, "update-ref", "refs/custom/place", "HEAD~1")
    (work / "a.txt").write_text("stashed")
    git(work, "stash", "--quiet")
    git(work, "checkout", "--quiet", "-b", "topic")
    point, _ = captured(source)
    point.restore(tmp_path / "restored")
    restored = tmp_path / "restored" / "code.git"
    assert refs(restored) == refs(work)
    assert len(refs(restored)) == 8
    assert git(restored, "symbolic-ref", "HEAD") == "refs/heads/topic"
    assert git(restored, "show", "refs/stash:a.txt") == "stashed"
    git(tmp_path, "clone", "--quiet", str(restored), "cloned")
    assert (tmp_path / "cloned" / "b.txt").read_text() == (work / "b.txt").read_text()


def test_a_detached_head_on_no_branch_comes_back(work: Path, source: GitSource, tmp_path: Path) -> None:
    git(work, "checkout", "--quiet", "--detach")
    commit(work, "loose.txt", "on no branch")
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected
    assert git(tmp_path / "restored" / "code.git", "show", "HEAD:loose.txt") == "on no branch"


def test_later_captures_fetch_only_what_is_new_and_follow_every_change(
    work: Path, source: GitSource, tmp_path: Path
) -> None:
    git(work, "branch", "old/name")
    captured(source)
    git(work, "branch", "-D", "old/name")
    git(work, "branch", "old")  # where a folder of refs was
    git(work, "reset", "--hard", "--quiet", "HEAD~1")
    commit(work, "c.txt", "rewritten")
    git(work, "branch", "-m", "main", "trunk")
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    assert refs(tmp_path / "restored" / "code.git") == refs(work)
    assert git(tmp_path / "restored" / "code.git", "symbolic-ref", "HEAD") == "refs/heads/trunk"
    assert expected.counts["commits"] == 3
    assert source.probe(tmp_path / "restored", expected) == expected


def test_the_fingerprint_counts_what_git_counts(work: Path, source: GitSource) -> None:
    git(work, "tag", "-a", "v1", "-m", "one")
    _, expected = captured(source)
    assert {name: expected.counts[name] for name in ("refs", "commits", "trees", "blobs", "tags", "head_files")} == {
        "refs": 2,
        "commits": 2,
        "trees": 2,
        "blobs": 2,
        "tags": 1,
        "head_files": 2,
    }
    subjects = {sample.fields["subject"] for sample in expected.samples if sample.key.startswith("commit")}
    assert subjects == {"Write a.txt", "Write b.txt"}
    (first,) = (sample for sample in expected.samples if sample.fields.get("subject") == "Write a.txt")
    assert first.fields["author"] == "Ada <ada@example.org>"
    assert first.fields["parents"] == ""
    assert first.fields["tree"] == git(work, "rev-parse", "HEAD~1^{tree}")


def test_the_mirror_holds_nobodys_hooks_and_no_volatile_files(work: Path, source: GitSource) -> None:
    captured(source)
    point, _ = captured(source)
    names = {path.rpartition(b"/")[2] for path in point.entries}
    assert not names & {b"FETCH_HEAD", b"hooks", b"gc.pid", b"ORIG_HEAD"}
    assert not any(name.endswith((b".lock", b".sample")) for name in names)
    assert next(path for path, _ in point.listing()) == b"/code.git"


def test_repositories_with_sha_256_names_work(tmp_path: Path) -> None:
    work = tmp_path / "modern"
    work.mkdir()
    git(work, "init", "--quiet", "--object-format=sha256")
    commit(work, "a", "x")
    source = make(work, tmp_path)
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected


def test_bare_repositories_and_file_urls_work(work: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(work), "bare.git")
    _, first = captured(make(tmp_path / "bare.git", tmp_path))
    _, second = captured(GitSource("code", {"url": f"file://{work}"}, state=tmp_path / "other"))
    assert first.checksums == second.checksums


@pytest.mark.root
def test_a_repository_of_another_user_can_be_protected(work: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(work), "theirs")
    for path in [tmp_path / "theirs", *(tmp_path / "theirs").rglob("*")]:
        os.chown(path, 1234, 1234)
    source = make(tmp_path / "theirs", tmp_path)
    point, expected = captured(source)
    assert expected.counts["commits"] == 2
    source.restore(point, None, existing=Existing.OVERWRITE)
    assert (tmp_path / "theirs" / "HEAD").exists(), "it is known as a bare one, whoever owns it"


def test_an_ordinary_user_needs_no_settings(open_place: Path, ordinary_user: AsUser) -> None:
    work = open_place / "code"
    work.mkdir()
    git(work, "init", "--quiet")
    commit(work, "a", "x")
    with ordinary_user():
        assert captured(make(work, open_place))[1].counts["commits"] == 1


def test_a_capture_within_a_git_hook_is_not_misled(work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "objects"))
    monkeypatch.setenv("GIT_NAMESPACE", "other")
    assert captured(make(work, tmp_path))[1].counts["commits"] == 2


# -- what limits a recovery -----------------------------------------------------------------------------------------


def test_limits_of_a_recovery_are_said(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    commit(other, "x", "y")
    git(work, "submodule", "--quiet", "add", str(other), "lib")
    git(work, "commit", "--quiet", "-m", "Use a library")
    for content in ("one", "two"):
        (work / "a.txt").write_text(content)
        git(work, "stash", "--quiet")
    with make(work, tmp_path).capture() as capture:
        notes = " ".join(capture.notes)  # type: ignore[attr-defined]
        assert capture.fingerprint().counts["head_files"] == 3
    assert "1 submodules" in notes
    assert "older ones have no ref" in notes


def test_a_shallow_clone_is_kept_and_said(work: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{work}", "shallow")
    source = make(tmp_path / "shallow", tmp_path)
    with source.capture() as capture:
        point, expected = MemoryPoint.of(capture.tree), capture.fingerprint()
        assert any("shallow" in note for note in capture.notes)  # type: ignore[attr-defined]
    assert expected.counts["commits"] == 1
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected


def test_a_new_repository_without_commits_is_captured_and_says_so(tmp_path: Path) -> None:
    work = tmp_path / "new"
    work.mkdir()
    git(work, "init", "--quiet")
    source = make(work, tmp_path)
    with source.capture() as capture:
        point, expected = MemoryPoint.of(capture.tree), capture.fingerprint()
        assert any("empty" in note for note in capture.notes)  # type: ignore[attr-defined]
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected


# -- refusing -------------------------------------------------------------------------------------------------------


def test_an_empty_listing_is_a_failure_never_a_deletion(work: Path, source: GitSource) -> None:
    _, before = captured(source)
    head = git(work, "rev-parse", "HEAD")
    for ref in git(work, "for-each-ref", "--format=%(refname)").splitlines():
        git(work, "update-ref", "-d", ref)
    error = refused(source)
    assert "empty" in error.what
    assert "1 refs" in error.why
    git(work, "update-ref", "refs/heads/main", head)
    assert captured(source)[1].checksums == before.checksums


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    error = refused(make(tmp_path / "plain", tmp_path))
    assert "no git repository" in error.todo
    with pytest.raises(SourceError):
        make(tmp_path / "nowhere", tmp_path).discover()


def test_an_unreachable_server_is_refused(tmp_path: Path) -> None:
    error = refused(make("http://127.0.0.1:1/x.git", tmp_path))
    assert "network" in error.todo


def test_credentials_never_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make("http://ada:hunter2@127.0.0.1:1/x.git", tmp_path)
    error = refused(source)
    assert "hunter2" not in f"{error.what} {error.why} {error.todo}"
    calls = tmp_path / "calls"
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nenv >> {calls}.env\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    refused(make("http://ada:hunter2@127.0.0.1:1/x.git", tmp_path))
    assert "hunter2" not in calls.read_text(), "arguments can be seen by everybody"
    assert "hunter2" in Path(f"{calls}.env").read_text()
    assert not [path for path in (tmp_path / "state").rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/x.git", Address("https://host/x.git")),
        ("https://token@host/x.git", Address("https://host/x.git", secret="https://token@host/x.git")),
        ("https://u:p@host:8/x.git", Address("https://host:8/x.git", secret="https://u:p@host:8/x.git")),
        ("ssh://git@host/x.git", Address("ssh://git@host/x.git")),
        ("git@host:x.git", Address("git@host:x.git")),
        ("/srv/x.git", Address("/srv/x.git", path=Path("/srv/x.git"))),
        ("file:///srv/a%20b", Address("file:///srv/a%20b", path=Path("/srv/a b"))),
    ],
)
def test_an_address_is_taken_apart(url: str, expected: Address) -> None:
    assert address(url) == expected


def test_commands_in_place_of_addresses_are_refused(tmp_path: Path) -> None:
    assert not (tmp_path / "ran").exists()
    refused(make(f"ext::touch {tmp_path / 'ran'}", tmp_path))
    refused(make(f"--upload-pack=touch {tmp_path / 'ran'}", tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_call_that_takes_too_long_is_ended_with_all_it_started(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path / 'child'}\nwait\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    error = refused(make(work, tmp_path, timeout_seconds=0.5))
    assert "0.5 seconds" in error.why
    assert "timeout_seconds" in error.todo
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("what git had started was left running")


def test_two_runs_do_not_use_one_mirror_at_once(source: GitSource, work: Path, tmp_path: Path) -> None:
    with source.capture(), pytest.raises(BusyError, match="another run"), make(work, tmp_path).capture():
        pass
    captured(source)


@pytest.mark.parametrize(
    "options", [{}, {"url": ""}, {"url": "x", "lfs": "perhaps"}, {"url": "x", "timeout_seconds": 0}]
)
def test_wrong_options_are_a_mistake_in_the_policy(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        GitSource("code", options, state=tmp_path)


# -- the mirror -----------------------------------------------------------------------------------------------------


def mirror_of(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sources" / "code" / "mirror.git"


@pytest.mark.parametrize("damage", ["no HEAD", "no packs", "cut pack", "no refs", "locks", "empty", "a file"])
def test_a_damaged_mirror_is_made_anew(work: Path, source: GitSource, tmp_path: Path, damage: str) -> None:
    _, expected = captured(source)
    mirror = mirror_of(tmp_path)
    packs = [path for path in (mirror / "objects" / "pack").iterdir() if path.suffix in (".pack", ".idx")]
    if damage == "no HEAD":
        (mirror / "HEAD").unlink()
    elif damage == "no packs":
        for pack in packs:
            pack.unlink()
    elif damage == "cut pack":
        for pack in packs:
            pack.chmod(0o600)
            os.truncate(pack, pack.stat().st_size // 2)
    elif damage == "no refs":
        for ref in (mirror / "refs" / "heads").iterdir():
            ref.unlink()
        (mirror / "packed-refs").unlink(missing_ok=True)
    elif damage == "locks":
        for name in ("HEAD.lock", "packed-refs.lock", "refs/heads/main.lock", "shallow.lock", "config.lock"):
            (mirror / name).touch()
        commit(work, "new", "new")
    else:
        for path in sorted(mirror.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        mirror.rmdir()
        mirror.touch() if damage == "a file" else mirror.mkdir()
    point, again = captured(source)
    if damage == "locks":
        assert again.counts["commits"] == 3
    else:
        assert again == expected
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", again) == again


def test_a_mirror_is_not_thrown_away_because_the_source_is_gone(work: Path, source: GitSource, tmp_path: Path) -> None:
    captured(source)
    before = {path: path.stat().st_mtime_ns for path in mirror_of(tmp_path).rglob("*.pack")}
    assert before
    work.rename(tmp_path / "moved")
    refused(source)
    assert {path: path.stat().st_mtime_ns for path in mirror_of(tmp_path).rglob("*.pack")} == before


def test_a_sound_mirror_outlives_a_fetch_that_fails(
    work: Path, source: GitSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured(source)
    before = {path: path.stat().st_mtime_ns for path in mirror_of(tmp_path).rglob("*.pack")}
    real = Git.remote

    def remote(self: Git, *arguments: str, **named: Path) -> bytes:
        if arguments[0] == "fetch":
            raise ToolError("git", 128, "fatal: the line broke")
        return real(self, *arguments, **named)

    monkeypatch.setattr(Git, "remote", remote)
    assert "the line broke" in refused(source).why
    assert {path: path.stat().st_mtime_ns for path in mirror_of(tmp_path).rglob("*.pack")} == before


def test_a_source_that_changes_while_it_is_fetched_is_fetched_again(
    work: Path, source: GitSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = Mirror.listing, [0]

    def listing(self: Mirror) -> object:
        times[0] += 1
        if times[0] in (2, 3):
            git(work, "commit", "--quiet", "--allow-empty", "-m", f"Meanwhile {times[0]}")
        return real(self)

    monkeypatch.setattr(Mirror, "listing", listing)
    point, expected = captured(source)
    assert expected.counts["commits"] == 4
    point.restore(tmp_path / "restored")
    assert refs(tmp_path / "restored" / "code.git") == refs(work)


def test_a_source_that_never_holds_still_is_kept_and_noted(
    work: Path, source: GitSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Mirror.listing

    def listing(self: Mirror) -> object:
        git(work, "commit", "--quiet", "--allow-empty", "-m", "Again")
        return real(self)

    monkeypatch.setattr(Mirror, "listing", listing)
    with source.capture() as capture:
        point, expected = MemoryPoint.of(capture.tree), capture.fingerprint()
        assert [problem.kind for problem in capture.problems] == ["changed-while-read"]
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected


# -- LFS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_lfs(work: Path, git_lfs: Path) -> Path:
    git(work, "lfs", "install", "--local")
    git(work, "lfs", "track", "*.bin")
    commit(work, "big.bin", "large content, first version")
    commit(work, "big.bin", "large content, second version")
    return work


def test_lfs_objects_of_the_whole_history_come_back(with_lfs: Path, tmp_path: Path) -> None:
    source = make(with_lfs, tmp_path)
    point, expected = captured(source)
    assert expected.counts["lfs_objects"] == 2
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected
    stored = sorted(
        path.read_bytes() for path in (tmp_path / "restored" / "code.git" / "lfs" / "objects").rglob("*/*/*")
    )
    assert stored == [b"large content, first version", b"large content, second version"]


@pytest.mark.parametrize("fault", ["altered", "lost"])
def test_a_wrong_lfs_object_shows(with_lfs: Path, tmp_path: Path, fault: str) -> None:
    source = make(with_lfs, tmp_path)
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    path = next((tmp_path / "restored" / "code.git" / "lfs" / "objects").rglob("*/*/*"))
    path.chmod(0o600)
    path.unlink() if fault == "lost" else path.write_bytes(b"L" + path.read_bytes()[1:])
    try:
        assert source.probe(tmp_path / "restored", expected) != expected
    except VerificationError as error:
        assert "lfs" in error.why.lower()


def test_an_lfs_object_that_the_source_lost_is_noted(with_lfs: Path, tmp_path: Path) -> None:
    lost = next((with_lfs / ".git" / "lfs" / "objects").rglob("*/*/*"))
    lost.chmod(0o600)
    lost.unlink()
    with make(with_lfs, tmp_path).capture() as capture:
        assert [problem.kind for problem in capture.problems] == ["unreadable"]
        assert "LFS" in capture.problems[0].detail


def test_without_git_lfs_the_point_says_that_it_is_incomplete(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(work, ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    real = git_module.run

    def missing(command: list[str], **named: object) -> bytes:
        return real(["no-such-program-here"] if command[0] == "git-lfs" else command, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(git_module, "run", missing)
    with make(work, tmp_path).capture() as capture:
        (problem,) = capture.problems
        assert problem == Problem(
            str(work), "unsupported", "it uses Git LFS, and git-lfs is not installed: install the package git-lfs"
        )
    with make(work, tmp_path, lfs="no").capture() as capture:
        assert capture.problems == ()


def test_where_lfs_is_not_used_nobody_asks_for_it(
    work: Path, source: GitSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(work, ".gitattributes", "*.txt text\n")

    def called(*_: object, **__: object) -> bytes:
        raise AssertionError("git-lfs was asked for")

    monkeypatch.setattr(git_module, "run", called)
    captured(source)


# -- probing and restoring ------------------------------------------------------------------------------------------


def test_oddly_written_objects_that_the_source_has_too_are_no_damage(
    work: Path, source: GitSource, tmp_path: Path
) -> None:
    tree = git(work, "rev-parse", "HEAD^{tree}")
    odd = f"tree {tree}\nauthor Ada<ada@example.org> 0 +0000\ncommitter Ada <ada@example.org> 0 +0000\n\nOdd\n"
    for number in range(12):
        name = git(work, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", given=odd + str(number))
        git(work, "update-ref", f"refs/heads/odd{number}", name)
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    assert subprocess.run(["git", "-C", work, "fsck", "--full"], capture_output=True).returncode != 0
    assert source.probe(tmp_path / "restored", expected) == expected
    lost = git(work, "rev-parse", "HEAD:a.txt")
    repository = tmp_path / "restored" / "code.git"
    (pack,) = repository.rglob("*.pack")
    content = pack.read_bytes()
    for path in repository.glob("objects/pack/*"):
        path.unlink()
    subprocess.run(["git", "-C", repository, "unpack-objects", "-q"], input=content, check=True)
    (repository / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(VerificationError, match=lost):
        source.probe(tmp_path / "restored", expected)


def test_content_that_belies_its_name_does_not_work(work: Path, source: GitSource, tmp_path: Path) -> None:
    """Neither refs nor names nor sizes show it, and it is not among the samples: only reading every object does."""
    for number in range(100, 140):
        (work / f"{number}").write_text(f"content {number}")
    commit(work, "last", "x")
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    repository = tmp_path / "restored" / "code.git"
    (pack,) = repository.rglob("*.pack")
    content = pack.read_bytes()
    for path in repository.glob("objects/pack/*"):
        path.unlink()
    subprocess.run(["git", "-C", repository, "unpack-objects", "-q"], input=content, check=True)
    sampled = {sample.key for sample in expected.samples}
    names = [git(work, "rev-parse", f"HEAD:{number}") for number in range(100, 140)]
    one, two = [name for name in names if f"blob {name}" not in sampled][:2]
    place = repository / "objects" / one[:2] / one[2:]
    place.chmod(0o600)
    place.write_bytes((repository / "objects" / two[:2] / two[2:]).read_bytes())
    with pytest.raises(VerificationError, match=r"git fsck.*hash"):
        source.probe(tmp_path / "restored", expected)


def test_the_sum_over_objects_is_what_the_format_says(work: Path, source: GitSource) -> None:
    lines = git(work, "cat-file", "--batch-all-objects", "--batch-check").splitlines()
    total = sum(int.from_bytes(sha256(line.encode()).digest(), "big") for line in lines)
    main = git(work, "rev-parse", "main")
    _, found = captured(source)
    assert found.checksums["objects"] == f"{total % 2**256:064x}"
    assert found.checksums["refs"] == sha256(f"{main} refs/heads/main\n".encode()).hexdigest()
    assert found.checksums["head"] == sha256(b"ref: refs/heads/main").hexdigest()


def test_the_checkout_leaves_nothing_behind(source: GitSource, tmp_path: Path) -> None:
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    source.probe(tmp_path / "restored", expected)
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["code.git"]
    assert not (tmp_path / "restored" / "code.git" / "index").exists()


def test_a_renamed_source_still_finds_its_repository(source: GitSource, tmp_path: Path) -> None:
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    renamed = GitSource("another", {"url": str(tmp_path / "code")}, state=tmp_path / "state")
    assert renamed.probe(tmp_path / "restored", expected) == expected


def test_a_lost_working_repository_is_made_anew_in_place(work: Path, source: GitSource, tmp_path: Path) -> None:
    git(work, "branch", "side")
    before = refs(work)
    point, _ = captured(source)
    work.rename(tmp_path / "lost")
    plan = source.plan_restore(point, None)
    assert plan.conflicts == ()
    assert any("not committed" in note for note in plan.notes)
    restored = source.restore(point, None)
    assert restored.places == (str(work),)
    assert refs(work) == before
    assert (work / "b.txt").read_text() == "second\n" * 50
    assert git(work, "status", "--porcelain") == ""
    assert git(work, "remote") == ""
    commit(work, "d.txt", "life goes on")


def test_in_place_the_former_repository_is_kept_beside(work: Path, source: GitSource, tmp_path: Path) -> None:
    point, _ = captured(source)
    (work / "precious.txt").write_text("never committed")
    assert source.plan_restore(point, None).conflicts == (str(work),)
    with pytest.raises(RefusedError):
        source.restore(point, None)
    restored = source.restore(point, None, existing=Existing.OVERWRITE)
    kept = Path(restored.places[1])
    assert (kept / "precious.txt").read_text() == "never committed"
    assert kept.parent == work.parent
    assert not (work / "precious.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["code", kept.name, "state"])


def test_a_bare_repository_comes_back_bare(work: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(work), "bare.git")
    source = make(tmp_path / "bare.git", tmp_path)
    point, _ = captured(source)
    (tmp_path / "bare.git").rename(tmp_path / "lost.git")
    source.restore(point, None)
    assert git(tmp_path / "bare.git", "rev-parse", "--is-bare-repository") == "true"
    assert refs(tmp_path / "bare.git") == refs(work)


def test_what_is_on_a_server_is_never_overwritten(work: Path, source: GitSource, tmp_path: Path) -> None:
    point, _ = captured(source)
    remote = make("https://example.org/x.git", tmp_path)
    for act in (lambda: remote.plan_restore(point, None), lambda: remote.restore(point, None)):
        with pytest.raises(RefusedError) as raised:
            act()
        assert "push --mirror https://example.org/x.git" in raised.value.todo


def test_parts_of_a_repository_come_back_elsewhere_only(source: GitSource, tmp_path: Path) -> None:
    point, _ = captured(source)
    source.restore(point, tmp_path / "part", only=["/code.git/HEAD"])
    assert [path.name for path in (tmp_path / "part" / "code.git").iterdir()] == ["HEAD"]
    with pytest.raises(RefusedError, match="by parts"):
        source.restore(point, None, only=["/code.git/HEAD"])


# -- how new it is


def newest_content_at(source: GitSource) -> datetime | None:
    with source.capture() as capture:
        return capture.newest_content_at


def commit_at(work: Path, name: str, at: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("GIT_COMMITTER_DATE", f"{int(at.timestamp())} +0000")
        commit(work, name, name)


def test_a_repository_is_as_new_as_its_newest_branch_or_tag_not_as_its_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "dated"
    work.mkdir()
    git(work, "init", "--quiet")
    source = make(work, tmp_path)
    assert newest_content_at(source) is None, "there is nothing in it yet"
    first, second, third = (datetime(2025, month, 1, tzinfo=UTC) for month in (1, 2, 3))
    commit_at(work, "a", second, monkeypatch)
    git(work, "checkout", "--quiet", "-b", "older")
    commit_at(work, "b", first, monkeypatch)
    assert newest_content_at(source) == second
    with monkeypatch.context() as patched:
        patched.setenv("GIT_COMMITTER_DATE", f"{int(third.timestamp())} +0000")
        git(work, "tag", "-a", "v1", "-m", "one")
    assert newest_content_at(source) == third


def test_a_commit_from_the_future_is_not_believed(
    source: GitSource, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = newest_content_at(source)
    assert before is not None
    git(work, "checkout", "--quiet", "-b", "ahead")
    commit_at(work, "c", datetime(2090, 1, 1, tzinfo=UTC), monkeypatch)
    assert newest_content_at(source) == before
