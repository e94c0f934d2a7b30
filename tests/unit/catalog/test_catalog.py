"""What is written is read back; twice is once; what is gone is told."""

import threading
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.core.log_range import reaching
from cto_backups.core.model import ActionKind, Fingerprint, Outcome, Resource, Sample, Step
from cto_backups.errors import ForeignRepositoryError, NotFoundError


def ids(points):
    return [point.id for point in points]


# -- policy and inventory


def test_sources_that_leave_the_policy_become_inactive_and_keep_their_points(catalog, build):
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    catalog.sync_policy(build.policy(build.source("other"), digest="d2"), b"other", build.now)
    assert set(catalog.facts(build.now).sources) == {"other"}
    assert ids(catalog.points("ledger")) == ["p1"]
    catalog.sync_policy(build.policy(build.source(), build.source("other")), b"both", build.now)
    back = catalog.facts(build.now).sources
    assert set(back) == {"ledger", "other"}
    assert back["ledger"].newest.id == "p1"


def test_a_source_keeps_what_was_learned_of_it_when_the_policy_changes(catalog, build):
    catalog.confirm("ledger", build.ago(hours=2))
    catalog.sync_policy(build.policy(digest="d2"), b"x", build.now + timedelta(days=1))
    facts = catalog.facts(build.now).sources["ledger"]
    assert facts.confirmed_at == build.ago(hours=2)
    assert facts.first_seen == build.now


def test_every_policy_that_was_in_force_is_kept_as_it_was_written(catalog, build):
    catalog.sync_policy(build.policy(digest="d2"), b"\xff\x00 second", build.now)
    catalog.sync_policy(build.policy(digest="d1"), b"the policy", build.now)
    with catalog.reading() as connection:
        kept = dict(map(tuple, connection.execute("SELECT digest, text FROM policies")))
    assert kept == {"d1": b"the policy", "d2": b"\xff\x00 second"}


@pytest.fixture
def counting(url):
    """The statement that counts how often a catalog was written to: SQLite counts itself."""
    return "PRAGMA data_version" if url.startswith("sqlite:") else "SELECT count(*) FROM writes"


def writes(catalog, counting):
    """How often the catalog was written to, by any connection."""
    with catalog.reading() as connection:
        return connection.scalar(counting)


@pytest.mark.parametrize(
    "change",
    [
        lambda build: build.policy(),
        lambda build: build.policy(digest="d2"),
        lambda build: build.policy(build.source(), build.source("another")),
        lambda build: build.policy(build.source(vaults=("near",))),
        lambda build: build.policy(build.source(data_class="user-data")),
    ],
)
def test_a_policy_is_brought_in_once_and_again_when_anything_of_it_changed(
    catalog, build, open_catalog, counting, change
):
    watching, policy = open_catalog(), change(build)
    text = b"the policy"
    catalog.sync_policy(build.policy(), text, build.now)
    before = writes(watching, counting)
    catalog.sync_policy(policy, text, build.now)
    assert (writes(watching, counting) == before) == (policy == build.policy())
    before = writes(watching, counting)
    catalog.sync_policy(policy, text, build.now)
    assert writes(watching, counting) == before, "the second time there is nothing to write"
    watching.close()


def test_a_repository_that_is_known_is_not_written_again(catalog, open_catalog, counting):
    watching = open_catalog()
    catalog.expect_repository("near", "a" * 64)
    before = writes(watching, counting)
    catalog.expect_repository("near", "a" * 64)
    assert writes(watching, counting) == before
    catalog.expect_repository("far", "b" * 64)
    assert writes(watching, counting) != before
    watching.close()


def test_the_inventory_is_what_the_last_discovery_found(catalog, build):
    tables = [Resource("a", "table", "db/a", 5), Resource("b", "table", "db/b")]
    catalog.record_resources("ledger", tables, build.now)
    assert catalog.facts(build.now).resources == {"ledger": tuple(tables)}
    changed = Resource("b", "table", "db/b", 2**40)
    catalog.record_resources("ledger", [changed], build.now + timedelta(hours=1))
    assert catalog.facts(build.now).resources == {"ledger": (changed,)}
    catalog.record_resources("ledger", [], build.now + timedelta(hours=2))
    assert catalog.facts(build.now).resources == {}, "an emptied source has nothing in it"


