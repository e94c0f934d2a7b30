"""Each control with facts under which it passes and facts under which it does not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.alerts import AlertPolicy, AlertRule, ChannelPolicy, Person, Reach, Trouble
from cto_backups.core.assurance import judge
from cto_backups.core.auditing import audit
from cto_backups.core.cloud_sql_controls import CLOUD_SQL
from cto_backups.core.controls import CONTROLS, Environment, Place, Severity
from cto_backups.core.enrolment import Host
from cto_backups.core.facts import Facts, Heartbeat, SourceFacts
from cto_backups.core.findings import Audited, AuditReport, Check, Control, ControlResult
from cto_backups.core.governance import Approval, Governance, Governed, Identity, Who
from cto_backups.core.keeping import Hold, Mark, RetentionSeen
from cto_backups.core.model import ActionKind, Disappearance, Fingerprint, Outcome, Resource
from cto_backups.core.policy import Access, Exclusion, LockMode, ReportPolicy, Tls
from cto_backups.core.streams import StreamFacts
from cto_backups.core.time_travel import Window
from cto_backups.core.vault_controls import proven_locks

DAY = timedelta(days=1)
BACKUP, TEST, VERIFY = ActionKind.BACKUP, ActionKind.RESTORE_TEST, ActionKind.VERIFY

APART = Environment(
    keys={"repository key": Place("/home/ada/key", 1)},
    vaults={"near": Place("/mnt/near", 2), "far": Place("/mnt/far", 3)},
    sources={"ledger": (Place("/data", 1),)},
    ciphers={"near": "AES-256-CTR", "far": "AES-256-CTR"},
    catalog=Place("/data/state/catalog.db", 1),
)


TOLD = AlertPolicy({"pager": ChannelPolicy("pager", "webhook", pages=True)}, {"cto": Person("cto", (Reach("pager"),))})


class Audit:
    """One control's checks in a situation given by its differences from a healthy one."""

    def __init__(self, build):
        self.build = build

    def report(self, known=None, *, source=None, policy_vaults=None, exclusions=(), environment=APART, **facts):
        source = source or self.build.source()
        prune_every = facts.pop("prune_every", None)
        policy_vaults = policy_vaults or (self.build.vault("near"), self.build.vault("far", access=Access.APPEND_ONLY))
        policy = self.build.policy(source, vaults=policy_vaults, exclusions=exclusions, prune_every=prune_every)
        policy = replace(policy, alerts=facts.pop("alerts", TOLD), governance=facts.pop("governance", None))
        policy = replace(policy, report_to=facts.pop("report_to", None))
        facts.setdefault("reached", {"cto": self.build.ago(days=1)})
        found = self.build.facts(known, **facts)
        return audit(policy, found, judge(policy, found, self.build.now), self.build.now, environment)

    def checks(self, control, known=None, **situation):
        (result,) = (each for each in self.report(known, **situation).results if each.control.id == control)
        return result.checks

    def details(self, control, known=None, *, passed, **situation):
        """The details of the checks, all of which passed, or none of which did."""
        checks = self.checks(control, known, **situation)
        assert checks
        assert [check.passed for check in checks] == [passed] * len(checks)
        return " | ".join(check.detail for check in checks)

    def passes(self, control, known=None, **situation):
        return self.details(control, known, passed=True, **situation)

    def fails(self, control, known=None, **situation):
        return self.details(control, known, passed=False, **situation)


@pytest.fixture(scope="session")
def audited(build):
    return Audit(build)


def resource(name, kind="git"):
    return Resource(name, kind, f"/home/{name}")


def test_a_source_in_order_has_no_findings_and_scores_100(audited):
    report = audited.report(resources={"ledger": (resource("app"),)})
    assert report.findings == ()
    assert report.score == 100
    assert dict(report.scores) == {"B": 100}
    assert {control.id for control in report.not_applicable} == {
        "own-keys",
        "own-keys-alone",
        "key-services",
        "reports",
        "key-escrow",
        "key-drills",
        "point-in-time",
        "content-stale",
        "reachable",
        "failed-runs",
        "vault-runs",
        "catalog-behind",
        "exclusions",
        "exclusions-used",
        "immutable",
        "locks",
        "plain-exports-key",
        "vault-checked",
        "vault-settings",
        "kept-too-long",
        "pruning",
        "keys-parted",
        "transit",
        "worker",
        "revocations",
        "governing-documents",
        "governance-kept",
        "second-person",
        "source-removals",
        "vaults-there",
        "stream",
        "retained-log",
        "bucket-settings",
        "time-travel",
        *(control.id for control in CLOUD_SQL),
    }
    assert len(report.passed) == len(CONTROLS) - len(report.not_applicable)


def test_every_control_says_why_and_what_to_do_under_an_id_of_its_own():
    assert len({control.id for control in CONTROLS}) == len(CONTROLS) >= 15
    assert all(
        control.title and control.rationale.endswith(".") and control.remedy.endswith(".") for control in CONTROLS
    )


# -- coverage


def test_coverage_fails_for_what_no_source_covers(audited):
    checks = audited.checks("coverage", resources={"ledger": (resource("app"),), "": (resource("stray"),)})
    assert [(check.subject, check.passed) for check in checks] == [("inventory", True), ("stray", False)]
    assert checks[1].detail == "git at /home/stray is covered by no source"


def test_coverage_fails_for_what_a_source_covered_that_is_gone_from_the_policy(audited):
    assert "source 'old', which covered it" in audited.fails("coverage", resources={"old": (resource("app"),)})


def test_coverage_passes_for_what_a_source_covers_wherever_it_was_found(audited):
    inventory = {"ledger": (resource("app"),), "": (resource("app"),)}
    assert audited.passes("coverage", resources=inventory) == "1 resource covered by a source"
    as_files_only = {"ledger": (resource("app", kind="files"),), "": (resource("app", kind="sqlite"),)}
    assert not all(check.passed for check in audited.checks("coverage", resources=as_files_only))


def test_coverage_passes_for_a_volume_in_a_folder_that_is_protected_as_files(audited):
    volume = Resource("volume:/srv/volumes/shop/_data", "volume", "/srv/volumes/shop/_data")
    for folder in ("/srv/volumes/shop/_data", "/srv/volumes", "/"):
        files = Resource(f"files:{folder}", "files", folder)
        audited.passes("coverage", resources={"ledger": (files,), "": (volume,)})
    beside = Resource("files:/srv/volumes/shop2", "files", "/srv/volumes/shop2")
    checks = audited.checks("coverage", resources={"ledger": (beside,), "": (volume,)})
    assert [check.passed for check in checks] == [True, False]


def test_coverage_passes_for_what_is_excluded_while_the_exclusion_is_in_force(build, audited):
    stray = {"": (resource("stray"),)}

    def exclusion(pattern, until):
        return (Exclusion(pattern, "throw-away", "ada", until),)

    ahead, past = build.now + DAY, build.ago(days=1)
    assert audited.checks("coverage", resources=stray, exclusions=exclusion("stray", ahead)) == ()
    assert audited.checks("coverage", resources=stray, exclusions=exclusion("/home/st*", ahead)) == ()
    audited.fails("coverage", resources=stray, exclusions=exclusion("other", ahead))
    audited.fails("coverage", resources=stray, exclusions=exclusion("stray", past))


