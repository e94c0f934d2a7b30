"""Write-only: a host adds points to a vault that somebody else owns, and cannot take any away."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT
from cto_backups.errors import ExitStatus

from .conftest import Answer, Home, checked, environment

KEEPER, HOST, GROUP = 64_001, 64_002, 64_003
PAGE = ROOT / "docs/how-to/write-only.md"


def only_add_to(home: Home, name: str) -> None:
    """Let the policy say so."""
    text = home.policy.read_text()
    changed = re.sub(rf"(  {name}:.*?)url:", r"\1access: append-only\n    url:", text, count=1, flags=re.DOTALL)
    assert changed != text
    home.policy.write_text(changed)


def stored(home: Home, name: str) -> dict[str, bytes]:
    """Everything in a vault but locks."""
    files = [file for file in home.vault(name).rglob("*") if file.is_file() and file.parent.name != "locks"]
    return {str(file.relative_to(home.vault(name))): file.read_bytes() for file in files}


def snapshots(home: Home, name: str) -> set[str]:
    return {file.name for file in (home.vault(name) / "repositories/main/snapshots").iterdir()}


def keep_one_version(home: Home, *, settle: bool = True) -> None:
    text = home.policy.read_text()
    changed = text.replace("    class: configuration ", "    retention: 1 version\n    class: configuration ", 1)
    assert changed != text
    home.policy.write_text(changed)
    if settle:
        home.settle()


@pytest.mark.parametrize("command", [("prune", "two"), ("repair", "two")])
def test_what_deletes_is_refused_where_this_host_may_only_add(home: Home, command: tuple[str, ...]) -> None:
    only_add_to(home, "two")
    before = stored(home, "two")
    answer = home(*command)
    assert answer.status is ExitStatus.REFUSED, answer
    assert "may only add to vault 'two'" in answer.err
    assert "Run it where the vault is owned" in answer.err
    assert stored(home, "two") == before
    assert home(command[0], "one").status is ExitStatus.SUCCESS


def test_a_key_is_added_and_not_removed(home: Home, tmp_path: Path) -> None:
    only_add_to(home, "two")
    spare = tmp_path / "spare.key"
    assert home("key", "add", "--make", str(spare)).status is ExitStatus.SUCCESS
    keys = {name for name in stored(home, "two") if "/keys/" in name}
    assert len(keys) == 2
    answer = home("key", "remove", "--opened-by", f"file:{spare}", "--vault", "two")
    assert answer.status is ExitStatus.REFUSED, answer
    assert {name for name in stored(home, "two") if "/keys/" in name} == keys


def test_expired_copies_stay_there_and_are_counted_until_they_are_gone(home: Home) -> None:
    """The other vaults drop theirs; the worker does not even try."""
    only_add_to(home, "two")
    keep_one_version(home)
    before = stored(home, "two")
    for text in ("second\n", "third\n"):
        home.change(text)
        assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    kept = home("status", "--json").document["kept_by_owners"]["two"]
    assert kept >= 2
    assert f"Vault two keeps {kept} copies of expired points" in home("status").out
    assert before.items() <= stored(home, "two").items(), "everything that was there is there as it was"
    assert len(snapshots(home, "one")) < len(snapshots(home, "two"))

    for text in ("fourth\n", "fifth\n"):  # the worker has proven the third, which stays
        home.change(text)
        assert home("backup", "data-files").status is ExitStatus.SUCCESS
    expired = home("expire", "data-files", "--json")
    assert expired.status is ExitStatus.REFUSED, expired
    (answer,) = expired.document["sources"]
    assert (list(answer["vault_errors"]), len(answer["dropped"])) == (["two"], 1)
    assert home("status", "--json").document["kept_by_owners"] == {"two": kept + 1}

    for name in before:
        if "/snapshots/" in name:
            (home.vault("two") / name).unlink()  # as the vault's owner does
    home.change("sixth\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert home("expire", "data-files").status is ExitStatus.REFUSED
    assert home("status", "--json").document["kept_by_owners"]["two"] < kept + 2, "one more, and gone ones"


# -- permissions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """The vault's folder on a machine with a keeper and a host's user; each has a home folder."""

    top: Path
    vault: Path

    def run(self, user: int, *arguments: str) -> Answer:
        """Run the program as a user. This Python may lie where only root reads: it may read all, and change nothing."""
        reads_all = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
        done = self.command(user, sys.executable, "-m", "cto_backups", *arguments, options=reads_all)
        return checked(Answer(ExitStatus(done.returncode), done.stdout, done.stderr))

    def command(self, user: int, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command as a user, without any privilege but those of `options`."""
        identity = (f"--reuid={user}", f"--regid={user}", f"--groups={GROUP}")
        return subprocess.run(
            ["setpriv", *identity, *options, *command],
            cwd=self.top / str(user),
            env=environment(HOME=str(self.top / str(user)), CTO_BACKUPS_POLICY=str(self.home(user).policy)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def home(self, user: int) -> Home:
        return Home(self.top / str(user) / "home", self.top / str(user) / "data")

    def seal(self) -> None:
        """Run the very lines of the page, as root."""
        block = re.search(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
        assert block is not None
        names = {"VAULT": str(self.vault), "OWNER": str(KEEPER), "GROUP": str(GROUP)}
        done = subprocess.run(
            ["/bin/sh", "-euc", block[1]], env={**os.environ, **names}, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")

    def files(self) -> set[Path]:
        return {file for file in self.vault.rglob("*") if file.is_file() and file.parent.name != "locks"}


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        made = Place(Path(folder), Path(folder) / "vaults" / "shop")
        made.top.chmod(0o755)
        for user in (KEEPER, HOST):
            made.home(user).data.mkdir(parents=True)
            (made.home(user).data / "file").write_bytes(os.urandom(100_000))
            for path in (made.top / str(user), made.home(user).data, made.home(user).data / "file"):
                os.chown(path, user, user)
        made.vault.mkdir(parents=True)
        os.chown(made.vault, HOST, GROUP)
        made.vault.chmod(0o3770)
        yield made


def install(place: Place, user: int) -> None:
    """An installation whose vault `three` is the shared one."""
    home = place.home(user)
    answer = place.run(user, "init", str(home.root), "--protect", str(home.data), "--business", "acme")
    assert answer.status is ExitStatus.SUCCESS, answer
    text = home.policy.read_text()
    assert text.count("file:vaults/three") == 1
    home.policy.write_text(text.replace("file:vaults/three", f"file:{place.vault}"))


HOSTILE = """
for path; do
    folder=${path%/*}
    cat "$path" > /dev/null || { echo "cannot read $path"; exit 1; }
    : > "$path-new" || { echo "cannot add $path-new"; exit 1; }
    for attempt in 'rm -f "$path"' 'mv "$path" "$path-away"' 'mv -f "$path-new" "$path"' 'truncate -s 0 "$path"' \\
        'cp "$path-new" "$path"' 'dd if=/dev/zero of="$path" count=1 conv=notrunc' 'chmod 666 "$path"' \\
        'ln "$path" "$path-link"' 'mv "$folder" "$folder-away"' 'chmod 777 "$folder"'; do
        if eval "$attempt" 2> /dev/null; then echo "possible for $path: $attempt"; exit 1; fi
    done
    rm "$path-new"
done
"""


@pytest.mark.root
def test_a_host_backs_up_into_what_it_cannot_change_and_its_owner_prunes(place: Place, stock_restic: Path) -> None:
    install(place, HOST)
    only_add_to(place.home(HOST), "three")
    keep_one_version(place.home(HOST), settle=False)  # as it was written at first
    assert place.run(HOST, "vault", "init", "three").status is ExitStatus.SUCCESS
    place.seal()
    for size in (300_000, 400_000, 500_000):
        (place.home(HOST).data / "file").write_bytes(os.urandom(size))
        answer = place.run(HOST, "backup")
        assert answer.status is ExitStatus.SUCCESS, answer
        place.seal()
    sealed = place.files()
    kinds = ("data", "index", "snapshots", "keys", "records", "policies", "config", "vault.json")
    assert all(any(kind in str(file) for file in sealed) for kind in kinds)
    assert {file.stat().st_uid for file in sealed} == {KEEPER}
    contents = {file: file.read_bytes() for file in sealed}
    hostile = place.command(HOST, "sh", "-c", HOSTILE, "sh", *map(str, sealed))
    assert (hostile.returncode, hostile.stdout) == (0, ""), hostile
    assert {file: file.read_bytes() for file in place.files()} == contents
    assert place.run(HOST, "verify", "three").status is ExitStatus.SUCCESS
    assert place.run(HOST, "test").status is ExitStatus.SUCCESS
    assert place.run(HOST, "expire").status is ExitStatus.REFUSED
    assert place.run(HOST, "prune", "three").status is ExitStatus.REFUSED

    install(place, KEEPER)
    key = place.home(KEEPER).root / "keys/repository.key"
    key.write_bytes((place.home(HOST).root / "keys/repository.key").read_bytes())
    repository = str(place.vault / "repositories/main")
    restic = (str(stock_restic), "-r", repository, "--no-cache", "-p", str(key))
    forgotten = place.command(KEEPER, *restic, "forget", "--group-by", "host,paths", "--keep-last", "1")
    assert forgotten.returncode == 0, forgotten
    pruned = place.run(KEEPER, "prune", "three", "--json")
    assert pruned.status is ExitStatus.SUCCESS, pruned
    gone = set(contents) - place.files()
    assert {file.parent.name for file in gone} >= {"snapshots", "index"}, "the owner's prune took them out"

    # Ours deletes packs a day later; stock restic does at once, with the same permissions.
    assert place.command(KEEPER, *restic, "prune").returncode == 0
    assert {file for file in set(contents) - place.files() if "/data/" in str(file)}

    # What the owner wrote meanwhile, the host can read, and goes on.
    read = place.command(HOST, "sh", "-c", 'cat "$@" > /dev/null', "sh", *map(str, place.files()))
    assert (read.returncode, read.stderr) == (0, "")
    (place.home(HOST).data / "file").write_bytes(os.urandom(600_000))
    assert place.run(HOST, "backup").status is ExitStatus.SUCCESS
    assert place.run(HOST, "verify", "three").status is ExitStatus.SUCCESS
    place.seal()
    assert place.run(KEEPER, "verify", "three").status is ExitStatus.SUCCESS