def test_a_vault_with_another_repository_than_before_is_refused(catalog):
    catalog.expect_repository("near", "a" * 64)
    catalog.expect_repository("near", "a" * 64)
    with pytest.raises(ForeignRepositoryError, match="near"):
        catalog.expect_repository("near", "b" * 64)


# -- points, copies, evidence


def test_a_point_and_its_copy_come_back_as_they_were(catalog, build):
    point = build.point(
        "p1", incomplete=True, label="before the move", parent="r0", keep_until=build.now + timedelta(days=90)
    )
    catalog.add_point_with_copy(point, build.copy("p1"))
    assert catalog.point("p1") == point
    assert [known.copy for known in catalog.copies("p1")] == [build.copy("p1")]


def test_showing_a_point_twice_shows_it_once(catalog, build):
    for _ in range(2):
        catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
        catalog.add_copy(build.copy("p1", "far"))
    facts = catalog.facts(build.now)
    assert facts.sources["ledger"].point_count == 1
    assert {name: vault.copy_count for name, vault in facts.vaults.items()} == {"near": 1, "far": 1}


def test_a_point_without_its_copy_is_never_shown(catalog, build):
    """The two are written together or not at all."""
    with pytest.raises(Exception, match="reference"):
        catalog.add_point_with_copy(build.point("p1"), build.copy("p1", reference=None))
    assert catalog.points() == ()
    assert catalog.facts(build.now).sources["ledger"].point_count == 0


def test_a_copy_made_anew_takes_the_place_of_the_lost_one(catalog, build):
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    again = build.copy("p1", reference="new", stored_at=build.now + timedelta(days=1))
    catalog.add_copy(again)
    assert [known.copy for known in catalog.copies("p1")] == [again]
    assert catalog.facts(build.now).vaults["near"].copy_count == 1


def test_points_are_listed_newest_first(catalog, build):
    for hours in (3, 1, 2):
        catalog.add_point_with_copy(build.point(f"p{hours}", build.ago(hours=hours)), build.copy(f"p{hours}"))
    assert ids(catalog.points()) == ids(catalog.points("ledger")) == ["p1", "p2", "p3"]
    assert ids(catalog.points(limit=2)) == ["p1", "p2"]
    assert catalog.points("nobody") == ()