def test_exclusions_need_a_reason_an_owner_and_a_day_to_come(build, audited):
    sound = Exclusion("stray", "throw-away", "ada", build.now + DAY)
    assert audited.passes("exclusions", exclusions=(sound,)) == "excluded by ada until 2026-03-19"
    assert "names no reason and no owner" in audited.fails(
        "exclusions", exclusions=(replace(sound, reason=" ", owner=""),)
    )
    assert "ended 24 h ago" in audited.fails("exclusions", exclusions=(replace(sound, until=build.ago(days=1)),))


def gone(build, *names, before=8, **ago):
    return (Disappearance(build.ago(**ago), tuple(map(resource, names)), before),)


def test_a_source_that_cannot_be_looked_at_is_a_finding(audited):
    assert audited.checks("reachable") == (), "nobody tried"
    looked = replace(APART, unreachable={})
    assert audited.passes("reachable", environment=looked) == "it was looked at"
    away = replace(APART, unreachable={"ledger": "the disk is not mounted"})
    assert audited.fails("reachable", environment=away) == "it could not be looked at: the disk is not mounted"


def test_a_resource_that_vanished_is_a_finding_for_as_long_as_nobody_says_that_it_is_gone(build, audited):
    inventory = {"ledger": (resource("app"),)}
    vanished = {"ledger": gone(build, "lost", days=3)}
    (found,) = audited.checks("vanished", resources=inventory, vanished=vanished)
    assert (found.subject, found.passed, found.category) == ("lost", False, "B")
    assert found.detail == "git at /home/lost was last found in source 'ledger' 72 h ago, and by no look since"
    excluded = (Exclusion("lost", "sold", "ada", build.now + DAY),)
    assert "or excluded" in audited.passes("vanished", resources=inventory, vanished=vanished, exclusions=excluded)
    ended = (replace(excluded[0], until=build.ago(days=1)),)
    audited.fails("vanished", resources=inventory, vanished=vanished, exclusions=ended)


def test_an_exclusion_of_what_vanished_leaves_something_out(build, audited):
    sold = (Exclusion("lost", "sold", "ada", build.now + DAY),)
    audited.fails("exclusions-used", resources={"": ()}, exclusions=sold)
    vanished = {"ledger": gone(build, "lost", days=3)}
    assert "leaves out 1 resource" in audited.passes(
        "exclusions-used", resources={"": ()}, vanished=vanished, exclusions=sold
    )


def test_what_another_source_finds_now_has_not_vanished(build, audited):
    vanished = {"old": gone(build, "app", days=3)}
    assert audited.passes("vanished", resources={"ledger": (resource("app"),)}, vanished=vanished)
    assert "in source 'old'" in audited.fails("vanished", vanished=vanished)
    elsewhere = {"old": (resource("app"),)}
    assert audited.fails("vanished", resources=elsewhere, vanished=vanished), "what nobody covers does not count"


def test_nothing_is_said_of_what_vanished_where_nothing_was_ever_found(audited):
    assert audited.checks("vanished") == ()
    assert audited.checks("shrunk") == ()


def test_an_inventory_that_shrank_suddenly_is_a_finding(build, audited):
    inventory = {"ledger": (resource("app"),)}
    two = gone(build, "one", "two", before=8, hours=5)
    assert audited.fails("shrunk", resources=inventory, vanished={"ledger": two}) == (
        "2 of its 8 resources, all last found 5 h ago, are missing since one look; the first is one"
    )
    slowly = (*gone(build, "one", hours=5), *gone(build, "two", hours=6))
    assert audited.passes("shrunk", resources=inventory, vanished={"ledger": slowly}) == "1 resource found"
    of_many = gone(build, "one", "two", before=9, hours=5)
    assert audited.passes("shrunk", resources=inventory, vanished={"ledger": of_many})
    alone = gone(build, "one", before=1, hours=5)
    assert audited.passes("shrunk", resources=inventory, vanished={"ledger": alone}), "one alone is said by 'vanished'"


def test_a_source_that_has_lost_everything_shrank_suddenly_and_one_look_is_told(build, audited):
    both = (*gone(build, "one", "two", before=2, hours=5), *gone(build, "three", "four", before=4, hours=9))
    assert "2 of its 2 resources" in audited.fails("shrunk", vanished={"ledger": both})


def test_what_is_excluded_on_purpose_is_no_shrinkage(build, audited):
    two = gone(build, "one", "two", before=8, hours=5)
    excluded = (Exclusion("one", "sold", "ada", build.now + DAY),)
    inventory = {"ledger": (resource("app"),)}
    assert audited.passes("shrunk", resources=inventory, vanished={"ledger": two}, exclusions=excluded)


# -- sources


def test_a_log_that_is_to_be_followed_is(build, audited):
    asked = replace(APART, streams=("ledger",))

    def source(**changes):
        stream = StreamFacts("ledger", reached_at=build.ago(seconds=2), leased_until=build.now + timedelta(minutes=1))
        return replace(build.healthy(), stream=replace(stream, **changes))

    assert audited.checks("stream") == ()
    assert "until 2 seconds ago" in audited.passes("stream", source(), environment=asked)
    assert "no worker" in audited.fails("stream", source(leased_until=None), environment=asked)
    assert "nobody ever followed" in audited.fails("stream", build.healthy(), environment=asked)
    assert audited.checks("stream", SourceFacts("ledger"), environment=asked) == ()


def test_achieved_rpo_is_judged_by_what_would_come_back(build, audited):
    assert audited.passes("achieved-rpo").startswith("a loss now would cost at most the changes of the last 1 h;")
    old = build.healthy(newest=build.point(build.ago(hours=25)))
    assert "the last 25 h; RPO is 24 h" in audited.fails("achieved-rpo", old)


def test_achieved_rpo_passes_for_a_source_that_did_not_change_though_nothing_ran(build, audited):
    old = build.healthy(newest=build.point(build.ago(days=3)), discovered_at=build.ago(minutes=1))
    inventory = {"ledger": (Resource("sqlite:/l", "sqlite", "/l", 1, build.ago(days=4)),)}
    assert "was not changed since" in audited.passes("achieved-rpo", old, resources=inventory)
    assert not audited.checks("rpo", old, resources=inventory)[0].passed


def test_achieved_rpo_fails_where_every_copy_of_the_newest_point_is_damaged_though_it_is_fresh(build, audited):
    known = build.healthy()
    damaged = tuple(replace(each, read_passed=False) for each in known.copies)
    assert audited.passes("rpo", replace(known, copies=damaged))
    assert "all of it would be lost" in audited.fails("achieved-rpo", replace(known, copies=damaged))


def test_achieved_rpo_fails_for_a_point_from_the_future(build, audited):
    assert "not known" in audited.fails("achieved-rpo", build.healthy(newest=build.point(build.now + DAY)))


def test_an_archive_of_a_stale_dump_is_found_though_every_run_ends_well(build, audited):
    dump = build.source(expects_change=timedelta(hours=26))
    dead = build.healthy(newest=build.point(build.ago(hours=1), newest_content_at=build.ago(hours=50)))
    assert audited.fails("content-stale", dead, source=dump) == (
        "when it was last looked at, its newest content was 49 h old; policy expects a change every 26 h"
    )
    alive = build.healthy(newest=build.point(build.ago(hours=1), newest_content_at=build.ago(hours=27)))
    assert "was 26 h old" in audited.passes("content-stale", alive, source=dump)
    assert audited.checks("content-stale", dead) == (), "nobody expects anything of it"
    assert audited.checks("content-stale", build.healthy(newest=None, copies=()), source=dump) == ()


