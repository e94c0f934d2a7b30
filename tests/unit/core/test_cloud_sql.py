"""What an instance of Cloud SQL is set to, against what policy wants: each setting that is wrong is a finding."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cto_backups.core import cloud_sql
from cto_backups.core.assurance import judge
from cto_backups.core.auditing import audit
from cto_backups.core.cloud_sql import (
    ABOUT,
    BackupRun,
    Instance,
    InstanceSource,
    KeptByService,
    Told,
    Wanted,
    kept_by_service,
)
from cto_backups.core.cloud_sql_controls import CLOUD_SQL
from cto_backups.core.controls import Environment
from cto_backups.core.model import Sample

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
GOOD = Instance(
    name="ledger",
    region="us-central1",
    backups=True,
    backups_kept=30,
    point_in_time=True,
    log_days=7,
    window="02:00",
    backup_location="us",
    deletion_protection=True,
    survive="its backups stay",
    encrypted=True,
    newest_at=NOW - timedelta(hours=10),
)
WANTED = Wanted(window="02:00", region="us-central1", backup_location="us")
PUBLIC = replace(GOOD, public_address=True)


def backups(found: Instance, wanted: Wanted) -> Told:
    return cloud_sql.backups(found, wanted, NOW)


def leftovers(found: Instance, wanted: Wanted) -> Told:
    return cloud_sql.leftovers(found)


ALL = (backups, cloud_sql.point_in_time, cloud_sql.region, cloud_sql.deletion, cloud_sql.network, leftovers)


@pytest.mark.parametrize("look", ALL)
def test_an_instance_that_is_set_as_policy_wants_it_passes(look: Callable[[Instance, Wanted], Told]) -> None:
    told = list(look(GOOD, WANTED))
    assert told and all(passed for passed, _ in told), told


@pytest.mark.parametrize(
    ("look", "found", "wanted", "sentence"),
    [
        (backups, replace(GOOD, backups=False), WANTED, "automated backups are off"),
        (backups, replace(GOOD, backups_kept=7), WANTED, "7 automated backups are kept; policy wants 30"),
        (backups, replace(GOOD, window="14:00"), WANTED, "begins at 14:00 UTC; policy wants 02:00"),
        (backups, replace(GOOD, window=""), WANTED, "begins at no stated time UTC"),
        (backups, replace(GOOD, backup_location="eu"), WANTED, "backups lie in eu; policy wants us"),
        (backups, replace(GOOD, backup_location=""), WANTED, "the place that the service chose"),
        (backups, replace(GOOD, failed="no room"), WANTED, "the last automated backup failed: no room"),
        (backups, replace(GOOD, newest_at=None), WANTED, "there is no automated backup yet"),
        (backups, replace(GOOD, newest_at=NOW - timedelta(hours=27)), WANTED, "policy wants one within 26 h"),
        (cloud_sql.point_in_time, replace(GOOD, point_in_time=False), WANTED, "is off; policy wants 7 days of log"),
        (cloud_sql.point_in_time, replace(GOOD, log_days=1), WANTED, "kept for 1 day; policy wants 7"),
        (cloud_sql.region, replace(GOOD, region="us-east1"), WANTED, "stands in us-east1; policy wants us-central1"),
        (cloud_sql.region, replace(GOOD, region=""), WANTED, "a region that the service does not tell"),
        (cloud_sql.deletion, replace(GOOD, deletion_protection=False), WANTED, "deletion protection is off"),
        (cloud_sql.deletion, replace(GOOD, survive=""), WANTED, "its backups are deleted with it"),
        (cloud_sql.network, PUBLIC, WANTED, "it has a public address; 0 networks may come to it"),
        (
            cloud_sql.network,
            replace(PUBLIC, networks=("0.0.0.0/0", "10.0.0.0/8")),
            replace(WANTED, public_address=True),
            "that everybody may come to (0.0.0.0/0)",
        ),
        (cloud_sql.network, replace(GOOD, encrypted=False), WANTED, "connections without TLS are let in"),
        (leftovers, replace(GOOD, leftovers=("ledger-ctotest-1",)), WANTED, "still there, and cost money"),
    ],
)
def test_what_is_set_otherwise_is_told_with_both_figures(
    look: Callable[[Instance, Wanted], Told], found: Instance, wanted: Wanted, sentence: str
) -> None:
    (wrong,) = [told for passed, told in look(found, wanted) if not passed]
    assert sentence in wrong


def test_what_policy_does_not_ask_for_is_not_looked_at() -> None:
    nothing = Wanted(log_days=0, deletion_protection=False, backups_survive=False, public_address=True, encrypted=False)
    bare = replace(PUBLIC, point_in_time=False, survive="", deletion_protection=False, encrypted=False)
    assert list(cloud_sql.point_in_time(bare, nothing)) == []
    assert list(cloud_sql.region(bare, nothing)) == []
    assert list(cloud_sql.deletion(bare, nothing)) == []
    assert list(cloud_sql.network(bare, nothing)) == [(True, "it has a public address, as policy allows")]


def test_each_control_finds_its_own_in_the_audit_and_passes_with_all_it_saw(build) -> None:
    policy, facts = build.policy(build.source(options={"expects": WANTED})), build.facts()
    good = replace(GOOD, newest_at=build.now - timedelta(hours=1))
    bad = Instance("ledger", "us-east1", public_address=True, leftovers=("one",))

    def checks(found: Instance) -> dict[str, list[bool]]:
        report = audit(
            policy, facts, judge(policy, facts, build.now), build.now, Environment(cloud_sql={"ledger": found})
        )
        return {
            each.control.id: [check.passed for check in each.checks]
            for each in report.results
            if each.control in CLOUD_SQL
        }

    assert checks(good) == {control.id: [True] for control in CLOUD_SQL}
    assert all(found and not any(found) for found in checks(bad).values())
    plain = build.policy(build.source())
    report = audit(plain, facts, judge(plain, facts, build.now), build.now, Environment(cloud_sql={"ledger": good}))
    (told,) = (each for each in report.results if each.control.id == "cloudsql-region")
    assert told.checks == ()


def test_a_source_that_is_no_instance_is_not_asked() -> None:
    assert not isinstance(object(), InstanceSource)


def test_only_a_backup_that_ended_well_is_one():
    assert [BackupRun("1", status, "AUTOMATED", None, "", "", "").is_good for status in ("SUCCESSFUL", "FAILED")] == [
        True,
        False,
    ]


def test_a_point_of_an_instance_says_which_backups_the_service_had(build):
    def made(kind, **fields):
        samples = (Sample(ABOUT, fields),) if fields else ()
        return build.point(kind=kind, fingerprint=replace(build.point().fingerprint, samples=samples))

    assert kept_by_service(made("cloudsql", backups="2", newest_backup="17")) == KeptByService(2, "17")
    assert kept_by_service(made("cloudsql", instance="acme:ledger")) == KeptByService(0, "")
    assert kept_by_service(made("cloudsql")) is None
    assert kept_by_service(made("files", backups="2")) is None