def test_the_point_whose_log_leads_to_a_moment_is_the_one_whose_log_ends_first(catalog, build):
    minute = timedelta(minutes=1)
    points = []
    for number, (since, until) in enumerate([(0, 0), (0, 5), (0, 10), (0, 15), (17, 17), (17, 20)]):
        fields = {
            "since": (build.now + since * minute).astimezone(timezone(timedelta(hours=3))).isoformat(),
            "until": (build.now + until * minute).isoformat(),
        }
        told = Fingerprint("any/1", {}, {}, (Sample("other", {}), Sample("log", fields)))
        # Its source's clock is five hours behind.
        points.append(build.point(f"p{number}", build.now + until * minute + timedelta(hours=5), fingerprint=told))
    for point in [build.point("plain", build.now + 7 * minute), *points]:
        catalog.add_point_with_copy(point, build.copy(point.id))
    catalog.expire_point("p2", build.now, ["old"], build.key)
    kept = [point for point in points if point.id != "p2"]
    for seconds in (-1, 0, 0.001, 299.999, 300, 300.001, 420, 900, 900.001, 1000, 1020, 1100, 1200, 1201):
        moment = build.now + timedelta(seconds=seconds)
        assert catalog.leading_to("ledger", moment) == reaching(kept, moment), seconds
    assert catalog.leading_to("other", build.now) is None


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans()), max_size=8),
    asked=st.integers(-1, 21),
)
def test_the_point_at_a_moment_is_the_newest_kept_one_captured_until_then(open_catalog, build, made, asked):
    catalog = open_catalog()
    catalog.sync_policy(build.policy(), b"", build.now)
    for point in catalog.points():
        catalog.expire_point(point.id, build.now, (), build.key)
    base = len(catalog.points(include_expired=True))
    model = []
    for number, (minute, incomplete, expired) in enumerate(made, start=base):
        point = build.point(f"p{number:05}", build.now + timedelta(minutes=minute), incomplete=incomplete)
        catalog.add_point_with_copy(point, build.copy(point.id))
        if expired:
            catalog.expire_point(point.id, build.now, ["old"], build.key)
        else:
            model.append(point)

    def newest(points):
        return max(points, key=lambda point: (point.captured_at, point.id), default=None)

    moment = build.now + timedelta(minutes=asked)
    assert catalog.at("ledger", moment) == newest(point for point in model if point.captured_at <= moment)
    later = [point for point in model if point.captured_at > moment]
    assert catalog.after("ledger", moment) == min(later, key=lambda point: (point.captured_at, point.id), default=None)
    assert catalog.latest("ledger", complete=False) == newest(model)
    assert catalog.latest("ledger") == newest(point for point in model if point.complete)
    assert sorted(ids(catalog.points())) == ids(model)
    assert catalog.facts(build.now).sources["ledger"].point_count == len(model)


def test_a_point_is_found_by_a_unique_beginning_of_its_id(catalog, build):
    for id in ("ledger-1a", "ledger-1b", "ledger-2c", "web-1"):
        catalog.add_point_with_copy(build.point(id), build.copy(id))
    assert catalog.point("ledger-2").id == "ledger-2c"
    assert catalog.point("ledger-1a").id == "ledger-1a"
    with pytest.raises(NotFoundError, match=r"more than one.*ledger-1b, ledger-1a"):
        catalog.point("ledger-1")
    with pytest.raises(NotFoundError, match=r"ledger-2d.*closest are.*ledger-2c"):
        catalog.point("ledger-2d")
    for odd in ("", "%", "_", "ledger-%", "'; DROP TABLE points; --", "\U0010ffff"):
        with pytest.raises(NotFoundError):
            catalog.point(odd)


def test_evidence_comes_back_as_it_was_and_twice_is_once(catalog, build):
    step = Step("restore", build.now, 1.25, False, "why", {"files": 3, "rate": 0.5, "whole": True, "place": "x"})
    evidence = build.test("e1", None, passed=False, steps=(step,), reason="counts differ: a\udc80")
    catalog.add_evidence(evidence)
    catalog.add_evidence(evidence)
    (found,) = catalog.evidence()
    assert found.steps == evidence.steps
    assert found.reason == "counts differ: a\\udc80", "a file name that is no text does not stop the record"


def test_evidence_is_found_by_point_source_and_kind_newest_first(catalog, build):
    catalog.add_evidence(build.test("e1", "p1", build.ago(hours=2)))
    catalog.add_evidence(build.test("e2", "p2", build.ago(hours=1)))
    catalog.add_evidence(build.reading("e3"))
    assert ids(catalog.evidence()) == ["e3", "e2", "e1"]
    assert ids(catalog.evidence(source="ledger")) == ["e2", "e1"]
    assert ids(catalog.evidence(point="p1")) == ["e1"]
    assert ids(catalog.evidence(kind="verify")) == ["e3"]
    assert ids(catalog.evidence(limit=1)) == ["e3"]


# -- expiry