def test_rpo(build, audited):
    assert audited.passes("rpo") == "newest complete point is 1 h old; RPO is 24 h"
    assert "26 h old" in audited.fails("rpo", build.healthy(newest=build.point(build.ago(hours=26))))
    assert "no complete recovery point" in audited.fails("rpo", SourceFacts("ledger"))
    assert "dated in the future" in audited.fails("rpo", build.healthy(newest=build.point(build.now + DAY)))


def test_rpo_has_no_grace_for_a_run_under_way(build, audited):
    running = build.run(BACKUP, build.ago(minutes=10), Outcome.RUNNING)
    known = build.healthy(newest=build.point(build.ago(hours=24, minutes=10)), last_runs=build.runs(running))
    assert "a little over 24 h old" in audited.fails("rpo", known)


def test_restore_test(build, audited):
    assert audited.passes("restore-test") == "the last restore test, 48 h ago, passed"
    assert "never tested; policy asks for monthly" in audited.fails("restore-test", build.healthy(last_test=None))
    failed = build.healthy(last_test=build.test(build.ago(hours=5), passed=False))
    assert "5 h ago, failed: checksum content differs" in audited.fails("restore-test", failed)
    old = build.healthy(last_test=build.test(build.ago(days=31)))
    assert "31 days ago; policy asks for monthly" in audited.fails("restore-test", old)
    ahead = build.healthy(last_test=build.test(build.now + DAY))
    assert "in the future" in audited.fails("restore-test", ahead)


def test_restore_test_that_could_not_run_has_failed(build, audited):
    run = build.run(TEST, build.ago(hours=1), Outcome.FAILED, message="no space")
    assert "could not run: no space" in audited.fails("restore-test", build.healthy(last_runs=build.runs(run)))
    never = build.healthy(last_runs=build.runs(run), last_test=None)
    assert "could not run" in audited.fails("restore-test", never)
    older = build.run(TEST, build.ago(days=9), Outcome.FAILED)
    audited.passes("restore-test", build.healthy(last_runs=build.runs(older)))


def test_restore_test_does_not_apply_where_none_is_required(build, audited):
    source = build.source(test_every="none")
    assert audited.checks("restore-test", build.healthy(last_test=None), source=source) == ()
    audited.passes("restore-test", build.healthy(last_test=build.test(build.ago(days=999))), source=source)
    failed = build.healthy(last_test=build.test(build.ago(days=1), passed=False))
    audited.fails("restore-test", failed, source=source)


def test_complete(build, audited):
    assert "nothing is missing" in audited.passes("complete")
    partial = build.healthy(newest_any=build.point(build.ago(minutes=5), incomplete=True))
    assert "1 entry is missing, first: /data/x" in audited.fails("complete", partial)
    assert audited.checks("complete", SourceFacts("ledger")) == ()


def test_failed_runs(build, audited):
    good = build.runs(build.run(BACKUP, build.ago(hours=1)))
    assert audited.passes("failed-runs", build.healthy(last_runs=good)) == "no action stands failed"
    bad = build.runs(build.run(BACKUP, build.ago(hours=1), Outcome.FAILED, message="disk full"))
    known = build.healthy(last_runs=bad, failures={BACKUP: 2})
    assert audited.fails("failed-runs", known) == "the last backup failed, 2 times in a row: disk full"
    test = build.runs(build.run(TEST, build.ago(hours=1), Outcome.FAILED))
    assert audited.checks("failed-runs", build.healthy(last_runs=test)) == ()


@pytest.mark.parametrize(
    ("data_class", "retention", "passed"),
    [
        (None, "1 day", True),
        ("user-data", "1 day", True),
        ("unheard-of", "1 day", True),
        ("financial-records", "7 years", True),
        ("financial-records", "permanent", True),
        ("financial-records", "90 days", False),
        ("financial-records", "10000 versions", False),
        ("contracts-legal", "permanent", True),
        ("contracts-legal", "999 years", False),
        ("documentation", "1 year, 7 daily", True),
    ],
)
def test_retention(build, audited, data_class, retention, passed):
    source = build.source(data_class=data_class, retention=retention)
    assert retention.split(",")[0] in audited.details("retention", source=source, passed=passed).replace(
        "24 h", "1 day"
    )


def test_proven_kept(build, audited):
    assert "is kept" in audited.passes("proven-kept")
    gone = audited.fails("proven-kept", build.healthy(proven=None))
    assert gone == "the point proven 48 h ago is gone"
    assert audited.checks("proven-kept", build.healthy(proven=None, proven_at=None)) == ()


@pytest.mark.parametrize(
    ("triggers", "retention", "passed", "words"),
    [
        ("continuous", "7 days", True, "a point at least every 15 minutes, each kept for 7 days or more"),
        ("hourly, daily", "permanent", True, "every 1 h"),
        ("daily", "7 years", False, "leaves up to 24 h between two points; RPO is 1 h"),
        ("continuous", "6 days", False, "every change point of the last 7 days must be kept"),
        ("continuous", "7 daily, 12 monthly", False, "every change point"),
    ],
)
def test_point_in_time(build, audited, triggers, retention, passed, words):
    source = build.source(category="A", triggers=triggers, retention=retention)
    assert words in audited.details("point-in-time", source=source, passed=passed)


def test_owner(build, audited):
    assert audited.passes("owner") == "owned by ada"
    audited.fails("owner", source=build.source(owner=None))
    audited.fails("owner", source=build.source(owner="  "))


def test_clock(build, audited):
    assert audited.passes("clock") == "no record is dated in the future"
    ahead = build.now + timedelta(hours=3)
    for known in (
        build.healthy(newest=build.point(ahead, took=timedelta())),
        build.healthy(newest_any=build.point(ahead, incomplete=True, took=timedelta())),
        build.healthy(confirmed_at=ahead),
        build.healthy(proven_at=ahead),
        build.healthy(last_test=build.test(ahead)),
        build.healthy(last_runs=build.runs(build.run(BACKUP, ahead))),
    ):
        assert "dated 3 h in the future" in audited.fails("clock", known)
    assert audited.checks("clock", SourceFacts("ledger")) == ()
    test_only = SourceFacts("ledger", last_test=build.test(build.ago(days=1)))
    audited.passes("clock", test_only)


def test_what_a_source_comes_upon_beside_its_own_is_covered_by_nobody(build, audited):
    """A database of a server that nobody named: until another source covers it, or an exclusion names it."""
    shop, new = Resource("postgresql:db/shop", "postgresql", "db/shop"), "postgresql:db/new"
    beside = Resource(new, "postgresql", "db/new", covered=False)
    situation = {"resources": {"ledger": (shop, beside)}}
    checks = {check.subject: check for check in audited.checks("coverage", **situation)}
    assert checks["inventory"].detail == "1 resource covered by a source"
    assert (checks[new].passed, "source 'ledger' came upon it" in checks[new].detail) == (False, True)
    both = {"resources": {"ledger": (shop, beside, replace(beside, covered=True))}}
    audited.passes("coverage", **both)
    left_out = (Exclusion(new, "made anew each night", "ada", build.now + DAY),)
    audited.passes("coverage", exclusions=left_out, **situation)


