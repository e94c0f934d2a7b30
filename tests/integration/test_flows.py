"""The story from end to end on real adapters: protect, verify, prove, restore, expire; and what bad luck gets."""

import dataclasses
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.fakes.vaults import FullVault, ReadOnlyVault
from cto_backups import _native, clock
from cto_backups.core.model import ActionKind, Outcome, Rung, Status
from cto_backups.core.plan import due
from cto_backups.core.ports import Existing
from cto_backups.errors import (
    BusyError,
    ForeignRepositoryError,
    KeyProblemError,
    NotFoundError,
    RefusedError,
    SourceError,
    UsageError,
    VaultError,
    VaultFullError,
)
from cto_backups.evidence.records import Record, verify_chain
from cto_backups.flows import expire as expire_flow
from cto_backups.flows.backup import backup
from cto_backups.flows.copy import copy, missing_vaults
from cto_backups.flows.perform import attempt
from cto_backups.flows.protect import protect
from cto_backups.flows.recover import recover
from cto_backups.flows.restore import preview, restore, select
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.runs import recorded
from cto_backups.flows.status import status
from cto_backups.flows.verify import verify
from cto_backups.repository.store import RepositoryStore
from integration.conftest import OPTIONS, build

SOURCES = ("documents", "app", "ledger")


def change(workshop: Any, text: str = "other figures\n") -> None:
    """Change one of the files that are protected."""
    (workshop.data / "files" / "report.txt").write_text(text)


def flip(path: Path, offset: int = 40) -> None:
    """Damage a stored file: one bit."""
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    content = bytearray(path.read_bytes())
    content[offset % len(content)] ^= 1
    path.write_bytes(content)


def packs(workshop: Any, vault: str) -> list[Path]:
    return sorted(path for path in (workshop.vault_root(vault) / "repositories/main/data").rglob("*") if path.is_file())


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_backed_up_copied_to_every_vault_and_proven_from_each(workshop: Any, source: str) -> None:
    """The main job, for each kind of source."""
    done = protect(workshop.installation, source)
    assert not done.vault_problems
    assert done.backup.point.complete
    assert {facts.copy.vault for facts in workshop.catalog.copies(done.backup.point.id)} == {"one", "two", "three"}
    for vault in ("one", "two", "three"):
        evidence = restore_test(workshop.installation, source, vault=vault)
        assert evidence.passed, evidence.reason
        assert evidence.rung is Rung.PROVEN
        assert [step.name for step in evidence.steps] == ["select_backup", "restore", "verify_integrity", "cleanup"]
    facts = workshop.catalog.facts(clock.now()).sources[source]
    assert facts.proven == done.backup.point
    assert not list((workshop.root / "state" / "sandboxes").iterdir())


@pytest.mark.parametrize("source", SOURCES)
def test_an_unchanged_source_confirms_its_point_and_adds_nothing(workshop: Any, source: str) -> None:
    """The second run is incremental; a scan that confirms no change counts as freshness."""
    first = protect(workshop.installation, source)
    second = protect(workshop.installation, source)
    assert not second.backup.changed
    assert second.backup.point == first.backup.point
    assert second.backup.draft.added_bytes == 0
    facts = workshop.catalog.facts(clock.now()).sources[source]
    assert facts.point_count == 1
    assert facts.confirmed_at is not None and facts.confirmed_at > first.backup.point.captured_at
    assert facts.last_runs[ActionKind.BACKUP].outcome is Outcome.UNCHANGED


def test_what_changed_beside_an_unchanged_source_adds_nothing_to_the_vault(workshop: Any) -> None:
    """The folders above a source are stored with it, but their times are no change of it."""
    protect(workshop.installation, "documents")
    before = sorted(workshop.vault_root("one").rglob("*"))
    (workshop.data / "sibling").mkdir()
    second = protect(workshop.installation, "documents")
    assert not second.backup.changed
    assert second.backup.draft.added_bytes == 0
    assert sorted(workshop.vault_root("one").rglob("*")) == before


