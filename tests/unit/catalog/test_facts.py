"""The facts that plan and assurance judge by."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.catalog.facts import TIMED_TESTS
from cto_backups.core.facts import CopyFacts, Heartbeat, TimedRestore
from cto_backups.core.model import ActionKind, Disappearance, Fingerprint, Outcome, Resource, Rung, Sample, Step


@pytest.fixture
def ledger(catalog, build):
    """The facts of the one source, as they are now."""
    return lambda: catalog.facts(build.now).sources["ledger"]


def shown(catalog, build, id, captured_at, **changes):
    point = build.point(id, captured_at, **changes)
    catalog.add_point_with_copy(point, build.copy(id, stored_at=captured_at))
    return point


def test_a_copy_is_verified_by_a_whole_reading_without_damage_that_began_after_it_was_stored(catalog, build):
    def verified():
        return catalog.facts(build.now, ["ledger"], kept_points=True).verified_copies

    stored = build.ago(hours=9)
    for id, incomplete in (("p1", False), ("p2", True)):
        catalog.add_point_with_copy(build.point(id, incomplete=incomplete), build.copy(id, stored_at=stored))
        catalog.add_copy(build.copy(id, "far", stored_at=build.ago(hours=1)))
    assert verified() == {}
    catalog.add_evidence(build.reading("v1", "near", build.ago(hours=8)))
    catalog.add_evidence(build.reading("v2", "far", build.ago(hours=8)))
    assert verified() == {"p1": {"near"}}, "what arrived later was not read"
    catalog.add_evidence(build.reading("v3", "far", build.ago(minutes=30)))
    assert verified() == {"p1": {"near", "far"}}
    assert catalog.facts(build.now, ["another"], kept_points=True).verified_copies == {}
    assert catalog.facts(build.now).verified_copies == {}
    catalog.add_evidence(build.reading("v4", "near", build.ago(minutes=20), read_since=None))
    assert verified() == {"p1": {"far"}}, "read in part"
    catalog.add_evidence(build.reading("v5", "far", build.ago(minutes=10), passed=False))
    assert verified() == {}
    catalog.add_evidence(build.reading("v6", "far"))
    catalog.expire_point("p1", build.now, [], build.key)
    assert verified() == {}


def test_a_new_source_has_nothing(ledger, catalog, build):
    facts = ledger()
    assert (facts.newest, facts.newest_any, facts.proven, facts.last_test) == (None, None, None, None)
    assert (facts.copies, facts.point_count, facts.first_seen) == ((), 0, build.now)
    assert (dict(facts.last_runs), dict(facts.failures)) == ({}, {})
    assert {name: vault.copy_count for name, vault in catalog.facts(build.now).vaults.items()} == {"near": 0, "far": 0}


def test_sources_that_are_asked_for_and_unknown_have_nothing_either(catalog, build):
    facts = catalog.facts(build.now, ["unheard of"])
    assert list(facts.sources) == ["unheard of"]
    assert facts.sources["unheard of"].newest is None
    assert catalog.facts(build.now, []).sources == {}


def test_the_newest_complete_point_is_told_from_the_newest_of_all(ledger, catalog, build):
    whole = shown(catalog, build, "p1", build.ago(hours=3))
    broken = shown(catalog, build, "p2", build.ago(hours=1), incomplete=True)
    assert (ledger().newest, ledger().newest_any) == (whole, broken)
    catalog.expire_point("p1", build.now, [], build.key)
    assert (ledger().newest, ledger().newest_any) == (None, broken)


def test_where_the_newest_point_is_dated_in_the_future_the_newest_of_the_others_is_told_too(ledger, catalog, build):
    shown(catalog, build, "p1", build.ago(hours=3))
    soon = shown(catalog, build, "p2", build.ago(minutes=-1))
    assert (ledger().newest, ledger().current) == (soon, None), "clocks differ by so much"
    ahead = shown(catalog, build, "p3", build.ago(hours=-3))
    catalog.add_copy(build.copy("p2", "far"))
    assert (ledger().newest, ledger().current) == (ahead, soon)
    assert {each.copy.vault for each in ledger().current_copies} == {"near", "far"}
    assert {each.copy.vault for each in ledger().copies} == {"near"}


def test_a_copy_counts_as_read_only_by_a_reading_that_began_after_it_was_stored(ledger, catalog, build):
    shown(catalog, build, "p1", build.ago(hours=3))
    early = build.reading("e1", started_at=build.ago(hours=4), finished_at=build.ago(hours=2))
    catalog.add_evidence(early)
    (copy,) = ledger().copies
    assert (copy.read_at, copy.read_passed) == (None, None)
    vault = catalog.facts(build.now).vaults["near"]
    assert (vault.read_at, vault.read_passed) == (build.ago(hours=2), True)
    catalog.add_evidence(build.reading("e2", finished_at=build.ago(hours=1), passed=False))
    catalog.add_evidence(build.reading("e3", "far"))
    (copy,) = ledger().copies
    assert (copy.read_at, copy.read_passed) == (build.ago(hours=1), False)


def test_a_copy_is_tested_by_the_tests_of_this_point_in_this_vault(ledger, catalog, build):
    shown(catalog, build, "p1", build.ago(hours=3))
    catalog.add_copy(build.copy("p1", "far"))
    catalog.add_evidence(build.test("e1", "p1", build.ago(hours=2), vault="far"))
    catalog.add_evidence(build.test("e2", "p1", build.ago(hours=1), vault="far", passed=False))
    catalog.add_evidence(build.test("e3", "p0", vault="near"))
    near, far = ledger().copies
    assert (near.copy.vault, near.tested_at) == ("near", None)
    assert far == CopyFacts(
        build.copy("p1", "far"), None, None, build.ago(hours=1), False, None, Rung.PROVEN, None, "e2"
    )


def test_a_point_whose_fingerprint_is_of_an_earlier_moment_is_not_proven_by_a_test_that_passed(ledger, catalog, build):
    summed = shown(catalog, build, "p1", build.ago(days=9))
    log = Sample("log", {"summed_until": build.ago(days=9).isoformat()})
    between = shown(catalog, build, "p2", build.ago(days=8), fingerprint=Fingerprint("mysql/1", {}, {}, (log,)))
    catalog.add_evidence(build.test("e1", "p1", build.ago(hours=9)))
    catalog.add_evidence(replace(build.test("e2", "p2", build.ago(hours=8)), rung=Rung.RESTORED))
    assert (ledger().newest, ledger().proven, ledger().last_test.id) == (between, summed, "e2")
    sampled = shown(catalog, build, "p3", build.ago(days=7))
    catalog.add_evidence(replace(build.test("e3", "p3", build.ago(hours=7)), rung=Rung.RESTORED))
    assert ledger().proven == sampled, "what is compared in samples is of its moment"


def test_proven_is_the_newest_kept_point_whose_last_restore_test_passed(ledger, catalog, build):
    first, second, third = (shown(catalog, build, f"p{n}", build.ago(days=9 - n)) for n in (1, 2, 3))
    catalog.add_evidence(build.test("e1", "p2", build.ago(hours=9)))
    assert (ledger().proven, ledger().proven_at) == (second, build.ago(hours=9))
    catalog.add_evidence(build.test("e2", "p1", build.ago(hours=8)))
    assert (ledger().proven, ledger().proven_at) == (second, build.ago(hours=8)), "an older point tested later is older"
    catalog.add_evidence(build.test("e3", "p3", build.ago(hours=7), passed=False))
    assert (ledger().proven, ledger().last_test.id) == (second, "e3")
    catalog.add_evidence(build.test("e4", "p2", build.ago(hours=6), passed=False))
    assert (ledger().proven, ledger().proven_at) == (first, build.ago(hours=8)), "it was proven, and is no more"
    catalog.add_evidence(build.test("e0", "p2", build.ago(hours=10)))
    assert ledger().proven == first, "evidence that arrives late does not overrule what came after it"
    catalog.add_evidence(build.test("e5", "p3", build.ago(hours=5)))
    assert ledger().proven == third
    catalog.expire_point("p3", build.now, [], build.key)
    assert ledger().proven == first


def test_a_test_proves_the_source_no_longer_than_its_point_was_the_newest(ledger, catalog, build):
    """An old point that is tested again and again proves nothing of what came after it."""
    first, second = (f"ledger-2026030{day}T120000Z-aaaa" for day in (1, 8))
    shown(catalog, build, first, build.ago(days=17))
    assert ledger().proven_until is None
    catalog.add_evidence(build.test("e1", first, build.ago(days=12)))
    assert ledger().proven_until == build.ago(days=12), "it is still the newest"
    shown(catalog, build, "ledger-20260307T120000Z-aaaa", build.ago(days=11), incomplete=True)
    shown(catalog, build, second, build.ago(days=10))
    assert ledger().proven_until == build.ago(days=12), "it was the newest when it was tested"
    catalog.add_evidence(build.test("e2", first, build.ago(hours=1)))
    assert ledger().proven_at == build.ago(hours=1)
    assert ledger().proven_until == build.ago(days=10), "what is not complete takes no place"
    shown(catalog, build, "ledger-20260318T110000Z-aaaa", build.ago(hours=2))
    catalog.expire_point(second, build.now, [], build.key)
    assert ledger().proven_until == build.ago(days=10), "the next point may have expired since"
    catalog.add_evidence(build.test("e3", "ledger-20260318T110000Z-aaaa", build.ago(minutes=1)))
    assert ledger().proven_until == build.ago(minutes=1)


def test_a_point_with_a_name_of_another_kind_takes_a_place_while_it_is_kept(ledger, catalog, build):
    shown(catalog, build, "p2", build.ago(days=17))
    shown(catalog, build, "p1", build.ago(days=10))
    catalog.add_evidence(build.test("e1", "p2", build.ago(hours=1)))
    assert ledger().proven_until == build.ago(days=10)


def test_the_inventory_keeps_what_a_source_covered_that_is_gone_from_the_policy(catalog, build):
    catalog.record_resources("ledger", [Resource("git:/app", "git", "/app")], build.now)
    other = build.policy(build.source("other"), digest="d2")
    catalog.sync_policy(other, b"other", build.now)
    facts = catalog.facts(build.now)
    assert set(facts.sources) == {"other"}
    assert [resource.name for resource in facts.resources["ledger"]] == ["git:/app"]
    assert catalog.facts(build.now, ["other"]).resources == {}


def test_a_verification_proves_nothing_about_restoring(ledger, catalog, build):
    shown(catalog, build, "p1", build.ago(days=1))
    catalog.add_evidence(build.test("e1", "p1", kind="verify"))
    assert (ledger().proven, ledger().proven_at, ledger().last_test) == (None, None, None)


def test_the_last_run_of_each_action_and_its_failures_in_a_row(ledger, catalog, build):
    for outcome in (Outcome.FAILED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.INTERRUPTED, Outcome.FAILED):
        build.run(catalog, ActionKind.BACKUP, outcome)
    build.run(catalog, ActionKind.COPY, Outcome.FAILED)
    build.run(catalog, ActionKind.COPY, Outcome.UNCHANGED)
    build.run(catalog, ActionKind.RESTORE_TEST, Outcome.FAILED)
    last = build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING)
    build.run(catalog, ActionKind.BACKUP, Outcome.FAILED, source="other")
    facts = ledger()
    assert facts.failures == {ActionKind.BACKUP: 2, ActionKind.RESTORE_TEST: 1}
    assert facts.last_runs[ActionKind.BACKUP].id == last
    assert facts.last_runs[ActionKind.COPY].outcome is Outcome.UNCHANGED
    assert set(facts.last_runs) == {ActionKind.BACKUP, ActionKind.COPY, ActionKind.RESTORE_TEST}


def test_crashes_are_counted_apart_from_other_failures(ledger, catalog, build):
    def crash():
        number = build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING)
        catalog.finish_run(number, outcome=Outcome.FAILED, now=build.now, error_code="crash")

    crash()
    build.run(catalog, ActionKind.BACKUP, Outcome.SUCCEEDED)
    for _ in range(2):
        crash()
        build.run(catalog, ActionKind.BACKUP, Outcome.FAILED)
    crash()
    build.run(catalog, ActionKind.COPY, Outcome.FAILED)
    facts = ledger()
    assert (facts.failures[ActionKind.BACKUP], facts.last_runs[ActionKind.BACKUP].crashes) == (5, 3)
    assert facts.last_runs[ActionKind.COPY].crashes == 0


def test_the_failures_of_a_vault_are_those_of_reading_it(catalog, build):
    build.run(catalog, ActionKind.VERIFY, Outcome.FAILED, source=None, vault="near")
    build.run(catalog, ActionKind.VERIFY, Outcome.FAILED, source=None, vault="near")
    build.run(catalog, ActionKind.COPY, Outcome.FAILED, vault="near")
    near, far = (catalog.facts(build.now).vaults[name] for name in ("near", "far"))
    assert (near.failures, near.last_run.action) == (2, ActionKind.VERIFY)
    assert (far.failures, far.last_run) == (0, None)


def test_the_prunes_of_a_vault_are_known_apart_from_its_readings(catalog, build):
    build.run(catalog, ActionKind.PRUNE, source=None, vault="near")
    last = build.run(catalog, ActionKind.PRUNE, Outcome.FAILED, source=None, vault="near")
    near = catalog.facts(build.now).vaults["near"]
    assert (near.prune_run.id, near.prune_failures) == (last, 1)
    assert (near.last_run, near.failures) == (None, 0)


def test_a_vault_knows_since_when_it_holds_copies(catalog, build):
    shown(catalog, build, "p1", build.ago(days=3))
    shown(catalog, build, "p2", build.ago(days=1))
    assert catalog.facts(build.now).vaults["near"].first_copy_at == build.ago(days=3)


def test_kept_points_are_listed_only_when_asked_for(catalog, build):
    points = [shown(catalog, build, f"p{n}", build.ago(days=n)) for n in (1, 2, 3)]
    catalog.expire_point("p2", build.now, [], build.key)
    assert catalog.facts(build.now).kept_points == {}
    assert catalog.facts(build.now, kept_points=True).kept_points == {"ledger": (points[0], points[2])}


def test_more_sources_can_be_asked_for_than_a_statement_takes_parameters(catalog, build):
    names = [f"s{n}" for n in range(8)]
    catalog.sync_policy(build.policy(*(build.source(name) for name in names)), b"", build.now)
    for name in names:
        catalog.add_point_with_copy(build.point(f"p-{name}", source=name), build.copy(f"p-{name}"))
    unknown = [f"unknown-{n}" for n in range(33_000)]
    facts = catalog.facts(build.now, [*names, *unknown], kept_points=True)
    assert [name for name, source in facts.sources.items() if source.newest is None] == unknown
    facts = catalog.facts(build.now, kept_points=True)
    assert {name: source.newest.id for name, source in facts.sources.items()} == {n: f"p-{n}" for n in names}
    assert set(facts.kept_points) == set(names)
    assert facts.vaults["near"].copy_count == 8


def test_confirming_is_remembered(ledger, catalog, build):
    catalog.confirm("ledger", build.now + timedelta(minutes=5))
    assert ledger().confirmed_at == build.now + timedelta(minutes=5)


def test_the_last_passed_restore_tests_say_what_their_restores_took(ledger, catalog, build):
    shown(catalog, build, "p1", build.ago(days=9))

    def add(id, hours, seconds=1.5, passed=True, **figures):
        step = Step("restore", build.ago(hours=hours), seconds, passed=True, figures=figures)
        test = build.test(id, "p1", build.ago(hours=hours), passed=passed)
        catalog.add_evidence(replace(test, steps=(replace(step, name="select_backup"), step)))

    add("unmeasured", 1)
    add("failed", 2, size_bytes=1, entries=1, passed=False)
    for hours in range(3, 3 + TIMED_TESTS):
        add(f"e{hours}", hours, seconds=float(hours), size_bytes=100, entries=7)
    measured = [TimedRestore(f"e{hours}", float(hours), 100, 7) for hours in range(3, 2 + TIMED_TESTS)]
    assert list(ledger().restores) == measured, "the last ones only, newest first"
    assert ledger().proven_at == build.ago(hours=1)


def test_the_copies_of_the_last_proven_point_are_told_with_their_evidence(ledger, catalog, build):
    shown(catalog, build, "p1", build.ago(days=2))
    shown(catalog, build, "p2", build.ago(hours=2))
    catalog.add_evidence(build.test("proof", "p1", build.ago(hours=9)))
    catalog.add_evidence(build.reading("reading", finished_at=build.ago(hours=1), started_at=build.ago(hours=1)))
    (newest,), (proven,) = ledger().copies, ledger().proven_copies
    assert (newest.copy.point, newest.read_evidence, newest.test_evidence) == ("p2", "reading", None)
    assert (proven.copy.point, proven.read_evidence, proven.test_evidence) == ("p1", "reading", "proof")
    assert proven.test_rung is Rung.PROVEN


def test_the_last_sign_of_life_of_each_worker_is_told(catalog, build):
    assert catalog.facts(build.now).heartbeats == ()
    first = Heartbeat(build.ago(minutes=5), build.ago(minutes=3), "here", 77, "backup/ledger", "here")
    second = replace(first, at=build.ago(minutes=4), busy_with="")
    other = replace(second, pid=78)
    for beat in (first, second):
        catalog.beat(beat, lambda _pid: True)
        assert catalog.facts(build.now).heartbeats == (beat,)
    catalog.beat(other, lambda _pid: True)
    assert catalog.facts(build.now).heartbeats == (second, replace(other, name="here#2"))
    assert [catalog.forget_worker(name) for name in ("here", "here", "there")] == [True, False, False]
    assert catalog.facts(build.now).heartbeats == (replace(other, name="here#2"),)


# -- the moment of the newest content


def test_a_point_keeps_the_moment_of_its_newest_content(catalog, build):
    newest = build.ago(hours=5)
    catalog.add_point_with_copy(build.point("p1", newest_content_at=newest), build.copy("p1"))
    assert catalog.point("p1").newest_content_at == newest
    assert catalog.facts(build.now).sources["ledger"].newest.newest_content_at == newest


def test_facts_say_when_a_source_was_looked_at_and_when_its_resources_were_changed(catalog, build):
    told = Resource("sqlite:/a", "sqlite", "/a", 1, build.ago(hours=2))
    silent = Resource("sqlite:/b", "sqlite", "/b", 1)
    catalog.record_resources("ledger", [told, silent], build.ago(minutes=1))
    found = catalog.facts(build.now)
    assert found.resources["ledger"] == (told, silent)
    assert found.sources["ledger"].discovered_at == build.ago(minutes=1)
    later = replace(told, changed_at=build.now)
    catalog.record_resources("ledger", [later], build.now)
    assert catalog.facts(build.now).resources["ledger"] == (later,)


# -- what was found once


def things(*names):
    return [Resource(f"git:/{name}", "git", f"/{name}") for name in names]


def test_what_discovery_finds_no_more_is_told_by_the_look_that_last_found_it(catalog, build):
    for hours, names in ((9, "abcdef"), (7, "abcde"), (5, "abcdeg"), (3, "ag"), (1, "ag")):
        catalog.record_resources("ledger", things(*names), build.ago(hours=hours))
    found = catalog.facts(build.now)
    assert found.resources["ledger"] == tuple(things("a", "g"))
    assert found.vanished == {
        "ledger": (
            Disappearance(build.ago(hours=5), tuple(things(*"bcde")), 6),
            Disappearance(build.ago(hours=9), tuple(things("f")), 6),
        )
    }
    catalog.record_resources("ledger", things(*"abcdefg"), build.now)
    assert catalog.facts(build.now).vanished == {}, "it came back"


def test_an_empty_look_makes_everything_vanish(catalog, build):
    catalog.record_resources("ledger", things("a", "b"), build.ago(hours=2))
    catalog.record_resources("ledger", [], build.ago(hours=1))
    found = catalog.facts(build.now)
    assert found.resources == {}
    assert found.vanished["ledger"] == (Disappearance(build.ago(hours=2), tuple(things("a", "b")), 2),)


def test_the_inventory_of_a_source_that_has_left_the_policy_is_still_told(catalog, build):
    catalog.sync_policy(build.policy(build.source(), build.source("old")), b"", build.ago(hours=9))
    catalog.record_resources("old", things("a", "b"), build.ago(hours=2))
    catalog.record_resources("old", things("a"), build.ago(hours=1))
    catalog.sync_policy(build.policy(), b"", build.now)
    found = catalog.facts(build.now)
    assert found.resources == {"old": tuple(things("a"))}
    assert found.vanished == {"old": (Disappearance(build.ago(hours=2), tuple(things("b")), 2),)}
    assert list(found.sources) == ["ledger"]
    assert catalog.facts(build.now, ["ledger"]).resources == {}
