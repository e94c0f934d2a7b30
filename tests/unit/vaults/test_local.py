"""What only a local vault can get wrong: disks that fill up, vanish, turn read-only, and processes that die."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cto_backups.errors import VaultError, VaultFullError, VaultMissingError, VaultReadOnlyError
from cto_backups.vaults import durable
from cto_backups.vaults.local import LocalVault


@pytest.fixture
def vault(tmp_path: Path) -> LocalVault:
    vault = LocalVault("cellar", tmp_path / "vault")
    vault.create()
    return vault


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def failing(number: int, after_calls: int = 0):
    """A system call that fails with this error number after so many calls that report success."""
    calls = iter(range(after_calls))

    def call(*arguments: object) -> int:
        if next(calls, None) is None:
            raise OSError(number, os.strerror(number))
        return 1

    return call


def test_stored_files_and_folders_are_private(vault: LocalVault) -> None:
    old = os.umask(0)
    try:
        vault.put("a/b/c", [b"x"])
    finally:
        os.umask(old)
    assert (vault.root / "a/b/c").stat().st_mode & 0o777 == 0o600
    assert {(vault.root / folder).stat().st_mode & 0o777 for folder in ("", "a", "a/b")} == {0o700}


def test_each_vault_is_given_an_id_that_stays(vault: LocalVault, tmp_path: Path) -> None:
    other = LocalVault("other", tmp_path / "other")
    other.create()
    first = vault.identity
    vault.create()
    assert first == vault.identity != other.identity


def test_an_empty_mount_point_is_a_missing_vault_and_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    unmounted = LocalVault("cellar", tmp_path / "mnt")
    for action in (
        unmounted.check,
        lambda: unmounted.put("folder/key", [b"x"]),
        lambda: unmounted.read("folder/key"),
        lambda: unmounted.size("folder/key"),
        lambda: unmounted.delete("folder/key"),
        lambda: list(unmounted.list("")),
        lambda: list(unmounted.list("folder")),
        unmounted.sweep,
    ):
        with pytest.raises(VaultMissingError) as caught:
            action()
        assert "cellar" in caught.value.what
        assert "mount" in caught.value.todo.lower()
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("marker", [b"", b"{}", b"\xff", b"[]", b'{"format": "x", "id": "1"}'])
def test_a_damaged_marker_is_named(vault: LocalVault, marker: bytes) -> None:
    (vault.root / "vault.json").write_bytes(marker)
    with pytest.raises(VaultError, match=r"cellar.*vault\.json"):
        vault.check()


def test_a_vault_of_a_newer_format_is_refused_naming_both(vault: LocalVault) -> None:
    (vault.root / "vault.json").write_text('{"format": 7, "id": "x"}')
    with pytest.raises(VaultError, match=r"format 7.*up to 1"):
        vault.check()


def test_a_file_where_the_vault_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VaultError, match="cellar"):
        LocalVault("cellar", tmp_path / "file").create()


def test_the_marker_is_not_a_stored_file(vault: LocalVault) -> None:
    assert list(vault.list("")) == []
    with pytest.raises(VaultError):
        vault.delete("vault.json")


@pytest.mark.parametrize("step", ["writev", "fsync"])
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, VaultFullError),
        (errno.EDQUOT, VaultFullError),
        (errno.EROFS, VaultReadOnlyError),
        (errno.EIO, VaultError),
    ],
)
def test_a_failing_disk_leaves_nothing_and_says_which_vault(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, step: str, number: int, kind: type[VaultError]
) -> None:
    vault.put("data/first", [b"kept"])
    monkeypatch.setattr(os, step, failing(number, after_calls=1 if step == "writev" else 0))
    with pytest.raises(kind) as caught:
        vault.put("data/second", [b"abcdef"])
    monkeypatch.undo()
    assert "cellar" in caught.value.what
    assert os.strerror(number) in caught.value.why
    assert files_below(vault.root) == ["data/first", "vault.json"]
    vault.put("data/second", [b"abcdef"])


def test_when_the_folder_cannot_be_made_durable_the_file_is_taken_back(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.put("data/first", [b"kept"])
    monkeypatch.setattr(durable, "sync_folder", failing(errno.EIO))
    with pytest.raises(VaultError):
        vault.put("data/second", [b"x"])
    monkeypatch.undo()
    vault.put("data/second", [b"again"])
    assert vault.read("data/second") == b"again"


def test_a_partial_write_is_continued(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda handle, parts: real(handle, [bytes(parts[0][:7]), *parts[1:2]][:1]))
    content = [bytes([n]) * (n % 23) for n in range(60)]
    vault.put("key", content)
    assert vault.read("key") == b"".join(content)


def test_a_read_only_folder_is_told_apart_from_a_full_one(vault: LocalVault) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere; the mounted test covers root")
    vault.put("data/first", [b"x"])
    vault.root.chmod(0o500)
    (vault.root / "data").chmod(0o500)
    try:
        for change in (vault.check, lambda: vault.put("data/x", [b"x"]), lambda: vault.delete("data/first")):
            with pytest.raises(VaultReadOnlyError, match="cellar"):
                change()
        assert vault.read("data/first") == b"x"
    finally:
        vault.root.chmod(0o700)
        (vault.root / "data").chmod(0o700)


@pytest.mark.root
def test_a_real_small_disk_fills_up_and_a_remounted_one_is_read_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        vault = LocalVault("cellar", disk / "vault")
        vault.create()
        vault.put("data/fits", [bytes(300_000)])
        with pytest.raises(VaultFullError, match="cellar"):
            vault.put("data/too-large", [bytes(1 << 20)])
        assert [stored.key for stored in vault.list("")] == ["data/fits"]
        vault.put("data/fits-too", [bytes(300_000)])
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for change in (vault.check, lambda: vault.put("data/x", [b""]), lambda: vault.delete("data/fits")):
            with pytest.raises(VaultReadOnlyError, match="cellar"):
                change()
        assert vault.size("data/fits") == 300_000
    finally:
        subprocess.run(["umount", disk], check=True)


WRITER = """
import os, sys
from pathlib import Path
from cto_backups.vaults.local import LocalVault
real = os.fsync
def fsync(handle):
    print("writing", flush=True)
    sys.stdin.read()
    real(handle)