def test_a_changed_source_gets_a_new_point_and_the_old_one_still_comes_back(workshop: Any, tmp_path: Path) -> None:
    """Each point is its own moment."""
    first = protect(workshop.installation, "documents").backup.point
    old = (workshop.data / "files" / "report.txt").read_bytes()
    change(workshop)
    second = protect(workshop.installation, "documents").backup.point
    assert second.parent == first.id
    for point, content in ((first, old), (second, b"other figures\n")):
        restore(workshop.installation, point, tmp_path / point.id)
        restored = tmp_path / point.id / str(workshop.data).lstrip("/") / "files" / "report.txt"
        assert restored.read_bytes() == content
    assert select(workshop.installation, "latest", source="documents", moment=None) == second
    assert select(workshop.installation, "latest", source="documents", moment=first.captured_at) == first


def test_a_point_made_by_hand_is_made_although_nothing_changed_and_kept(workshop: Any) -> None:
    """Before a migration, people want a point with a name on it."""
    backup(workshop.installation, "ledger")
    made = backup(workshop.installation, "ledger", label="before schema migration 42")
    assert made.changed
    assert made.point.label == "before schema migration 42"
    assert made.point.keep_until is not None and (made.point.keep_until - clock.now()).days >= 89


def test_a_database_restored_in_place_has_the_old_rows_and_keeps_the_lost_file(workshop: Any) -> None:
    """In place: refused until told, then replaced, with what stood there set aside."""
    point = protect(workshop.installation, "ledger").backup.point
    database = workshop.data / "ledger.db"
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM entries")
    connection.close()
    with pytest.raises(RefusedError):
        restore(workshop.installation, point, None)
    restore(workshop.installation, point, None, existing=Existing.OVERWRITE)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (500,)
    connection.close()


def test_a_dry_run_writes_nothing_and_names_the_conflicts(workshop: Any, tmp_path: Path) -> None:
    """The preview is the plan that would be carried out."""
    point = protect(workshop.installation, "documents").backup.point
    target = tmp_path / "target"
    plan = preview(workshop.installation, point, target).plan
    assert plan.entries > 0 and plan.size_bytes == point.size_bytes and not plan.conflicts
    assert not target.exists()
    restore(workshop.installation, point, target)
    assert preview(workshop.installation, point, target).plan.conflicts
    with pytest.raises(RefusedError):
        restore(workshop.installation, point, target)


def test_latest_needs_a_source_where_there_are_several(workshop: Any) -> None:
    """An ambiguous wish is a usage error that names the choices."""
    with pytest.raises(UsageError, match="documents"):
        select(workshop.installation, "latest", source=None, moment=None)
    with pytest.raises(NotFoundError):
        select(workshop.installation, "latest", source="documents", moment=None)


def test_a_missing_vault_is_named_and_the_others_get_their_copies(workshop: Any) -> None:
    """One bad vault does not keep data from the others; when it is back, it catches up with records and all."""
    shutil.move(workshop.vault_root("one"), workshop.root / "away")
    done = protect(workshop.installation, "documents")
    assert set(done.vault_problems) == {"one"} and "one" in str(done.vault_problems["one"])
    assert done.backup.vault == "two"
    assert missing_vaults(workshop.installation, done.backup.point) == ("one",)
    shutil.move(workshop.root / "away", workshop.vault_root("one"))
    copy(workshop.installation, done.backup.point, "one")
    assert missing_vaults(workshop.installation, done.backup.point) == ()
    assert restore_test(workshop.installation, "documents", vault="one").passed