def test_kept_too_long(build, audited):
    source = build.source(retention="30 days")

    def kept(*days):
        points = [build.point(build.ago(days=each)) for each in sorted(days)]
        known = build.healthy(newest=points[0], newest_any=points[0])
        return {"known": known, "source": source, "kept_points": {"ledger": tuple(points)}}

    good = audited.passes("kept-too-long", **kept(1, 36, 50))
    assert good == "kept: 30 days; 3 points, none kept far longer", "superseded 36 days ago is within the grace"
    words = audited.fails("kept-too-long", **kept(1, 38, 50, 51))
    assert "2 points are still there that retention has not kept for more than 7 days, the oldest of 51 days" in words
    assert audited.checks("kept-too-long", kept_points={"ledger": ()}) == ()


def test_kept_too_long_counts_only_what_was_there_a_week_ago(build, audited):
    points = tuple(build.point(build.ago(days=each)) for each in (1, 2, 3, 20))
    situation = {"kept_points": {"ledger": points}}
    three = build.source(retention="3 versions")
    audited.passes("kept-too-long", source=three, **situation)
    older = (*points, *(build.point(build.ago(days=each)) for each in (21, 22, 23)))
    audited.fails("kept-too-long", source=three, kept_points={"ledger": older})


def test_kept_too_long_does_not_ask_for_what_is_kept_on_purpose(build, audited):
    points = tuple(build.point(build.ago(days=each)) for each in (1, 60, 90))
    source = build.source(retention="7 days")
    proven = build.healthy(proven=points[2])
    audited.passes("kept-too-long", proven, source=source, kept_points={"ledger": points})
    audited.fails("kept-too-long", build.healthy(proven=None), source=source, kept_points={"ledger": points})


def test_kept_too_long_does_not_ask_for_clean_points_before_one_under_suspicion(build, audited):
    points = tuple(build.point(build.ago(days=each)) for each in (1, 60, 61, 90))
    source = build.source(retention="7 days")
    situation = {"known": build.healthy(proven=None), "source": source, "kept_points": {"ledger": points}}
    marks = {"ledger": (Mark("gone", "ledger", build.ago(days=59), ("mass deletion",)),)}
    assert "2 points" in audited.fails("kept-too-long", **situation)
    assert "1 point is" in audited.fails("kept-too-long", marks=marks, **situation)


def test_kept_too_long_knows_legal_holds_and_retentions_that_wait(build, audited):
    points = tuple(build.point(build.ago(days=each)) for each in (1, 60, 90))
    source = build.source(retention="7 days")
    situation = {"known": build.healthy(proven=None), "source": source, "kept_points": {"ledger": points}}
    audited.fails("kept-too-long", **situation)
    for enough in ("permanent", "83 days"):
        audited.passes("kept-too-long", **(situation | {"source": build.source(retention=enough)}))
    hold = Hold("h1", "ledger", None, "litigation", build.ago(days=1), "anna")
    audited.passes("kept-too-long", holds={"ledger": (hold,)}, **situation)

    long, short = RetentionSeen("1 year", build.ago(days=99), settled=True), "7 days"
    for days in (1, 9):
        seen = (long, RetentionSeen(short, build.ago(days=days), settled=False))
        audited.passes("kept-too-long", retentions={"ledger": seen}, **situation)
        settled = (RetentionSeen(short, build.ago(days=days), settled=True),)
        audited.passes("kept-too-long", retentions={"ledger": settled}, **situation)
    seen = (long, RetentionSeen(short, build.ago(days=11), settled=False))
    audited.fails("kept-too-long", retentions={"ledger": seen}, **situation)


def test_what_an_expiry_has_left_there_is_not_kept_too_long(build, audited):
    """A hold that was released since, a proof that a newer one took the place of: it goes with the next expiry."""
    points = tuple(build.point(build.ago(days=each)) for each in (1, 60, 90))
    source = build.source(retention="7 days")

    def known(days, outcome=Outcome.SUCCEEDED):
        run = build.run(ActionKind.EXPIRE, build.ago(days=days), outcome)
        return build.healthy(proven=None, last_runs=build.runs(run))

    situation = {"source": source, "kept_points": {"ledger": points}}
    assert "what it does not keep was dropped 48 h ago" in audited.passes("kept-too-long", known(2), **situation)
    audited.fails("kept-too-long", known(8), **situation)
    audited.fails("kept-too-long", known(2, Outcome.FAILED), **situation)
    audited.fails("kept-too-long", known(-2), **situation)


def test_kept_too_long_looks_at_points_only_where_the_oldest_may_be_too_old(build, audited):
    asked = []

    def points_of(name):
        asked.append(name)
        return Facts(kept_points={name: tuple(build.point(build.ago(days=each)) for each in (1, 60, 90))})

    def words(retention, days):
        known = build.healthy(proven=None, oldest_at=build.ago(days=days), point_count=3)
        policy = build.policy(build.source(retention=retention))
        found = build.facts(known)
        report = audit(policy, found, judge(policy, found, build.now), build.now, APART, points_of)
        (result,) = (each for each in report.results if each.control.id == "kept-too-long")
        return result.checks[0]

    assert words("permanent", 900).passed
    young = words("30 days", 37)
    assert (young.passed, young.detail) == (True, "kept: 30 days; 3 points, none kept far longer")
    assert asked == []
    assert not words("30 days", 90).passed
    assert words("3 versions", 2).passed
    assert asked == ["ledger"] * 2


def test_kept_too_long_waits_for_the_approval_that_a_shorter_retention_needs(build, audited):
    points = tuple(build.point(build.ago(days=each)) for each in (1, 60, 90))
    governance = Governance(approvals={Governed.SHORTER_RETENTION: Who.ANYONE})
    situation = {
        "known": build.healthy(proven=None),
        "source": build.source(retention="7 days"),
        "kept_points": {"ledger": points},
    }
    long, short = RetentionSeen("1 year", build.ago(days=99), settled=True), build.ago(days=50)
    unapproved = {"ledger": (long, RetentionSeen("7 days", short, settled=False))}
    audited.fails("kept-too-long", retentions=unapproved, **situation)
    audited.passes("kept-too-long", retentions=unapproved, governance=governance, **situation)
    approved = {"ledger": (long, RetentionSeen("7 days", short, settled=False, approved=True))}
    audited.fails("kept-too-long", retentions=approved, governance=governance, **situation)


def test_anomaly_free(build, audited):
    assert audited.passes("anomaly-free") == "no point is under suspicion"
    assert audited.checks("anomaly-free", SourceFacts("ledger")) == ()
    first = Mark("p1", "ledger", build.ago(days=2), ("mass deletion: 9 of 9 entries are gone", "size collapsed"))
    words = audited.fails("anomaly-free", marks={"ledger": (first,)})
    assert words.startswith("p1 is under suspicion: mass deletion: 9 of 9 entries are gone; size collapsed; the clean")
    second = Mark("p2", "ledger", build.ago(days=1), ("mass rename",))
    assert "; and 1 later point; " in audited.fails("anomaly-free", marks={"ledger": (first, second)})


