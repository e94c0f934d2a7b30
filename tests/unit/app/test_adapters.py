"""A repository that is opened ahead is the one that is got; what goes wrong is told to whoever asks for it."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cto_backups import app, clock, registry
from cto_backups.app import adapters, starting
from cto_backups.app.adapters import Adapters
from cto_backups.config import Configuration, load
from cto_backups.core.bandwidth import BandwidthLimit
from cto_backups.core.policy import Tls
from cto_backups.core.ports import Silent
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import KeyProblemError, NotFoundError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ahead")
    sources = {"notes": {"kind": "files", "class": "documentation", "paths": [str(folder)]}}
    starting.initialise(folder / "home", business="acme", sources=sources)
    return folder / "home"


@pytest.fixture
def configuration(home: Path) -> Configuration:
    return load(home / "backups.yaml")


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads on which a repository was opened."""
    found: list[str] = []
    really = adapters.open_store

    def note(*given: object) -> object:
        found.append(threading.current_thread().name)
        return really(*given)

    monkeypatch.setattr(adapters, "open_store", note)
    return found


def test_a_repository_opened_ahead_is_opened_once_and_on_a_thread(
    configuration: Configuration, openings: list[str]
) -> None:
    expected: list[str] = []
    made = Adapters(configuration, lambda vault, _repository: expected.append(vault))
    made.open_ahead("one")
    assert made.store("one") is made.store("one")
    assert openings == ["open one"]
    assert expected == ["one"], "it is the repository that belongs there"
    assert made.store("two") is not made.store("one")
    assert openings == ["open one", "MainThread"]
    made.close()


def test_what_keeps_a_repository_from_opening_is_told_when_it_is_asked_for(
    home: Path, configuration: Configuration
) -> None:
    key = home / "keys" / "repository.key"
    right = key.read_text()
    key.write_text("wrong")
    try:
        made = Adapters(configuration)
        made.open_ahead("one")
        with pytest.raises(KeyProblemError, match="does not open"):
            made.store("one")
    finally:
        key.write_text(right)
    assert made.store("one").repository_id, "asked again, it is tried again"