def test_an_expired_point_is_not_shown_and_its_copies_are_to_be_deleted(catalog, build):
    for id in ("p1", "p2"):
        catalog.add_point_with_copy(build.point(id), build.copy(id))
        catalog.add_copy(build.copy(id, "far"))
    catalog.expire_point("p1", build.now, ["older than 90 days"], build.key)
    catalog.expire_point("p1", build.now + timedelta(days=1), ["again"], build.key)
    assert ids(catalog.points()) == ["p2"]
    assert catalog.copies("p1") == ()
    assert ids(catalog.points(include_expired=True)) == ["p2", "p1"]
    with pytest.raises(NotFoundError, match=r"expired.*2026-03-18: older than 90 days"):
        catalog.point("p1")
    assert {(copy.point, copy.vault) for copy in catalog.expired_copies_to_delete()} == {("p1", "near"), ("p1", "far")}
    facts = catalog.facts(build.now)
    assert facts.sources["ledger"].point_count == 1
    assert facts.vaults["near"].copy_count == 2, "a copy counts until the vault has let go of it"
    catalog.forget_copy("p1", "near")
    catalog.forget_copy("p1", "near")
    assert [copy.vault for copy in catalog.expired_copies_to_delete()] == ["far"]
    assert catalog.facts(build.now).vaults["near"].copy_count == 1


def test_a_copy_that_arrives_after_its_point_expired_is_one_to_delete(catalog, build):
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    catalog.expire_point("p1", build.now, [], build.key)
    catalog.add_copy(build.copy("p1", "far"))
    assert {copy.vault for copy in catalog.expired_copies_to_delete()} == {"near", "far"}


# -- runs


def test_runs_are_recorded_however_they_end(catalog, build):
    build.run(catalog, ActionKind.BACKUP, Outcome.FAILED, message="cannot read a\udc80")
    running = build.run(catalog, ActionKind.COPY, Outcome.RUNNING, vault="far", point="p1")
    last, first = catalog.runs()
    assert (last.id, last.outcome, last.vault, last.point, last.finished_at) == (
        running,
        Outcome.RUNNING,
        "far",
        "p1",
        None,
    )
    assert (first.outcome, first.message) == (Outcome.FAILED, "cannot read a\\udc80")
    assert first.finished_at > first.started_at
    assert catalog.runs("nobody") == ()


def test_the_figures_of_a_run_are_kept(catalog, build):
    number = build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING)
    figures = {"added_bytes": 2**40, "seconds": 0.5, "whole": True, "root": "ab"}
    catalog.finish_run(number, outcome=Outcome.SUCCEEDED, now=build.now, figures=figures)
    assert catalog.runs()[0].figures == figures


def test_runs_whose_process_died_are_interrupted_on_this_host_only(catalog, build):
    dead = build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING, pid=7, point="p1")
    build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING, pid=8)
    build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING, pid=7, host="elsewhere")
    build.run(catalog, ActionKind.BACKUP, Outcome.SUCCEEDED, pid=7)
    interrupted = catalog.interrupt_dead_runs("host", lambda pid: pid == 8, build.now)
    assert [(run.id, run.point, run.outcome) for run in interrupted] == [(dead, "p1", Outcome.INTERRUPTED)]
    assert [run.outcome.value for run in catalog.runs()] == ["succeeded", "running", "running", "interrupted"]
    assert catalog.interrupt_dead_runs("host", lambda pid: pid == 8, build.now) == ()


# -- moments, threads


def test_a_moment_without_time_zone_is_refused(catalog):
    with pytest.raises(Exception, match="time zone"):
        catalog.confirm("ledger", datetime(2026, 1, 1))  # noqa: DTZ001 the very mistake


def test_threads_may_write_at_once(catalog, build):
    errors = []

    def work(name: int) -> None:
        try:
            for number in range(5):
                id = f"p-{name}-{number}"
                catalog.add_point_with_copy(build.point(id), build.copy(id))
                build.run(catalog, ActionKind.BACKUP)
                catalog.facts(build.now)
        except Exception as error:  # noqa: BLE001 — the test looks at whatever it was
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert catalog.facts(build.now).sources["ledger"].point_count == 20
    assert len({run.id for run in catalog.runs(limit=100)}) == 20
    assert catalog.check() == ()