def test_idle(build, audited):
    assert audited.passes("idle") == "nothing was run for 59 minutes; twice its RPO is 48 h"
    still = {"newest": build.point(build.ago(days=9)), "last_test": None, "first_seen": build.ago(days=60)}
    assert "nothing was run for 8 days" in audited.fails("idle", build.healthy(**still))
    recent = build.ago(hours=47)
    for sign in (
        {"last_runs": build.runs(build.run(BACKUP, recent, Outcome.FAILED))},
        {"newest_any": build.point(recent, incomplete=True)},
        {"last_test": build.test(recent)},
        {"confirmed_at": recent},
        {"first_seen": recent},
    ):
        audited.passes("idle", build.healthy(**{**still, **sign}))
    assert audited.checks("idle", SourceFacts("ledger")) == ()
    new = SourceFacts("ledger", first_seen=build.ago(hours=49))
    audited.fails("idle", new)


def test_exclusions_used(build, audited):
    stray = {"": (resource("stray"),), "ledger": (resource("app"),)}

    def exclusions(*patterns, until=build.now + DAY):
        return tuple(Exclusion(pattern, "throw-away", "ada", until) for pattern in patterns)

    checks = audited.checks("exclusions-used", resources=stray, exclusions=exclusions("st*", "/home/app", "gone"))
    assert [(check.subject, check.passed) for check in checks] == [("st*", True), ("/home/app", True), ("gone", False)]
    assert checks[2].detail == "its exclusion leaves out 0 resources"
    assert audited.checks("exclusions-used", resources=stray, exclusions=exclusions("gone", until=build.now)) == ()
    not_looked = {"ledger": (resource("app"),)}
    assert audited.checks("exclusions-used", resources=not_looked, exclusions=exclusions("gone")) == ()


# -- copies and vaults


def copied_to(build, *vaults, **changes):
    newest = build.point(build.ago(hours=1))
    return build.healthy(newest=newest, copies=tuple(build.copy(newest, vault, **changes) for vault in vaults))


def test_copies(build, audited):
    assert audited.passes("copies") == "2 copies of its newest complete point; category B asks for 2"
    assert "1 copy of" in audited.fails("copies", copied_to(build, "near"))
    assert "0 copies of" in audited.fails("copies", copied_to(build, "near", "far", read_passed=False))


def test_storage_types(build, audited):
    books = build.source(category="A", triggers="hourly")
    assert "2 storage types (far and near); category A asks for 2" in audited.passes("storage-types", source=books)
    same = tuple(build.vault(name, storage="disk") for name in ("near", "far"))
    assert "1 storage type (disk)" in audited.fails("storage-types", source=books, policy_vaults=same)
    assert "0 storage types;" in audited.fails("storage-types", copied_to(build), source=books)
    damaged = copied_to(build, "near", "far", read_passed=False)
    assert "0 storage types;" in audited.fails("storage-types", damaged, source=books)
    unknown = build.source(category="A", triggers="hourly", vaults=("near", "not-in-the-policy"))
    audited.fails("storage-types", copied_to(build, "near", "not-in-the-policy"), source=unknown)


def test_off_site(build, audited):
    assert audited.passes("off-site") == "off-site copy in far"
    assert audited.fails("off-site", copied_to(build, "near")) == "no copy is off-site"
    pretended = replace(APART, sources={"ledger": (Place("/data", 3),)})
    assert "far is declared off-site, but lies on the same device" in audited.fails("off-site", environment=pretended)
    assert audited.checks("off-site", source=build.source(category="C")) == ()


def test_three_folders_on_one_disk_are_not_independent_copies(build, audited):
    one_disk = replace(
        APART,
        vaults={name: Place(f"/data/vaults/{name}", 1) for name in ("near", "far", "third")},
    )
    three = build.source(category="A", triggers="hourly", vaults=("near", "far", "third"))
    vaults = tuple(build.vault(name) for name in ("near", "far", "third"))
    known = copied_to(build, "near", "far", "third")
    words = audited.fails("failure-domains", known, source=three, policy_vaults=vaults, environment=one_disk)
    assert words == (
        "3 copies in 0 failure domains apart from the data "
        "(near, far and third on the same device as the data); at least 2 needed"
    )
    elsewhere = replace(one_disk, sources={"ledger": (Place("/data", 9), Place("/unknown"))})
    words = audited.fails("failure-domains", known, source=three, policy_vaults=vaults, environment=elsewhere)
    assert "3 copies in 1 failure domain apart" in words


def test_failure_domains_are_devices_or_else_regions_of_providers(build, audited):
    assert "2 copies in 2 failure domains" in audited.passes("failure-domains")
    assert "2 failure domains" in audited.passes("failure-domains", environment=Environment())
    same = tuple(build.vault(name, provider="gcs", region="us-east1") for name in ("near", "far"))
    assert "1 failure domain" in audited.fails("failure-domains", policy_vaults=same, environment=Environment())
    one_is_enough = build.source(category="C")
    audited.passes("failure-domains", source=one_is_enough, policy_vaults=same, environment=Environment())


def test_encryption(audited):
    assert "encrypted with AES-256-CTR" in audited.passes("encryption")
    assert "nothing says" in audited.fails("encryption", environment=Environment())


def test_transit(build, audited):
    assert audited.checks("transit") == (), "nothing travels to a folder"

    def reached(**settings):
        return (build.vault("near"), build.vault("far", url="s3://bucket", **settings))

    assert audited.passes("transit", policy_vaults=reached(tls=Tls.V1_3)) == "the policy asks for TLS 1.3 or newer"
    assert audited.fails("transit", policy_vaults=reached(tls=Tls.V1_2)) == "the policy asks for TLS 1.2 or newer"
    plain = reached(tls=Tls.NONE, endpoint="http://127.0.0.1:9000")
    words = audited.fails("transit", policy_vaults=plain)
    assert words == "the policy lets requests to http://127.0.0.1:9000 travel unencrypted"


def test_transit_of_what_is_read_at_a_provider_or_reported_there(build, audited):
    def read(tls):
        return {"source": replace(build.source(), tls=tls)}

    assert audited.passes("transit", **read(Tls.V1_3)) == "the policy asks its service for TLS 1.3 or newer"
    assert audited.fails("transit", **read(Tls.V1_2)) == "the policy asks its service for TLS 1.2 or newer"
    assert audited.fails("transit", **read(Tls.NONE)) == "the policy lets requests to its service travel unencrypted"

    def reported(tls):
        return {"report_to": ReportPolicy("bigquery", "acme.told", tls=tls)}

    assert audited.passes("transit", **reported(Tls.V1_3)) == "the policy asks its service for TLS 1.3 or newer"
    assert audited.fails("transit", **reported(Tls.V1_2)) == "the policy asks its service for TLS 1.2 or newer"


def test_time_travel_leads_back_as_far_as_policy_asks(audited):
    def seen(*hours):
        windows = tuple(Window(f"acme.set{n}", timedelta(hours=n), timedelta(days=7)) for n in hours)
        return replace(APART, windows={"ledger": windows})

    assert audited.checks("time-travel") == ()
    assert audited.passes("time-travel", environment=seen(168)) == (
        "acme.set168: its time travel leads back 7 days; policy asks for 7 days"
    )
    told = audited.checks("time-travel", environment=seen(168, 48))
    assert [check.passed for check in told] == [True, False]
    assert "acme.set48: its time travel leads back 48 h" in told[1].detail


