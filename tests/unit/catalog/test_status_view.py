"""The view `backup_status` says of every source what `judge` says."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from cto_backups import clock
from cto_backups.catalog import holdings
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.database import insertion
from cto_backups.catalog.rows import moment_to_column
from cto_backups.core.assurance import judge
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.model import ActionKind, Outcome, Status
from cto_backups.core.triggers import At, Every

FIRST_COLUMNS = [
    "data_category",
    "backup_type",
    "last_backup_time",
    "hours_since_backup",
    "last_backup_size_bytes",
    "last_test_date",
    "last_test_passed",
    "status",
    "business_id",
]


def view(catalog):
    with catalog.reading() as connection:
        return {row["source"]: row for row in connection.execute("SELECT * FROM backup_status")}


def test_the_first_columns_are_those_that_others_rely_on(catalog):
    with catalog.reading() as connection:
        columns = [column[0] for column in connection.execute("SELECT * FROM backup_status").description]
    assert columns[:9] == FIRST_COLUMNS


def test_a_row_says_what_is_known(catalog, build):
    now = clock.now()
    captured = now - timedelta(hours=3)
    catalog.sync_policy(build.policy(build.source(), build.source("gone")), b"", now)
    catalog.sync_policy(build.policy(), b"", now)
    for vault in ("near", "far"):
        catalog.add_point_with_copy(build.point("p1", captured), build.copy("p1", vault, captured))
    catalog.add_evidence(build.test("e1", "p1", now - timedelta(hours=1)))
    rows = view(catalog)
    assert list(rows) == ["ledger"], "sources that left the policy are not shown"
    row = rows["ledger"]
    assert (row["data_category"], row["backup_type"], row["business_id"]) == ("B", "sqlite", "acme")
    assert row["hours_since_backup"] == pytest.approx(3, abs=0.1)
    assert row["last_backup_time"] == captured.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert row["last_backup_size_bytes"] == 2**40
    assert (row["last_test_passed"], row["copies"], row["last_point"]) == (1, 2, "p1")
    assert row["status"] == "HEALTHY"


class Scenario:
    """A random history of one source; its moments stay half a minute away from every limit, so no clock decides.

    Most sources have one or two things wrong with them, some have many: only so does each rule get to decide alone.
    """

    def __init__(self, dice, build, now, name):
        self.dice, self.build, self.now, self.name = dice, build, now, name
        self.calm = dice.choice([0.0, 0.8, 0.9, 1.0])
        self.late = self.calm == 1.0 and dice.random() < 0.6
        category = replace(
            CATEGORIES["B"],
            rpo=timedelta(minutes=dice.choice([30, 60, 600])),
            read_within=timedelta(hours=dice.choice([2, 12, 100])),
        )
        self.policy = build.source(
            name,
            category=category,
            test_every=dice.choice([None, timedelta(hours=5), timedelta(days=30)]),
            expects_change=dice.choice([None, None, timedelta(minutes=20), timedelta(hours=3)]),
            vaults=dice.choice([("near", "far"), ("near",), ("far", "third"), ("near", "far", "third")]),
        )

    def pick(self, good, *others):
        return good if self.dice.random() < self.calm else self.dice.choice(others)

    def ago(self, *choices):
        return self.now - timedelta(minutes=self.pick(*choices), seconds=30)

    def write(self, connection):
        for number in range(self.pick(1, 0, 1, 2)):
            self.write_point(connection, f"{self.name}-{number}")
        if self.dice.random() < 0.3:
            confirmed = self.ago(20, -10, 1, 40, 80)
            values = {"name": self.name, "confirmed": moment_to_column(confirmed)}
            connection.execute("UPDATE sources SET confirmed_at = :confirmed WHERE name = :name", values)
        if self.dice.random() < 0.3:
            values = {"name": self.name, "reached": moment_to_column(self.ago(20, -10, 1, 40, 80))}
            connection.execute("INSERT INTO streams VALUES (:name, 1, NULL, :reached, '{}')", values)
        for number in range(self.pick(1, 0, 1, 2, 3)):
            test = self.build.test(
                f"t-{self.name}-{number}",
                f"{self.name}-0",
                self.ago(5, -20, 5, 100, 299, 350, 50000),
                source=self.name,
                passed=self.pick(True, True, True, False),
            )
            holdings.add_evidence(connection, test)
        for _ in range(self.pick(1, 0, 2, 3)):
            self.write_run(connection)

    def write_point(self, connection, id):
        captured = self.ago(
            self.dice.choice([36, 62, 90, 602] if self.late else [4, 10, 35]),
            -20,
            1,
            25,
            29,
            35,
            45,
            59,
            62,
            70,
            90,
            610,
            700,
        )
        point = self.build.point(
            id,
            captured,
            source=self.name,
            incomplete=self.dice.random() > max(self.calm, 0.9),
            started_at=captured - timedelta(minutes=self.dice.choice([1, 9, 40])),
            finished_at=captured,
            newest_content_at=self.pick(
                None, *(captured - timedelta(minutes=minutes, seconds=30) for minutes in (0, 10, 19, 20, 100, 179, 180))
            ),
        )
        holdings.add_point(connection, point)
        for vault in ("near", "far", "third"):
            if self.dice.random() < max(self.calm, 0.8):
                holdings.add_copy(connection, self.build.copy(id, vault, captured))
        if self.dice.random() > max(self.calm, 0.9):
            holdings.expire_point(connection, id, self.now, [], self.build.key)

    def write_run(self, connection):
        if self.late:
            return self.write_row(connection, ActionKind.BACKUP, Outcome.RUNNING)
        action = self.dice.choice([ActionKind.BACKUP, ActionKind.BACKUP, ActionKind.COPY, ActionKind.RESTORE_TEST])
        outcome = self.dice.choice([Outcome.RUNNING, Outcome.RUNNING, Outcome.FAILED, *Outcome])
        return self.write_row(connection, action, outcome)

    def write_row(self, connection, action, outcome):
        row = {"action": action.value, "source": self.name, "host": "h", "pid": 1, "error_code": "", "message": ""}
        row |= {"outcome": outcome.value, "figures": "{}"}
        started = self.now - timedelta(minutes=self.dice.choice([-9, 1, 10, 17, 40, 75]), seconds=30)
        row["started_at"] = moment_to_column(started)
        connection.execute(insertion("runs", row), row)


def compared(catalog, build, seed, count):
    """The words of `count` sources, which view and judgement agree on.

    Vaults differ by seed, since all sources share them; sources by their own dice.
    """
    dice = Random(seed)
    now = clock.now()
    scenarios = [Scenario(dice, build, now, f"s{number:03}") for number in range(count)]
    policy = build.policy(*(scenario.policy for scenario in scenarios))
    schedule = dice.choice([(), (Every(timedelta(minutes=40)),), (At(3, 0),)])
    policy.vaults["third"] = replace(policy.vaults["far"], name="third", copies=schedule)
    catalog.sync_policy(policy, b"", now)
    with catalog._writing() as connection:
        for scenario in scenarios:
            scenario.write(connection)
        for vault in ("near", "far", "third"):
            for number in range(dice.choice([0, 1, 2])):
                minutes = dice.choice([-30, 15, 130, 190, 1000] if seed % 2 else [5, 15, 50, 100])
                finished = now - timedelta(minutes=minutes, seconds=30)
                started = finished - timedelta(minutes=dice.choice([1, 20, 60]))
                reading = build.reading(
                    f"v-{vault}-{number}",
                    vault,
                    finished,
                    started_at=started,
                    passed=seed % 2 == 1 or dice.random() < 0.6,
                )
                holdings.add_evidence(connection, reading)
    away = {vault: "gone" for vault in ("near", "far", "third") if seed in (3, 6, 7) and dice.random() < 0.5}
    catalog.note_away(away, now)
    for _ in range(3):  # what is due meanwhile may differ once, on a busy machine; what is a difference stays one
        before = clock.now()
        verdicts = judge(policy, replace(catalog.facts(before), vaults_away=away), before)
        rows = view(catalog)  # at a moment of its own
        later = clock.now()
        afterwards = judge(policy, replace(catalog.facts(later), vaults_away=away), later)
        differences = {
            name: (rows[name]["status"], verdict.status.value, verdict.reasons)
            for name, verdict in verdicts.items()
            if rows[name]["status"] not in (verdict.status, afterwards[name].status)
        }
        if not differences:
            break
    assert differences == {}
    return {verdict.status for verdict in verdicts.values()}


def test_view_and_judgement_use_the_same_word(tmp_path, empty_catalog, build):
    met = set()
    for seed in range(8):
        path = tmp_path / f"{seed}.db"
        path.write_bytes(empty_catalog)
        catalog = Catalog.open(f"sqlite:{path}", now=build.now)
        met |= compared(catalog, build, seed, 100)
        catalog.close()
    assert met == set(Status)


@pytest.mark.parametrize("seed", range(8))
def test_a_servers_view_uses_the_word_of_the_judgement(server_url, build, seed):
    """A server is asked for fewer: it takes longer over them."""
    catalog = Catalog.open(server_url, now=build.now)
    try:
        assert compared(catalog, build, seed, 30)
    finally:
        catalog.close()


def test_a_source_that_stands_still_for_longer_than_policy_expects_is_overdue(catalog, build):
    now = clock.now()
    dump = build.source(expects_change=timedelta(hours=26), test_every=None)
    catalog.sync_policy(build.policy(dump), b"", now)
    for hours, word in ((27, "HEALTHY"), (28, "OVERDUE")):
        captured = now - timedelta(hours=1)
        newest = now - timedelta(hours=hours) + timedelta(seconds=(27 - hours) * 60 + 30)
        point = build.point(f"p{hours}", captured, finished_at=captured, newest_content_at=newest)
        for vault in ("near", "far"):
            catalog.add_point_with_copy(point, build.copy(point.id, vault, captured))
        row = view(catalog)["ledger"]
        assert (row["last_point"], row["status"], row["newest_content_at"]) == (
            point.id,
            word,
            moment_to_column(newest),
        )
        assert judge(build.policy(dump), catalog.facts(now), now)["ledger"].status == word


def test_a_vault_on_a_schedule_may_lag_by_it_in_the_view_as_well(catalog, build):
    """Copies come every 8 hours there, and may take two more: the oldest point that waits decides."""
    now = clock.now()
    source = build.source(vaults=("near", "far"))
    policy = build.policy(source)
    policy.vaults["far"] = replace(policy.vaults["far"], copies=(Every(timedelta(hours=8)),))
    catalog.sync_policy(policy, b"", now)
    words = []
    for hours, vaults in ((20, ("near", "far")), (11, ("near",)), (9, ("near",)), (1, ("near",))):
        at = now - timedelta(hours=hours)
        for vault in vaults:
            catalog.add_point_with_copy(
                build.point(f"p{hours}", at, finished_at=at), build.copy(f"p{hours}", vault, at)
            )
    catalog.add_evidence(build.test("e1", "p20", now))
    for gone in ("p11", "p9", "p1"):
        words.append((view(catalog)["ledger"]["status"], judge(policy, catalog.facts(now), now)["ledger"].status))
        catalog.expire_point(gone, now, [], build.key)
    assert words == [("OVERDUE", "OVERDUE"), ("HEALTHY", "HEALTHY"), ("HEALTHY", "HEALTHY")]


def test_a_source_whose_every_copy_is_damaged_is_unprotected(catalog, build):
    now = clock.now()
    catalog.sync_policy(build.policy(), b"", now)
    for vault in ("near", "far"):
        catalog.add_point_with_copy(build.point("p1", now), build.copy("p1", vault, now - timedelta(minutes=5)))
    catalog.add_evidence(build.test("e1", "p1", now))
    for vault, word in (("near", "FAILED_TEST"), ("far", "UNPROTECTED")):
        catalog.add_evidence(build.reading(f"v-{vault}", vault, now, passed=False))
        assert view(catalog)["ledger"]["status"] == word
        assert judge(build.policy(), catalog.facts(now), now)["ledger"].status == word


def test_a_copy_in_a_vault_that_is_away_counts_for_nothing_until_it_is_back(catalog, build):
    now = clock.now()
    catalog.sync_policy(build.policy(), b"", now)
    for vault in ("near", "far"):
        catalog.add_point_with_copy(build.point("p1", now), build.copy("p1", vault, now - timedelta(minutes=5)))
    catalog.add_evidence(build.test("e1", "p1", now))
    words = []
    for away in ({}, {"near": "gone"}, {"near": "gone", "far": "gone"}, {"far": "gone", "unused": "gone"}, {}):
        catalog.note_away(away, now)
        words.append(view(catalog)["ledger"]["status"])
        judged = judge(build.policy(), replace(catalog.facts(now), vaults_away=away), now)["ledger"]
        assert judged.status == words[-1]
    assert words == ["HEALTHY", "OVERDUE", "UNPROTECTED", "OVERDUE", "HEALTHY"]
