"""Keys: several secrets open the vaults; the one that the policy names can be exchanged, and always opens them all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cto_backups.config import load
from cto_backups.config.edit import save, with_source
from cto_backups.errors import ExitStatus, KeyProblemError
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from stock.restic import Restic

from .conftest import Home, environment

VAULTS = ("one", "two", "three")


def secret(home: Home) -> str:
    """What the policy names."""
    return (home.root / "keys" / "repository.key").read_text().strip()


def opens(home: Home, name: str, password: str) -> bool:
    try:
        RepositoryStore.open(LocalVault(name, home.vault(name)), "repositories/main", password)
    except KeyProblemError:
        return False
    return True


def key_files(home: Home, name: str) -> set[str]:
    return {file.name for file in (home.vault(name) / "repositories/main/keys").iterdir()}


def records(home: Home, name: str) -> list[dict[str, object]]:
    """What the signed records about keys in a vault say."""
    found = sorted(home.vault(name).glob("records/*/*-key.sealed"))
    return [json.loads(home.opened(file))["body"]["payload"] for file in found]


def test_each_vault_lists_its_keys_and_which_one_is_in_use(home: Home) -> None:
    answer = home("key", "list", "--json")
    assert [(each["vault"], len(each["keys"]), each["keys"][0]["in_use"]) for each in answer.document["vaults"]] == [
        (name, 1, True) for name in VAULTS
    ]
    assert "in use" in home("key").out
    assert "one: 1 key; the policy's secret for it is the shared one, file:keys/repository.key" in home("key").out
    assert [each["vault"] for each in home("key", "list", "--vault", "two", "--json").document["vaults"]] == ["two"]


def test_a_secret_is_added_by_reference_and_opens_every_vault(home: Home, tmp_path: Path) -> None:
    spare = tmp_path / "spare.key"
    spare.write_text("a spare secret\n")
    spare.chmod(0o600)
    answer = home("key", "add", "--new", f"file:{spare}")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert "a spare secret" not in answer.out + answer.err
    assert all(opens(home, name, "a spare secret") and opens(home, name, secret(home)) for name in VAULTS)
    assert [len(records(home, name)) for name in VAULTS] == [1, 2, 3]  # each vault gets the chain as it is then
    assert records(home, "one")[0]["change"] == "added"
    again = home("key", "add", "--new", f"file:{spare}", "--json")
    assert [each["new"] for each in again.document["vaults"]] == [False] * 3
    assert [len(key_files(home, name)) for name in VAULTS] == [2, 2, 2]


def test_a_secret_is_made_into_a_file_for_its_owner_alone(home: Home, tmp_path: Path) -> None:
    made = tmp_path / "spare.key"
    answer = home("key", "add", "--make", str(made), "--vault", "two")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert made.stat().st_mode & 0o777 == 0o600
    text = made.read_text().strip()
    assert re.fullmatch("[0-9a-f]{64}", text)
    assert text not in answer.out + answer.err
    assert [opens(home, name, text) for name in VAULTS] == [False, True, False]
    assert home("key", "add", "--make", str(made)).status is ExitStatus.REFUSED


def test_a_secret_for_a_disk_that_is_not_mounted_is_not_made_on_this_one(home: Home, tmp_path: Path) -> None:
    """`--make /media/usb/spare.key` without the stick."""
    answer = home("key", "add", "--make", str(tmp_path / "usb" / "spare.key"))
    assert answer.status is ExitStatus.USAGE
    assert "mkdir -p" in answer.err
    assert not (tmp_path / "usb").exists()
    assert f"{tmp_path} is a folder" in home("key", "add", "--make", str(tmp_path)).err
    assert [len(key_files(home, name)) for name in VAULTS] == [1, 1, 1]


@pytest.mark.parametrize("arguments", [(), ("--new", "file:a", "--make", "b")])
def test_a_secret_to_add_is_named_in_one_way(home: Home, arguments: tuple[str, ...]) -> None:
    assert home("key", "add", *arguments).status is ExitStatus.USAGE


def test_keys_are_removed_by_what_they_open_with_or_by_their_ids(home: Home, tmp_path: Path) -> None:
    home("key", "add", "--make", str(tmp_path / "a"))
    answer = home("key", "remove", "--opened-by", f"file:{tmp_path / 'a'}")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert [len(key_files(home, name)) for name in VAULTS] == [1, 1, 1]
    added = home("key", "add", "--make", str(tmp_path / "b"), "--vault", "two", "--json").document["vaults"][0]["key"]
    assert home("key", "remove", added[:7]).status is ExitStatus.NOT_FOUND
    answer = home("key", "remove", added[:12], "--json")
    assert answer.document["vaults"] == [{"vault": "two", "removed": [added]}]
    assert len(key_files(home, "two")) == 1
    assert records(home, "two")[-1]["change"] == "removed"


def test_the_key_in_use_and_the_last_one_are_not_removed(home: Home, tmp_path: Path) -> None:
    (mine,) = key_files(home, "one")
    answer = home("key", "remove", mine)
    assert answer.status is ExitStatus.REFUSED
    assert "the last one" in answer.err
    home("key", "add", "--make", str(tmp_path / "a"))
    assert home("key", "remove", mine[:16]).status is ExitStatus.REFUSED
    answer = home("key", "remove", "--opened-by", f"file:{home.root / 'keys' / 'repository.key'}")
    assert answer.status is ExitStatus.REFUSED
    assert all(opens(home, name, secret(home)) for name in VAULTS)


def test_a_vault_that_is_away_is_named_and_the_others_get_the_key(home: Home, tmp_path: Path) -> None:
    home.vault("two").rename(tmp_path / "away")
    answer = home("key", "add", "--make", str(tmp_path / "a"))
    assert answer.status is ExitStatus.VAULT
    assert "Vault two is not at" in answer.err
    assert f"--new file:{tmp_path / 'a'}" in answer.err
    (tmp_path / "away").rename(home.vault("two"))
    assert home("key", "add", "--new", f"file:{tmp_path / 'a'}").status is ExitStatus.SUCCESS
    assert all(opens(home, name, (tmp_path / "a").read_text().strip()) for name in VAULTS)


def test_rotating_exchanges_the_secret_of_every_vault(home: Home) -> None:
    before = secret(home)
    answer = home("key", "rotate", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert (answer.document["switched"], answer.document["finished"]) == (True, True)
    after = secret(home)
    assert after != before
    assert before not in answer.out + answer.err
    assert after not in answer.out + answer.err
    for name in VAULTS:
        assert (opens(home, name, after), opens(home, name, before), len(key_files(home, name))) == (True, False, 1)
    key = home.root / "keys" / "repository.key"
    assert {file.name for file in key.parent.iterdir()} == {"repository.key", "evidence.key"}
    assert key.stat().st_mode & 0o777 == 0o600
    assert [each["change"] for each in records(home, "three")] == ["added"] * 3 + ["rotated"] + ["removed"] * 3
    home.change()
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert home("test", "data-files").status is ExitStatus.SUCCESS


def test_a_rotation_waits_for_a_vault_that_is_away_and_goes_on_when_it_is_back(home: Home, tmp_path: Path) -> None:
    before = secret(home)
    home.vault("two").rename(tmp_path / "away")
    answer = home("key", "rotate")
    assert answer.status is ExitStatus.VAULT
    assert "Vault two is not at" in answer.err
    assert secret(home) == before
    (tmp_path / "away").rename(home.vault("two"))
    assert home("key", "rotate").status is ExitStatus.SUCCESS
    assert secret(home) != before
    assert [(opens(home, name, secret(home)), opens(home, name, before)) for name in VAULTS] == [(True, False)] * 3


def test_a_secret_that_is_in_no_file_is_not_rotated(home: Home) -> None:
    text = home.policy.read_text()
    home.policy.write_text(text.replace("file:keys/repository.key", "command:cat keys/repository.key"))
    answer = home("key", "rotate")
    assert answer.status is ExitStatus.REFUSED
    assert "key add --new" in answer.err


def test_the_secrets_of_a_rotation_are_in_no_recovery_point(home: Home, tmp_path: Path) -> None:
    """They lie beside the key, and no files source may take them along, whatever folder it protects."""
    paths = [str(home.root / "keys"), str(home.policy)]
    before = load(home.policy)
    save(before, with_source(before, "own", {"kind": "files", "class": "configuration", "paths": paths}))
    home.vault("two").rename(tmp_path / "away")
    assert home("key", "rotate").status is ExitStatus.VAULT
    assert (home.root / "keys" / "repository.key.new").exists()
    home("backup", "own")
    assert home("restore", "own", "--to", str(tmp_path / "out")).status is ExitStatus.SUCCESS
    restored = {file.name for file in (tmp_path / "out").rglob("*")}
    assert "backups.yaml" in restored
    assert not {name for name in restored if name.startswith("repository.key")}


def test_stock_restic_opens_with_each_key_and_its_own_keys_open_with_us(
    home: Home, tmp_path: Path, stock_restic: Path
) -> None:
    assert home("key", "add", "--make", str(tmp_path / "spare")).status is ExitStatus.SUCCESS
    first = Restic(stock_restic, home.vault("one") / "repositories/main", secret(home))
    spare = Restic(stock_restic, first.repository, (tmp_path / "spare").read_text().strip())
    assert len(first.snapshots()) == len(spare.snapshots()) > 0
    (tmp_path / "theirs").write_text("theirs\n")
    first.run("key", "add", "--new-password-file", tmp_path / "theirs")
    assert opens(home, "one", "theirs")
    listed = {each["id"] for each in home("key", "list", "--vault", "one", "--json").document["vaults"][0]["keys"]}
    assert listed == key_files(home, "one")
    assert home("key", "rotate").status is ExitStatus.SUCCESS
    rotated = Restic(stock_restic, first.repository, secret(home))
    rotated.check()
    assert first.start("snapshots").returncode != 0
    assert Restic(stock_restic, first.repository, "theirs").snapshots() == rotated.snapshots()


KILLED = """
import os, signal, sys
from cto_backups.cli import main
places, limit, seen = sys.argv[1].split(":"), int(sys.argv[2]), 0