def test_key_apart(audited):
    assert audited.passes("key-apart") == "no key is kept beside it | no key is kept beside it"
    everywhere = {"near": Place("/vaults/near"), "far": Place("/vaults/far")}
    inside = replace(APART, keys={"the key": Place("/vaults/near/key")}, vaults=everywhere)
    checks = audited.checks("key-apart", environment=inside)
    assert [(check.subject, check.passed) for check in checks] == [("near", False), ("far", True)]
    assert checks[0].detail == "the key is kept inside the vault"
    same_disk = replace(APART, keys={"the key": Place("/home/key", 3)})
    checks = audited.checks("key-apart", environment=same_disk)
    assert [check.passed for check in checks] == [True, False]
    assert checks[1].detail == "the key is kept on the same device as the vault"
    assert audited.checks("key-apart", environment=replace(APART, vaults={})) == ()


def test_key_apart_minds_the_keys_that_open_a_vault(audited):
    """The key of the far vault may lie beside the near one, unless the vault still opens with it."""
    far_key = replace(
        APART, keys={"the key of vault near": Place("/home/key", 3)}, opens={"the key of vault near": ("near",)}
    )
    assert audited.passes("key-apart", environment=far_key)
    assert audited.passes("key-apart", environment=replace(far_key, separated={"far": True}))
    both = audited.checks("key-apart", environment=replace(far_key, separated={"far": False}))
    assert [(check.subject, check.passed) for check in both] == [("near", True), ("far", False)]
    own = replace(far_key, opens={"the key of vault near": ("near", "far")})
    assert [check.passed for check in audited.checks("key-apart", environment=own)] == [True, False]


def test_reading(build, audited):
    fresh = "every byte was read, the oldest reading is 24 h ago; every byte is to be read within 7 days"
    assert fresh in audited.passes("reading")
    assert "8 days ago" in audited.fails("reading", vaults=build.read_vaults(read_at=build.ago(days=8)))
    assert "found damage" in audited.fails("reading", vaults=build.read_vaults(read_passed=False))
    assert "in the future" in audited.fails("reading", vaults=build.read_vaults(read_at=build.now + DAY))
    new = build.read_vaults(read_at=None, read_passed=None, first_copy_at=build.ago(days=6))
    assert "never read, in use for 6 days" in audited.passes("reading", vaults=new)
    begun = build.read_vaults(read_since=None, first_copy_at=build.ago(days=6))
    assert "not read in full yet, in use for 6 days" in audited.passes("reading", vaults=begun)
    parts = build.read_vaults(read_since=build.ago(days=8))
    assert "the oldest reading is 8 days ago" in audited.fails("reading", vaults=parts), "a part was read yesterday"
    late = build.read_vaults(read_at=None, read_passed=None, first_copy_at=build.ago(days=8))
    audited.fails("reading", vaults=late)
    unused = build.read_vaults(read_at=None, read_passed=None, first_copy_at=None)
    assert audited.checks("reading", vaults=unused) == ()


def test_vaults_that_no_source_uses_are_not_judged(build, audited):
    checks = audited.checks("reading", source=build.source(vaults=("near",)))
    assert [check.subject for check in checks] == ["near"]


def test_vault_runs(build, audited):
    good = build.run(VERIFY, build.ago(hours=1))
    assert "the last verification ran" in audited.passes("vault-runs", vaults=build.read_vaults(last_run=good))
    bad = replace(good, outcome=Outcome.FAILED, message="not mounted")
    assert "failed: not mounted" in audited.fails("vault-runs", vaults=build.read_vaults(last_run=bad))
    damage = build.read_vaults(last_run=bad, read_passed=False)
    assert audited.passes("vault-runs", vaults=damage)


def test_write_only(build, audited):
    assert audited.passes("write-only") == "the copy in far cannot be deleted from here"
    near_only = copied_to(build, "near")
    assert "no copy is in a vault" in audited.fails("write-only", near_only)
    added_only = (build.vault("near", access=Access.APPEND_ONLY), build.vault("far"))
    assert "the copy in near" in audited.passes("write-only", near_only, policy_vaults=added_only)
    locked = (build.vault("near"), build.vault("far", lock_mode=LockMode.COMPLIANCE))
    audited.fails("write-only", policy_vaults=locked)
    seen = read_back(build, "far")
    assert "the copy in far" in audited.passes("write-only", policy_vaults=locked, vaults=seen)
    assert audited.checks("write-only", near_only, source=build.source(category="C")) == ()


def test_immutable(build, audited):
    books = {"source": build.source(category="A", triggers="hourly")}
    assert "with a lock mode" in audited.fails("immutable", **books), "append-only is not locked"
    locked = (build.vault("near"), build.vault("far", lock_mode=LockMode.GOVERNANCE))
    words = audited.fails("immutable", policy_vaults=locked, **books)
    assert words == "far: declared locked, and no lock was read back yet"
    seen = {**books, "policy_vaults": locked, "vaults": read_back(build, "far")}
    words = audited.passes("immutable", **seen)
    assert words.startswith("locked copy in far (governance): 40 files locked, read back 23 h ago, the earliest lock")
    audited.fails("immutable", copied_to(build, "near"), **seen)
    assert audited.checks("immutable") == ()


def test_locks(build, audited):
    locked = (build.vault("near"), build.vault("far", lock_mode=LockMode.GOVERNANCE))

    def said(passed, **vaults):
        checks = audited.checks("locks", policy_vaults=locked, **vaults)
        assert [(check.subject, check.passed) for check in checks] == [("far", passed)]
        return checks[0].detail

    assert "no lock was read back yet" in said(False)
    assert "policy asks for a look every 7 days" in said(True, vaults=read_back(build, "far"))
    said(True, vaults=read_back(build, "far", days=15))
    assert "read back 15 days ago" in said(False, vaults=read_back(build, "far", days=16))
    bad = read_back(build, "far", outcome=Outcome.FAILED, message="3 files are not locked")
    assert "did not end well: 3 files are not locked" in said(False, vaults=bad)
    running = read_back(build, "far", outcome=Outcome.RUNNING, finished_at=None)
    assert "no lock was read back yet" in said(False, vaults=running)
    assert audited.checks("locks", policy_vaults=locked, vaults=build.read_vaults(first_copy_at=None)) == ()
    assert audited.checks("locks") == ()


def test_locks_of_repositories_of_others_are_as_the_policy_declares_them(build, audited):
    theirs = build.vault("pgBackRest's repo1", lock_mode=LockMode.COMPLIANCE)
    check = proven_locks(Audited(build.policy(), Facts(), {}, build.now, APART), theirs)
    assert (check.passed, check.detail) == (True, "as the policy declares; nothing was read back")
    none = proven_locks(Audited(build.policy(), Facts(), {}, build.now, APART), build.vault("near"))
    assert (none.passed, none.detail) == (False, "the policy has no lock for it")


def read_back(build, name, *, days=1, **given):
    """The facts of the vaults, of which one had its locks read back so many days ago."""
    figures = {"files": 40, "unlocked": 0, "until": "2026-08-01T00:00:00+00:00"}
    run = replace(build.run(ActionKind.RENEW, build.ago(days=days)), figures=figures, **given)
    vaults = build.read_vaults()
    return {**vaults, name: replace(vaults[name], renew_run=run)}


def test_catalog(build, audited):
    assert audited.passes("catalog") == "its records also lie in near and far, off its device"
    one_disk = replace(APART, catalog=Place("/mnt/near/catalog.db", 2))
    assert "lie in far, off" in audited.passes("catalog", environment=one_disk)
    near = build.source(vaults=("near",))
    words = audited.fails("catalog", source=near, environment=one_disk)
    assert words == "its records lie only in near, on the same device as the catalog"
    audited.passes("catalog", source=near, environment=replace(one_disk, vaults={}))
    for unknown in (None, Place("/catalog.db")):
        assert audited.checks("catalog", environment=replace(APART, catalog=unknown)) == ()
    assert audited.checks("catalog", vaults=build.read_vaults(first_copy_at=None)) == ()


