"""Every vault passes the vault contract; so do the fakes, as long as they do not misbehave."""

from pathlib import Path

import pytest
from fakes.vaults import (
    Fault,
    FaultyVault,
    FullVault,
    InterceptedVault,
    LyingVault,
    MissingVault,
    ReadOnlyVault,
    SlowVault,
    flip_a_bit,
)
from vault_contract import VaultContract, keys

from cto_backups.core.vaults import Vault
from cto_backups.errors import VaultError, VaultFullError, VaultMissingError, VaultReadOnlyError
from cto_backups.vaults.counted import CountedVault, Counter
from cto_backups.vaults.local import LocalVault
from cto_backups.vaults.pacing import Pace
from cto_backups.vaults.throttled import ThrottledVault


@pytest.fixture
def local(tmp_path: Path) -> LocalVault:
    vault = LocalVault("cellar", tmp_path / "vault")
    vault.create()
    return vault


class TestLocalVault(VaultContract):
    @pytest.fixture
    def vault(self, local: LocalVault) -> Vault:
        return local


class TestThrottledVault(VaultContract):
    """At a pace that keeps nobody waiting; that it is kept is shown beside, with a clock that is a fake."""

    @pytest.fixture
    def vault(self, local: LocalVault) -> Vault:
        return ThrottledVault(local, Pace(lambda: 1 << 40), Pace(lambda: 1 << 40))


class TestCountedVault(VaultContract):
    @pytest.fixture
    def vault(self, local: LocalVault) -> Vault:
        return CountedVault(local, Counter())


class TestWellBehavedFakes(VaultContract):
    @pytest.fixture(params=["intercepted", "faultless", "slow", "roomy", "truthful", "present"])
    def vault(self, request: pytest.FixtureRequest, local: LocalVault) -> Vault:
        fakes = {
            "intercepted": InterceptedVault(local),
            "faultless": FaultyVault(local),
            "slow": SlowVault(local),
            "roomy": FullVault(local, 1 << 30),
            "truthful": LyingVault(local, "no such key", alter=flip_a_bit, forgets=True, hides=True),
            "present": MissingVault(local),
        }
        fake: Vault = fakes[request.param]
        if isinstance(fake, MissingVault):
            fake.present = True
        return fake


LIARS = {
    "alters": ({"alter": flip_a_bit}, VaultContract.test_a_stored_file_is_replaced_when_asked),
    "truncates": ({"alter": lambda content: content[:-1]}, VaultContract.test_a_stored_file_is_replaced_when_asked),
    "forgets": ({"forgets": True}, VaultContract.test_replacing_what_is_not_there_stores_it),
    "hides": ({"hides": True}, VaultContract.test_listing_names_every_file_below_a_folder_with_its_size),
}


@pytest.mark.parametrize("liar", LIARS)
def test_the_contract_catches_a_lying_vault(local: LocalVault, liar: str) -> None:
    """The suite itself is tested: with each kind of lie, the test that guards against it fails."""
    lies, guard = LIARS[liar]
    with pytest.raises((AssertionError, VaultError)):
        guard(VaultContract(), LyingVault(local, "", **lies))


def test_a_full_vault_refuses_whole_files_and_keeps_the_others(local: LocalVault) -> None:
    vault = FullVault(local, 100)
    vault.put("a", [b"x" * 60])
    with pytest.raises(VaultFullError):
        vault.put("b", [b"y" * 41])
    assert keys(vault) == {"a"}
    vault.put("b", [b"y" * 40])
    vault.put("a", [b"z" * 50], overwrite=True)
    vault.delete("b")
    vault.put("c", [b"y" * 50])
    assert keys(vault) == {"a", "c"}


def test_a_read_only_vault_can_be_read_and_not_changed(local: LocalVault) -> None:
    local.put("a", [b"x"])
    vault = ReadOnlyVault(local)
    for change in (vault.check, lambda: vault.put("b", [b""]), lambda: vault.delete("a")):
        with pytest.raises(VaultReadOnlyError):
            change()
    assert vault.read("a") == b"x"
    assert keys(vault) == {"a"}


def test_a_missing_vault_says_so_for_everything(local: LocalVault) -> None:
    vault = MissingVault(local)
    for action in (vault.check, lambda: vault.put("b", [b""]), lambda: vault.read("b"), lambda: list(vault.list(""))):
        with pytest.raises(VaultMissingError):
            action()


def test_a_faulty_vault_fails_the_planned_call_before_or_after_its_effect(local: LocalVault) -> None:
    vault = FaultyVault(local, Fault("put", number=2, key="data/"), Fault("put", key="index/", late=True))
    vault.put("data/1", [b"1"])
    vault.put("other", [b"1"])
    with pytest.raises(VaultError):
        vault.put("data/2", [b"2"])
    with pytest.raises(VaultError):
        vault.put("index/1", [b"1"])
    vault.put("data/2", [b"2"])
    assert keys(vault) == {"data/1", "data/2", "other", "index/1"}
    assert len(vault.failed) == 2
