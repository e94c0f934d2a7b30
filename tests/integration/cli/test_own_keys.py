"""Vaults with a key of their own: the shared secret opens them no more, and each of them alone brings all back."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from servers.key_services import GoogleKeys, State, google_keys
from stock.restic import Restic

from .conftest import Answer, Home, environment
from .test_keys import KILLED, key_files, opens, secret

FOUR = "  four: {url: file:vaults/four, provider: away, region: there, storage: disk, off_site: true, key: file:%s}\n"


class CloudHome(Home):
    """An installation whose commands find the key service of this test."""

    def __call__(self, *arguments: str, **variables: str) -> Answer:
        found = {name: value for name, value in os.environ.items() if name.startswith("KMS_")}
        return super().__call__(*arguments, **found, **variables)


@pytest.fixture
def home(home: Home) -> Home:
    return CloudHome(home.root, home.data)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleKeys]:
    with google_keys() as keys:
        monkeypatch.setenv("KMS_EMULATOR_HOST", keys.address)
        yield keys


def give(home: Home, vault: str, *references: str, settings: str = "") -> None:
    """Let the policy name this key for a vault, in the place of another; and these settings."""
    lines = home.policy.read_text().splitlines(keepends=True)
    start = lines.index(f"  {vault}:\n") + 1
    if lines[start].startswith("    key: "):
        del lines[start]
    written = f"    key: [{', '.join(references)}]\n" if references else ""
    lines[start:start] = [written, settings]
    home.policy.write_text("".join(lines))


def own(home: Home, vault: str) -> str:
    return (home.root / "keys" / f"{vault}.key").read_text().strip()


def changes(home: Home, vault: str, password: str) -> list[str]:
    """What the signed records about keys in a vault say that was done to this one."""
    store = RepositoryStore.open(LocalVault(vault, home.vault(vault)), "repositories/main", password)
    found = sorted(home.vault(vault).glob("records/*/*-key.sealed"))
    said = [json.loads(store.unseal(file.read_bytes()))["body"]["payload"] for file in found]
    return [each["change"] for each in said if each.get("vault") == vault]


def found(home: Home, control: str) -> dict[str, str]:
    """The subjects of an audit's findings of a control, each with what it says."""
    document = home("audit", "--json").document
    return {each["subject"]: each["detail"] for each in document["findings"] if each["control"] == control}


@pytest.fixture
def apart(home: Home) -> Home:
    """Vault two has a key of its own, and the others share theirs."""
    give(home, "two", "file:keys/two.key", settings="    off_site: true\n")
    answer = home("key", "separate", "two")
    assert answer.status is ExitStatus.SUCCESS, answer
    return home