def hook(event, arguments):
    global seen
    changes = event in ("os.rename", "os.link", "os.remove") or (
        event == "open" and isinstance(arguments[0], str) and "/.tmp-" in arguments[0] and arguments[2] & os.O_CREAT)
    if changes and any(place in os.fsdecode(arguments[0]) for place in places if not isinstance(arguments[0], int)):
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
status = main.run(sys.argv[3:])
print(seen, file=sys.stderr)
sys.exit(status)
"""


def killed_at(home: Home, change: int) -> "subprocess.CompletedProcess[str]":
    """A rotation that dies before its nth change of a file of keys, in a vault or beside the policy."""
    return subprocess.run(
        [sys.executable, "-c", KILLED, f"{home.root}/keys/:/main/keys/", str(change), "key", "rotate"],
        env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_rotation_killed_before_any_change_of_a_key_leaves_every_vault_open_and_the_next_one_finishes(
    home: Home, tmp_path: Path, fault_rounds: int
) -> None:
    keep = tmp_path / "keep"
    shutil.copytree(home.root, keep, symlinks=True)
    before = secret(home)
    done = killed_at(home, 0)
    assert done.returncode == 0, done.stderr
    changes = int(done.stderr.split()[-1])
    assert changes >= 3 + 3 + 4  # a new key file in each vault, the old one's removal; and the secret's own files
    switched = set()
    rounds = max(2, min(changes, fault_rounds))  # spread over the whole of it
    for change in sorted({1 + number * (changes - 1) // (rounds - 1) for number in range(rounds)}):
        shutil.rmtree(home.root)
        shutil.copytree(keep, home.root, symlinks=True)
        assert killed_at(home, change).returncode == -signal.SIGKILL
        named = secret(home)
        switched.add(named != before)
        assert all(opens(home, name, named) for name in VAULTS), f"before change {change}"
        assert home("key", "rotate").status is ExitStatus.SUCCESS
        for name in VAULTS:
            assert opens(home, name, secret(home))
            assert not opens(home, name, before)
            assert len(key_files(home, name)) == 1
        left = {file.name for file in (home.root / "keys").iterdir() if not file.name.endswith(".tmp")}
        assert left == {"repository.key", "evidence.key"}
    assert switched == {False, True}


def test_a_rotation_as_root_leaves_the_key_with_its_owner(home: Home) -> None:
    key = home.root / "keys" / "repository.key"
    owner = (key.stat().st_uid, key.stat().st_gid)
    if os.geteuid() == 0:
        owner = (owner[0], 12345)
        os.chown(key, *owner)
    assert home("key", "rotate").status is ExitStatus.SUCCESS
    assert (key.stat().st_uid, key.stat().st_gid) == owner
