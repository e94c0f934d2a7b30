"""Making a repository where something stands: never over data, never with a key that stock restic trips on."""

from pathlib import Path

import pytest

from cto_backups.clock import now
from cto_backups.errors import DamageError, RefusedError
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from stock.product import PREFIX, QUICK, new_store, open_store
from stock.restic import PASSWORD


def create(vault: LocalVault, password: str = PASSWORD) -> RepositoryStore:
    return RepositoryStore.create(vault, PREFIX, password, now=now(), hostname="host", username="user", options=QUICK)


def test_a_repository_is_not_made_twice(tmp_path: Path) -> None:
    made = new_store(tmp_path)
    with pytest.raises(RefusedError):
        create(LocalVault("first", tmp_path))
    assert open_store(tmp_path).repository_id == made.repository_id
    assert len(list((tmp_path / PREFIX / "keys").iterdir())) == 1


def test_the_key_of_an_interrupted_making_is_used_on(tmp_path: Path) -> None:
    new_store(tmp_path)
    (tmp_path / PREFIX / "config").unlink()
    made = create(LocalVault("first", tmp_path))
    assert len(list((tmp_path / PREFIX / "keys").iterdir())) == 1
    assert open_store(tmp_path).repository_id == made.repository_id


def test_another_password_does_not_go_on_with_an_interrupted_making(tmp_path: Path) -> None:
    new_store(tmp_path)
    (tmp_path / PREFIX / "config").unlink()
    with pytest.raises(RefusedError, match="another key"):
        create(LocalVault("first", tmp_path), "another password")


def test_a_lost_config_is_not_replaced_over_stored_data(tmp_path: Path) -> None:
    new_store(tmp_path)
    (tmp_path / PREFIX / "config").unlink()
    LocalVault("first", tmp_path).put(f"{PREFIX}/data/ab/abcd", [b"x"])
    with pytest.raises(DamageError, match="config"):
        create(LocalVault("first", tmp_path))
    assert not (tmp_path / PREFIX / "config").exists()


def test_repair_removes_what_a_dead_writer_left_in_the_vault(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    left = tmp_path / PREFIX / "data" / ".tmp-999999999-1"
    left.parent.mkdir()
    left.write_bytes(b"unfinished")
    (said,) = store.clear_leftovers()
    assert "first" in said
    assert not left.exists()