os.fsync = fsync
LocalVault("cellar", Path(sys.argv[1])).put("data/new", [b"x" * 100])
"""


def test_a_killed_writer_leaves_no_stored_file_and_its_temporary_one_is_swept(vault: LocalVault) -> None:
    vault.put("data/first", [b"x"])
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, vault.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin and writer.stdout
    with writer, writer.stdin, writer.stdout:
        assert writer.stdout.readline() == "writing\n"
        assert vault.sweep() == 0, "a living writer's file is left alone"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert [stored.key for stored in vault.list("data")] == ["data/first"]
        assert len(files_below(vault.root / "data")) == 2
        assert vault.sweep() == 1
        assert files_below(vault.root / "data") == ["first"]
    vault.put("data/new", [b"now"])


def test_a_locked_temporary_file_is_alive_even_if_its_process_id_is_unknown_here(vault: LocalVault) -> None:
    """Containers that share a vault do not see each other's processes."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    temporary = vault.root / f".tmp-{gone.pid}-0"
    with temporary.open("wb") as file:
        durable.fcntl.flock(file, durable.fcntl.LOCK_EX)
        assert vault.sweep() == 0
    assert vault.sweep() == 1


def test_a_leftover_of_an_earlier_process_with_our_id_is_no_obstacle(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_counter", iter(range(1000, 2000)))
    for number in range(1000, 1004):
        (vault.root / f".tmp-{os.getpid()}-{number}").write_bytes(b"old")
    vault.put("key", [b"new"])
    assert vault.read("key") == b"new"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, None])
def test_a_file_system_without_the_exclusive_rename_still_never_replaces(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    monkeypatch.setattr(durable, "_kernel_rename", lambda: None if number is None else lambda a, b: number)
    vault.put("key", [b"first"])
    with pytest.raises(VaultError, match="already"):
        vault.put("key", [b"second"])
    assert vault.read("key") == b"first"
    assert files_below(vault.root) == ["key", "vault.json"]


def test_links_and_other_nodes_in_the_folder_are_not_stored_files(vault: LocalVault) -> None:
    vault.put("data/first", [b"x"])
    (vault.root / "data/link").symlink_to("first")
    (vault.root / "loop").symlink_to(".")
    os.mkfifo(vault.root / "fifo")
    assert [stored.key for stored in vault.list("")] == ["data/first"]


def test_the_folder_that_fsck_makes_is_passed_over(vault: LocalVault) -> None:
    (vault.root / "lost+found").mkdir(mode=0)
    assert list(vault.list("")) == []
    (vault.root / "lost+found").chmod(0o700)


def test_what_is_made_in_a_folder_that_a_group_shares_is_shared_as_that_is(vault: LocalVault) -> None:
    vault.put("alone/deep/file", [b"x"])
    shared = vault.root / "shared"
    shared.mkdir()
    shared.chmod(0o3770)
    before = os.umask(0o077)
    try:
        vault.put("shared/deep/file", [b"x"])
    finally:
        os.umask(before)
    modes = {key: (vault.root / key).stat().st_mode & 0o7777 for key in ("shared/deep", "shared/deep/file")}
    assert modes == {"shared/deep": 0o3770, "shared/deep/file": 0o640}
    assert (vault.root / "alone/deep").stat().st_mode & 0o7777 == 0o700
    assert (vault.root / "alone/deep/file").stat().st_mode & 0o7777 == 0o600
    shared.chmod(0o3730)
    vault.put("shared/file", [b"x"])
    assert (vault.root / "shared/file").stat().st_mode & 0o7777 == 0o600, "a group that may not look may not read"
