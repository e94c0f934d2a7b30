"""Status looks whether vaults are there, and waits for none that hangs."""

import threading

from cto_backups import clock
from cto_backups.cli.status import exit_status, summary
from cto_backups.cli.tally import Tally
from cto_backups.core.model import Status
from cto_backups.flows import presence
from cto_backups.flows.backup import backup
from cto_backups.flows.gone_back import gone_back
from cto_backups.flows.status import in_parts, status
from cto_backups.vaults.local import LocalVault


def test_a_vault_that_hangs_is_away_and_keeps_nobody_waiting(workshop, monkeypatch):
    monkeypatch.setattr(presence, "PATIENCE_SECONDS", 0.5)
    assert presence.away(workshop.installation) == {}
    released, check = threading.Event(), LocalVault.check

    def hang(vault):
        if vault.name == "two":
            released.wait(60)
        check(vault)

    monkeypatch.setattr(LocalVault, "check", hang)
    try:
        assert presence.away(workshop.installation) == {"two": "it did not answer within 0.5 s"}
    finally:
        released.set()


def test_a_vault_that_never_held_anything_need_not_hold_a_repository(workshop):
    (workshop.vault_root("three") / "repositories" / "main" / "config").unlink()
    assert "three" not in presence.away(workshop.installation)
    workshop.catalog.expect_repository("three", "0" * 64)
    assert "has no repository" in presence.away(workshop.installation)["three"]


def test_a_catalog_that_went_on_while_vaults_were_asked_has_not_gone_back(workshop, monkeypatch):
    """What it learns of a backup it knows before vaults do; only one that stays behind lacks something."""
    backup(workshop.installation, "documents")
    assert gone_back(workshop.installation, ()) is None
    size, last = LocalVault.size, workshop.catalog.takeover.last_record
    calls = []

    def meanwhile(vault, key):
        if not calls:
            calls.append(key)
            with monkeypatch.context() as undone:
                undone.setattr(LocalVault, "size", size)
                (workshop.data / "files" / "later.txt").write_text("written meanwhile")
                backup(workshop.installation, "documents")
        return size(vault, key)

    before = last(workshop.installation.signer.signer)[0]
    monkeypatch.setattr(LocalVault, "size", meanwhile)
    assert gone_back(workshop.installation, ()) is None
    after = last(workshop.installation.signer.signer)[0]
    assert calls and after > before

    monkeypatch.setattr(LocalVault, "size", size)
    monkeypatch.setattr(type(workshop.catalog.takeover), "last_record", lambda _self, _signer: (before, None))
    found = gone_back(workshop.installation, ())
    assert found is not None and f"has record {before + 1}" in found.why
    assert gone_back(workshop.installation, workshop.installation.policy.vaults) is None, "all are away"


def test_status_counts_only_copies_that_are_there(workshop):
    backup(workshop.installation, "documents")
    before = status(workshop.installation, ["documents"]).verdicts["documents"]
    workshop.vault_root("one").rename(workshop.vault_root("elsewhere"))
    after = status(workshop.installation, ["documents"]).verdicts["documents"]
    assert (before.copies, after.copies, after.status) == (1, 0, Status.UNPROTECTED)
    assert any("the copy in vault one does not count" in reason for reason in after.reasons)


def test_what_a_worker_sees_of_vaults_is_in_the_view_for_whoever_asks_the_catalog_alone(workshop):
    backup(workshop.installation, "documents")

    def copies_there():
        presence.note(workshop.installation)
        with workshop.catalog.reading() as connection:
            return connection.scalar("SELECT status FROM backup_status WHERE source = 'documents'")

    before = copies_there()
    workshop.vault_root("one").rename(workshop.vault_root("elsewhere"))
    assert (before != "UNPROTECTED", copies_there()) == (True, "UNPROTECTED")
    workshop.vault_root("elsewhere").rename(workshop.vault_root("one"))
    assert copies_there() == before


def test_status_in_parts_says_of_each_source_what_status_of_all_says(workshop, monkeypatch):
    """Of the whole, each part knows the same: which vaults are there, who works, what owners keep."""
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    backup(workshop.installation, "documents")
    workshop.vault_root("two").rename(workshop.vault_root("elsewhere"))
    whole, parts = status(workshop.installation), list(in_parts(workshop.installation, 2))
    assert [len(part.verdicts) for part in parts] == [2, 1]
    told = {name: verdict for part in parts for name, verdict in part.verdicts.items()}
    assert (list(told), told) == (list(whole.verdicts), whole.verdicts)
    facts = {name: facts for part in parts for name, facts in part.facts.sources.items()}
    assert facts == whole.facts.sources
    for part in parts:
        assert part.facts.vaults_away == whole.facts.vaults_away != {}
        assert (part.now, part.silence, part.kept_by_owners) == (whole.now, whole.silence, whole.kept_by_owners)
    tally = Tally()
    assert [len(part.verdicts) for part in tally.counting(parts)] == [2, 1]
    assert (tally.summary, tally.exit_status) == (summary(whole), exit_status(whole))


def test_a_folder_of_another_host_is_away_where_that_host_says_so(workshop, monkeypatch):
    """Nobody can look into it from here; who tells people may be just here."""
    backup(workshop.installation, "documents")
    monkeypatch.setattr(presence, "vaults_elsewhere", lambda _installation: frozenset({"one"}))
    before = status(workshop.installation, ["documents"]).verdicts["documents"]
    workshop.catalog.note_away({"one"}, clock.now())
    presence.note(workshop.installation)
    after = status(workshop.installation, ["documents"]).verdicts["documents"]
    assert (before.copies, after.copies, after.status) == (1, 0, Status.UNPROTECTED)
    assert any("its own host could not read it when it last looked" in reason for reason in after.reasons)
    workshop.catalog.note_away((), clock.now())
    assert presence.away(workshop.installation) == {}
