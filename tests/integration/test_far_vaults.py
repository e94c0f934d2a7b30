"""Flows with vaults that want several requests under way: the same comes of it, in any order of arrival."""

from typing import Any

import pytest

from contract.fakes.vaults import FarVault, Fault, FaultyVault
from cto_backups.errors import VaultError
from cto_backups.flows import record_check, records
from cto_backups.flows.evidence import check_vault
from cto_backups.flows.protect import protect
from cto_backups.flows.restore import restore
from cto_backups.flows.verify import verify


def test_records_are_brought_and_compared_together(workshop: Any) -> None:
    workshop.wrap_vault = FarVault
    protect(workshop.installation, "documents")
    vault = workshop.installation.vault("one")
    brought = [key for verb, key in vault.beside if verb == "put" and key.startswith("records/")]
    assert len(brought) >= 2
    assert len([key for verb, key in vault.beside if verb == "put" and key.startswith("policies/")]) == 1
    assert not [key for verb, key in vault.alone if key.startswith(("records/", "policies/"))]
    vault.forget()
    assert record_check.check(workshop.installation, "one") == ()
    assert set(brought) <= {key for verb, key in vault.beside if verb == "read"}
    assert [request for request in vault.alone if request[0] == "read"] == []


def test_what_is_protected_there_is_intact_and_comes_back(workshop: Any, tmp_path: Any) -> None:
    workshop.wrap_vault = FarVault
    for source in ("documents", "app", "ledger"):
        protect(workshop.installation, source)
    for name in workshop.installation.policy.vaults:
        assert verify(workshop.installation, name).passed
        assert not check_vault(workshop.installation, name, ()).faults
    point = workshop.catalog.latest("documents")
    restore(workshop.installation, point, tmp_path / "back", vault="two")
    came = tmp_path.joinpath("back", *(workshop.data / "files").parts[1:], "report.txt")
    assert came.read_text() == "figures\n" * 1000


def test_records_are_compared_while_packs_are_read(workshop: Any) -> None:
    workshop.wrap_vault = FarVault
    protect(workshop.installation, "documents")
    vault = workshop.installation.vault("one")
    vault.forget()
    assert verify(workshop.installation, "one").passed
    about = ("records", "policies")
    assert {("list", folder) for folder in about} <= set(vault.beside)
    assert not [request for request in vault.alone if request[0] in ("list", "read") and request[1].startswith(about)]


@pytest.mark.parametrize("late", [False, True])
def test_a_record_that_did_not_come_through_is_brought_again_with_those_after_it(workshop: Any, late: bool) -> None:
    """The catalog takes none for delivered that has one before it which is not."""
    workshop.wrap_vault = lambda vault: FarVault(FaultyVault(vault, Fault("put", key="/00000002-", late=late)))
    for number in range(4):
        records.write(workshop.installation, "evidence", {"id": str(number)})
    with pytest.raises(VaultError, match="failed as planned"):
        records.deliver(workshop.installation, "one")
    signer = workshop.installation.signer.signer
    assert workshop.catalog.vault_head("one", signer) == 1
    assert records.deliver(workshop.installation, "one") == 3
    assert workshop.catalog.vault_head("one", signer) == 4
    assert record_check.check(workshop.installation, "one") == ()