def test_vaults_used(build, audited):
    assert audited.passes("vaults-used") == "1 source names it | 1 source names it"
    checks = audited.checks("vaults-used", source=build.source(vaults=("near",)))
    assert [(check.subject, check.passed) for check in checks] == [("near", True), ("far", False)]
    assert checks[1].detail == "no source names it"


def test_keys_parted(audited):
    def kept(**paths):
        return replace(APART, keys={name: Place(path, 1) for name, path in paths.items()})

    together = kept(one="/home/keys/one", two="/home/keys/two", three="/mnt/three")
    assert audited.fails("keys-parted", environment=together) == "one and two are kept in one folder"
    apart = kept(one="/home/keys/one", two="/home/keys/more/two")
    assert "a folder of its own" in audited.passes("keys-parted", environment=apart)
    assert audited.checks("keys-parted", environment=kept(one="/home/keys/one")) == ()


def test_pruning(build, audited):
    weekly = {"prune_every": 7 * DAY}

    def pruned(started_at, outcome=Outcome.SUCCEEDED, failures=0, **changes):
        run = build.run(ActionKind.PRUNE, started_at, outcome, **changes)
        return build.read_vaults(prune_run=run, prune_failures=failures)

    good = audited.passes("pruning", vaults=pruned(build.ago(days=14)), **weekly)
    assert "the last prune was 14 days ago; policy asks for one every 7 days" in good
    audited.fails("pruning", vaults=pruned(build.ago(days=14, seconds=1)), **weekly)
    bad = pruned(build.ago(days=1), Outcome.FAILED, failures=3, message="no space")
    assert "the last prune failed, 3 times in a row: no space" in audited.fails("pruning", vaults=bad)
    assert "never pruned, in use since 60 days ago" in audited.fails("pruning", **weekly)
    audited.passes("pruning", vaults=build.read_vaults(first_copy_at=build.ago(days=13)), **weekly)
    assert audited.checks("pruning", vaults=build.read_vaults(first_copy_at=None), **weekly) == ()
    assert audited.checks("pruning", vaults=pruned(build.ago(days=99))) == (), "by hand only"


def test_pruning_of_a_vault_that_only_grows_is_its_owners(build, audited):
    added_only = (build.vault("near", access=Access.APPEND_ONLY), build.vault("far"))
    checks = audited.checks("pruning", policy_vaults=added_only, prune_every=7 * DAY)
    assert [check.subject for check in checks] == ["far"]


# -- the report


def result(severity, *passed, category="A"):
    control = Control("id", "title", severity, "why", "do", lambda _: ())
    checks = tuple(Check(f"s{number}", each, "detail", category) for number, each in enumerate(passed))
    return ControlResult(control, checks)


def test_findings_come_the_gravest_first_with_rationale_and_remedy(build):
    report = AuditReport(build.now, (result(Severity.LOW, False), result(Severity.CRITICAL, True, False)))
    assert [finding.severity for finding in report.findings] == [Severity.CRITICAL, Severity.LOW]
    first = report.findings[0]
    assert (first.control, first.subject, first.rationale, first.remedy, first.category) == (
        "id",
        "s1",
        "why",
        "do",
        "A",
    )
    assert dict(report.counts) == {Severity.CRITICAL: 1, Severity.HIGH: 0, Severity.MEDIUM: 0, Severity.LOW: 1}
    assert [finding.severity for finding in report.at_least(Severity.HIGH)] == [Severity.CRITICAL]
    assert len(report.at_least(Severity.CRITICAL)) == 1
    assert len(report.at_least(Severity.LOW)) == 2


def test_the_score_weighs_by_severity_and_is_100_only_when_nothing_is_wrong(build):
    def score(*results):
        return AuditReport(build.now, results).score

    assert score() == 100
    assert score(result(Severity.CRITICAL, False), result(Severity.LOW, True)) == 11
    assert score(result(Severity.LOW, False), result(Severity.CRITICAL, True)) == 88
    assert score(result(Severity.LOW, *([True] * 5000), False)) == 99


def test_each_category_has_a_score_of_its_own(build):
    report = AuditReport(
        build.now,
        (
            result(Severity.LOW, True, category="A"),
            result(Severity.LOW, True, False, category="B"),
            result(Severity.LOW, False, category=None),
        ),
    )
    assert dict(report.scores) == {"A": 100, "B": 50}


def test_a_policy_about_which_nothing_is_known_is_red(build):
    policy = build.policy()
    report = audit(policy, Facts(), judge(policy, Facts(), build.now), build.now, Environment())
    red = {
        "rpo",
        "achieved-rpo",
        "rto",
        "restore-test",
        "copies",
        "storage-types",
        "off-site",
        "failure-domains",
        "encryption",
        "write-only",
        "escalation",
    }
    assert {finding.control for finding in report.findings} == red


def test_naive_moments_are_refused(build):
    with pytest.raises(ValueError, match="no time zone"):
        audit(build.policy(), Facts(), {}, build.now.replace(tzinfo=None), Environment())


# -- forecast RTO


def test_rto_passes_when_the_longest_forecast_is_within_it(audited):
    assert "forecast to take 50 seconds to 1 minute (measured by 3 restore tests); RTO is 24 h" in audited.passes("rto")


def test_rto_fails_when_the_longest_forecast_is_beyond_it(build, audited):
    rto = build.source().category.rto.total_seconds()
    edge = tuple(build.restore(seconds) for seconds in (60, 60, rto))
    assert "measured by 3 restore tests" in audited.passes("rto", build.healthy(restores=edge))
    beyond = tuple(build.restore(seconds) for seconds in (60, 60, rto + 1))
    assert "RTO is 24 h, so it may be too slow" in audited.fails("rto", build.healthy(restores=beyond))


def test_rto_fails_when_nothing_was_measured_and_tests_are_asked_for(build, audited):
    assert "no restore was ever measured" in audited.fails("rto", build.healthy(restores=()))
    assert audited.checks("rto", build.healthy(restores=()), source=build.source(test_every=None)) == ()


def test_rto_adds_up_the_sources_of_a_category(build):
    policy = build.policy(build.source("first"), build.source("second"))
    most = policy.sources["first"].category.rto.total_seconds()

    def checks(seconds):
        restores = (build.restore(seconds),) * 3
        known = {name: build.healthy(source=name, restores=restores) for name in ("first", "second")}
        found = Facts(sources=known, vaults=build.read_vaults())
        report = audit(policy, found, judge(policy, found, build.now), build.now, APART)
        (result,) = (each for each in report.results if each.control.id == "rto")
        return [(check.subject, check.passed, check.detail) for check in result.checks]

    each, together = checks(most / 2), checks(most / 2 + 1)
    assert [passed for _, passed, _ in each] == [True, True, True]
    assert [(subject, passed) for subject, passed, _ in together] == [
        ("first", True),
        ("second", True),
        ("category B", False),
    ]
    assert "its 2 sources one after the other" in together[2][2]


# -- worker