def test_who_opens_a_repository_ahead_may_look_at_other_vaults_while_somebody_waits_for_it(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that opens nothing here is looked for in the other vaults."""
    made = Adapters(configuration)
    waited_for, looked = threading.Event(), threading.Event()
    really_open, really_join = adapters.open_store, threading.Thread.join

    def look_elsewhere(*given: Any) -> object:
        assert waited_for.wait(30)
        made.vault("two")
        looked.set()
        return really_open(*given)

    def note(thread: threading.Thread, timeout: float | None = None) -> None:
        waited_for.set()
        assert looked.wait(30), "the thread waits for who waits for it"
        really_join(thread, timeout)

    monkeypatch.setattr(adapters, "open_store", look_elsewhere)
    made.open_ahead("one")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "join", note)
        assert made.store("one").repository_id
    made.close()


def test_a_vault_that_the_policy_does_not_name_is_told_only_to_whoever_asks_for_it(
    configuration: Configuration,
) -> None:
    made = Adapters(configuration)
    made.open_ahead("nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        made.store("nowhere")


def test_nothing_is_opened_ahead_with_a_key_that_may_ask_a_person(
    home: Path, openings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (home / "backups.yaml").read_text()
    (home / "other.yaml").write_text(text.replace("file:keys/repository.key", "env:REPOSITORY_KEY"))
    monkeypatch.setenv("REPOSITORY_KEY", (home / "keys" / "repository.key").read_text().strip())
    made = Adapters(load(home / "other.yaml"))
    made.open_ahead("one")
    made.close()
    assert openings == []
    assert made.store("one").repository_id
    assert openings == ["MainThread"]


@pytest.mark.parametrize(("at_once", "first"), [(8, "opened"), (1, "went on")])
def test_a_repository_that_is_far_away_is_asked_for_before_anything_else_is_loaded(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, at_once: int, first: str
) -> None:
    """One on this machine is not waited for: to derive its key is all that takes time."""
    made, told, may_end = Adapters(configuration), list[str](), threading.Event()
    really = adapters.open_store

    def opening(*given: Any) -> object:
        may_end.wait(0.2 if first == "opened" else 5)
        told.append("opened")
        return really(*given)

    monkeypatch.setattr(adapters, "open_store", opening)
    monkeypatch.setattr(adapters, "_HEAD_START_SECONDS", 30)
    monkeypatch.setattr("cto_backups.core.vaults.requests_at_once", lambda vault: at_once)
    made.open_ahead("one")
    told.append("went on")
    may_end.set()
    made.close()
    assert told[0] == first
    assert sorted(told) == ["opened", "went on"]


def test_a_head_start_does_not_wait_for_what_takes_longer(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, may_end = Adapters(configuration), threading.Event()
    really = adapters.open_store

    def opening(*given: Any) -> object:
        assert may_end.wait(30), "whoever gave the head start waits for it"
        return really(*given)

    monkeypatch.setattr(adapters, "open_store", opening)
    monkeypatch.setattr("cto_backups.core.vaults.requests_at_once", lambda vault: 8)
    made.open_ahead("one")
    may_end.set()
    assert made.store("one").repository_id
    made.close()


def test_closing_waits_for_what_was_begun(configuration: Configuration, openings: list[str]) -> None:
    made = Adapters(configuration)
    made.open_ahead("one")
    made.close()
    assert openings == ["open one"]
    assert "open one" not in {thread.name for thread in threading.enumerate()}


def test_the_secrets_of_a_command_are_looked_up_when_it_runs(tmp_path: Path) -> None:
    source = {
        "kind": "command",
        "class": "documentation",
        "command": ["printenv", "APP_PASSWORD"],
        "filename": "app.dump",
        "environment": {"APP_PASSWORD": "file:keys/app.password"},
    }
    starting.initialise(tmp_path / "home", business="acme", sources={"app": source})
    made = Adapters(load(tmp_path / "home" / "backups.yaml")).source("app")
    with pytest.raises(KeyProblemError, match=r"keys/app\.password"), made.capture():
        pass
    password = tmp_path / "home" / "keys" / "app.password"
    password.write_text("swordfish\n")
    password.chmod(0o600)
    made = Adapters(load(tmp_path / "home" / "backups.yaml")).source("app")
    with made.capture() as capture:
        (entry,) = capture.tree.folder(capture.tree.root)
        buffer = memoryview(bytearray(20))
        reader = capture.tree.open(entry)
        assert bytes(buffer[: reader.readinto(buffer)]) == b"swordfish\n"
        reader.close()


IN_A_BUCKET = {
    "url": "s3://acme-backups/office",
    "provider": "own",
    "region": "eu-central-1",
    "storage": "object-storage",
    "endpoint": "http://127.0.0.1:1",
    "tls": "none",
    "access_key": "env:BACKUPS_KEY",
    "secret_key": "file:keys/s3.secret",
}


@pytest.fixture
def with_a_bucket(home: Path) -> Configuration:
    from cto_backups.config import edit

    return edit.with_vault(load(home / "backups.yaml"), "cloud", IN_A_BUCKET)


def test_a_vault_in_an_object_store_gets_its_address_and_keys_that_are_looked_up_when_used(
    home: Path, with_a_bucket: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, StoreAddress]] = []

    class Recorder:
        def __init__(self, name: str, address: StoreAddress) -> None:
            made.append((name, address))

    monkeypatch.setattr(registry, "load", lambda _adapters, kind: Recorder if kind == "s3" else None)
    Adapters(with_a_bucket).vault("cloud")
    ((name, address),) = made
    assert (name, address.bucket, address.prefix, address.region) == ("cloud", "acme-backups", "office", "eu-central-1")
    assert (address.endpoint, address.tls) == ("http://127.0.0.1:1", Tls.NONE)
    monkeypatch.setenv("BACKUPS_KEY", "the-id-of-a-key")
    assert address.logins["access_key"]() == "the-id-of-a-key"
    with pytest.raises(KeyProblemError, match=r"keys/s3\.secret"):
        address.logins["secret_key"]()


def test_a_vault_in_an_object_store_is_no_place_of_this_machine(home: Path, with_a_bucket: Configuration) -> None:
    places = adapters.own_places(with_a_bucket)
    assert home / "keys" / "s3.secret" in places, "a key is"
    assert not [place for place in places if "acme-backups" in str(place)]
    assert {home / "vaults" / "one", home / "vaults" / "two"} <= set(places)


def test_a_vault_in_an_object_store_is_on_no_device_of_this_machine(home: Path, with_a_bucket: Configuration) -> None:
    from cto_backups.app.environment import environment
    from cto_backups.config import edit

    before = load(home / "backups.yaml")
    edit.save(before, with_a_bucket)
    try:
        with app.opened(home / "backups.yaml", write=False) as opening:
            assert set(environment(opening).vaults) == {"one", "two", "three"}
    finally:
        (home / "backups.yaml").write_bytes(before.text)


def test_a_vault_with_bandwidth_limits_keeps_to_them_unless_somebody_waits(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which vault slows things is told while it does, with its limit."""
    clocks = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: clocks[0])
    monkeypatch.setattr(clock, "sleep", lambda seconds: clocks.append(clocks.pop() + seconds))
    limited = replace(configuration.policy.vaults["two"], bandwidth=(BandwidthLimit(up=1 << 20),))
    vaults = {**configuration.policy.vaults, "two": limited}
    made = replace(configuration, policy=replace(configuration.policy, vaults=vaults))
    for in_haste, seconds in ((False, 2.0), (True, 0.0)):
        adapters = Adapters(made, in_haste=in_haste)
        began = clocks[0]
        adapters.vault("two").put(f"data/{in_haste}", [bytes(2 << 20)])
        adapters.vault("two").read(f"data/{in_haste}")
        assert clocks[0] - began == pytest.approx(seconds)
        assert adapters.limited() == ([] if in_haste else [("two", 1 << 20)])
        adapters.vault("one").put(f"data/{in_haste}", [bytes(2 << 20)])
        assert clocks[0] - began == pytest.approx(seconds)


def test_the_progress_of_work_can_tell_of_bandwidth_limits(configuration: Configuration) -> None:
    limited = replace(configuration.policy.vaults["two"], bandwidth=(BandwidthLimit(up=1 << 20),))
    policy = replace(configuration.policy, vaults={**configuration.policy.vaults, "two": limited})
    told: list[object] = []

    class Display(Silent):
        def tell_limits(self, limited: object) -> None:
            told.append(limited)

    for each in (configuration, replace(configuration, policy=policy)):
        made = Adapters(each)
        assembled = app.assembled(each, made, progress=lambda _title: nullcontext(Display()), write=False)
        with assembled as opening, opening.installation.progress("Copying"):
            pass
    assert told == [made.limited]