def test_a_vault_that_was_used_before_is_separated(home: Home, stock_restic: Path) -> None:
    give(home, "two", "file:keys/two.key")
    home.change()
    assert home("backup", "data-files").status is ExitStatus.SUCCESS, "until then it opens with the shared secret"
    assert not (home.root / "keys" / "two.key").exists()
    assert "key separate two" in found(home, "own-keys-alone")["two"]
    listed = home("key", "list").out
    assert "It opens with the shared one still: run 'cto.backups key separate two'" in listed
    assert listed.count("key separate") == 1
    answer = home("key", "separate", "two", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    key = home.root / "keys" / "two.key"
    assert (answer.document["made"], key.stat().st_mode & 0o777) == (str(key), 0o600)
    assert {answer.document["key"]} == key_files(home, "two")
    assert own(home, "two") not in answer.out + answer.err
    assert (opens(home, "two", own(home, "two")), opens(home, "two", secret(home))) == (True, False)
    assert [opens(home, name, own(home, "two")) for name in ("one", "three")] == [False, False]
    assert changes(home, "two", own(home, "two")) == ["added", "removed", "separated"]
    assert not found(home, "own-keys-alone")
    theirs = Restic(stock_restic, home.vault("two") / "repositories/main", own(home, "two"))
    assert theirs.snapshots()
    theirs.check()
    assert Restic(stock_restic, theirs.repository, secret(home)).start("snapshots").returncode != 0
    again = home("key", "separate", "two", "--json")
    assert (again.status, again.document["removed"]) == (ExitStatus.SUCCESS, [])
    assert changes(home, "two", own(home, "two"))[-1:] == ["separated"], "and signed once"
    assert changes(home, "two", own(home, "two")).count("separated") == 1


def test_the_list_of_keys_tells_whose_secret_the_policy_names_and_where_it_is(apart: Home) -> None:
    vaults = apart("key", "list", "--json").document["vaults"]
    shared = (False, ["file:keys/repository.key"])
    found = {each["vault"]: (each["own_key"], each["places"]) for each in vaults}
    assert not any(each["opens_with_shared"] for each in vaults)
    assert found == {"one": shared, "two": (True, ["file:keys/two.key"]), "three": shared}
    assert "two: 1 key; the policy's secret for it is its own, file:keys/two.key" in apart("key", "list").out
    assert own(apart, "two") not in apart("key", "list").out


def test_points_travel_between_vaults_of_different_secrets(apart: Home, tmp_path: Path) -> None:
    apart.change("new figures\n")
    assert apart("backup").status is ExitStatus.SUCCESS
    assert apart("verify").status is ExitStatus.SUCCESS
    lines = apart.policy.read_text().replace("vaults:\n", "vaults:\n" + FOUR % "keys/four.key", 1)
    apart.policy.write_text(lines)
    for name in ("one", "three"):
        apart.vault(name).rename(tmp_path / name)
    made = apart("vault", "init", "four", "--json")
    assert made.status is ExitStatus.SUCCESS, made
    assert made.document["key"] == str(apart.root / "keys" / "four.key")
    filled = apart("vault", "fill", "four", "--json")
    assert filled.status is ExitStatus.SUCCESS, filled
    assert {copy["origin"] for copy in filled.document["vaults"][0]["copies"]} == {"two"}
    assert [opens(apart, "four", password) for password in (own(apart, "four"), own(apart, "two"), secret(apart))] == [
        True,
        False,
        False,
    ]
    assert apart("verify", "four").status is ExitStatus.SUCCESS
    back = apart("restore", "data-files", "--vault", "four", "--to", str(tmp_path / "out"))
    assert back.status is ExitStatus.SUCCESS, back
    assert [file.read_text() for file in (tmp_path / "out").rglob("report.txt")] == ["new figures\n"]


def test_one_vault_alone_brings_everything_back_with_its_own_key_alone(apart: Home, tmp_path: Path) -> None:
    policy, key = apart.policy.read_text(), own(apart, "two")
    after = Home(tmp_path / "after", apart.data)
    (after.root / "keys").mkdir(parents=True)
    (after.root / "keys" / "two.key").write_text(key)
    (after.root / "keys" / "two.key").chmod(0o600)
    apart.vault("two").rename(tmp_path / "kept")
    shutil.rmtree(apart.root)
    (after.root / "vaults").mkdir()
    (tmp_path / "kept").rename(after.vault("two"))
    after.policy.write_text(policy)
    answer = after("catalog", "rebuild", "--from", "two")
    assert answer.status is ExitStatus.SUCCESS, answer
    back = after("restore", "data-files", "--to", str(tmp_path / "out"))
    assert back.status is ExitStatus.SUCCESS, back
    assert list((tmp_path / "out").rglob("report.txt"))


def test_without_any_key_nothing_is_rebuilt(apart: Home) -> None:
    for name in ("two.key", "repository.key", "evidence.key"):
        (apart.root / "keys" / name).unlink()
    (apart.root / "catalog.db").unlink()
    answer = apart("catalog", "rebuild", "--from", "two")
    assert answer.status is ExitStatus.KEY
    assert "two.key" in answer.err
    assert not (apart.root / "keys" / "two.key").exists(), "a lost key is told, never made anew"


def test_a_key_is_lost_and_the_error_names_it(apart: Home) -> None:
    (apart.root / "keys" / "two.key").unlink()
    answer = apart("verify", "two")
    assert answer.status is ExitStatus.KEY
    assert "file:keys/two.key is missing" in answer.err
    assert apart("vault", "init", "two").status is ExitStatus.KEY
    assert apart("key", "separate", "two").status is ExitStatus.KEY
    assert not (apart.root / "keys" / "two.key").exists()
    assert found(apart, "keys-there").keys() == {"the key of vault two"}


def test_an_off_site_vault_that_shares_its_secret_is_found_whatever_the_files_are_called(home: Home) -> None:
    give(home, "two", settings="    off_site: true\n")
    assert found(home, "own-keys")["two"] == "its secret opens one and three, too"
    shutil.copy(home.root / "keys" / "repository.key", home.root / "keys" / "two.key")
    give(home, "two", "file:keys/two.key")
    assert found(home, "own-keys")["two"] == "its secret opens one and three, too"
    answer = home("key", "separate", "two")
    assert answer.status is ExitStatus.REFUSED
    assert "is the shared secret" in answer.err
    assert len(key_files(home, "two")) == 1
    (home.root / "keys" / "two.key").unlink()
    assert home("key", "separate", "two").status is ExitStatus.SUCCESS
    assert not found(home, "own-keys")


def test_a_shared_secret_that_is_let_in_again_is_found(apart: Home) -> None:
    assert not found(apart, "own-keys-alone")
    shared = f"file:{apart.root / 'keys' / 'repository.key'}"
    assert apart("key", "add", "--new", shared, "--vault", "two").status is ExitStatus.SUCCESS
    assert found(apart, "own-keys-alone").keys() == {"two"}
    assert apart("key", "separate", "two").status is ExitStatus.SUCCESS
    assert not opens(apart, "two", secret(apart))


def test_the_way_back(apart: Home) -> None:
    key, shared = (f"file:{apart.root / 'keys' / name}.key" for name in ("two", "repository"))
    assert apart("key", "add", "--new", shared, "--vault", "two").status is ExitStatus.SUCCESS
    text = apart.policy.read_text()
    apart.policy.write_text(text.replace("    key: [file:keys/two.key]\n", ""))
    assert apart("key", "remove", "--opened-by", key, "--vault", "two").status is ExitStatus.SUCCESS
    assert apart("verify", "two").status is ExitStatus.SUCCESS
    assert len(key_files(apart, "two")) == 1


def test_what_cannot_be_separated_says_why(home: Home, tmp_path: Path) -> None:
    answer = home("key", "separate", "two")
    assert answer.status is ExitStatus.REFUSED
    assert "key: file:keys/two.key" in answer.err
    assert home("key", "separate", "five").status is ExitStatus.NOT_FOUND
    give(home, "two", f"file:{tmp_path / 'usb' / 'two.key'}")
    answer = home("key", "separate", "two")
    assert answer.status is ExitStatus.REFUSED
    assert "there is no such folder" in answer.err
    assert not (tmp_path / "usb").exists()
    give(home, "three", "file:keys/three.key", settings="    access: append-only\n")
    answer = home("key", "separate", "three")
    assert answer.status is ExitStatus.REFUSED
    assert "may only add" in answer.err
    assert not (home.root / "keys" / "three.key").exists()


def test_a_new_vault_needs_a_place_that_can_have_its_secret(home: Home, google: GoogleKeys) -> None:
    service = f"gcp-kms:{google.make('four')}"
    keep = home.policy.read_text()
    four = FOUR.replace("file:%s", f'"{service}"')
    home.policy.write_text(keep.replace("vaults:\n", "vaults:\n" + four, 1))
    answer = home("vault", "init", "four")
    assert answer.status is ExitStatus.REFUSED
    assert "file:keys/four.key" in answer.err
    assert not home.vault("four").exists()
    four = FOUR.replace("file:%s", f'["file:keys/four.key", "{service}"]')
    home.policy.write_text(keep.replace("vaults:\n", "vaults:\n" + four, 1))
    assert home("vault", "init", "four").status is ExitStatus.SUCCESS
    (home.root / "keys" / "four.key").unlink()
    assert home("vault", "fill", "four").status is ExitStatus.SUCCESS, "it was wrapped at once"


def test_each_secret_is_rotated_in_the_vaults_that_it_opens(apart: Home) -> None:
    shared, mine = secret(apart), own(apart, "two")
    answer = apart("key", "rotate", "--vault", "two", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert secret(apart) == shared
    assert own(apart, "two") != mine
    assert (opens(apart, "two", own(apart, "two")), opens(apart, "two", mine)) == (True, False)
    mine = own(apart, "two")
    answer = apart("key", "rotate", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert [[each["vault"] for each in done["vaults"]] for done in answer.document["secrets"]] == [
        ["one", "three"],
        ["two"],
    ]
    for name, new, old in (
        ("one", secret(apart), shared),
        ("three", secret(apart), shared),
        ("two", own(apart, "two"), mine),
    ):
        assert (opens(apart, name, new), opens(apart, name, old), len(key_files(apart, name))) == (True, False, 1)
    assert {file.name for file in (apart.root / "keys").iterdir()} == {"repository.key", "evidence.key", "two.key"}
    assert apart("verify").status is ExitStatus.SUCCESS


def test_one_secret_that_is_in_no_file_keeps_no_other_from_its_rotation(apart: Home) -> None:
    give(apart, "three", "env:THREE_KEY")
    assert apart("key", "separate", "three", THREE_KEY="a secret of three").status is ExitStatus.SUCCESS
    shared, mine = secret(apart), own(apart, "two")
    answer = apart("key", "rotate", THREE_KEY="a secret of three")
    assert answer.status is ExitStatus.REFUSED
    assert "env:THREE_KEY cannot be exchanged from here" in answer.err
    assert "--vault three" in answer.err
    assert (secret(apart) != shared, own(apart, "two") != mine) == (True, True)
    assert opens(apart, "three", "a secret of three")


def test_a_shared_secret_is_rotated_where_it_still_opens_a_vault_with_a_key_of_its_own(home: Home) -> None:
    before = secret(home)
    give(home, "two", "file:keys/two.key")
    assert home("key", "rotate", "--vault", "two").status is ExitStatus.REFUSED
    answer = home("key", "rotate", "--vault", "one")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert [(opens(home, name, secret(home)), opens(home, name, before)) for name in ("one", "two")] == [
        (True, False)
    ] * 2
    assert home("key", "separate", "two").status is ExitStatus.SUCCESS
    assert not opens(home, "two", secret(home))


def test_a_half_done_rotation_leaves_no_shared_secret_behind(home: Home, tmp_path: Path) -> None:
    """The next secret opens the vault already; when it is separated, both are taken away."""
    home.vault("three").rename(tmp_path / "away")
    assert home("key", "rotate").status is ExitStatus.VAULT
    new = (home.root / "keys" / "repository.key.new").read_text().strip()
    assert opens(home, "two", new)
    give(home, "two", "file:keys/two.key")
    answer = home("key", "separate", "two")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert (opens(home, "two", new), opens(home, "two", secret(home))) == (False, False)
    (tmp_path / "away").rename(home.vault("three"))
    assert home("key", "rotate", "--vault", "one").status is ExitStatus.SUCCESS
    assert len(key_files(home, "two")) == 1
    assert home("verify").status is ExitStatus.SUCCESS


def test_a_key_service_holds_the_key_of_one_vault_alone(home: Home, google: GoogleKeys) -> None:
    name, shared = google.make("of-two"), google.make("of-all")
    text = home.policy.read_text()
    both = f"  repository: [file:keys/repository.key, 'gcp-kms:{shared}']"
    home.policy.write_text(text.replace("  repository: file:keys/repository.key", both))
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    give(home, "two", "file:keys/two.key", f"gcp-kms:{name}")
    answer = home("key", "separate", "two")
    assert answer.status is ExitStatus.SUCCESS, answer
    wrapped = {json.loads(file.read_bytes())["service"] for file in (home.vault("two") / "wrapped-keys").iterdir()}
    assert wrapped == {f"gcp-kms:{name}"}, "what wraps the shared secret is gone from there"
    (home.root / "keys" / "two.key").unlink()
    (home.root / "keys" / "repository.key").unlink()
    google.keys[shared][0].state = State.DISABLED
    assert home("verify", "two").status is ExitStatus.SUCCESS
    assert home("verify", "one").status is ExitStatus.KEY
    assert found(home, "key-services").keys() == {f"gcp-kms:{shared}"}
    google.keys[shared][0].state = State.ENABLED
    google.keys[name][0].state = State.DISABLED
    assert home("verify", "two").status is ExitStatus.KEY
    assert home("verify", "one").status is ExitStatus.SUCCESS
    problems = found(home, "key-services")
    assert problems.keys() == {f"gcp-kms:{name}"}
    assert home("vault", "check", "one", "--json").document["vaults"][0]["vault"] == "one"


def test_a_vault_is_separated_whose_key_a_service_alone_gives(home: Home, google: GoogleKeys) -> None:
    name = google.make("alone")
    give(home, "two", f"gcp-kms:{name}")
    answer = home("key", "separate", "two", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert "made" not in answer.document
    assert not opens(home, "two", secret(home))
    assert home("verify", "two").status is ExitStatus.SUCCESS
    before = key_files(home, "two")
    rotated = home("key", "rotate", "--vault", "two")
    assert rotated.status is ExitStatus.SUCCESS, rotated
    assert len(key_files(home, "two")) == 1 and key_files(home, "two") != before
    assert home("verify", "two").status is ExitStatus.SUCCESS


@pytest.mark.parametrize("by_service", [False, True])
@pytest.mark.timeout(1800)  # with as many rounds as there are changes
def test_separating_killed_before_any_change_leaves_the_vault_open_and_the_next_one_finishes(
    home: Home, google: GoogleKeys, tmp_path: Path, fault_rounds: int, by_service: bool
) -> None:
    service = f"gcp-kms:{google.make(f'killed-{by_service}')}"  # its client is kept by its name
    give(home, "two", *([service] if by_service else ["file:keys/two.key", service]))
    keep = tmp_path / "keep"
    shutil.copytree(home.root, keep, symlinks=True)

    def killed_at(change: int) -> Any:
        places = f"{home.root}/keys/:/main/keys/:wrapped-keys/:/records/"
        return subprocess.run(
            [sys.executable, "-c", KILLED, places, str(change), "key", "separate", "two"],
            env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
            capture_output=True,
            text=True,
            check=False,
        )

    done = killed_at(0)
    assert done.returncode == 0, done.stderr
    number = int(done.stderr.split()[-1])
    assert number >= 2 + 1 + 1 + 3  # wrapped here and there, a key file, the old one's removal; records
    rounds = max(2, min(number, fault_rounds))  # spread over the whole of it
    for change in sorted({1 + each * (number - 1) // (rounds - 1) for each in range(rounds)}):
        shutil.rmtree(home.root)
        shutil.copytree(keep, home.root, symlinks=True)
        assert killed_at(change).returncode == -signal.SIGKILL
        assert home("verify", "two").status is ExitStatus.SUCCESS, f"before change {change}"
        assert home("key", "separate", "two").status is ExitStatus.SUCCESS, f"before change {change}"
        assert not opens(home, "two", secret(home))
        assert len(key_files(home, "two")) == 1
        assert len(list((home.vault("two") / "wrapped-keys").iterdir())) == 1
        assert not found(home, "own-keys-alone")
        if not by_service:
            assert changes(home, "two", own(home, "two"))[-1] == "separated"


def test_a_person_whom_a_command_asks_is_asked_once(home: Home, tmp_path: Path) -> None:
    """Two places that a command gives, in one run that opens every vault."""
    asked = tmp_path / "asked"
    program = tmp_path / "ask"
    program.write_text(f'#!/bin/sh\necho "$1" >> {asked}\ncat {home.root}/keys/$1.key\n')
    program.chmod(0o700)
    give(home, "two", "file:keys/two.key")
    assert home("key", "separate", "two").status is ExitStatus.SUCCESS
    text = home.policy.read_text()
    text = text.replace("repository: file:keys/repository.key", f'repository: "command:{program} repository"')
    home.policy.write_text(text.replace("file:keys/two.key", f'"command:{program} two"'))
    home.change()
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert sorted(asked.read_text().split()) == ["repository", "two"]
    asked.unlink()
    assert not found(home, "own-keys-alone"), "an audit looks what the shared secret opens, and which opens what"
    assert sorted(asked.read_text().split()) == ["repository", "two"]


def test_a_key_that_is_lost_is_not_made_anew_for_the_domain_of_a_host(apart: Home) -> None:
    domain = "  two-web1: {url: file:vaults/two/hosts/web1, provider: away, region: there, storage: disk, %s}\n"
    text = domain % "domain_of: web1, key: file:keys/two.key"
    apart.policy.write_text(apart.policy.read_text().replace("vaults:\n", "vaults:\n" + text, 1))
    key = apart.root / "keys" / "two.key"
    key.rename(key.with_suffix(".kept"))
    answer = apart("vault", "init", "two-web1")
    assert answer.status is ExitStatus.KEY
    assert "file:keys/two.key is missing" in answer.err
    assert not key.exists()
    key.with_suffix(".kept").rename(key)
    made = apart("vault", "init", "two-web1")
    assert made.status is ExitStatus.SUCCESS, made
    assert "own-keys" not in {each["control"] for each in apart("audit", "--json").document["findings"]}