def test_worker(build, audited):
    fresh = Heartbeat(build.now, build.now + timedelta(minutes=2), "here", 77, "", "here")
    dead = Heartbeat(build.ago(hours=3), build.ago(hours=2), "there", 77, "", "there")
    assert "last sign of life, from here, was" in audited.passes("worker", heartbeats=(fresh,))
    assert "was 3 h ago" in audited.fails("worker", heartbeats=(dead,))
    each = [(check.subject, check.passed) for check in audited.checks("worker", heartbeats=(fresh, dead))]
    assert each == [("worker here", True), ("worker there", False)]
    assert audited.checks("worker") == ()


def test_revocations(build, audited):
    there = Host("web1", "r1", build.now, names={"vault": ("disk-web1",)})
    gone = replace(there, name="web2", revoked_at=build.now)
    left = replace(gone, names={"left": ("web2/disk-web2",)})
    broken = replace(gone, names={"unended": ("web2/catalog", "web2/cloud-web2")})
    assert audited.checks("revocations", environment=Environment(hosts=(there,))) == ()
    assert "shut out" in audited.passes("revocations", environment=Environment(hosts=(there, gone)))
    assert "its login at disk-web2" in audited.fails("revocations", environment=Environment(hosts=(left,)))
    assert "at catalog and cloud-web2" in audited.fails("revocations", environment=Environment(hosts=(broken,)))


# -- escalation


def mailed(*names):
    channels = {"mail": ChannelPolicy("mail", "smtp")}
    return AlertPolicy(channels, {name: Person(name, (Reach("mail", f"{name}@example.com"),)) for name in names})


def test_escalation_fails_where_nobody_is_told(audited):
    assert "names nobody" in audited.fails("escalation", alerts=AlertPolicy())


def test_escalation_does_not_apply_where_nothing_is_protected(build):
    policy = replace(build.policy(), sources={})
    report = audit(policy, Facts(), {}, build.now, Environment())
    assert "escalation" in {control.id for control in report.not_applicable}


def test_escalation_asks_for_something_that_rings(build, audited):
    assert "it rings at cto" in audited.passes("escalation")
    checks = {check.subject: check for check in audited.checks("escalation", alerts=mailed("cto"))}
    assert {name for name, check in checks.items() if not check.passed} == {
        "rule no-backup-a",
        "rule recovery-late",
        "rule suspicion",
    }
    assert (
        "no channel of cto rings" in checks["rule no-backup-a"].detail and checks["rule no-backup-a"].category is None
    )
    calm = replace(mailed("cto"), rules=(AlertRule("r", Trouble.TEST_FAILED, ("cto",)),))
    audited.passes("escalation", alerts=calm)


def test_escalation_asks_that_each_person_was_reached_not_long_ago(build, audited):
    alerts = replace(mailed("cto", "ceo"), rules=())
    for last, passed, words in (
        (build.ago(days=89), True, "89 days ago"),
        (build.ago(days=91), False, "one is due every 90 days"),
        (build.ago(days=-1), False, "in the future"),
        (None, False, "no message has ever reached ceo"),
    ):
        reached = {"cto": build.now} | ({"ceo": last} if last else {})
        checks = {check.subject: check for check in audited.checks("escalation", alerts=alerts, reached=reached)}
        assert checks["cto"].passed and checks["ceo"].passed is passed and words in checks["ceo"].detail


# -- governance


def test_a_governing_document_that_cannot_be_read_or_has_changed_is_a_finding(audited):
    environment = replace(APART, documents={"ethics.md": ""})
    assert "is the version that was accepted" in audited.passes("governing-documents", environment=environment)
    environment = replace(APART, documents={"ethics.md": "/srv/ethics.md: it is missing"})
    assert "it is missing" in audited.fails("governing-documents", environment=environment)


def test_an_approval_by_who_asked_is_a_finding_where_a_second_person_was_needed(audited, build):
    ada, bo = Identity("ada", 1001), Identity("bo", 1002)
    asked = Approval("approval-1", Governed.PRUNE, {}, "d", "", Who.SECOND_PERSON, build.now, ada, build.now + 3 * DAY)
    assert audited.checks("second-person", approvals=(asked,)) == ()
    given = replace(asked, decided_at=build.now, decided_by=bo, granted=True)
    assert "given by bo (user 1002), asked for by ada (user 1001)" in audited.passes(
        "second-person", approvals=(given,)
    )
    own = replace(given, decided_by=ada)
    assert "asked for and given by ada" in audited.fails("second-person", approvals=(own,))
    assert audited.passes("second-person", approvals=(replace(own, who=Who.ANYONE),))


def test_rules_that_ask_for_less_are_a_finding_until_that_is_approved(audited):
    assert audited.checks("governance-kept") == ()
    audited.passes("governance-kept", environment=replace(APART, loosened=()))
    less = replace(APART, loosened=("'prune' needs no approval",))
    assert "nobody has approved: 'prune' needs no approval" in audited.fails("governance-kept", environment=less)


def test_a_source_that_was_taken_out_is_a_finding_until_that_is_accepted(audited, build):
    known = build.facts()
    sources = {**known.sources, "old": SourceFacts("old")}
    (check,) = audited.checks("source-removals", sources=sources)
    assert (check.subject, check.passed) == ("old", False)


# -- looked at now


def test_vaults_there(audited):
    assert audited.checks("vaults-there") == ()
    assert audited.passes("vaults-there", vaults_away={}).count("was there") == 2
    checks = audited.checks("vaults-there", vaults_away={"far": "not mounted"})
    assert [(check.subject, check.passed) for check in checks] == [("near", True), ("far", False)]
    assert checks[1].detail == "not mounted"


def test_catalog_behind(audited):
    assert audited.checks("catalog-behind") == (), "nobody looked"
    assert audited.passes("catalog-behind", environment=replace(APART, catalog_behind="")).startswith("no vault has")
    assert audited.fails("catalog-behind", environment=replace(APART, catalog_behind="so it is")) == "so it is"


def test_keys_there(audited):
    assert audited.passes("keys-there") == "it is at /home/ada/key"
    lost = replace(APART, keys={"repository key": Place("/home/ada/key", 1, there=False)})
    assert audited.fails("keys-there", environment=lost) == "nothing is at /home/ada/key"


# -- content


def test_empty(build, audited):
    assert "holds 10 bytes" in audited.passes("empty")
    assert audited.checks("empty", SourceFacts("ledger")) == ()
    nothing = build.healthy(newest=build.point(build.ago(hours=1), size_bytes=0))
    assert "holds no bytes" in audited.fails("empty", nothing)
    for what in ("refs", "tables"):
        fingerprint = Fingerprint("any/1", {}, {what: 0, "bytes": 4096})
        bare = build.healthy(newest=build.point(build.ago(hours=1), fingerprint=fingerprint))
        assert f"holds no {what}" in audited.fails("empty", bare)
    full = Fingerprint("any/1", {}, {"tables": 1})
    audited.passes("empty", build.healthy(newest=build.point(build.ago(hours=1), fingerprint=full)))


def test_restore_test_fails_when_only_old_points_are_tested(build, audited):
    still = build.healthy(proven_until=build.ago(days=29))
    audited.passes("restore-test", still)
    old = build.healthy(proven_until=build.ago(days=31))
    told = audited.fails("restore-test", old)
    assert "prove nothing newer than" in told and "took 31 days ago" in told
    audited.passes("restore-test", old, source=build.source(test_every=None))