def test_a_defect_in_a_test_is_told_with_its_place_and_as_no_damage(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without that nobody could find it, and `repair` would be run for nothing. What the error says may be a secret."""
    from cto_backups.cli.restore_test import failed
    from cto_backups.core import comparison
    from cto_backups.flows import restore_test as flow

    def broken(*_: object, **__: object) -> None:
        comparison.compare(None, "hunter2")  # type: ignore[arg-type]

    protect(workshop.installation, "documents")
    monkeypatch.setattr(flow, "compare", broken)
    evidence = restore_test(workshop.installation, "documents")
    assert not evidence.passed and "AttributeError in core/comparison.py, line " in evidence.reason
    assert "hunter2" not in evidence.reason
    assert "repair" not in failed(evidence).todo and "report" in failed(evidence).todo.lower()


def test_a_missing_vault_is_told_also_when_nothing_is_new(workshop: Any) -> None:
    """Otherwise a quiet source would hide that its copies are out of reach."""
    protect(workshop.installation, "documents")
    shutil.move(workshop.vault_root("two"), workshop.root / "away")
    done = protect(workshop.installation, "documents")
    assert not done.backup.changed
    assert set(done.vault_problems) == {"two"}


def test_all_vaults_missing_is_an_error_that_names_them_all(workshop: Any) -> None:
    """Nothing is catalogued that is nowhere."""
    shutil.move(workshop.root / "vaults", workshop.root / "away")
    with pytest.raises(VaultError, match=r"one.*two.*three"):
        protect(workshop.installation, "documents")
    assert workshop.catalog.points() == ()
    assert workshop.catalog.facts(clock.now()).sources["documents"].failures == {ActionKind.BACKUP: 1}


def test_a_vault_whose_repository_our_key_does_not_open_is_named(workshop: Any) -> None:
    """A wrong key is told; the other vaults still get their copies."""
    shutil.rmtree(workshop.vault_root("one") / "repositories")
    vault = workshop.installation.vault("one")
    RepositoryStore.create(
        vault, "repositories/main", "another", now=clock.now(), hostname="h", username="u", options=OPTIONS
    )
    done = protect(workshop.installation, "documents")
    assert isinstance(done.vault_problems["one"], KeyProblemError)
    assert "one" in str(done.vault_problems["one"])
    assert {facts.copy.vault for facts in workshop.catalog.copies(done.backup.point.id)} == {"two", "three"}


def test_a_vault_that_holds_another_repository_than_before_is_refused(workshop: Any) -> None:
    """Two disks swapped: the key opens both, but nothing is written into the wrong one."""
    protect(workshop.installation, "documents")
    one, two = workshop.vault_root("one"), workshop.vault_root("two")
    one.rename(workshop.root / "away")
    two.rename(one)
    (workshop.root / "away").rename(two)
    workshop.catalog.close()
    again = build(workshop.root, workshop.data, {"documents": workshop.sources["documents"]})
    change(workshop)
    done = protect(again.installation, "documents")
    assert isinstance(done.vault_problems["one"], ForeignRepositoryError)
    assert "one" in str(done.vault_problems["one"])
    assert done.backup.vault == "three"
    again.catalog.close()


def test_unreadable_files_make_an_incomplete_point_that_lists_them(workshop: Any) -> None:
    """The rest is saved; freshness counts complete points only; the run is marked."""
    protect(workshop.installation, "documents")
    change(workshop)

    target = workshop.data / "files" / "secret.txt"
    target.write_text("x")
    original = os.open

    def refuse(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if os.fsencode(path).endswith(b"secret.txt"):
            raise PermissionError(13, "Permission denied", path)
        return original(path, flags, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refuse)
        # Root may read everything: as the fast path leaves what it cannot read to the careful one.
        patch.setattr("cto_backups.sources.ledger.read_files", lambda entries, *_: ([None] * len(entries), []))
        done = protect(workshop.installation, "documents")
    assert [problem.path for problem in done.backup.point.problems] == [str(target)]
    assert done.backup.point.problems[0].kind == "permission"
    facts = workshop.catalog.facts(clock.now()).sources["documents"]
    assert facts.newest is not None and facts.newest.complete
    assert facts.newest_any == done.backup.point
    assert facts.last_runs[ActionKind.BACKUP].outcome is Outcome.INCOMPLETE


def test_a_source_that_is_suddenly_empty_is_a_failure_never_a_deletion(workshop: Any) -> None:
    """An unmounted disk looks just like an emptied folder."""
    protect(workshop.installation, "documents")
    shutil.rmtree(workshop.data / "files")
    (workshop.data / "files").mkdir()
    with pytest.raises(SourceError, match="empty"):
        protect(workshop.installation, "documents")
    assert len(workshop.catalog.points("documents")) == 1


def test_a_source_that_is_empty_from_the_first_day_gets_no_point_that_would_prove_at_once(workshop: Any) -> None:
    shutil.rmtree(workshop.data / "files")
    (workshop.data / "files").mkdir()
    (workshop.data / "files" / "dump.sql").touch()
    with pytest.raises(SourceError, match=r"'documents' is empty: not one byte"):
        protect(workshop.installation, "documents")
    assert workshop.catalog.points("documents") == ()


def test_a_database_that_has_lost_all_its_rows_is_a_failure_until_somebody_says_that_it_was_meant(
    workshop: Any,
) -> None:
    first = protect(workshop.installation, "ledger").backup.point
    with closing(sqlite3.connect(workshop.data / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM entries")
    with pytest.raises(SourceError, match="'ledger' is empty now: no table has a row") as refused:
        protect(workshop.installation, "ledger")
    assert first.id in refused.value.why and "--before" in refused.value.todo
    assert [point.id for point in workshop.catalog.points("ledger")] == [first.id]
    assert workshop.catalog.facts(clock.now()).sources["ledger"].last_runs[ActionKind.BACKUP].outcome is Outcome.FAILED
    assert protect(workshop.installation, "ledger", label="emptied on purpose").backup.changed
    assert not protect(workshop.installation, "ledger").backup.changed, "and from then on it is as it was"


def test_a_database_that_has_lost_nearly_all_its_rows_is_a_failure_and_one_that_lost_most_is_suspect_at_once(
    workshop: Any,
) -> None:
    def hold(rows: int) -> None:
        with closing(sqlite3.connect(workshop.data / "ledger.db")) as connection, connection:
            connection.execute("DELETE FROM entries")
            names = [name for _, name, *_ in connection.execute("PRAGMA table_info(entries)")]
            marks = ", ".join("?" for _ in names)
            connection.executemany(f"INSERT INTO entries VALUES ({marks})", ([n] * len(names) for n in range(rows)))

    hold(20_000)
    first = protect(workshop.installation, "ledger").backup.point
    hold(2_000)
    with pytest.raises(SourceError, match="'ledger' has lost nearly all its rows") as refused:
        protect(workshop.installation, "ledger")
    assert refused.value.why == f"it holds 2,000 rows; the last recovery point, {first.id}, holds 20,000 rows"
    assert "cto.backups backup ledger --before" in refused.value.todo
    assert [point.id for point in workshop.catalog.points("ledger")] == [first.id]
    hold(2_001)
    second = protect(workshop.installation, "ledger").backup.point
    assert second.suspicions == ("rows are gone: 2,001 are there, where 20,000 were before",), "the second point"
    hold(10)
    by_hand = protect(workshop.installation, "ledger", label="the year is closed").backup.point
    assert by_hand.suspicions == ("rows are gone: 10 are there, where 20,000 were before",)
    hold(11)
    assert protect(workshop.installation, "ledger").backup.changed, "and from then on it is as it was"


def test_damage_in_one_vault_is_found_named_and_healed_on_restore_from_another(workshop: Any, tmp_path: Path) -> None:
    """Every damaged byte is detected by verification, and a restore fetches the good bytes elsewhere."""
    point = protect(workshop.installation, "documents").backup.point
    for pack in packs(workshop, "one"):
        flip(pack)
    result = verify(workshop.installation, "one")
    assert not result.passed
    assert point.id in result.hurt
    assert verify(workshop.installation, "two").passed
    restored = restore(workshop.installation, point, tmp_path / "out", vault=None)
    assert restored.vault != "one" or restored.healed
    assert restored.restored.problems == ()
    blob = tmp_path / "out" / str(workshop.data).lstrip("/") / "files/deep/er/blob.bin"
    assert blob.read_bytes() == bytes(range(256)) * 9000


def test_a_test_that_could_not_run_is_a_failed_test(workshop: Any) -> None:
    """No point, no vault: evidence of failure all the same, and the status says so."""
    evidence = restore_test(workshop.installation, "documents")
    assert not evidence.passed and "no complete recovery point" in evidence.reason
    protect(workshop.installation, "documents")
    shutil.move(workshop.root / "vaults", workshop.root / "away")
    evidence = restore_test(workshop.installation, "documents")
    assert not evidence.passed
    assert workshop.catalog.evidence(source="documents")[0] == evidence
    assert status(workshop.installation).verdicts["documents"].status is Status.UNPROTECTED
    shutil.move(workshop.root / "away", workshop.root / "vaults")
    assert status(workshop.installation).verdicts["documents"].status is Status.FAILED_TEST


def test_a_mistyped_vault_is_no_failed_test(workshop: Any) -> None:
    """Nothing is recorded of it: the source would count as not proven because of a word."""
    protect(workshop.installation, "documents")
    with pytest.raises(NotFoundError, match="no vault named 'twoo'; did you mean 'two'"):
        restore_test(workshop.installation, "documents", vault="twoo")
    assert workshop.catalog.evidence(source="documents") == ()


def test_the_test_cleans_up_also_when_it_fails(workshop: Any) -> None:
    """Whatever happened, the sandbox is gone, and cleanup is a recorded step."""
    protect(workshop.installation, "ledger")
    for pack in packs(workshop, "two"):
        flip(pack)
    evidence = restore_test(workshop.installation, "ledger", vault="two")
    assert not evidence.passed
    assert evidence.steps[-1].name == "cleanup" and evidence.steps[-1].passed
    assert not list((workshop.root / "state" / "sandboxes").iterdir())


@pytest.mark.parametrize("kind", [ActionKind.BACKUP, ActionKind.RESTORE_TEST, ActionKind.EXPIRE])
def test_what_two_workers_have_planned_is_done_once(workshop: Any, kind: ActionKind) -> None:
    """The one comes to it when the other is done."""
    for number in range(0 if kind is ActionKind.BACKUP else 3):
        (workshop.data / "files" / "report.txt").write_text(f"version {number}\n")
        protect(workshop.installation, "documents")
    now = clock.now()
    facts = workshop.catalog.facts(now, ["documents"], kept_points=True)
    (action,) = [each for each in due(workshop.installation.policy, facts, now, ["documents"]) if each.kind is kind]
    first, second = (attempt(workshop.installation, action) for _ in range(2))
    assert first.error is None
    assert isinstance(second.error, BusyError) and "has done this since" in second.error.what
    assert [run.action for run in workshop.catalog.runs("documents")].count(kind) == 1


def test_a_planned_test_is_of_the_copy_that_it_was_planned_for(workshop: Any) -> None:
    """Where copies lie in folders of several hosts, that is the one which this host can read."""
    point = protect(workshop.installation, "documents").backup.point
    with workshop.catalog._writing() as connection:
        # The first vault was away then, and got its copy last.
        connection.execute("UPDATE copies SET stored_at = '2036-01-01T00:00:00.000000Z' WHERE vault = 'one'")
    now = clock.now()
    actions = due(workshop.installation.policy, workshop.catalog.facts(now, ["documents"]), now, ["documents"])
    (action,) = [each for each in actions if each.kind is ActionKind.RESTORE_TEST]
    assert attempt(workshop.installation, action).error is None
    (tested,) = workshop.catalog.evidence(point=point.id, kind="restore_test")
    assert tested.vault == action.vault == "one"


def test_two_runs_of_one_source_exclude_each_other(workshop: Any) -> None:
    """The second is told who holds it; nothing is changed."""
    with (
        recorded(workshop.installation, ActionKind.RESTORE_TEST, source="documents"),
        pytest.raises(BusyError, match="documents"),
    ):
        backup(workshop.installation, "documents")


def test_records_in_every_vault_form_an_intact_chain_that_says_all(workshop: Any) -> None:
    """Points, copies and evidence reach each vault, signed, before the catalog shows them."""
    protect(workshop.installation, "documents")
    restore_test(workshop.installation, "documents")
    chains = {}
    for vault in ("one", "two", "three"):
        files = sorted((workshop.vault_root(vault) / "records" / workshop.installation.signer.signer).iterdir())
        chains[vault] = [Record.from_bytes(workshop.opened(vault, file)) for file in files]
        assert verify_chain(chains[vault]).intact
        assert (workshop.vault_root(vault) / "policies" / f"{workshop.installation.policy.digest}.sealed").exists()
    assert [record.kind for record in chains["one"]] == ["recovery-point", "copy", "copy", "copy", "evidence"]


def test_expiry_changes_the_catalog_first_and_catches_up_with_a_vault_that_was_away(workshop: Any) -> None:
    """Kept: the newest versions and the last proven point. The vault that was away is caught up with later."""
    ids = []
    for number in range(5):
        change(workshop, f"version {number}\n")
        ids.append(protect(workshop.installation, "documents").backup.point.id)
        if number == 1:
            assert restore_test(workshop.installation, "documents").passed
    plan = expire_flow.plan(workshop.installation, "documents")
    assert [decision.point.id for decision in plan.removed] == [ids[2], ids[0]]
    assert all(decision.reasons for decision in plan.decisions)
    shutil.move(workshop.vault_root("three"), workshop.root / "away")
    expired = expire_flow.expire(workshop.installation, plan)
    assert set(expired.problems) == {"three"}
    assert [each.point for each in expired.plan.removed] == [each.point for each in plan.removed]
    assert {point.id for point in workshop.catalog.points("documents")} == {ids[1], ids[3], ids[4]}
    assert {copy.vault for copy in workshop.catalog.expired_copies_to_delete()} == {"three"}
    shutil.move(workshop.root / "away", workshop.vault_root("three"))
    recover(workshop.installation)
    assert workshop.catalog.expired_copies_to_delete() == ()
    assert len(workshop.installation.store("three").committed()) == 3
    with pytest.raises(NotFoundError, match="expired"):
        workshop.catalog.point(ids[0])


class _BrokenStore:
    """A payload store whose reader loses a byte after all of its checks."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def reader(self, reference: str) -> Any:
        return _BrokenReader(self._inner.reader(reference))


class _BrokenReader:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def restore(self, destination: Path, **named: Any) -> Any:
        restored = self._inner.restore(destination, **named)
        victim = next(path for path in sorted(destination.rglob("*")) if path.is_file() and path.stat().st_size > 100)
        times = victim.stat()
        content = victim.read_bytes()
        victim.chmod(0o600)
        victim.write_bytes(content[:-1] + b"?")
        victim.chmod(stat.S_IMODE(times.st_mode))
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
        return restored


@pytest.mark.parametrize("source", ("documents", "ledger"))
def test_the_fingerprint_catches_a_broken_reader(workshop: Any, source: str) -> None:
    """Repository checks all pass; only the comparison with what the source said can tell."""
    broken = replace(workshop.installation, store=lambda name: _BrokenStore(workshop.installation.store(name)))
    protect(broken, source)
    assert verify(workshop.installation, "one").passed
    evidence = restore_test(broken, source)
    assert not evidence.passed
    assert evidence.reason.startswith("verify_integrity")


@pytest.mark.parametrize("source", ("documents", "ledger"))
def test_the_fingerprint_catches_a_broken_writer(workshop: Any, source: str) -> None:
    """A bit flips before the repository first looks at a blob: all that it compares fits, and is wrong."""
    _native.inject_fault("storing", 1)
    try:
        protect(workshop.installation, source)
    finally:
        _native.inject_fault(None)
    assert verify(workshop.installation, "one").passed
    evidence = restore_test(workshop.installation, source)
    assert not evidence.passed
    assert evidence.reason.startswith("verify_integrity")


def test_a_first_vault_that_fills_up_leaves_the_backup_to_the_next(workshop: Any) -> None:
    """A full disk costs its own copy, not the recovery point."""
    workshop.wrap_vault = lambda vault: FullVault(vault, 4_000) if vault.name == "one" else vault
    (workshop.data / "files" / "more.bin").write_bytes(os.urandom(100_000))
    done = protect(workshop.installation, "documents")
    assert done.backup.vault == "two"
    assert isinstance(done.vault_problems["one"], VaultFullError)
    assert {facts.copy.vault for facts in workshop.catalog.copies(done.backup.point.id)} == {"two", "three"}
    assert restore_test(workshop.installation, "documents").passed


def test_vaults_that_can_only_be_read_are_good_enough_to_restore_from(workshop: Any, tmp_path: Path) -> None:
    """On the bad day the backup disk is mounted read-only."""
    point = protect(workshop.installation, "documents").backup.point
    workshop.catalog.close()
    again = build(workshop.root, workshop.data, {"documents": workshop.sources["documents"]})
    again.wrap_vault = ReadOnlyVault
    assert not restore(again.installation, point, tmp_path / "out").restored.problems
    assert restore_test(again.installation, "documents").passed
    assert verify(again.installation, "one").passed
    again.catalog.close()


def test_verification_misses_a_copy_that_a_vault_has_lost_whole(workshop: Any) -> None:
    """Without its snapshot nothing else in the vault tells that a copy should be there."""
    point = protect(workshop.installation, "documents").backup.point
    for snapshot in (workshop.vault_root("one") / "repositories/main/snapshots").iterdir():
        snapshot.unlink()
    for read_data in (False, True):
        copies = workshop.catalog.copies(point.id)
        result = verify(workshop.installation, "one", read_data=read_data)
        if not read_data:
            assert not result.passed and "missing" in result.verified.damages[0].detail
            assert set(result.hurt) == {point.id}
            assert workshop.catalog.evidence(kind="verify")[0] == result.evidence
            assert {facts.copy.vault for facts in copies} == {"one", "two", "three"}
            # It is due again, and comes from another vault.
            assert missing_vaults(workshop.installation, point) == ("one",)
            copy(workshop.installation, point, "one")
        else:
            assert result.passed
    assert restore_test(workshop.installation, "documents", vault="one").passed


def test_a_restore_with_the_wrong_key_blames_the_key_and_not_the_data(workshop: Any, tmp_path: Path) -> None:
    """Nothing is damaged, and nobody should go looking for damage."""
    point = protect(workshop.installation, "documents").backup.point

    def refuse(_name: str) -> Any:
        raise KeyProblemError("The password does not open it", todo="Check the key.")

    with pytest.raises(KeyProblemError, match=r"one.*two.*three") as caught:
        restore(dataclasses.replace(workshop.installation, store=refuse), point, tmp_path / "out")
    assert caught.value.todo == "Check the key."


def test_a_copy_that_another_run_is_making_is_not_made_twice(workshop: Any) -> None:
    """Two runs at once would leave a snapshot behind that nothing stands for."""
    with recorded(workshop.installation, ActionKind.COPY, source="documents", vault="three"):
        done = protect(workshop.installation, "documents")
    assert isinstance(done.vault_problems["three"], BusyError)
    assert missing_vaults(workshop.installation, done.backup.point) == ("three",)
    assert set(protect(workshop.installation, "documents").vault_problems) == set()
    assert len(list((workshop.vault_root("three") / "repositories/main/snapshots").iterdir())) == 1


def test_what_another_worker_has_done_since_it_was_planned_is_not_done_again(workshop: Any) -> None:
    """Two workers plan the same; the second comes to it when the first has done it already."""
    now = clock.now()
    facts = workshop.catalog.facts(now)
    (action,) = [each for each in due(workshop.installation.policy, facts, now) if each.source == "documents"]
    assert attempt(workshop.installation, action).error is None
    (workshop.data / "files" / "report.txt").write_text("changed since\n")
    again = attempt(workshop.installation, action)
    assert isinstance(again.error, BusyError) and "since it was planned" in str(again.error)
    assert len(workshop.catalog.points("documents")) == 1
    assert backup(workshop.installation, "documents").changed, "who asks by hand gets it"
