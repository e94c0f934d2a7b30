"""Several key files in one repository: which is tried when, what a wrong password costs, what may be removed."""

import dataclasses
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from cto_backups import clock
from cto_backups.core.keys import MOST_KEYS
from cto_backups.errors import BusyError, DamageError, KeyProblemError, NotFoundError, RefusedError
from cto_backups.repository import keys
from cto_backups.repository.locks import locked
from cto_backups.repository.options import ScryptParameters
from cto_backups.repository.seal import MasterKey
from cto_backups.repository.store import RepositoryStore
from stock.product import PREFIX, QUICK, new_store, open_store
from stock.restic import PASSWORD

FOLDER = f"{PREFIX}/keys"


def add(store: RepositoryStore, secret: str, *, days: int = 0, master: MasterKey | None = None) -> str:
    """A key file made so many days from now."""
    return keys.write_key(
        store.vault,
        PREFIX,
        secret,
        master or store.files.sealer.key,
        now=datetime.now(UTC) + timedelta(days=days),
        hostname="elsewhere",
        username="somebody",
        scrypt=QUICK.scrypt,
    )


def tamper(folder: Path, **fields: object) -> str:
    """A key file with other fields than the one that is there, under its right name."""
    document = orjson.loads(next((folder / FOLDER).iterdir()).read_bytes()) | fields
    content = orjson.dumps(document)
    name = hashlib.sha256(content).hexdigest()
    (folder / FOLDER / name).write_bytes(content)
    return name


def test_each_secret_opens_the_repository_through_its_own_key_file(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    added = store.keys.add("another secret", username="u", hostname="h", chosen=False)
    assert keys.open_key(store.vault, PREFIX, "another secret") == (added, store.files.sealer.key)
    assert keys.open_key(store.vault, PREFIX, PASSWORD) == (store.keys.in_use, store.files.sealer.key)
    assert open_store(tmp_path).keys.in_use == store.keys.in_use


def test_key_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.keys.add("another secret", username="u", hostname="h", chosen=False)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / FOLDER).iterdir()} == {0o600}
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700


def test_a_secret_that_opens_already_gets_no_second_key_file(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert store.keys.add(PASSWORD, username="u", hostname="h", chosen=False) == store.keys.in_use
    assert len(store.keys.files()) == 1


def test_the_newest_key_file_is_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    for number in range(5):
        add(store, f"spare {number}", days=number - 10)
    add(store, "newest", days=1)
    derived = []
    derive = keys._derive
    monkeypatch.setattr(keys, "_derive", lambda *arguments: derived.append(1) or derive(*arguments))
    keys.open_key(store.vault, PREFIX, "newest")
    assert len(derived) == 1


def test_the_list_shows_who_made_a_key_the_newest_first(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    old, new = add(store, "old", days=-3), add(store, "new", days=3)
    listed = store.keys.files()
    assert [file.id for file in listed] == [new, store.keys.in_use, old]
    assert (listed[0].username, listed[0].hostname, listed[0].damage) == ("somebody", "elsewhere", "")


def test_a_wrong_password_is_tried_on_as_many_key_files_as_there_may_be_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    for number in range(MOST_KEYS + 10):
        add(store, f"spare {number}", days=number)
    derived = []
    monkeypatch.setattr(keys, "_derive", lambda *_: derived.append(1) or MasterKey.random())
    with pytest.raises(KeyProblemError):
        keys.open_key(store.vault, PREFIX, "wrong")
    assert len(derived) == MOST_KEYS


def test_key_files_that_cost_too_much_together_are_not_all_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    costly = {tamper(tmp_path, N=1 << 20, p=16, created=f"2099-01-{day:02}T00:00:00Z") for day in range(1, 10)}
    work = []
    derive = keys._derive

    def counted(password: str, salt: bytes, n: int, r: int, p: int) -> MasterKey:
        work.append(n * r * p)
        return derive(password, salt, n, r, p) if n == QUICK.scrypt.n else MasterKey.random()

    monkeypatch.setattr(keys, "_derive", counted)
    with pytest.raises(KeyProblemError, match="too long") as raised:
        keys.open_key(store.vault, PREFIX, "wrong")
    assert sum(work) <= 256 * 32768 * 8
    assert 0 < len(work) <= len(costly)
    assert sum(name[:12] in raised.value.why for name in costly) >= len(costly) - 1
    # What is cheap is tried nevertheless, so that nobody is locked out by what somebody else stored there.
    assert keys.open_key(store.vault, PREFIX, PASSWORD)[0] == store.keys.in_use


def test_a_key_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    huge = tmp_path / FOLDER / ("f" * 64)
    huge.touch()
    os.truncate(huge, 8 << 30)
    assert keys.open_key(store.vault, PREFIX, PASSWORD)[0] == store.keys.in_use
    assert next(file for file in store.keys.files() if file.id == "f" * 64).damage


def test_no_more_keys_are_added_than_stock_restic_looks_at(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for number in range(MOST_KEYS - 1):
        add(store, f"spare {number}")
    with pytest.raises(RefusedError, match="20 already"):
        store.keys.add("one more", username="u", hostname="h", chosen=False)


def test_a_key_that_is_not_in_use_can_be_removed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    spare = add(store, "spare")
    store.keys.remove(spare)
    assert [file.id for file in store.keys.files()] == [store.keys.in_use]
    with pytest.raises(KeyProblemError):
        RepositoryStore.open(store.vault, PREFIX, "spare")
    with pytest.raises(NotFoundError, match=f"no key {spare[:12]}"):
        store.keys.remove(spare)


def test_neither_the_last_key_nor_the_one_in_use_is_removed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(RefusedError, match="the last one"):
        store.keys.remove(store.keys.in_use)
    spare = add(store, "spare")
    with pytest.raises(RefusedError, match="the one in use"):
        store.keys.remove(store.keys.in_use)
    # Nor is another one, once somebody has removed the one in use.
    store.vault.delete(f"{FOLDER}/{store.keys.in_use}")
    with pytest.raises(RefusedError, match="by somebody else"):
        store.keys.remove(spare)


def test_no_key_is_removed_while_somebody_uses_the_repository(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    spare = add(store, "spare")
    with locked(store.files, exclusive=False), pytest.raises(BusyError):
        store.keys.remove(spare)
    assert len(store.keys.files()) == 2


def test_a_key_file_of_another_repository_is_named(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    foreign = add(store, "foreign", master=MasterKey.random())
    with pytest.raises(DamageError, match=foreign[:12]):
        store.keys.opened_by("foreign")
    assert store.keys.opened_by("unknown") is None


def test_trying_a_secret_that_people_chose_takes_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """As restic calibrates it, but never so much that a repository full of such keys could not be opened any more."""
    moments = iter([0.0, 0.1, 0.0, 10.0, 0.0, 0.000001])
    monkeypatch.setattr(clock, "monotonic", lambda: next(moments))
    assert [keys.calibrated() for _ in range(3)] == [
        ScryptParameters(p=5),
        ScryptParameters(p=1),
        ScryptParameters(p=12),
    ]


def test_what_installations_are_given_costs_what_restic_asks() -> None:
    """Tests give theirs less; see `conftest`."""
    assert {field.name: field.default for field in dataclasses.fields(ScryptParameters)} == {"n": 32768, "r": 8, "p": 1}
